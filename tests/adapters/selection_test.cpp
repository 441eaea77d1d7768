// Which modules a configuration names, as check_target_module_exists and get_pattern_key of PEFT decide it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "adapters/adapter.h"
#include "adapters/modules.h"
#include "adapters/name_pattern.h"
#include "models/families.h"
#include "models/memory_model.h"
#include "models/mixer.h"
#include "models/router.h"

namespace thimble {
namespace {

using ::testing::IsEmpty;
using ::testing::UnorderedElementsAre;
using Ordered = nlohmann::ordered_json;

// Owners that are taken, without "model.layers.".
std::set<std::string> taken(const char* config, const char* family = "llama") {
  const auto selection = Selection::read(Ordered::parse(config), "c");
  EXPECT_TRUE(selection) << selection.error().message;
  std::set<std::string> out;
  for (const ModelModule& module : model_modules(tiny_architecture(family))) {
    if (module.suffix != "weight" || module.shape.rank() != 2) continue;
    const auto takes = selection->takes(module);
    EXPECT_TRUE(takes) << takes.error().message;
    if (takes && *takes) out.insert(module.owner.substr(module.owner.find("layers.") == 6 ? 13 : 0));
  }
  return out;
}

TEST(Selection, by_ends_of_names) {
  EXPECT_THAT(taken(R"({"target_modules":["q_proj"]})"),
              UnorderedElementsAre("0.self_attn.q_proj", "1.self_attn.q_proj"));
  EXPECT_THAT(taken(R"({"target_modules":["proj"]})"), IsEmpty()) << "an end of a word is not an end of a name";
  EXPECT_THAT(taken(R"({"target_modules":["model.layers.0.mlp.up_proj","lm_head"]})"),
              UnorderedElementsAre("0.mlp.up_proj", "lm_head"));
}

TEST(Selection, by_a_regular_expression_over_the_whole_name) {
  EXPECT_THAT(taken(R"({"target_modules":".*layers\\.1\\..*(q|k)_proj"})"),
              UnorderedElementsAre("1.self_attn.q_proj", "1.self_attn.k_proj"));
  EXPECT_THAT(taken(R"({"target_modules":"q_proj"})"), IsEmpty());
  EXPECT_EQ(taken(R"({"target_modules":"All-Linear"})").size(), 14u);
}

// Without --target: neither experts, nor what scores experts or heads.
TEST(Selection, by_default_is_the_same_for_every_method) {
  Architecture a = tiny_architecture("llama");
  a.family = kThimbleFamily.name;
  a.blocks.resize(4, a.blocks.front());
  set_mixer(a.blocks[0], kDeltaNetMixer);
  for (const size_t block : {1, 2}) a.blocks[block].ffn.routing = {.router = &kTopKRouter, .experts = 4, .chosen = 2};
  for (const Rewrite* rewrite : rewrites()) {
    if (!rewrite->adapts() || !rewrite->of_layers() || rewrite == &kTrainableTokens) continue;  // it is for embeddings
    Ordered config;
    OptionValues options(rewrite->options);
    for (const auto& [option, value] : {std::pair{"rank", 2.0}, {"vector_length", 4.0}})
      if (options.has(option)) EXPECT_TRUE(options.set("test", option, value));
    const auto fresh = fresh_rewrite(*rewrite, {options, {}, ""}, a, config);
    ASSERT_TRUE(fresh) << rewrite->name << ": " << fresh.error().message;
    for (const auto& [name, module] : fresh->modules)
      for (const char* other : {".experts.", ".router", ".b_proj"})
        EXPECT_EQ(name.find(other), std::string::npos) << rewrite->name << " " << name;
    EXPECT_FALSE(fresh->modules.empty()) << rewrite->name;
  }
  Ordered config;
  const auto lora = fresh_rewrite(kLora, {OptionValues(kLora.options), {}, ""}, a, config);
  ASSERT_TRUE(lora) << lora.error().message;
  EXPECT_EQ(lora->modules.size(), 4u * 4 + 2 * 3) << "of four mixers and two plain FFNs";
  const auto named = fresh_rewrite(kLora, {OptionValues(kLora.options), {"router", "b_proj"}, ""}, a, config);
  ASSERT_TRUE(named) << named.error().message;
  EXPECT_EQ(named->modules.size(), 3u);
}

TEST(Selection, of_some_layers) {
  EXPECT_THAT(taken(R"({"target_modules":["q_proj"],"layers_to_transform":1})"),
              UnorderedElementsAre("1.self_attn.q_proj"));
  EXPECT_THAT(taken(R"({"target_modules":["q_proj"],"layers_to_transform":[0],"layers_pattern":"layers"})"),
              UnorderedElementsAre("0.self_attn.q_proj"));
  EXPECT_THAT(taken(R"({"target_modules":["q_proj"],"layers_to_transform":[0],"layers_pattern":["blocks"]})"),
              IsEmpty());
  EXPECT_THAT(taken(R"({"target_modules":["c_attn"],"layers_to_transform":[1],"layers_pattern":"h"})", "gpt2"),
              UnorderedElementsAre("transformer.h.1.attn.c_attn"));
  EXPECT_EQ(taken(R"({"target_modules":["q_proj"],"layers_to_transform":[],"layers_pattern":""})").size(), 2u)
      << "an empty list and an empty pattern say nothing";
  EXPECT_EQ(taken(R"({"target_modules":["q_proj"],"layers_to_transform":[1],"layers_pattern":[]})").size(), 1u);
}

// Names of experts have two numbers.
TEST(Selection, of_layers_by_the_first_number_of_a_name) {
  const auto takes = [](const char* config) {
    ModelModule expert;
    expert.owner = "model.layers.1.mlp.experts.0.gate_proj";
    return *Selection::read(Ordered::parse(config), "c")->takes(expert);
  };
  EXPECT_TRUE(takes(R"({"target_modules":["gate_proj"],"layers_to_transform":[1]})"));
  EXPECT_FALSE(takes(R"({"target_modules":["gate_proj"],"layers_to_transform":[0]})"));
  EXPECT_TRUE(takes(R"({"target_modules":["gate_proj"],"layers_to_transform":[0],"layers_pattern":"experts"})"));
  EXPECT_TRUE(takes(R"({"target_modules":["gate_proj"],"layers_to_transform":[1],"layers_pattern":"model\\.layers"})"))
      << "at the beginning of the name";
}

TEST(Selection, without_what_is_excluded) {
  EXPECT_THAT(taken(R"({"target_modules":["q_proj","k_proj"],"exclude_modules":["k_proj"],"layers_to_transform":[0]})"),
              UnorderedElementsAre("0.self_attn.q_proj"));
  EXPECT_THAT(taken(R"({"target_modules":["q_proj"],"exclude_modules":".*\\.0\\..*"})"),
              UnorderedElementsAre("1.self_attn.q_proj"));
}

TEST(Selection, the_first_key_in_the_order_of_the_file_counts) {
  const Ordered keys = Ordered::parse(R"({"q_proj":1,"layers.0.self_attn.q_proj":2,"z.*|model.*up_proj":3})");
  const auto value = [&](const char* name) {
    const auto found = by_pattern(keys, name, "c");
    EXPECT_TRUE(found);
    return *found ? (*found)->get<int>() : 0;
  };
  EXPECT_EQ(value("model.layers.0.self_attn.q_proj"), 1);
  EXPECT_EQ(value("model.layers.0.mlp.up_proj"), 3);
  EXPECT_EQ(value("model.layers.0.self_attn.xq_proj"), 0);
}

// A pattern that would take ages is an error.
TEST(Selection, hostile_patterns_end) {
  const auto pattern = NamePattern::compile("(a+)+[0-9]", "c");
  ASSERT_TRUE(pattern);
  EXPECT_FALSE(pattern->matches(std::string(64, 'a')));
  EXPECT_FALSE(NamePattern::compile(std::string(5000, 'a'), "c"));
}

}  // namespace
}  // namespace thimble
