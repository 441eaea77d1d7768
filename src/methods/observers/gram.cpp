// gram: how the inputs of a layer go together.
//
//   Statistic  H = X^T X, [width, width]: half the Hessian of |X W^T - X Q^T|^2 in a row of Q
#include "methods/observer.h"
#include "ops/table.h"

namespace thimble {
namespace {

Shape shape(int64_t width) { return {width, width}; }

ValueId add(Graph& graph, ValueId statistic, ValueId x, const std::string& name) {
  return graph.emit(kLinearDw, ScaleAttributes{}, {statistic, x, x}, name + ".sum");
}

}  // namespace

const Observer kGram = {.name = "gram",
                        .summary = "products of every two inputs of a layer, summed",
                        .paper = "Frantar et al. 2022, arXiv:2210.17323",
                        .shape = shape,
                        .add = add};

}  // namespace thimble
