// Graphs that are illegal, each in one way, and what the verifier and the backward pass say of them.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "graph/op.h"
#include "graph/rewrite.h"
#include "ops/backward.h"
#include "ops/matrix.h"
#include "ops/pointwise.h"
#include "ops/table.h"
#include "ops/update.h"

namespace thimble {
namespace {

using testing::HasSubstr;

std::string error_of(const Graph& graph) {
  const auto verified = graph.verify();
  return verified ? "" : verified.error().message;
}

// Over a parameter p[3, 4]: p <- 2 p.
PointwiseAttributes twice() {
  PointwiseBuilder b;
  const Expr p = b.tensor();
  b.store(p, 2 * p);
  return b.attributes();
}

struct Small : testing::Test {
  Graph graph;
  ValueId p = graph.add_value("p", {{3, 4}}, Role::parameter);
  ValueId x = graph.add_value("x", {{5, 4}, &kF32, Extent::tokens}, Role::input);
};

TEST_F(Small, a_legal_graph_passes) {
  const ValueId y = graph.emit(kLinear, LinearAttributes{}, {x, p, kNone, kNone}, "y");
  graph.value(y).role = Role::result;
  graph.emit(kPointwise, twice(), {p}, "p2");
  EXPECT_EQ(error_of(graph), "");
}

TEST_F(Small, a_reader_after_an_overwrite_is_refused) {
  graph.emit(kPointwise, twice(), {p}, "p2");
  graph.emit(kLinear, LinearAttributes{}, {x, p, kNone, kNone}, "y");
  EXPECT_THAT(error_of(graph), HasSubstr("'p' is read by linear after pointwise has overwritten it"));
}

TEST_F(Small, the_new_version_may_be_read) {
  const ValueId next = graph.emit(kPointwise, twice(), {p}, "p2");
  graph.emit(kLinear, LinearAttributes{}, {x, next, kNone, kNone}, "y");
  EXPECT_EQ(error_of(graph), "");
}

TEST_F(Small, what_the_host_wrote_is_not_overwritten) {
  PointwiseBuilder b;
  const Expr v = b.tensor();
  b.store(v, 2 * v);
  graph.emit(kPointwise, b.attributes(), {x}, "x2");
  EXPECT_THAT(error_of(graph), HasSubstr("'x', which is read only"));
}

TEST_F(Small, persistent_names_are_unique) {
  graph.add_value("p", {{2}}, Role::state);
  EXPECT_THAT(error_of(graph), HasSubstr("two persistent values are named 'p'"));
  Graph results;
  const ValueId a = results.add_value("a", {{2}}, Role::parameter);
  for (int i = 0; i < 2; ++i) {
    PointwiseBuilder b;
    b.output(2 * b.tensor());
    results.value(results.emit(kPointwise, b.attributes(), {a}, "loss")).role = Role::result;
  }
  EXPECT_THAT(error_of(results), HasSubstr("two persistent values are named 'loss'"));
}

TEST_F(Small, types_are_what_the_shape_rules_derive) {
  const ValueId y = graph.emit(kLinear, LinearAttributes{}, {x, p, kNone, kNone}, "y");
  graph.value(y).type.shape = {5, 7};
  EXPECT_THAT(error_of(graph), HasSubstr("'y' is not of the type that linear makes"));
}

TEST(ShapeRules, codecs_and_rows_are_part_of_the_contract) {
  const Type x{{5, 33}}, gain{{33}, &kBf16}, ids{{5}, &kI32};
  const auto message = [](const Result<std::vector<Type>>& result) { return result ? "" : result.error().message; };
  EXPECT_THAT(message(kRmsNorm.infer(NormAttributes{}, std::vector{x, gain})), HasSubstr("gain should be f32"));
  EXPECT_THAT(message(kEmbedding.infer(EmbeddingAttributes{}, std::vector{x, x})), HasSubstr("ids should be i32"));
  EXPECT_THAT(message(kLinearCrossEntropy.infer(CrossEntropyAttributes{},
                                                std::vector{x, x, ids, Type{{1}, &kBf16}, Type{.codec = nullptr}})),
              HasSubstr("scale should be f32"));
  EXPECT_THAT(message(kAdd.infer({}, std::vector{x, Type{{6, 33}}})), HasSubstr("b should be [5, 33]"));
  // Rows of 33 are no whole blocks: a pass over the whole would cut them elsewhere than a pass by rows.
  EXPECT_THAT(message(kSquaredNorm.infer({}, std::vector{Type{{5, 33}, &kInt8Block}})), HasSubstr("no whole blocks"));
  EXPECT_EQ((Type{{5, 33}, &kInt8Block}.bytes()), 5 * kInt8Block.bytes(33));
}

TEST_F(Small, more_instructions_than_a_node_holds_are_refused) {
  PointwiseBuilder b;
  Expr sum = b.tensor();
  for (int i = 0; i < 300; ++i) sum = sum + 1;
  b.output(sum);
  const auto inferred = kPointwise.infer(b.attributes(), std::vector{Type{{3, 4}}});
  ASSERT_FALSE(inferred);
  EXPECT_THAT(inferred.error().message, HasSubstr("at most"));
}

std::string backward_error(Graph& graph, ValueId loss) {
  const std::vector<ValueId> wanted = parameters_of(graph);
  Backward backward(graph, wanted);
  backward.add(loss, graph.add_value("seed", graph.value(loss).type, Role::input));
  const auto ran = backward.run({});
  return ran ? "" : ran.error().message;
}

TEST_F(Small, a_path_without_a_gradient_is_an_error) {
  const ValueId y = graph.emit(kLinear, LinearAttributes{}, {x, p, kNone, kNone}, "y");
  const ValueId most = graph.emit(kReduce, ReduceAttributes{Reduce::maximum, ReduceOver::columns}, {y}, "most");
  EXPECT_THAT(backward_error(graph, most), HasSubstr("maximum of reduce has no gradient"));
  EXPECT_THAT(backward_error(graph, graph.emit(kQr, {}, {y}, "basis")), HasSubstr("qr"));
}

TEST_F(Small, a_loss_that_reaches_nothing_is_an_error) {
  Graph frozen;
  const ValueId w = frozen.add_value("w", {{3, 4}}, Role::weight);
  const ValueId z = frozen.add_value("z", {{5, 4}}, Role::input);
  const ValueId y = frozen.emit(kLinear, LinearAttributes{}, {z, w, kNone, kNone}, "y");
  EXPECT_THAT(backward_error(frozen, y), HasSubstr("depends on nothing that is to be trained"));
}

TEST_F(Small, more_readers_than_one_product_holds) {
  std::vector<ValueId> wide;
  const ValueId q = graph.add_value("q", {{4, 4}}, Role::parameter);
  const ValueId h = graph.emit(kLinear, LinearAttributes{}, {x, q, kNone, kNone}, "h");
  ValueId sum = kNone;
  for (int i = 0; i < 21; ++i) sum = graph.emit(kLinear, LinearAttributes{}, {h, p, kNone, sum}, fmt::format("y{}", i));
  EXPECT_EQ(backward_error(graph, sum), "");
  EXPECT_EQ(error_of(graph), "");
}

// The hash is of what is computed.
uint64_t hash_of(int unused, int64_t rows, double epsilon, float scale, bool named) {
  Graph graph;
  for (int i = 0; i < unused; ++i) graph.add_value(fmt::format("u{}", i), {{i + 1}}, Role::weight);
  const ValueId x = graph.add_value("x", {{rows, 4}, &kF32, Extent::tokens}, Role::input);
  const ValueId w = graph.add_value("w", {{3, 4}}, Role::parameter), gain = graph.add_value("g", {{4}}, Role::weight);
  const ValueId n = graph.emit(kRmsNorm, NormAttributes{epsilon}, {x, gain}, named ? "norm" : "other");
  const ValueId y = graph.emit(kLinear, LinearAttributes{.terms = {{true, scale}}}, {n, w, kNone, kNone}, "y");
  graph.value(y).role = Role::result;
  return graph.numerics_hash();
}

TEST(NumericsHash, covers_attributes_and_neither_ids_nor_rows) {
  const uint64_t plain = hash_of(0, 5, 1e-5, 1, true);
  EXPECT_EQ(plain, hash_of(3, 5, 1e-5, 1, true));
  EXPECT_EQ(plain, hash_of(0, 512, 1e-5, 1, true));
  EXPECT_EQ(plain, hash_of(0, 5, 1e-5, 1, false));
  EXPECT_NE(plain, hash_of(0, 5, 1e-6, 1, true));
  EXPECT_NE(plain, hash_of(0, 5, 1e-5, 0.5, true));
}

TEST(NumericsHash, covers_how_values_begin) {
  const auto of = [](Initial initial) {
    Graph graph;
    const ValueId t = graph.add_value("t", {{4}}, Role::constant, std::move(initial));
    PointwiseBuilder b;
    b.output(2 * b.tensor());
    graph.value(graph.emit(kPointwise, b.attributes(), {t}, "y")).role = Role::result;
    return graph.numerics_hash();
  };
  EXPECT_NE(of(Initial::constant(1)), of(Initial::constant(2)));
  EXPECT_NE(of(Initial::table({}, "base 10000")), of(Initial::table({}, "base 500000")));
}

// Copying keeps how values begin, and inputs that nothing reads.
TEST(Rewrite, copies_all_that_a_value_is) {
  Graph graph;
  graph.add_value("positions", {{5}, &kI32}, Role::input);
  const ValueId t = graph.add_value("t", {{4}}, Role::constant, Initial::constant(3));
  PointwiseBuilder b;
  b.output(2 * b.tensor());
  graph.value(graph.emit(kPointwise, b.attributes(), {t}, "y")).role = Role::result;
  const GraphCopy copy = rewrite(graph, [](GraphCopy&, const Node&) { return false; });
  const Graph& copied = const_cast<GraphCopy&>(copy).graph();
  EXPECT_NE(copied.find("positions"), kNone);
  EXPECT_EQ(copied.value(copied.find("t")).initial.number, 3);
  EXPECT_EQ(copied.numerics_hash(), graph.numerics_hash());
}

}  // namespace
}  // namespace thimble
