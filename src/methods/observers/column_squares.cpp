// column_squares: how large each input of a layer is.
//
//   Statistic  s_j = sum over rows of x_ij^2, [width]
#include "methods/observer.h"
#include "ops/pointwise.h"
#include "ops/table.h"
#include "ops/update.h"

namespace thimble {
namespace {

Shape shape(int64_t width) { return {width}; }

ValueId add(Graph& graph, ValueId statistic, ValueId x, const std::string& name) {
  const ValueId squares = graph.emit(kReduce, ReduceAttributes{Reduce::squares, ReduceOver::rows}, {x}, name + ".pass");
  PointwiseBuilder b;
  const Expr all = b.tensor(), pass = b.tensor();
  b.store(all, all + pass);
  return graph.emit(kPointwise, b.attributes(), {statistic, squares}, name + ".sum");
}

}  // namespace

const Observer kColumnSquares = {.name = "column_squares",
                                 .summary = "the sum of squares of every input of a layer",
                                 .paper = "Sun et al. 2023, arXiv:2306.11695",
                                 .shape = shape,
                                 .add = add};

}  // namespace thimble
