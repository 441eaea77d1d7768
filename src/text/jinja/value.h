// Values of a template: Python's, as far as a chat template meets them. Copying one shares what it points to; text,
// lists and dictionaries never change once made, as the sandbox wants.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/result.h"
#include "text/jinja/text.h"

namespace thimble::jinja {

class Evaluator;

enum class Kind : uint8_t {
  absent,  // an argument that was not given; never seen by a template
  undefined,
  none,
  boolean,
  integer,
  real,
  text,
  list,
  tuple,
  view,  // keys, values or items of a dictionary
  dict,
  range,
  iterator,  // a generator: goes by once
  names,     // what namespace() makes
  loop,
  callable,
};

struct Undefined;
struct List;
struct Dict;
struct Range;
struct Iterator;
struct Names;
struct Callable;
struct Loop;

class Value {
 public:
  Value() = default;  // None
  Value(bool truth) : kind_(Kind::boolean), integer_(truth) {}
  Value(int64_t number) : kind_(Kind::integer), integer_(number) {}
  Value(double number) : kind_(Kind::real), real_(number) {}
  Value(TextPointer text) : kind_(Kind::text), object_(std::move(text)) {}
  Value(Kind kind, std::shared_ptr<const Object> object) : kind_(kind), object_(std::move(object)) {}
  Value(const char*) = delete;  // would be true
  static Value absent() { return Value(Kind::absent, nullptr); }
  static Value undefined(std::string message, bool unsafe = false);
  static Value text(std::string_view bytes) { return Value(make_text(bytes)); }

  Kind kind() const { return kind_; }
  bool is(Kind kind) const { return kind_ == kind; }
  bool given() const { return kind_ != Kind::absent; }
  bool is_number() const { return kind_ >= Kind::boolean && kind_ <= Kind::real; }
  bool is_whole() const { return kind_ == Kind::boolean || kind_ == Kind::integer; }
  bool is_sequence() const { return kind_ == Kind::list || kind_ == Kind::tuple; }

  int64_t integer() const { return integer_; }  // of a boolean too
  double real() const { return kind_ == Kind::real ? real_ : static_cast<double>(integer_); }
  const Text& text() const { return as<Text>(); }
  std::string_view bytes() const { return text().bytes; }
  const List& list() const { return as<List>(); }
  const Dict& dict() const { return as<Dict>(); }
  const Range& range() const { return as<Range>(); }
  const Undefined& undefined() const { return as<Undefined>(); }
  const Callable& callable() const { return as<Callable>(); }
  Iterator& iterator() const { return change<Iterator>(); }
  Names& names() const { return change<Names>(); }
  Loop& loop() const;
  const Object* object() const { return object_.get(); }
  const std::shared_ptr<const Object>& pointer() const { return object_; }

 private:
  template <class T>
  const T& as() const {
    return *static_cast<const T*>(object_.get());
  }
  // Objects with a state of their own: iterators, namespaces, loops.
  template <class T>
  T& change() const {
    return *const_cast<T*>(static_cast<const T*>(object_.get()));
  }

  Kind kind_ = Kind::none;
  union {
    int64_t integer_ = 0;
    double real_;
  };
  std::shared_ptr<const Object> object_;
};

// Containers within containers, at most; keeps every walk over a value, and its end, within the stack.
inline constexpr uint32_t kDeepest = 200;

struct Undefined final : Object {
  std::string message;
  bool unsafe = false;  // exists, but is not for templates
};

// A list, a tuple or a view.
struct List final : Object {
  std::vector<Value> items;
  uint32_t depth = 1;
  std::string_view name;  // of a view: "dict_items"; of a tuple of groupby: "group"
};

struct Dict final : Object {
  using Entry = std::pair<Value, Value>;
  std::vector<Entry> entries;                        // in the order of their insertion
  std::vector<std::pair<uint64_t, uint32_t>> index;  // hash and place, sorted; empty for small ones
  uint32_t depth = 1;
  const Value* find(const Value& key) const;
  const Value* find(std::string_view key) const;
};

struct Range final : Object {
  int64_t start = 0, stop = 0, step = 1;
  int64_t size() const;
};

struct Iterator : Object {
  // False at the end; `item` is untouched then.
  virtual Result<bool> next(Evaluator& evaluator, Value& item) = 0;
};
using IteratorPointer = std::shared_ptr<Iterator>;

// The attributes of namespace(), cleared at the end of a rendering since they may hold each other.
struct Names final : Object {
  std::vector<std::pair<Value, Value>> attributes;
};

struct Arguments {
  std::vector<Value> values;
  std::vector<std::pair<std::string, Value>> named;
};

struct Callable : Object {
  virtual Result<Value> call(Evaluator& evaluator, Arguments arguments) const = 0;
  virtual Value attribute(std::string_view) const { return Value::absent(); }
};

Result<Value> make_list(std::vector<Value> items, Kind kind = Kind::list, std::string_view name = {});
// Of entries whose later ones take the place of earlier ones with the same key; keys must be hashable.
Result<Value> make_dict(std::vector<Dict::Entry> entries);

bool truth(const Value& value);
bool equal(const Value& a, const Value& b);
uint64_t hash(const Value& value);
bool hashable(const Value& value);
// Python's a < b, an error where it has no order.
Result<bool> less(const Value& a, const Value& b);
std::string_view type_name(const Value& value);  // "str", "dict"

// Python's repr of a float: the shortest digits that give it back.
std::string float_text(double value);
// str(value) and repr(value).
void write_text(const Value& value, TextBuilder& to);
void write_repr(const Value& value, TextBuilder& to);
TextPointer to_text(const Value& value);

Failure wrong(std::string message);

}  // namespace thimble::jinja
