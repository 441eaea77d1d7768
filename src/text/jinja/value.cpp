#include "text/jinja/value.h"

#include <xxhash.h>

#include <algorithm>
#include <cmath>

namespace thimble::jinja {
namespace {

constexpr size_t kIndexed = 16;  // entries from which a dictionary is searched by hash

Result<uint32_t> depth_over(std::span<const Value> items, uint32_t depth) {
  for (const Value& item : items) {
    if (item.is(Kind::list) || item.is(Kind::tuple) || item.is(Kind::view))
      depth = std::max(depth, item.list().depth + 1);
    if (item.is(Kind::dict)) depth = std::max(depth, item.dict().depth + 1);
  }
  if (depth > kDeepest) return wrong(fmt::format("values are nested more than {} deep", kDeepest));
  return depth;
}

// -1, 0 or 1 as the whole number is less than, equal to or greater than the real one: as they are, for not every whole
// number is a double.
int compare_exactly(int64_t whole, double real) {
  constexpr double kBeyond = 9223372036854775808.0;  // 2^63
  if (real >= kBeyond) return -1;
  if (real < -kBeyond) return 1;
  const auto below = static_cast<int64_t>(std::floor(real));
  if (whole != below) return whole < below ? -1 : 1;
  return real > std::floor(real) ? -1 : 0;
}

template <class Order>
bool compare_numbers(const Value& a, const Value& b, Order order) {
  const bool reals = a.is(Kind::real) && b.is(Kind::real);
  if (reals || std::isnan(a.real()) || std::isnan(b.real())) return order(a.real(), b.real());
  if (a.is(Kind::real)) return order(0, compare_exactly(b.integer(), a.real()));
  if (b.is(Kind::real)) return order(compare_exactly(a.integer(), b.real()), 0);
  return order(a.integer(), b.integer());
}

bool equal_lists(const List& a, const List& b) {
  return std::equal(a.items.begin(), a.items.end(), b.items.begin(), b.items.end(), equal);
}

bool equal_dicts(const Dict& a, const Dict& b) {
  return a.entries.size() == b.entries.size() && std::ranges::all_of(a.entries, [&](const Dict::Entry& entry) {
           const Value* other = b.find(entry.first);
           return other && equal(entry.second, *other);
         });
}

bool equal_ranges(const Range& a, const Range& b) {
  const int64_t size = a.size();
  return size == b.size() && (size == 0 || (a.start == b.start && (size == 1 || a.step == b.step)));
}

}  // namespace

Failure wrong(std::string message) { return Failure(Error{ErrorCode::invalid_argument, std::move(message)}); }

Value Value::undefined(std::string message, bool unsafe) {
  auto object = std::make_shared<Undefined>();
  object->message = std::move(message);
  object->unsafe = unsafe;
  return Value(Kind::undefined, std::move(object));
}

int64_t Range::size() const {
  if (step > 0) return start < stop ? (stop - start - 1) / step + 1 : 0;
  return start > stop ? (start - stop - 1) / -step + 1 : 0;
}

const Value* Dict::find(const Value& key) const {
  if (index.empty()) {
    const auto at = std::ranges::find_if(entries, [&](const Entry& entry) { return equal(entry.first, key); });
    return at == entries.end() ? nullptr : &at->second;
  }
  const uint64_t wanted = hash(key);
  auto at = std::ranges::lower_bound(index, wanted, {}, &std::pair<uint64_t, uint32_t>::first);
  for (; at != index.end() && at->first == wanted; ++at) {
    if (equal(entries[at->second].first, key)) return &entries[at->second].second;
  }
  return nullptr;
}

const Value* Dict::find(std::string_view key) const {
  if (!index.empty()) return find(Value::text(key));
  const auto at = std::ranges::find_if(
      entries, [&](const Entry& entry) { return entry.first.is(Kind::text) && entry.first.bytes() == key; });
  return at == entries.end() ? nullptr : &at->second;
}

Result<Value> make_list(std::vector<Value> items, Kind kind, std::string_view name) {
  auto list = std::make_shared<List>();
  list->depth = TRY(depth_over(items, 1));
  list->items = std::move(items);
  list->name = name;
  return Value(kind, std::move(list));
}

Result<Value> make_dict(std::vector<Dict::Entry> entries) {
  auto dict = std::make_shared<Dict>();
  std::vector<std::pair<uint64_t, uint32_t>> order;
  for (uint32_t i = 0; i < entries.size(); ++i) {
    if (!hashable(entries[i].first)) return wrong(fmt::format("unhashable type: '{}'", type_name(entries[i].first)));
    order.emplace_back(hash(entries[i].first), i);
  }
  std::sort(order.begin(), order.end());
  // The first of equal keys keeps its place, the last gives the value.
  std::vector<bool> dropped(entries.size());
  for (size_t i = 0; i < order.size(); ++i) {
    for (size_t j = i; j-- > 0 && order[j].first == order[i].first;) {
      const uint32_t first = order[j].second, second = order[i].second;
      if (dropped[first] || !equal(entries[first].first, entries[second].first)) continue;
      entries[first].second = std::move(entries[second].second);
      dropped[second] = true;
      break;
    }
  }
  for (uint32_t i = 0; i < entries.size(); ++i) {
    if (!dropped[i]) dict->entries.push_back(std::move(entries[i]));
  }
  for (const Dict::Entry& entry : dict->entries) {
    dict->depth = TRY(depth_over({&entry.first, 1}, dict->depth));
    dict->depth = TRY(depth_over({&entry.second, 1}, dict->depth));
  }
  if (dict->entries.size() > kIndexed) {
    for (uint32_t i = 0; i < dict->entries.size(); ++i) dict->index.emplace_back(hash(dict->entries[i].first), i);
    std::sort(dict->index.begin(), dict->index.end());
  }
  return Value(Kind::dict, std::move(dict));
}

bool truth(const Value& value) {
  switch (value.kind()) {
    case Kind::absent:
    case Kind::undefined:
    case Kind::none:
      return false;
    case Kind::boolean:
    case Kind::integer:
      return value.integer() != 0;
    case Kind::real:
      return value.real() != 0;
    case Kind::text:
      return !value.bytes().empty();
    case Kind::list:
    case Kind::tuple:
    case Kind::view:
      return !value.list().items.empty();
    case Kind::dict:
      return !value.dict().entries.empty();
    case Kind::range:
      return value.range().size() > 0;
    default:
      return true;
  }
}

bool equal(const Value& a, const Value& b) {
  if (a.is_number() && b.is_number()) return compare_numbers(a, b, [](auto x, auto y) { return x == y; });
  if (a.kind() != b.kind()) return false;
  switch (a.kind()) {
    case Kind::undefined:
    case Kind::none:
      return true;
    case Kind::text:
      return a.bytes() == b.bytes();
    case Kind::list:
    case Kind::tuple:
      return a.object() == b.object() || equal_lists(a.list(), b.list());
    case Kind::view:
      return a.list().name != "dict_values" && a.list().name == b.list().name && equal_lists(a.list(), b.list());
    case Kind::dict:
      return a.object() == b.object() || equal_dicts(a.dict(), b.dict());
    case Kind::range:
      return equal_ranges(a.range(), b.range());
    default:
      return a.object() == b.object();
  }
}

bool hashable(const Value& value) {
  if (value.is(Kind::tuple)) return std::ranges::all_of(value.list().items, hashable);
  return !value.is(Kind::list) && !value.is(Kind::dict) && !value.is(Kind::view);
}

uint64_t hash(const Value& value) {
  if (value.is_number()) {
    const double number = value.real();
    if (number == std::floor(number) && std::fabs(number) < 9e18) {
      const auto whole = value.is(Kind::real) ? static_cast<int64_t>(number) : value.integer();
      return XXH3_64bits(&whole, sizeof whole);
    }
    return XXH3_64bits(&number, sizeof number);
  }
  if (value.is(Kind::text)) return XXH3_64bits(value.bytes().data(), value.bytes().size());
  if (value.is(Kind::tuple)) {
    uint64_t all = 0;
    for (const Value& item : value.list().items) all = all * 31 + hash(item);
    return all;
  }
  if (value.is(Kind::none) || value.is(Kind::undefined)) return static_cast<uint64_t>(value.kind());
  return reinterpret_cast<uintptr_t>(value.object());
}

Result<bool> less(const Value& a, const Value& b) {
  if (a.is(Kind::undefined)) return wrong(a.undefined().message);
  if (b.is(Kind::undefined)) return wrong(b.undefined().message);
  if (a.is_number() && b.is_number()) return compare_numbers(a, b, [](auto x, auto y) { return x < y; });
  if (a.is(Kind::text) && b.is(Kind::text)) return a.bytes() < b.bytes();  // UTF-8 has the order of code points
  if (a.is_sequence() && a.kind() == b.kind()) {
    const auto &x = a.list().items, &y = b.list().items;
    for (size_t i = 0; i < x.size() && i < y.size(); ++i) {
      if (!equal(x[i], y[i])) return less(x[i], y[i]);
    }
    return x.size() < y.size();
  }
  return wrong(fmt::format("'<' not supported between instances of '{}' and '{}'", type_name(a), type_name(b)));
}

std::string_view type_name(const Value& value) {
  switch (value.kind()) {
    case Kind::absent:
    case Kind::undefined:
      return "Undefined";
    case Kind::none:
      return "NoneType";
    case Kind::boolean:
      return "bool";
    case Kind::integer:
      return "int";
    case Kind::real:
      return "float";
    case Kind::text:
      return value.text().markup ? "Markup" : "str";
    case Kind::list:
      return "list";
    case Kind::tuple:
      return "tuple";
    case Kind::view:
      return value.list().name;
    case Kind::dict:
      return "dict";
    case Kind::range:
      return "range";
    case Kind::iterator:
      return "generator";
    case Kind::names:
      return "Namespace";
    case Kind::loop:
      return "LoopContext";
    case Kind::callable:
      return "function";
  }
  return "";
}

}  // namespace thimble::jinja
