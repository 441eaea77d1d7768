#include "graph/pass_log.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>

#include "ops/table.h"

namespace thimble {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Pair;

class PassLogTest : public ::testing::Test {
 protected:
  void SetUp() override { verify_every_pass = true; }
  Graph graph;
  PassLog log;
};

TEST_F(PassLogTest, says_what_each_pass_changed) {
  const ValueId a = graph.add_value("a", {{4, 8}, &kF32}, Role::input);
  const ValueId b = graph.add_value("b", {{4, 8}, &kF32}, Role::input);
  ASSERT_TRUE(log.end("inputs", graph));
  const ValueId sum = graph.emit(kAdd, {}, {a, b}, "sum");
  graph.emit(kAdd, {}, {sum, b}, "twice");
  ASSERT_TRUE(log.end("sums", graph));
  ASSERT_EQ(log.passes().size(), 2u);
  EXPECT_TRUE(log.passes()[0].operations.empty());
  EXPECT_THAT(log.passes()[1].operations, ElementsAre(Pair(kAdd.name, 2)));
  EXPECT_EQ(log.passes()[1].values, 4u);
  EXPECT_THAT(passes_table(log.passes()), HasSubstr("+2 add"));
  EXPECT_THAT(passes_table(log.passes()), HasSubstr("no node"));
  EXPECT_THAT(passes_json(log.passes()), HasSubstr("\"changed\":{\"add\":2}"));
}

TEST_F(PassLogTest, leaves_out_what_the_environment_names) {
  const auto add = [](Graph& g) {
    const ValueId a = g.add_value("a", {{4, 8}, &kF32}, Role::input);
    g.emit(kAdd, {}, {a, a}, "sum");
  };
  setenv("THIMBLE_SKIP_PASSES", "narrow products,hoisted updates", 1);
  ASSERT_TRUE(log.optional(kNarrowProducts, graph, add));
  EXPECT_TRUE(graph.nodes().empty());
  EXPECT_EQ(log.passes().back().name, "narrow products (left out)");
  ASSERT_TRUE(log.optional(kGroupedProducts, graph, add));
  EXPECT_EQ(graph.nodes().size(), 1u);
  setenv("THIMBLE_SKIP_PASSES", "narrow", 1);
  const auto unknown = log.optional(kGroupedProducts, graph, add);
  unsetenv("THIMBLE_SKIP_PASSES");
  ASSERT_FALSE(unknown);
  EXPECT_THAT(unknown.error().message, HasSubstr("'narrow' is no pass"));
}

// The pass after which a graph is illegal is named.
TEST_F(PassLogTest, names_the_pass_that_left_an_illegal_graph) {
  graph.add_value("a", {{4, 8}, &kF32}, Role::input);
  ASSERT_TRUE(log.end("first", graph));
  graph.add_value("a", {{4, 8}, &kF32}, Role::input);
  const auto refused = log.end("second", graph);
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().message, HasSubstr("after the pass 'second'"));
  EXPECT_THAT(refused.error().message, HasSubstr("'a'"));
}

}  // namespace
}  // namespace thimble
