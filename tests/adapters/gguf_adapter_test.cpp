// LoRA in GGUF, as llama.cpp's convert_lora_to_gguf writes it: there and back, of every family that llama.cpp runs.
#include "adapters/gguf_adapter.h"

#include <gmock/gmock.h>

#include <nlohmann/json.hpp>
#include <set>

#include "files/gguf.h"
#include "models/gguf_writer.h"
#include "models/memory_model.h"
#include "run/merged.h"
#include "temporary_folder.h"
#include "whole_model_adapter.h"

namespace thimble {
namespace {

using ::testing::HasSubstr;

// All weights with the adapter merged into them, in the order of the tensors.
std::vector<std::vector<float>> merged(const ModelSource& source, const std::string& adapter) {
  auto adapters = open_adapters(adapter);
  EXPECT_TRUE(adapters) << adapters.error().message;
  if (!adapters) return {};
  auto model = MergedModel::make(source, *adapters);
  EXPECT_TRUE(model) << model.error().message;
  if (!model) return {};
  const ReadRows read = model->rows();
  std::vector<std::vector<float>> all;
  for (const ModelTensor& tensor : model->tensors()) {
    std::vector<std::byte> bytes(
        static_cast<size_t>(tensor.shape.rows() * tensor.codec->bytes(tensor.shape.columns())));
    const auto done = read(tensor, 0, tensor.shape.rows(), bytes);
    EXPECT_TRUE(done) << done.error().message;
    all.emplace_back(static_cast<size_t>(tensor.shape.count()));
    tensor.codec->decode(bytes.data(), all.back().data(), tensor.shape.count());
  }
  return all;
}

class GgufAdapter : public ::testing::TestWithParam<const Family*> {};

TEST_P(GgufAdapter, means_the_same_as_the_folder) {
  const Architecture a = tiny_architecture(std::string(GetParam()->name));
  const MemoryModel model(a);
  TemporaryFolder folder;
  const std::string gguf = folder.file("model.gguf"), peft = folder.file("peft"), lora = folder.file("lora.gguf");
  ASSERT_TRUE(write_gguf_model(gguf, a, model.tensors, model.rows(), {.name = "tiny"}));
  const auto source = ModelSource::open(gguf);
  ASSERT_TRUE(source) << source.error().message;
  const auto write = [&](bool embeddings) {
    std::set<std::string> targets;
    const std::vector<WrittenTensor> tensors = all_modules(a, targets, embeddings);
    EXPECT_FALSE(tensors.empty());
    const nlohmann::json config = {{"peft_type", "LORA"},
                                   {"r", kRank},
                                   {"lora_alpha", 6},
                                   {"target_modules", targets},
                                   {"alpha_pattern", {{*targets.begin(), 3}}}};
    write_folder(peft, config.dump(), tensors);
    auto adapters = open_adapters(peft);
    EXPECT_TRUE(adapters) << adapters.error().message;
    return write_gguf_adapter(lora, adapters->front(), (*source)->architecture());
  };
  // llama.cpp would take the embedding's pair for the head's too, and stop.
  if (a.tied) EXPECT_THAT(write(true).error().message, HasSubstr("which is the model's head too"));
  const auto written = write(!a.tied);
  ASSERT_TRUE(written) << written.error().message;
  const auto there = merged(**source, peft), back = merged(**source, lora);
  ASSERT_EQ(there.size(), back.size());
  for (size_t t = 0; t < there.size(); ++t) {
    ASSERT_EQ(there[t].size(), back[t].size());
    for (size_t i = 0; i < there[t].size(); ++i) ASSERT_NEAR(there[t][i], back[t][i], 1e-5) << t << " " << i;
  }
}

std::vector<const Family*> of_llama_cpp() {
  std::vector<const Family*> all;
  for (const Family* family : families())
    if (!family->gguf.architecture.empty()) all.push_back(family);
  return all;
}
INSTANTIATE_TEST_SUITE_P(Families, GgufAdapter, ::testing::ValuesIn(of_llama_cpp()),
                         [](const auto& info) { return std::string(info.param->name); });

TEST(GgufAdapterFile, of_another_architecture_is_refused) {
  TemporaryFolder folder;
  const std::string model = folder.file("model.gguf"), lora = folder.file("lora.gguf");
  const MemoryModel llama(tiny_architecture("llama"));
  ASSERT_TRUE(write_gguf_model(model, llama.architecture, llama.tensors, llama.rows(), {.name = "tiny"}));
  std::set<std::string> targets;
  const std::vector<WrittenTensor> tensors = all_modules(llama.architecture, targets);
  const nlohmann::json config = {{"peft_type", "LORA"}, {"r", kRank}, {"lora_alpha", 6}, {"target_modules", targets}};
  write_folder(folder.file("peft"), config.dump(), tensors);
  auto adapters = open_adapters(folder.file("peft"));
  ASSERT_TRUE(adapters) << adapters.error().message;
  ASSERT_TRUE(write_gguf_adapter(lora, adapters->front(), llama.architecture));
  auto read = open_gguf_adapter(lora);
  ASSERT_TRUE(read) << read.error().message;
  EXPECT_THAT(name_as_peft(*read, tiny_architecture("qwen2")).error().message,
              HasSubstr("for models of 'llama' (general.architecture), the model is of 'qwen2'"));
}

TEST(GgufAdapterFile, has_the_names_and_shapes_of_llama_cpp) {
  const Architecture a = tiny_architecture("llama");
  TemporaryFolder folder;
  std::set<std::string> targets;
  const std::vector<WrittenTensor> tensors = all_modules(a, targets);
  nlohmann::json config = {{"peft_type", "LORA"}, {"r", kRank}, {"lora_alpha", 6}, {"target_modules", targets}};
  write_folder(folder.file("peft"), config.dump(), tensors);
  auto adapters = open_adapters(folder.file("peft"));
  ASSERT_TRUE(adapters) << adapters.error().message;
  ASSERT_TRUE(write_gguf_adapter(folder.file("a.gguf"), adapters->front(), a));
  const auto file = GgufFile::open(folder.file("a.gguf"));
  ASSERT_TRUE(file) << file.error().message;
  EXPECT_EQ(*file->get<std::string>("general.type"), "adapter");
  EXPECT_EQ(*file->get<std::string>("general.architecture"), "llama");
  EXPECT_EQ(*file->get<std::string>("adapter.type"), "lora");
  EXPECT_EQ(*file->get<double>("adapter.lora.alpha"), 6);
  const auto shape = [&](const char* name) {
    const GgufTensor* const tensor = file->find_tensor(name);
    return tensor ? tensor->shape.text() : "none";
  };
  EXPECT_EQ(shape("blk.1.attn_q.weight.lora_a"), "[2, 12]");
  EXPECT_EQ(shape("blk.1.attn_q.weight.lora_b"), "[12, 2]");
  EXPECT_EQ(shape("blk.0.ffn_down.weight.lora_a"), "[2, 20]");
  // An embedding's A lies token by token (llama-adapter.cpp).
  EXPECT_EQ(shape("token_embd.weight.lora_a"), "[11, 2]");
  EXPECT_EQ(shape("token_embd.weight.lora_b"), "[12, 2]");
}

TEST(GgufAdapterFile, that_can_not_hold_it_is_refused) {
  TemporaryFolder folder;
  const auto refusal = [&](const char* family, const std::string& config, std::vector<WrittenTensor> tensors) {
    write_folder(folder.path(), config, tensors);
    auto adapters = open_adapters(folder.path());
    EXPECT_TRUE(adapters) << adapters.error().message;
    const auto written = write_gguf_adapter(folder.file("a.gguf"), adapters->front(), tiny_architecture(family));
    EXPECT_FALSE(written);
    return written ? "" : written.error().message;
  };
  const std::string q = "base_model.model.model.layers.1.self_attn.q_proj";
  EXPECT_THAT(
      refusal("llama", R"({"peft_type":"LORA","r":2,"target_modules":["q_proj"],"use_dora":true})",
              {{q + ".lora_A.weight", {2, 12}}, {q + ".lora_B.weight", {12, 2}}, {q + ".lora_magnitude_vector", {12}}}),
      ::testing::AnyOf(HasSubstr("merge it into the model instead"), HasSubstr("has no place for")));
  EXPECT_THAT(refusal("opt", R"({"peft_type":"LORA","r":2,"target_modules":["fc1"]})",
                      {{"base_model.model.model.decoder.layers.0.fc1.lora_A.weight", {2, 24}},
                       {"base_model.model.model.decoder.layers.0.fc1.lora_B.weight", {20, 2}}}),
              HasSubstr("llama.cpp does not run models of family 'opt'"));
}

}  // namespace
}  // namespace thimble
