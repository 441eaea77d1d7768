// The attribute that `map`, `sort`, `groupby` and others look up in each item: "a", "a.b.0", or a place.
#pragma once

#include "text/jinja/evaluator.h"

namespace thimble::jinja {

class Getter {
 public:
  // `attribute` may be absent or none: the item itself.
  static Result<Getter> of(const Value& attribute, const Value& otherwise = Value::absent());
  Result<Value> get(Evaluator& evaluator, Value item) const;

 private:
  std::vector<Value> parts_;
  Value otherwise_ = Value::absent();
};

// Several of them, "a,b": the key of `sort`.
Result<std::vector<Getter>> getters(const Value& attribute);

// Texts in lower case, others as they are.
Result<Value> without_case(Evaluator& evaluator, const Value& value);
// Sorts by keys that Python can order, keeping the order of equals; an error where it cannot.
struct Keyed {
  Value key, item;
};
Result<void> sort_keyed(Evaluator& evaluator, std::vector<Keyed>& keyed, bool reverse);

}  // namespace thimble::jinja
