#include "files/adapter.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "temporary_folder.h"

namespace thimble {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

// An element that tells where it belongs.
float element(const LoraShape& module, LoraPart part, int64_t row, int64_t column) {
  return static_cast<float>(module.in * 1000 + (part == LoraPart::b ? 500 : 0) + row * 10 + column);
}

Result<void> supply(const LoraShape& module, LoraPart part, int64_t row, int64_t rows, std::span<float> to) {
  const int64_t columns = part == LoraPart::a ? module.in : module.rank;
  for (int64_t i = 0; i < rows; ++i) {
    for (int64_t j = 0; j < columns; ++j) to[i * columns + j] = element(module, part, row + i, j);
  }
  return {};
}

TEST(Adapter, what_is_written_is_read) {
  TemporaryFolder folder;
  LoraConfig config{.rank = 4, .alpha = 16, .dropout = 0.25, .targets = {"q_proj", "v_proj"}, .base_model = "base"};
  config.rank_pattern["layers.1.self_attn.q_proj"] = 2;
  config.alpha_pattern["v_proj"] = 3;
  const LoraShape shapes[] = {{"model.layers.0.self_attn.q_proj", 4, 6, 8},
                              {"model.layers.0.self_attn.v_proj", 4, 6, 3},
                              {"model.layers.1.self_attn.q_proj", 2, 7, 8}};
  const std::string path = folder.file("adapter");
  const auto written = write_lora_adapter(path, config, shapes, supply);
  ASSERT_TRUE(written) << written.error().message;

  const auto adapter = open_lora_adapter(path);
  ASSERT_TRUE(adapter) << adapter.error().message;
  EXPECT_EQ(adapter->config.rank, 4);
  EXPECT_EQ(adapter->config.dropout, 0.25);
  EXPECT_THAT(adapter->config.targets, ElementsAre("q_proj", "v_proj"));
  EXPECT_EQ(adapter->config.base_model, "base");
  ASSERT_EQ(adapter->modules.size(), 3u);
  EXPECT_EQ(adapter->modules[0].scale, 4);
  EXPECT_EQ(adapter->modules[1].scale, 0.75);
  EXPECT_EQ(adapter->modules[2].rank, 2);
  EXPECT_EQ(adapter->modules[2].scale, 8);
  for (size_t i = 0; i < 3; ++i) {
    const LoraModule& module = adapter->modules[i];
    EXPECT_EQ(module.module, shapes[i].module);
    EXPECT_EQ(module.b.name, "base_model.model." + shapes[i].module + ".lora_B.weight");
    EXPECT_EQ(module.a.shape, (Shape{shapes[i].rank, shapes[i].in}));
    std::vector<float> b(module.b.shape.count());
    ASSERT_TRUE(adapter->weights.read(module.b.offset, std::as_writable_bytes(std::span(b))));
    EXPECT_EQ(b[shapes[i].rank + 1], element(shapes[i], LoraPart::b, 1, 1));
  }
}

TEST(Adapter, scales_as_rslora) {
  const LoraConfig config{.rank = 16, .alpha = 8, .rslora = true};
  EXPECT_EQ(config.scale_of("any"), 2);
}

TEST(Adapter, refuses_what_is_not_plain_lora) {
  struct Case {
    const char* fields;
    const char* error;
  };
  const Case cases[] = {
      {R"("peft_type": "IA3", "r": 8)", "peft_type is 'IA3'"},
      {R"("peft_type": "LORA", "r": 8, "use_dora": true)", "'use_dora' is set"},
      {R"("peft_type": "LORA", "r": 8, "fan_in_fan_out": true)", "'fan_in_fan_out' is set"},
      {R"("peft_type": "LORA", "r": 8, "modules_to_save": ["lm_head"])", "'modules_to_save' is set"},
      {R"("peft_type": "LORA", "r": 8, "bias": "all")", "bias is 'all'"},
      {R"("peft_type": "LORA", "r": 8, "task_type": "SEQ_CLS")", "task_type is 'SEQ_CLS'"},
      {R"("peft_type": "LORA", "r": 8, "init_lora_weights": "pissa_niter_4")", "changes the base model"},
      {R"("peft_type": "LORA", "r": 8, "rank_pattern": {".*q": 4})", "is a regular expression"},
      {R"("peft_type": "LORA", "r": 8, "rank_pattern": {"q": -4})", "rank_pattern of 'q'"},
      {R"("peft_type": "LORA", "r": 0)", "'r' should be in 1..65536, found 0"},
      {R"("peft_type": "LORA", "r": 8.5)", "'r' should be an integer, found 8.5"},
      {R"("peft_type": "LORA", "r": 8, "lora_dropout": 1)", "lora_dropout"},
      {R"("peft_type": "LORA", "r": 8, "target_modules": [3])", "should hold strings only"},
      {R"("peft_type": "LORA", "r": 8, "target_modules": {})", "a list of names or a string"},
      {R"("peft_type": "LORA")", "'r' is missing"},
      {R"("r": 8)", "'peft_type' is missing"},
  };
  for (const Case& c : cases) {
    TemporaryFolder folder;
    folder.write("adapter_config.json", std::string("{") + c.fields + "}");
    const auto adapter = open_lora_adapter(folder.path());
    ASSERT_FALSE(adapter) << c.fields;
    EXPECT_THAT(adapter.error().message, HasSubstr(c.error));
  }
}

}  // namespace
}  // namespace thimble
