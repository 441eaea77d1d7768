// Filters of lists and dictionaries.
#include <algorithm>

#include "text/jinja/builtins.h"
#include "text/jinja/getter.h"
#include "text/jinja/json.h"
#include "text/jinja/macro.h"

namespace thimble::jinja {
namespace {

using Given = std::span<Value>;

bool flag(const Value& value) { return truth(value); }  // absent is false

// ---- what goes by one item at a time ----

struct Mapped final : Iterator {
  IteratorPointer items;
  Getter getter;
  bool by_attribute = false;
  std::string filter;
  Arguments more;

  Result<bool> next(Evaluator& evaluator, Value& item) override {
    Value one;
    if (!TRY(items->next(evaluator, one))) return false;
    CHECK_OK(evaluator.charge(1));
    if (by_attribute) {
      item = TRY(getter.get(evaluator, std::move(one)));
      return true;
    }
    Arguments given = more;
    given.values.insert(given.values.begin(), std::move(one));
    item = TRY(evaluator.filter(filter, std::move(given)));
    return true;
  }
};

struct Selected final : Iterator {
  IteratorPointer items;
  Getter getter;
  bool keeps = true;  // those that pass
  std::optional<std::string> test;
  Arguments more;

  Result<bool> next(Evaluator& evaluator, Value& item) override {
    for (Value one; TRY(items->next(evaluator, one));) {
      CHECK_OK(evaluator.charge(1));
      Value of = TRY(getter.get(evaluator, one));
      if (test) {
        Arguments given = more;
        given.values.insert(given.values.begin(), std::move(of));
        of = TRY(evaluator.test(*test, std::move(given)));
      }
      if (truth(of) != keeps) continue;
      item = std::move(one);
      return true;
    }
    return false;
  }
};

struct Unique final : Iterator {
  IteratorPointer items;
  Getter getter;
  bool case_sensitive = false;
  std::vector<std::pair<uint64_t, Value>> seen;  // sorted by hash

