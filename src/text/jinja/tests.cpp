// What may stand after `is`.
#include "text/jinja/builtins.h"
#include "text/jinja/evaluator.h"
#include "text/jinja/macro.h"

namespace thimble::jinja {
namespace {

using Given = std::span<Value>;

template <Kind kind>
Result<Value> is_kind(Evaluator&, Given given) {
  return Value(given[0].is(kind));
}

template <What what>
Result<Value> compares(Evaluator& evaluator, Given given) {
  return Value(TRY(compare_values(evaluator, what, given[0], given[1])));
}

template <bool wanted>
Result<Value> is_truth(Evaluator&, Given given) {
  return Value(given[0].is(Kind::boolean) && (given[0].integer() != 0) == wanted);
}

Result<Value> defined(Evaluator&, Given given) { return Value(!given[0].is(Kind::undefined)); }
Result<Value> number(Evaluator&, Given given) { return Value(given[0].is_number()); }

Result<Value> remainder(Evaluator& evaluator, const Value& value, int64_t by, int64_t wanted) {
  const Value rest = TRY(binary(evaluator, What::modulo, value, Value(by)));
  return Value(equal(rest, Value(wanted)));
}
Result<Value> odd(Evaluator& evaluator, Given given) { return remainder(evaluator, given[0], 2, 1); }
Result<Value> even(Evaluator& evaluator, Given given) { return remainder(evaluator, given[0], 2, 0); }
Result<Value> divisibleby(Evaluator& evaluator, Given given) {
  return Value(equal(TRY(binary(evaluator, What::modulo, given[0], given[1])), Value(int64_t{0})));
}

Result<Value> filter_exists(Evaluator&, Given given) {
  if (!hashable(given[0])) return wrong(fmt::format("unhashable type: '{}'", type_name(given[0])));
  return Value(given[0].is(Kind::text) && find_filter(given[0].bytes()) != nullptr);
}
Result<Value> test_exists(Evaluator&, Given given) {
  if (!hashable(given[0])) return wrong(fmt::format("unhashable type: '{}'", type_name(given[0])));
  return Value(given[0].is(Kind::text) && find_test(given[0].bytes()) != nullptr);
}

template <bool upper>
Result<Value> in_case(Evaluator& evaluator, Given given) {
  return call_builtin(*find_method(Kind::text, upper ? "isupper" : "islower"), evaluator,
                      {{Value(to_text(given[0]))}, {}});
}

Result<Value> sequence(Evaluator&, Given given) {
  return Value(size_of(given[0]).has_value() && !given[0].is(Kind::view));
}

Result<Value> iterable(Evaluator&, Given given) {
  return Value(size_of(given[0]).has_value() || given[0].is(Kind::iterator) || given[0].is(Kind::loop));
}

Result<Value> callable(Evaluator&, Given given) {
  return Value(given[0].is(Kind::callable) || given[0].is(Kind::undefined) || given[0].is(Kind::loop));
}

Result<Value> sameas(Evaluator&, Given given) {
  const Value &a = given[0], &b = given[1];
  if (a.kind() != b.kind()) return Value(false);
  if (a.is_whole() || a.is(Kind::none)) return Value(a.integer() == b.integer());
  if (a.is(Kind::real)) return Value(a.real() == b.real());
  return Value(a.object() == b.object() || (a.is(Kind::text) && a.bytes() == b.bytes()));
}

Result<Value> is_escaped(Evaluator&, Given given) { return Value(given[0].is(Kind::text) && given[0].text().markup); }

constexpr auto kTests = std::to_array<Builtin>({
    {"!=", {"a", "b"}, 2, compares<What::unequal>},
    {"<", {"a", "b"}, 2, compares<What::less>},
    {"<=", {"a", "b"}, 2, compares<What::less_equal>},
    {"==", {"a", "b"}, 2, compares<What::equal>},
    {">", {"a", "b"}, 2, compares<What::greater>},
    {">=", {"a", "b"}, 2, compares<What::greater_equal>},
    {"boolean", {"value"}, 1, is_kind<Kind::boolean>},
    {"callable", {"value"}, 1, callable},
    {"defined", {"value"}, 1, defined},
    {"divisibleby", {"value", "num"}, 2, divisibleby},
    {"eq", {"a", "b"}, 2, compares<What::equal>},
    {"equalto", {"a", "b"}, 2, compares<What::equal>},
    {"escaped", {"value"}, 1, is_escaped},
    {"even", {"value"}, 1, even},
    {"false", {"value"}, 1, is_truth<false>},
    {"filter", {"value"}, 1, filter_exists},
    {"float", {"value"}, 1, is_kind<Kind::real>},
    {"ge", {"a", "b"}, 2, compares<What::greater_equal>},
    {"greaterthan", {"a", "b"}, 2, compares<What::greater>},
    {"gt", {"a", "b"}, 2, compares<What::greater>},
    {"in", {"value", "seq"}, 2, compares<What::in>},
    {"integer", {"value"}, 1, is_kind<Kind::integer>},
    {"iterable", {"value"}, 1, iterable},
    {"le", {"a", "b"}, 2, compares<What::less_equal>},
    {"lessthan", {"a", "b"}, 2, compares<What::less>},
    {"lower", {"value"}, 1, in_case<false>},
    {"lt", {"a", "b"}, 2, compares<What::less>},
    {"mapping", {"value"}, 1, is_kind<Kind::dict>},
    {"ne", {"a", "b"}, 2, compares<What::unequal>},
    {"none", {"value"}, 1, is_kind<Kind::none>},
    {"number", {"value"}, 1, number},
    {"odd", {"value"}, 1, odd},
    {"sameas", {"value", "other"}, 2, sameas},
    {"sequence", {"value"}, 1, sequence},
    {"string", {"value"}, 1, is_kind<Kind::text>},
    {"test", {"value"}, 1, test_exists},
    {"true", {"value"}, 1, is_truth<true>},
    {"undefined", {"value"}, 1, is_kind<Kind::undefined>},
    {"upper", {"value"}, 1, in_case<true>},
});

}  // namespace

std::span<const Builtin> tests() { return kTests; }

}  // namespace thimble::jinja
