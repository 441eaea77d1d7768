// What LoRA does to a graph: which linears, of what rank, and what it says when there are none.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>

#include "adapters/adapter.h"
#include "methods/rewrite.h"
#include "models/build.h"
#include "ops/table.h"

namespace thimble {
namespace {

using ::testing::HasSubstr;

Architecture two_blocks() {
  return llama({.vocab = 96,
                .width = 32,
                .layers = 2,
                .heads = 4,
                .kv_heads = 2,
                .head_dim = 8,
                .ffn_width = 64,
                .context = 64});
}

enum class Makes { losses, logits };
Graph model(Makes makes = Makes::losses) {
  BuildOptions options{.prefix = "", .rows = 64, .positions = 64, .activation = &kF32, .differentiable = true};
  options.codec = [](const std::string& name, const Shape&) -> const Codec* {
    return name.find("bias") == std::string::npos && name.find("lm_head") == std::string::npos ? &kF32 : nullptr;
  };
  Graph graph;
  const auto built = build_model(graph, two_blocks(), options);
  EXPECT_TRUE(built) << built.error().message;
  if (makes == Makes::losses) add_token_loss(graph, *built, {.gradient = true});
  if (makes == Makes::logits) add_logits(graph, *built, "logits");
  return graph;
}

// The model with LoRA as flags ask for it.
Result<Rewritten> with_lora(const std::vector<std::pair<const char*, double>>& options = {},
                            std::vector<std::string> targets = {}, RewriteUse use = RewriteUse::train) {
  OptionValues values(kLora.options);
  for (const auto& [name, value] : options) CHECK_OK(values.set("lora", name, value));
  nlohmann::ordered_json config;
  PassLog log;
  return rewrite_model(model(), {{TRY(fresh_rewrite(kLora, {values, std::move(targets), ""}, two_blocks(), config))}},
                       use, log);
}

// Modules by the parameters that were added.
std::set<std::string> adapted(const Graph& graph) {
  std::set<std::string> out;
  constexpr std::string_view kEnd = ".lora_A.weight";
  for (const Value& value : graph.values())
    if (value.name.ends_with(kEnd)) out.insert(value.name.substr(0, value.name.size() - kEnd.size()));
  return out;
}

TEST(Lora, adapts_the_seven_linears_of_each_block) {
  const auto to = with_lora({{"rank", 4}});
  ASSERT_TRUE(to) << to.error().message;
  const Graph& graph = to->graph;
  EXPECT_TRUE(graph.verify());
  EXPECT_EQ(adapted(graph).size(), 14u);
  EXPECT_EQ(to->tensors.size(), 28u);
  for (const std::string& module : adapted(graph)) {
    const Shape& w = graph.value(graph.find(module + ".weight")).type.shape;
    const Value &a = graph.value(graph.find(module + ".lora_A.weight")),
                &b = graph.value(graph.find(module + ".lora_B.weight"));
    EXPECT_EQ(a.type.shape, (Shape{4, w[1]})) << module;
    EXPECT_EQ(b.type.shape, (Shape{w[0], 4})) << module;
    EXPECT_EQ(a.role, Role::parameter);
    EXPECT_EQ(b.role, Role::parameter);
    EXPECT_EQ(graph.value(graph.find(module + ".weight")).role, Role::weight) << "the base stays frozen";
  }
}

TEST(Lora, takes_targets_by_the_end_of_their_name) {
  const auto to = with_lora({{"rank", 2}}, {"q_proj", "mlp.down_proj"});
  ASSERT_TRUE(to) << to.error().message;
  EXPECT_THAT(adapted(to->graph),
              ::testing::UnorderedElementsAre("model.layers.0.self_attn.q_proj", "model.layers.1.self_attn.q_proj",
                                              "model.layers.0.mlp.down_proj", "model.layers.1.mlp.down_proj"));
  const auto wrong = with_lora({}, {"proj"});  // an end of a word is not an end of a name
  ASSERT_FALSE(wrong);
  EXPECT_EQ(wrong.error().code, ErrorCode::invalid_argument);
  EXPECT_THAT(wrong.error().message, HasSubstr("--target"));
}

TEST(Lora, takes_options_module_by_module) {
  RewriteSpec spec{.rewrite = &kLora};
  const auto add = [&](const std::string& name, double rank, double alpha, double rslora) {
    AdaptedModule module{.name = name, .owner = name, .options = OptionValues(kLora.options)};
    EXPECT_TRUE(module.options.set("lora", "rank", rank) && module.options.set("lora", "alpha", alpha) &&
                module.options.set("lora", "rslora", rslora));
    spec.modules[name] = module;
  };
  add("model.layers.0.self_attn.q_proj", 3, 6, 0);
  add("model.layers.1.mlp.up_proj", 4, 1, 1);
  PassLog log;
  const auto to = rewrite_model(model(), {{spec}}, RewriteUse::train, log);
  ASSERT_TRUE(to) << to.error().message;
  const Graph& graph = to->graph;
  EXPECT_EQ(adapted(graph).size(), 2u);
  EXPECT_EQ(graph.value(graph.find("model.layers.0.self_attn.q_proj.lora_A.weight")).type.shape[0], 3);
  EXPECT_EQ(graph.value(graph.find("model.layers.1.mlp.up_proj.lora_A.weight")).type.shape[0], 4);
  std::multiset<float> scales;
  for (const Node& node : graph.nodes())
    if (node.op == &kLinear && node.as<LinearAttributes>().terms.size() == 2)
      scales.insert(node.as<LinearAttributes>().terms[1].scale);
  EXPECT_EQ(scales, (std::multiset<float>{0.5f, 2.0f}));
  add("model.layers.9.mlp.up_proj", 5, 1, 0);
  const auto wrong = rewrite_model(model(), {{spec}}, RewriteUse::train, log);
  ASSERT_FALSE(wrong);
  EXPECT_THAT(wrong.error().message, HasSubstr("another model"));
}

TEST(Lora, drops_out_in_training_only) {
  const auto dropouts = [](double dropout, RewriteUse use) {
    const auto to = with_lora({{"dropout", dropout}}, {}, use);
    EXPECT_TRUE(to);
    return std::ranges::count_if(to->graph.nodes(), [](const Node& node) { return node.op == &kDropout; });
  };
  EXPECT_EQ(dropouts(0, RewriteUse::train), 0);
  EXPECT_EQ(dropouts(0.1, RewriteUse::train), 14);
  EXPECT_EQ(dropouts(0.1, RewriteUse::evaluate), 0);
  EXPECT_EQ(dropouts(0.1, RewriteUse::infer), 0);
}

TEST(Rewrites, are_found_by_name) {
  for (const Rewrite* rewrite : rewrites()) {
    EXPECT_EQ((*rewrites_named(rewrite->name)).front(), rewrite);
    EXPECT_FALSE(rewrite->summary.empty());
  }
  const auto refusal = [](const char* names) { return rewrites_named(names).error().message; };
  EXPECT_THAT(refusal("lora2"), HasSubstr("lora"));
  EXPECT_THAT(refusal("lora,lora"), HasSubstr("is there twice"));
  EXPECT_THAT(refusal("lora, full"), HasSubstr("give it alone"));
  EXPECT_THAT(refusal("lora,"), HasSubstr("no method ''"));
}

// Two that make the same values cannot both adapt a layer.
TEST(Stack, refuses_two_that_make_the_same_values) {
  nlohmann::ordered_json config;
  std::vector<RewriteSpec> stack;
  for (const Rewrite* rewrite : {&kLora, &kLoraFa}) {
    auto spec = fresh_rewrite(*rewrite, {OptionValues(rewrite->options), {}, ""}, two_blocks(), config);
    ASSERT_TRUE(spec) << spec.error().message;
    stack.push_back(*std::move(spec));
  }
  PassLog log;
  const auto refused = rewrite_model(model(), stack, RewriteUse::train, log);
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().message, HasSubstr("lora and lora_fa both make"));
}

}  // namespace
}  // namespace thimble
