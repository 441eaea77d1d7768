// The statistic of @NAME@ once more.
#include "methods/observer.h"

#include <gtest/gtest.h>

#include "ops/reference_graph.h"

namespace thimble {
namespace {

TEST(@PASCAL@, adds_the_rows_of_a_pass) {
  Graph graph;
  const ValueId before = graph.add_value("s", {@SYMBOL@.shape(3)}, Role::state),
                x = graph.add_value("x", {{2, 3}, &kF32, Extent::tokens}, Role::input),
                after = @SYMBOL@.add(graph, before, x, "s");
  ReferenceValues values{{before, {1, 0, -1}}, {x, {1, 2, 3, 4, 5, 6}}};
  Threads threads(1);
  RunContext run{threads, Multiply::f32};
  run_reference(graph, values, run);
  EXPECT_EQ(values.at(after), (std::vector<double>{6, 7, 8}));
}

}  // namespace
}  // namespace thimble
