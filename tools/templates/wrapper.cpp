// @NAME@: one line that says what goes around an optimizer.
//
//   Paper   Authors and year, arXiv number, algorithm
//   Update  p <- (1 - shrink) p, when the optimizer has moved it
//   State   none
//   Choice  where this differs from the paper
//
// As made from the template: with its default nothing is changed.
#include "methods/optimizers/update_expr.h"

namespace thimble {
namespace {

constexpr Option kOptions[] = {{"shrink", 0, 0, 1, "part of a parameter that every step takes away"}};

std::vector<StateSpec> states(const Parameter&, const OptionValues&) { return {}; }

void after(Update& u) {
  Fused f(u.graph, "@NAME@." + u.name());
  f.store(u.parameter, (1 - u.options["shrink"]) * f.tensor(u.parameter));
  f.emit();
}

}  // namespace

const Wrapper @SYMBOL@ = {.name = "@NAME@",
                          .summary = "one line for help and docs",
                          .paper = "arXiv number",
                          .options = kOptions,
                          .states = states,
                          .after = after};

}  // namespace thimble
