// Macros, and the items of a loop that has a test.
#pragma once

#include "text/jinja/evaluator.h"

namespace thimble::jinja {

struct Macro final : Callable {
  Macro(const Tree& tree, const Function& function, Frame* frame) : tree(tree), function(function), frame(frame) {}
  Result<Value> call(Evaluator& evaluator, Arguments arguments) const override;
  Value attribute(std::string_view name) const override;

  const Tree& tree;
  const Function& function;
  Frame* const frame;  // where it was defined

 private:
  Result<void> bind(Evaluator& evaluator, Arguments& arguments) const;
};

// The variable self: the blocks of the template by their names.
struct Blocks final : Callable {
  Blocks(const Tree& tree, Frame* frame) : tree(tree), frame(frame) {}
  Result<Value> call(Evaluator& evaluator, Arguments arguments) const override;
  Value attribute(std::string_view name) const override;

  const Tree& tree;
  Frame* const frame;  // outermost
};

struct TestedItems final : Iterator {
  TestedItems(IteratorPointer items, const Node& loop, Frame* frame)
      : items(std::move(items)), loop(loop), frame(frame) {}
  Result<bool> next(Evaluator& evaluator, Value& item) override {
    while (TRY(items->next(evaluator, item))) {
      CHECK_OK(evaluator.charge(1));
      if (TRY(evaluator.keep_item(loop, frame, item))) return true;
    }
    return false;
  }

  IteratorPointer items;
  const Node& loop;
  Frame* const frame;
};

// len(), where there is one.
std::optional<int64_t> size_of(const Value& value);

// loop.cycle or loop.changed.
Value loop_method(std::string_view name, const Value& loop);

}  // namespace thimble::jinja
