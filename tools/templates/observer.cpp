// @NAME@: one line that says what is gathered of a layer's inputs.
//
//   Paper      Authors and year, arXiv number, equation
//   Statistic  s_j = sum over rows of x_ij, [width]
//
// As made from the template: the sum of every input. A transform names the observer that it reads.
#include "methods/observer.h"
#include "ops/pointwise.h"
#include "ops/table.h"
#include "ops/update.h"

namespace thimble {
namespace {

Shape shape(int64_t width) { return {width}; }

ValueId add(Graph& graph, ValueId statistic, ValueId x, const std::string& name) {
  const ValueId sums = graph.emit(kReduce, ReduceAttributes{Reduce::sum, ReduceOver::rows}, {x}, name + ".pass");
  PointwiseBuilder b;
  const Expr all = b.tensor(), pass = b.tensor();
  b.store(all, all + pass);
  return graph.emit(kPointwise, b.attributes(), {statistic, sums}, name + ".sum");
}

}  // namespace

const Observer @SYMBOL@ = {
    .name = "@NAME@", .summary = "one line for help and docs", .paper = "arXiv number", .shape = shape, .add = add};

}  // namespace thimble
