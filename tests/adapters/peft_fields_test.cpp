// Every field of PEFT's configurations is honoured, harmless with a reason, or refused by name.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "adapters/peft_config.h"

namespace thimble {
namespace {

using ::testing::HasSubstr;
using Ordered = nlohmann::ordered_json;

// LoraConfig of peft 0.21.
constexpr const char* kLoraFields[] = {"task_type",
                                       "peft_type",
                                       "auto_mapping",
                                       "peft_version",
                                       "base_model_name_or_path",
                                       "revision",
                                       "inference_mode",
                                       "r",
                                       "target_modules",
                                       "exclude_modules",
                                       "lora_alpha",
                                       "lora_dropout",
                                       "fan_in_fan_out",
                                       "bias",
                                       "use_rslora",
                                       "modules_to_save",
                                       "init_lora_weights",
                                       "layers_to_transform",
                                       "layers_pattern",
                                       "rank_pattern",
                                       "alpha_pattern",
                                       "megatron_config",
                                       "megatron_core",
                                       "trainable_token_indices",
                                       "loftq_config",
                                       "eva_config",
                                       "corda_config",
                                       "lora_ga_config",
                                       "kasa_config",
                                       "use_dora",
                                       "alora_invocation_tokens",
                                       "use_qalora",
                                       "qalora_group_size",
                                       "layer_replication",
                                       "runtime_config",
                                       "lora_bias",
                                       "target_parameters",
                                       "use_bdlora",
                                       "arrow_config",
                                       "monteclora_config",
                                       "velora_config",
                                       "ensure_weight_tying"};

TEST(PeftFields, of_lora_are_all_known) {
  for (const char* field : kLoraFields) {
    std::string_view why;
    const PeftMeaning meaning = peft_meaning(kLora, field, &why);
    EXPECT_NE(meaning, PeftMeaning::unknown) << field;
    if (meaning != PeftMeaning::honoured) EXPECT_FALSE(why.empty()) << field << " has no reason";
  }
}

// A field that is refused is so by its name once it says something, and passes while it is off.
TEST(PeftFields, are_refused_by_name_when_they_are_set) {
  for (const Rewrite* rewrite : rewrites()) {
    if (rewrite->form.type.empty()) continue;
    for (const PeftNote& note : rewrite->form.refused) {
      const auto marks = [&](const Rewrite* other) { return other->form.marked == note.field; };
      if (std::ranges::any_of(rewrites(), marks)) continue;  // the file is another technique's then
      Ordered config = {{"peft_type", rewrite->form.type}};
      for (const Ordered& off : {Ordered(nullptr), Ordered(false), Ordered(0.0), Ordered::array(), Ordered::object()}) {
        config[std::string(note.field)] = off;
        EXPECT_TRUE(check_peft_config(config, "c")) << note.field;
      }
      config[std::string(note.field)] = true;
      const auto refused = check_peft_config(config, "c");
      ASSERT_FALSE(refused) << note.field;
      EXPECT_THAT(refused.error().message, HasSubstr("'" + std::string(note.field) + "' is set"));
    }
  }
}

// PEFT does not open an AdaLoRA without them.
TEST(PeftFields, steps_that_are_left_open_are_those_of_the_run) {
  const auto written = [](const Rewrite& rewrite, const char* config) {
    Ordered json = Ordered::parse(config);
    write_steps(rewrite, 40, json);
    return json.dump();
  };
  EXPECT_EQ(written(kAdalora, R"({"tinit":0,"total_step":0})"), R"({"tinit":0,"total_step":40})");
  EXPECT_EQ(written(kAdalora, R"({"tinit":0,"total_step":30})"), R"({"tinit":0,"total_step":30})");
  EXPECT_EQ(written(kLora, R"({"r":0})"), R"({"r":0})");
}

// What matters in training alone is in nobody's way where the adapter is used.
TEST(PeftFields, of_training_are_refused_where_an_adapter_trains_on) {
  int notes = 0;
  for (const Rewrite* rewrite : rewrites())
    for (const PeftNote& note : rewrite->form.training) {
      ++notes;
      Ordered config = {{"peft_type", rewrite->form.type}, {std::string(note.field), 0.1}};
      EXPECT_TRUE(check_peft_config(config, "c")) << note.field;
      const auto refused = check_peft_training(*rewrite, config, "c");
      ASSERT_FALSE(refused) << note.field;
      EXPECT_THAT(refused.error().message, HasSubstr("'" + std::string(note.field) + "' is set"));
      config[std::string(note.field)] = 0.0;
      EXPECT_TRUE(check_peft_training(*rewrite, config, "c")) << note.field;
    }
  EXPECT_GT(notes, 0);
}

TEST(PeftFields, refuses_what_it_cannot_honour) {
  struct Case {
    const char* fields;
    const char* error;
  };
  const Case cases[] = {
      {R"("peft_type": "XLORA")", "peft_type is 'XLORA'; thimble reads LORA"},
      {R"("peft_type": "LORA", "init_lora_weights": "pissa_niter_4")", "changes the base model"},
      {R"("peft_type": "LORA", "init_lora_weights": "mica")", "init_lora_weights is 'mica': thimble does not know"},
      {R"("peft_type": "LORA", "rank_pattern": {"q": -4})", "rank_pattern of 'q'"},
      {R"("peft_type": "LORA", "rank_pattern": {"q(": 4})", "is no regular expression"},
      {R"("peft_type": "LORA", "r": 0)", "'r' should be in 1..65536, found 0"},
      {R"("peft_type": "LORA", "r": 8.5)", "'r' should be an integer, found 8.5"},
      {R"("peft_type": "LORA", "lora_dropout": 1)", "'lora_dropout' should be in 0..0.99, found 1"},
      {R"("peft_type": "LORA", "use_rslora": 1)", "'use_rslora' should be true or false"},
      {R"("peft_type": "TRAINABLE_TOKENS", "token_indices": [1.5])", "a list of up to"},
      {R"("peft_type": "TRAINABLE_TOKENS", "token_indices": [-1])", "expected 0 to"},
      {R"("peft_type": "LORA", "target_modules": [3])", "should hold strings only"},
      {R"("peft_type": "LORA", "target_modules": {})", "a list of names or a string"},
      {R"("peft_type": "LORA", "target_modules": "q(")", "is no regular expression"},
      {R"("peft_type": "LORA", "layers_to_transform": ["1"])", "numbers of layers"},
      {R"("peft_type": "LORA", "bias": "some")", "bias is 'some'"},
      {R"("peft_type": "LORA", "modules_to_save": [3])", "'modules_to_save' should be a list of names, found [3]"},
      {R"("peft_type": "LORA", "modules_to_save": "lm_head")", "'modules_to_save' should be a list of names"},
      {R"("peft_type": "LORA", "base_model_name_or_path": 3)", "'base_model_name_or_path' should be a string, found 3"},
      {R"("peft_type": "LORA", "init_lora_weights": 7)",
       "'init_lora_weights' should be true, false or a string, found 7"},
      {R"("peft_type": "IA3", "init_ia3_weights": [])", "'init_ia3_weights' should be true, false or a string"},
      {R"("peft_type": "LORA", "use_dora": "x")", "'use_dora' should be true or false, found \"x\""},
      {R"("peft_type": "LORA", "next_years_field": 3)", "'next_years_field' is set to 3"},
      {R"("peft_type": "ADALORA", "rank_pattern": [1])", "rank_pattern should say lists by layer"},
      {R"("peft_type": "ADALORA", "rank_pattern": {"q.lora_E": 3})", "a list of true and false"},
      {R"("peft_type": "ADALORA", "rank_pattern": {"q.lora_E": [true, 1]})", "a list of true and false"},
      {R"("peft_type": "ADALORA", "rank_pattern": {"q.lora_E": [false]})", "leaves nothing of 'q'"},
      {R"("peft_type": "PROMPT_TUNING", "num_virtual_tokens": 0)", "'num_virtual_tokens' should be in 1..4096"},
      {R"("r": 8)", "'peft_type' is missing"},
  };
  for (const Case& c : cases) {
    const Ordered config = Ordered::parse(std::string("{") + c.fields + "}");
    const auto all = [&]() -> Result<void> {
      const Rewrite* const rewrite = TRY(check_peft_config(config, "c"));
      const OptionValues options = TRY(peft_options(*rewrite, config, "c"));
      TRY(Selection::read(config, "c"));
      ModelModule module;
      module.owner = "q";
      TRY(peft_options_of(*rewrite, config, options, module, "c"));
      return {};
    }();
    ASSERT_FALSE(all) << c.fields;
    EXPECT_THAT(all.error().message, HasSubstr(c.error));
  }
}

}  // namespace
}  // namespace thimble
