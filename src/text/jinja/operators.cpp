// Python's operators, as far as a template may use them.
#include <algorithm>
#include <cmath>

#include "text/jinja/evaluator.h"
#include "text/jinja/macro.h"

namespace thimble::jinja {
namespace {

Failure too_large() { return wrong("integers beyond 64 bits are not supported"); }

Failure no_operator(std::string_view sign, const Value& a, const Value& b) {
  for (const Value* one : {&a, &b}) {
    if (one->is(Kind::undefined)) return wrong(one->undefined().message);
  }
  return wrong(fmt::format("unsupported operand type(s) for {}: '{}' and '{}'", sign, type_name(a), type_name(b)));
}

std::string_view sign_of(What what) {
  switch (what) {
    case What::add:
      return "+";
    case What::subtract:
      return "-";
    case What::multiply:
      return "*";
    case What::divide:
      return "/";
    case What::floor_divide:
      return "//";
    case What::modulo:
      return "%";
    default:
      return "**";
  }
}

Result<Value> power(int64_t base, int64_t exponent) {
  int64_t result = 1;
  for (; exponent > 0; exponent >>= 1) {
    if ((exponent & 1) && __builtin_mul_overflow(result, base, &result)) return too_large();
    if (exponent > 1 && __builtin_mul_overflow(base, base, &base)) return too_large();
  }
  return Value(result);
}

Result<Value> whole_arithmetic(What what, int64_t a, int64_t b) {
  int64_t result = 0;
  switch (what) {
    case What::add:
      return __builtin_add_overflow(a, b, &result) ? Result<Value>(too_large()) : Value(result);
    case What::subtract:
      return __builtin_sub_overflow(a, b, &result) ? Result<Value>(too_large()) : Value(result);
    case What::multiply:
      return __builtin_mul_overflow(a, b, &result) ? Result<Value>(too_large()) : Value(result);
    case What::power:
      return power(a, b);
    default:
      break;
  }
  if (b == 0) return wrong("integer division or modulo by zero");
  if (b == -1) {  // the smallest integer has no counterpart
    if (what == What::modulo) return Value(int64_t{0});
    return __builtin_sub_overflow(int64_t{0}, a, &result) ? Result<Value>(too_large()) : Value(result);
  }
  const int64_t remainder = a % b;
  const bool crosses = remainder != 0 && (remainder < 0) != (b < 0);
  return what == What::modulo ? Value(crosses ? remainder + b : remainder) : Value(a / b - (crosses ? 1 : 0));
}

Result<Value> real_arithmetic(What what, double a, double b) {
  switch (what) {
    case What::add:
      return Value(a + b);
    case What::subtract:
      return Value(a - b);
    case What::multiply:
      return Value(a * b);
    case What::power: {
      if (a == 0 && b < 0) return wrong("0.0 cannot be raised to a negative power");
      if (a < 0 && b != std::floor(b)) return wrong("complex numbers are not supported");
      const double result = std::pow(a, b);
      if (std::isinf(result) && !std::isinf(a) && !std::isinf(b)) return wrong("a power is too large");
      return Value(result);
    }
    default:
      break;
  }
  if (b == 0) return wrong("float division by zero");
  if (what == What::divide) return Value(a / b);
  double remainder = std::fmod(a, b);
  double quotient = (a - remainder) / b;
  if (remainder != 0 && (remainder < 0) != (b < 0)) {
    remainder += b;
    quotient -= 1;
  } else if (remainder == 0) {
    remainder = std::copysign(0.0, b);
  }
  if (what == What::modulo) return Value(remainder);
  if (quotient == 0) return Value(std::copysign(0.0, a / b));
  const double whole = std::floor(quotient);
  return Value(quotient - whole > 0.5 ? whole + 1 : whole);
}

Result<Value> arithmetic(What what, const Value& a, const Value& b) {
  const bool whole = a.is_whole() && b.is_whole();
  if (whole && what == What::divide) {
    if (b.integer() == 0) return wrong("division by zero");
    // Python rounds the quotient alone, not the operands before.
    return Value(static_cast<double>(static_cast<long double>(a.integer()) / static_cast<long double>(b.integer())));
  }
  if (whole && !(what == What::power && b.integer() < 0)) return whole_arithmetic(what, a.integer(), b.integer());
  return real_arithmetic(what, a.real(), b.real());
}

Result<Value> repeated(Evaluator& evaluator, const Value& of, int64_t times) {
  times = std::max<int64_t>(times, 0);
  const auto size = static_cast<uint64_t>(of.is(Kind::text) ? of.bytes().size() : of.list().items.size());
  if (times > 0 && size > (uint64_t{1} << 40) / static_cast<uint64_t>(times)) return wrong("a repetition is too long");
  if (of.is(Kind::text)) CHECK_OK(evaluator.check_length(size * static_cast<uint64_t>(times)));
  CHECK_OK(evaluator.charge(size * static_cast<uint64_t>(times) / (of.is(Kind::text) ? 32 : 1)));
  if (of.is(Kind::text)) {
    TextBuilder text;
    for (int64_t i = 0; i < times && size > 0; ++i) text.append(of.text());
    return evaluator.made(text, of.text().markup);
  }
  std::vector<Value> items;
  for (int64_t i = 0; i < times && size > 0; ++i) {
    items.insert(items.end(), of.list().items.begin(), of.list().items.end());
  }
  return make_list(std::move(items), of.kind());
}

Result<Value> added(Evaluator& evaluator, const Value& a, const Value& b) {
  if (a.is(Kind::text) && b.is(Kind::text)) {
    const bool markup = a.text().markup || b.text().markup;
    TextBuilder text;
    text.append(markup && !a.text().markup ? *escaped(a) : a.text());
    text.append(markup && !b.text().markup ? *escaped(b) : b.text());
    return evaluator.made(text, markup);
  }
  if (a.is_sequence() && a.kind() == b.kind()) {
    std::vector<Value> items = a.list().items;
    items.insert(items.end(), b.list().items.begin(), b.list().items.end());
    CHECK_OK(evaluator.charge(items.size()));
    return make_list(std::move(items), a.kind());
  }
  return no_operator("+", a, b);
}

}  // namespace

Result<Value> binary(Evaluator& evaluator, What what, const Value& a, const Value& b) {
  if (a.is_number() && b.is_number()) return arithmetic(what, a, b);
  if (what == What::add) return added(evaluator, a, b);
  if (what == What::modulo && a.is(Kind::text)) return percent_format(evaluator, a.text(), b);
  if (what == What::multiply) {
    for (const auto& [of, times] : {std::pair(&a, &b), std::pair(&b, &a)}) {
      if ((of->is(Kind::text) || of->is_sequence()) && times->is_whole())
        return repeated(evaluator, *of, times->integer());
    }
  }
  return no_operator(sign_of(what), a, b);
}

Result<Value> negative(const Value& value, bool minus) {
  if (value.is(Kind::undefined)) return wrong(value.undefined().message);
  if (value.is(Kind::real)) return minus ? Value(-value.real()) : value;
  if (!value.is_whole())
    return wrong(fmt::format("bad operand type for unary {}: '{}'", minus ? '-' : '+', type_name(value)));
  return whole_arithmetic(What::multiply, value.integer(), minus ? -1 : 1);
}

Result<bool> contains(Evaluator& evaluator, const Value& all, const Value& one) {
  if (all.is(Kind::text)) {
    if (!one.is(Kind::text))
      return wrong(fmt::format("'in <string>' requires string as left operand, not {}", type_name(one)));
    CHECK_OK(evaluator.charge(all.bytes().size() / 32));
    return all.bytes().find(one.bytes()) != std::string_view::npos;
  }
  if (all.is(Kind::dict)) {
    if (!hashable(one)) return wrong(fmt::format("unhashable type: '{}'", type_name(one)));
    return all.dict().find(one) != nullptr;
  }
  if (all.is(Kind::none) || all.is_number() || all.is(Kind::callable) || all.is(Kind::names))
    return wrong(fmt::format("argument of type '{}' is not iterable", type_name(all)));
  const IteratorPointer items = TRY(evaluator.iterate(all));
  for (Value item; TRY(items->next(evaluator, item));) {
    CHECK_OK(evaluator.charge(1));
    if (equal(item, one)) return true;
  }
  return false;
}

Result<bool> compare_values(Evaluator& evaluator, What what, const Value& a, const Value& b) {
  switch (what) {
    case What::equal:
      return equal(a, b);
    case What::unequal:
      return !equal(a, b);
    case What::in:
      return contains(evaluator, b, a);
    case What::not_in:
      return !TRY(contains(evaluator, b, a));
    case What::less:
      return less(a, b);
    case What::greater:
      return less(b, a);
    default:
      break;
  }
  // Not the opposite of the other order: NaN is in neither.
  const bool real = a.is_number() && b.is_number();
  if (real && (std::isnan(a.real()) || std::isnan(b.real()))) return false;
  return !TRY(what == What::less_equal ? less(b, a) : less(a, b));
}

}  // namespace thimble::jinja