  Result<bool> next(Evaluator& evaluator, Value& item) override {
    for (Value one; TRY(items->next(evaluator, one));) {
      Value key = TRY(getter.get(evaluator, one));
      if (!case_sensitive) key = TRY(without_case(evaluator, key));
      if (!hashable(key)) return wrong(fmt::format("unhashable type: '{}'", type_name(key)));
      const uint64_t code = hash(key);
      CHECK_OK(evaluator.charge(1 + seen.size() / 64));
      auto at = std::ranges::lower_bound(seen, code, {}, &std::pair<uint64_t, Value>::first);
      bool known = false;
      for (auto same = at; same != seen.end() && same->first == code; ++same) known |= equal(same->second, key);
      if (known) continue;
      seen.emplace(at, code, std::move(key));
      item = std::move(one);
      return true;
    }
    return false;
  }
};

// Of items that are made when it is.
Result<Value> goes_by(std::vector<Value> items) {
  return Value(Kind::iterator, std::shared_ptr<const Object>(items_of(TRY(make_list(std::move(items))))));
}

template <class T>
Value goes_by(std::shared_ptr<T> iterator) {
  return Value(Kind::iterator, std::shared_ptr<const Object>(std::move(iterator)));
}

Result<Value> map(Evaluator& evaluator, Arguments& given) {
  if (given.values.empty()) return wrong("map() is missing what it is of");
  if (!truth(given.values[0])) return goes_by({});
  auto made = std::make_shared<Mapped>();
  made->items = TRY(evaluator.iterate(given.values[0]));
  if (given.values.size() == 1 && !given.named.empty()) {
    Value attribute = Value::absent(), otherwise = Value::absent();
    for (const auto& [name, value] : given.named) {
      if (name != "attribute" && name != "default") return wrong(fmt::format("Unexpected keyword argument '{}'", name));
      (name == "attribute" ? attribute : otherwise) = value;
    }
    if (!attribute.given()) return wrong("map requires a filter argument");
    made->by_attribute = true;
    made->getter = TRY(Getter::of(attribute, otherwise));
    return goes_by(std::move(made));
  }
  if (given.values.size() < 2) return wrong("map requires a filter argument");
  made->filter = to_text(given.values[1])->bytes;
  made->more.values.assign(given.values.begin() + 2, given.values.end());
  made->more.named = given.named;
  return goes_by(std::move(made));
}

template <bool keeps, bool by_attribute>
Result<Value> select(Evaluator& evaluator, Arguments& given) {
  if (given.values.empty()) return wrong("select() is missing what it is of");
  if (!truth(given.values[0])) return goes_by({});
  auto made = std::make_shared<Selected>();
  made->keeps = keeps;
  made->items = TRY(evaluator.iterate(given.values[0]));
  size_t next = 1;
  if (by_attribute) {
    if (given.values.size() < 2) return wrong("Missing parameter for attribute name");
    made->getter = TRY(Getter::of(given.values[next++]));
  }
  if (given.values.size() > next) {
    made->test = to_text(given.values[next++])->bytes;
    made->more.values.assign(given.values.begin() + static_cast<std::ptrdiff_t>(next), given.values.end());
    made->more.named = given.named;
  }
  return goes_by(std::move(made));
}

Result<Value> unique(Evaluator& evaluator, Given given) {
  auto made = std::make_shared<Unique>();
  made->items = TRY(evaluator.iterate(given[0]));
  made->case_sensitive = flag(given[1]);
  made->getter = TRY(Getter::of(given[2]));
  return goes_by(std::move(made));
}

Result<Value> items(Evaluator&, Given given) {
  if (given[0].is(Kind::undefined)) return goes_by({});
  if (!given[0].is(Kind::dict)) return wrong("Can only get item pairs from a mapping.");
  std::vector<Value> pairs;
  for (const auto& [key, value] : given[0].dict().entries) pairs.push_back(TRY(make_list({key, value}, Kind::tuple)));
  return goes_by(std::move(pairs));
}

Result<Value> batch(Evaluator& evaluator, Given given) {
  const int64_t count = TRY(whole(given[1], "linecount"));
  std::vector<Value> lines, line;
  for (Value& item : TRY(evaluator.collect(given[0]))) {
    if (static_cast<int64_t>(line.size()) == count) lines.push_back(TRY(make_list(std::exchange(line, {}))));
    line.push_back(std::move(item));
  }
  if (!line.empty()) {
    const bool fills = given[2].given() && !given[2].is(Kind::none);
    if (fills && static_cast<int64_t>(line.size()) < count) {
      CHECK_OK(evaluator.charge(static_cast<uint64_t>(count)));
      line.resize(static_cast<size_t>(count), given[2]);
    }
    lines.push_back(TRY(make_list(std::move(line))));
  }
  return goes_by(std::move(lines));
}

Result<Value> slice(Evaluator& evaluator, Given given) {
  const std::vector<Value> all = TRY(evaluator.collect(given[0]));
  const int64_t slices = TRY(whole(given[1], "slices"));
  if (slices == 0) return wrong("integer division or modulo by zero");
  if (slices < 0) return goes_by({});
  CHECK_OK(evaluator.charge(static_cast<uint64_t>(slices)));
  const auto size = static_cast<int64_t>(all.size());
  const int64_t each = size / slices, longer = size % slices;
  std::vector<Value> made;
  auto next = all.begin();
  for (int64_t i = 0; i < slices; ++i) {
    const auto end = next + each + (i < longer ? 1 : 0);
    std::vector<Value> part(next, end);
    if (given[2].given() && !given[2].is(Kind::none) && i >= longer) part.push_back(given[2]);
    made.push_back(TRY(make_list(std::move(part))));
    next = end;
  }
  return goes_by(std::move(made));
}

// ---- what looks at all items ----

Result<Value> default_(Evaluator&, Given given) {
  const bool missing = given[0].is(Kind::undefined) || (flag(given[2]) && !truth(given[0]));
  if (!missing) return given[0];
  return given[1].given() ? given[1] : Value::text("");
}

Result<Value> length(Evaluator& evaluator, Given given) {
  if (given[0].is(Kind::loop)) return Value(TRY(given[0].loop().size(evaluator)));
  if (const auto size = size_of(given[0])) return Value(*size);
  return wrong(fmt::format("object of type '{}' has no len()", type_name(given[0])));
}

Result<Value> list(Evaluator& evaluator, Given given) { return make_list(TRY(evaluator.collect(given[0]))); }

Result<Value> first(Evaluator& evaluator, Given given) {
  Value item;
  const IteratorPointer all = TRY(evaluator.iterate(given[0]));
  return TRY(all->next(evaluator, item)) ? item : Value::undefined("No first item, sequence was empty.");
}

Result<Value> last(Evaluator& evaluator, Given given) {
  if (!size_of(given[0])) return wrong(fmt::format("'{}' object is not reversible", type_name(given[0])));
  const std::vector<Value> all = TRY(evaluator.collect(given[0]));
  return all.empty() ? Value::undefined("No last item, sequence was empty.") : all.back();
}

Result<Value> reverse(Evaluator& evaluator, Given given) {
  if (given[0].is(Kind::text)) return sliced(evaluator, given[0], Value(), Value(), Value(int64_t{-1}));
  std::vector<Value> all = TRY(evaluator.collect(given[0]));
  std::reverse(all.begin(), all.end());
  return size_of(given[0]) ? goes_by(std::move(all)) : make_list(std::move(all));
}

Result<Value> join_(Evaluator& evaluator, Given given) {
  std::vector<Value> all = TRY(evaluator.collect(given[0]));
  const Getter getter = TRY(Getter::of(given[2]));
  TextBuilder text;
  const TextPointer separator = given[1].given() ? to_text(given[1]) : make_text("");
  for (size_t i = 0; i < all.size(); ++i) {
    if (i > 0) text.append(*separator);
    write_text(TRY(getter.get(evaluator, std::move(all[i]))), text);
  }
  return evaluator.made(text);
}

Result<Value> key_of(Evaluator& evaluator, const std::vector<Getter>& by, const Value& item, bool case_sensitive) {
  std::vector<Value> keys;
  for (const Getter& getter : by) {
    Value key = TRY(getter.get(evaluator, item));
    keys.push_back(case_sensitive ? key : TRY(without_case(evaluator, key)));
  }
  return make_list(std::move(keys));
}

Result<Value> sort(Evaluator& evaluator, Given given) {
  const auto by = TRY(getters(given[3]));
  std::vector<Keyed> keyed;
  for (Value& item : TRY(evaluator.collect(given[0]))) {
    Value key = TRY(key_of(evaluator, by, item, flag(given[2])));
    keyed.push_back({std::move(key), std::move(item)});
  }
  CHECK_OK(sort_keyed(evaluator, keyed, flag(given[1])));
  std::vector<Value> sorted;
  for (Keyed& one : keyed) sorted.push_back(std::move(one.item));
  return make_list(std::move(sorted));
}

Result<Value> dictsort(Evaluator& evaluator, Given given) {
  if (given[0].is(Kind::undefined)) return wrong(given[0].undefined().message);
  if (!given[0].is(Kind::dict)) return wrong(fmt::format("'{}' object has no attribute 'items'", type_name(given[0])));
  const std::string by = given[2].given() ? to_text(given[2])->bytes : "key";
  if (by != "key" && by != "value") return wrong("You can only sort by either \"key\" or \"value\"");
  std::vector<Keyed> keyed;
  for (const auto& [key, value] : given[0].dict().entries) {
    Value of = by == "key" ? key : value;
    if (!flag(given[1])) of = TRY(without_case(evaluator, of));
    Value item = TRY(make_list({key, value}, Kind::tuple));
    keyed.push_back({std::move(of), std::move(item)});
  }
  CHECK_OK(sort_keyed(evaluator, keyed, flag(given[3])));
  std::vector<Value> sorted;
  for (Keyed& one : keyed) sorted.push_back(std::move(one.item));
  return make_list(std::move(sorted));
}

Result<Value> groupby(Evaluator& evaluator, Given given) {
  const Getter getter = TRY(Getter::of(given[1], given[2]));
  const bool case_sensitive = flag(given[3]);
  std::vector<Keyed> keyed;
  for (Value& item : TRY(evaluator.collect(given[0]))) {
    Value key = TRY(getter.get(evaluator, item));
    if (!case_sensitive) key = TRY(without_case(evaluator, key));
    keyed.push_back({std::move(key), std::move(item)});
  }
  CHECK_OK(sort_keyed(evaluator, keyed, false));
  std::vector<Value> groups;
  for (size_t i = 0; i < keyed.size();) {
    std::vector<Value> group;
    const Value key = keyed[i].key;
    const Value name = case_sensitive ? key : TRY(getter.get(evaluator, keyed[i].item));
    for (; i < keyed.size() && equal(keyed[i].key, key); ++i) group.push_back(std::move(keyed[i].item));
    Value all = TRY(make_list(std::move(group)));
    groups.push_back(TRY(make_list({name, std::move(all)}, Kind::tuple, "group")));
  }
  return make_list(std::move(groups));
}

template <bool largest>
Result<Value> extreme(Evaluator& evaluator, Given given) {
  const Getter getter = TRY(Getter::of(given[2]));
  Value best = Value::absent(), best_key;
  for (Value& item : TRY(evaluator.collect(given[0]))) {
    Value key = TRY(getter.get(evaluator, item));
    if (!flag(given[1])) key = TRY(without_case(evaluator, key));
    if (best.given() && !TRY(largest ? less(best_key, key) : less(key, best_key))) continue;
    best = std::move(item);
    best_key = std::move(key);
  }
  return best.given() ? best : Value::undefined("No aggregated item, sequence was empty.");
}

Result<Value> sum(Evaluator& evaluator, Given given) {
  const Getter getter = TRY(Getter::of(given[1]));
  Value total = given[2].given() ? given[2] : Value(int64_t{0});
  if (total.is(Kind::text)) return wrong("sum() can't sum strings [use ''.join(seq) instead]");
  for (Value& item : TRY(evaluator.collect(given[0]))) {
    const Value one = TRY(getter.get(evaluator, std::move(item)));
    total = TRY(binary(evaluator, What::add, total, one));
  }
  return total;
}

Result<Value> attr(Evaluator& evaluator, Given given) {
  const TextPointer name = TRY(text_of(given[1], "the attribute's name"));
  if (given[0].is(Kind::undefined)) return wrong(given[0].undefined().message);
  // A dictionary's own entries are no attributes.
  if (given[0].is(Kind::dict) && !find_method(Kind::dict, name->bytes) && !changes(Kind::dict, name->bytes) &&
      !name->bytes.starts_with("__"))
    return Value::undefined(fmt::format("'dict object' has no attribute '{}'", name->bytes));
  return evaluator.attribute(given[0], name->bytes);
}

Result<Value> random(Evaluator&, Given) {
  return wrong("the filter 'random' is not supported: what a template writes has to be the same each time");
}

Result<Value> tojson(Evaluator& evaluator, Given given) {
  JsonStyle style{.ascii = flag(given[1]), .sorted = flag(given[4])};
  CHECK_OK(style.set_indent(given[2]));
  CHECK_OK(style.set_separators(evaluator, given[3]));
  return to_json(evaluator, given[0], style);
}

constexpr auto kFilters = std::to_array<Builtin>({
    {"attr", {"obj", "name"}, 2, attr},
    {"batch", {"value", "linecount", "fill_with"}, 2, batch},
    {"count", {"value"}, 1, length},
    {"d", {"value", "default_value", "boolean"}, 1, default_},
    {"default", {"value", "default_value", "boolean"}, 1, default_},
    {"dictsort", {"value", "case_sensitive", "by", "reverse"}, 1, dictsort},
    {"first", {"seq"}, 1, first},
    {"groupby", {"value", "attribute", "default", "case_sensitive"}, 2, groupby},
    {"items", {"value"}, 1, items},
    {"join", {"value", "d", "attribute"}, 1, join_},
    {"last", {"seq"}, 1, last},
    {"length", {"value"}, 1, length},
    {"list", {"value"}, 1, list},
    {"map", {}, 0, nullptr, map},
    {"max", {"value", "case_sensitive", "attribute"}, 1, extreme<true>},
    {"min", {"value", "case_sensitive", "attribute"}, 1, extreme<false>},
    {"random", {"seq"}, 1, random},
    {"reject", {}, 0, nullptr, select<false, false>},
    {"rejectattr", {}, 0, nullptr, select<false, true>},
    {"reverse", {"value"}, 1, reverse},
    {"select", {}, 0, nullptr, select<true, false>},
    {"selectattr", {}, 0, nullptr, select<true, true>},
    {"slice", {"value", "slices", "fill_with"}, 2, slice},
    {"sort", {"value", "reverse", "case_sensitive", "attribute"}, 1, sort},
    {"sum", {"iterable", "attribute", "start"}, 1, sum},
    {"tojson", {"x", "ensure_ascii", "indent", "separators", "sort_keys"}, 1, tojson},
    {"unique", {"value", "case_sensitive", "attribute"}, 1, unique},
});

}  // namespace

std::span<const Builtin> list_filters() { return kFilters; }

}  // namespace thimble::jinja
