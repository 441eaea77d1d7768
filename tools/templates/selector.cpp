// @NAME@: one line that says what trains.
//
//   Paper   Authors and year, arXiv number
//   Trains  every parameter
//   Choice  where this differs from the paper
//
// As made from the template: every parameter trains, throughout the run.
#include "methods/selector.h"

namespace thimble {
namespace {

Result<std::vector<Trains>> select(const SelectorInput& input) {
  return trained_where(input.parameters, [](const Selectable&) { return true; });
}

}  // namespace

const Selector @SYMBOL@ = {
    .name = "@NAME@", .summary = "one line for help and docs", .paper = "arXiv number", .select = select};

}  // namespace thimble
