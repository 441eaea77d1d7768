// What the writers write, the readers read back; and the layouts are checked against their definitions, not only
// against each other.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "core/warnings.h"
#include "files/gguf.h"
#include "files/json.h"
#include "files/safetensors.h"
#include "memory_model.h"
#include "models/gguf_writer.h"
#include "models/hf_config.h"
#include "models/hf_writer.h"
#include "models/model_source.h"
#include "models/norm.h"
#include "models/rope_frequencies.h"
#include "temporary_folder.h"

namespace thimble {
namespace {

using ::testing::HasSubstr;

class EveryFamily : public ::testing::TestWithParam<const Family*> {
 protected:
  const MemoryModel model{tiny_architecture(std::string(GetParam()->name))};
};
INSTANTIATE_TEST_SUITE_P(Families, EveryFamily, ::testing::ValuesIn(families()),
                         [](const auto& info) { return std::string(info.param->name); });

TEST_P(EveryFamily, comes_back_from_a_hugging_face_folder) {
  TemporaryFolder folder;
  const auto written = write_hf_model(folder.file("m"), model.architecture, model.tensors, model.rows());
  ASSERT_TRUE(written) << written.error().message;
  const auto source = ModelSource::open(folder.file("m"));
  ASSERT_TRUE(source) << source.error().message;
  EXPECT_EQ((*source)->architecture(), model.architecture);
  expect_same_weights(**source, model);
}

TEST_P(EveryFamily, comes_back_from_shards) {
  TemporaryFolder folder;
  // An earlier save in one file must not be what is read.
  ASSERT_TRUE(make_directories(folder.file("m")));
  folder.write("m/model.safetensors", "stale");
  const auto written =
      write_hf_model(folder.file("m"), model.architecture, model.tensors, model.rows(), {.shard_bytes = 3000});
  ASSERT_TRUE(written) << written.error().message;
  EXPECT_FALSE(is_file(folder.file("m/model.safetensors")));
  EXPECT_TRUE(is_file(folder.file("m/model.safetensors.index.json")));
  const auto source = ModelSource::open(folder.file("m"));
  ASSERT_TRUE(source) << source.error().message;
  expect_same_weights(**source, model);
}

TEST_P(EveryFamily, comes_back_from_gguf) {
  TemporaryFolder folder;
  const auto report = write_gguf_model(folder.file("m.gguf"), model.architecture, model.tensors, model.rows());
  if (GetParam()->gguf.architecture.empty()) {
    EXPECT_THAT(report.error().message, HasSubstr("llama.cpp does not run"));
    EXPECT_FALSE(is_file(folder.file("m.gguf")));
    return;
  }
  ASSERT_TRUE(report) << report.error().message;
  EXPECT_TRUE(report->replaced.empty());
  const auto source = ModelSource::open(folder.file("m.gguf"));
  ASSERT_TRUE(source) << source.error().message;
  EXPECT_EQ(in_f32((*source)->architecture()), in_f32(model.architecture));
  // Gains that are stored whole lose what the sum with 1 rounds away.
  expect_same_weights(**source, model, model.architecture.final_norm.offset == 0 ? 0 : 0x1p-23f);
}

TEST(Rows, out_of_range_are_refused) {
  TemporaryFolder folder;
  const MemoryModel model(tiny_architecture("llama"));
  ASSERT_TRUE(write_gguf_model(folder.file("m.gguf"), model.architecture, model.tensors, model.rows()));
  const auto source = ModelSource::open(folder.file("m.gguf"));
  const ModelTensor& embedding = (*source)->tensors()[0];
  std::vector<std::byte> row(12 * 4);
  EXPECT_TRUE((*source)->read(embedding, 10, 1, row));
  EXPECT_FALSE((*source)->read(embedding, 11, 1, row));
  EXPECT_FALSE((*source)->read(embedding, -1, 1, row));
  EXPECT_FALSE((*source)->read(embedding, 0, 2, row));
  EXPECT_FALSE((*source)->read({"other", &kF32, {11, 12}}, 0, 1, row));
}

// llama2.c's interleaved rows become halves in Hugging Face's folder, and stay where they are in GGUF.
TEST(InterleavedRope, is_put_in_order) {
  TemporaryFolder folder;
  Architecture a = tiny_architecture("llama");
  a.ropes[0].layout = Rope::Layout::interleaved;
  const MemoryModel model(a);
  ASSERT_TRUE(write_hf_model(folder.file("hf"), a, model.tensors, model.rows()));
  ASSERT_TRUE(write_gguf_model(folder.file("m.gguf"), a, model.tensors, model.rows()));
  const std::string name = "model.layers.1.self_attn.q_proj.weight";
  const std::vector<float>& from = model.values.at(name);
  for (const std::string& path : {folder.file("hf"), folder.file("m.gguf")}) {
    const auto source = ModelSource::open(path);
    ASSERT_TRUE(source) << source.error().message;
    const std::vector<float> to = read_all(**source, *(*source)->find(name));
    for (int64_t head = 0; head < 3; ++head) {
      for (int64_t pair = 0; pair < 2; ++pair) {
        for (int64_t column = 0; column < 12; ++column) {
          EXPECT_EQ(to[(head * 4 + pair) * 12 + column], from[(head * 4 + 2 * pair) * 12 + column]);
          EXPECT_EQ(to[(head * 4 + 2 + pair) * 12 + column], from[(head * 4 + 2 * pair + 1) * 12 + column]);
        }
      }
    }
  }
}

// convert_hf_to_gguf.py: weights.reshape(heads, 2, head_dim / 2, in).swapaxes(1, 2)
TEST(GgufWriter, permutes_q_and_k_of_llama_only) {
  for (const char* family : {"llama", "qwen3"}) {
    SCOPED_TRACE(family);
    TemporaryFolder folder;
    const MemoryModel model(tiny_architecture(family));
    ASSERT_TRUE(write_gguf_model(folder.file("m.gguf"), model.architecture, model.tensors, model.rows()));
    const auto file = GgufFile::open(folder.file("m.gguf"));
    const GgufTensor* tensor = file->find_tensor("blk.0.attn_q.weight");
    ASSERT_TRUE(tensor);
    std::vector<float> stored(tensor->shape.count());
    ASSERT_TRUE(file->file().read(tensor->offset, std::as_writable_bytes(std::span(stored))));
    const std::vector<float>& rows = model.values.at("model.layers.0.self_attn.q_proj.weight");
    const int64_t half = model.architecture.blocks[0].attention.head_dim / 2;
    for (int64_t row = 0; row < tensor->shape.rows(); ++row) {
      const int64_t within = row % (2 * half);
      const int64_t expected = std::string(family) == "llama" ? row - within + within / 2 + within % 2 * half : row;
      for (int64_t i = 0; i < 12; ++i) ASSERT_EQ(stored[row * 12 + i], rows[expected * 12 + i]) << row;
    }
  }
}

// transformers' Conv1D: [in, out], with q, k and v side by side.
TEST(HfWriter, gives_gpt2_its_own_layout) {
  TemporaryFolder folder;
  const MemoryModel model(tiny_architecture("gpt2"));
  ASSERT_TRUE(write_hf_model(folder.file("m"), model.architecture, model.tensors, model.rows()));
  const auto file = SafetensorsFile::open(folder.file("m/model.safetensors"));
  ASSERT_TRUE(file) << file.error().message;
  const SafetensorsEntry* entry = file->find("transformer.h.1.attn.c_attn.weight");
  ASSERT_TRUE(entry);
  ASSERT_EQ(entry->shape, (Shape{12, 36}));
  std::vector<float> stored(12 * 36);
  ASSERT_TRUE(file->file().read(entry->offset, std::as_writable_bytes(std::span(stored))));
  const char* const names[] = {"q", "k", "v"};
  for (int64_t in = 0; in < 12; ++in) {
    for (int64_t out = 0; out < 36; ++out) {
      const std::string name = fmt::format("model.layers.1.self_attn.{}_proj.weight", names[out / 12]);
      ASSERT_EQ(stored[in * 36 + out], model.values.at(name)[out % 12 * 12 + in]);
    }
  }
  EXPECT_EQ(file->find("transformer.h.1.attn.c_attn.bias")->shape, Shape{36});
  EXPECT_EQ(file->find("lm_head.weight"), nullptr);
}

TEST(Gpt2Folder, may_lack_the_prefix_and_carry_masks) {
  TemporaryFolder folder;
  const MemoryModel model(tiny_architecture("gpt2"));
  ASSERT_TRUE(write_hf_model(folder.file("m"), model.architecture, model.tensors, model.rows()));
  std::string bytes = file_bytes(folder.file("m/model.safetensors"));
  const auto before = SafetensorsFile::open(folder.file("m/model.safetensors"));
  std::vector<SafetensorsTensor> list;
  std::string data;
  for (const SafetensorsEntry& entry : before->entries()) {
    list.push_back({entry.name.substr(std::string("transformer.").size()), "F32", entry.shape});
    data += bytes.substr(entry.offset, entry.bytes);
  }
  list.push_back({"h.0.attn.bias", "BOOL", {1, 1, 2, 2}});
  data += std::string(4, '\1');
  auto writer = SafetensorsWriter::create(folder.file("m/model.safetensors"), list);
  ASSERT_TRUE(writer->write(std::as_bytes(std::span(data))));
  ASSERT_TRUE(writer->finish());
  const auto source = ModelSource::open(folder.file("m"));
  ASSERT_TRUE(source) << source.error().message;
  expect_same_weights(**source, model);
}

TEST(HfWriter, converts) {
  TemporaryFolder folder;
  const MemoryModel model(tiny_architecture("llama"));
  ASSERT_TRUE(write_hf_model(folder.file("m"), model.architecture, model.tensors, model.rows(),
                             {.codec = &kBf16, .ids = {.bos = 1, .eos = {2}}}));
  const auto source = ModelSource::open(folder.file("m"));
  ASSERT_TRUE(source) << source.error().message;
  for (const ModelTensor& tensor : (*source)->tensors()) {
    EXPECT_EQ(tensor.codec, &kBf16);
    const auto numbers = read_all(**source, tensor);
    for (size_t i = 0; i < numbers.size(); ++i) EXPECT_NEAR(numbers[i], model.values.at(tensor.name)[i], 0.02);
  }
  const Json config = *read_json_file(folder.file("m/config.json"));
  EXPECT_EQ(config["torch_dtype"], "bfloat16");
  EXPECT_EQ(config["architectures"][0], "LlamaForCausalLM");
  EXPECT_EQ(config["bos_token_id"], 1);
  EXPECT_TRUE(config["rope_scaling"].is_null());
}

TEST(Writers, refuse_a_model_that_is_not_the_architecture) {
  TemporaryFolder folder;
  MemoryModel model(tiny_architecture("llama"));
  const auto refusal = [&] {
    return write_hf_model(folder.file("m"), model.architecture, model.tensors, model.rows()).error().message;
  };
  const ModelTensor last = model.tensors.back();
  model.tensors.pop_back();
  EXPECT_THAT(refusal(), HasSubstr("'lm_head.weight' is missing"));
  model.tensors.push_back({last.name, &kF32, {12, 11}});
  EXPECT_THAT(refusal(), HasSubstr("should have shape [11, 12], found [12, 11]"));
  model.tensors.back() = last;
  model.tensors.push_back({"extra", &kF32, {1}});
  EXPECT_THAT(refusal(), HasSubstr("tensors were given"));
  model.tensors.pop_back();
  for (Block& block : model.architecture.blocks) block.attention.qk_norm = {.kind = &kRms};
  EXPECT_THAT(
      write_hf_model(folder.file("m"), model.architecture, MemoryModel(model.architecture).tensors, model.rows())
          .error()
          .message,
      HasSubstr("cannot express"));
  EXPECT_FALSE(is_directory(folder.file("m")));
}

TEST(GgufWriter, takes_the_vocabulary_along) {
  TemporaryFolder folder;
  const MemoryModel model(tiny_architecture("llama"));
  TokenizerTables tokenizer{.model = "gpt2", .pre = "smollm", .types = std::vector<int32_t>(11, 1)};
  tokenizer.merges.push_back("a b");
  for (int i = 0; i < 11; ++i) tokenizer.tokens.push_back(fmt::format("t{}", i));
  tokenizer.bos = 1;
  tokenizer.add_bos = false;
  tokenizer.chat_template = "{{ messages }}";
  ASSERT_TRUE(write_gguf_model(folder.file("a.gguf"), model.architecture, model.tensors, model.rows(),
                               {.name = "tiny", .tokenizer = &tokenizer}));
  const auto first = GgufFile::open(folder.file("a.gguf"));
  ASSERT_TRUE(first) << first.error().message;
  ASSERT_TRUE(write_gguf_model(folder.file("b.gguf"), model.architecture, model.tensors, model.rows(),
                               {.tokenizer_source = &*first}));
  const auto second = GgufFile::open(folder.file("b.gguf"));
  ASSERT_TRUE(second) << second.error().message;
  EXPECT_EQ(second->get<GgufArray>("tokenizer.ggml.tokens")->count, 11u);
  EXPECT_EQ(*second->get<int64_t>("tokenizer.ggml.bos_token_id"), 1);
  EXPECT_EQ(*second->get<bool>("tokenizer.ggml.add_bos_token"), false);
  EXPECT_EQ(*second->get<std::string>("tokenizer.chat_template"), "{{ messages }}");
  EXPECT_EQ(*second->get<std::string>("tokenizer.ggml.pre"), "smollm");
  tokenizer.tokens = {};
  for (int i = 0; i < 10; ++i) tokenizer.tokens.push_back(fmt::format("t{}", i));
  EXPECT_THAT(write_gguf_model(folder.file("c.gguf"), model.architecture, model.tensors, model.rows(),
                               {.tokenizer = &tokenizer})
                  .error()
                  .message,
              HasSubstr("has 10 tokens, the model's embedding 11"));
}

TEST(GgufWriter, replaces_codecs_whose_blocks_do_not_fit) {
  const Codec q4_K{.name = "q4_K", .block = 256, .block_bytes = 144, .gguf_type = 12};
  EXPECT_EQ(&codec_for_rows(q4_K, 512), &q4_K);
  if (const Codec* q5_0 = find_codec("q5_0")) {
    EXPECT_EQ(&codec_for_rows(q4_K, 576), q5_0);
  }
  EXPECT_EQ(&codec_for_rows(q4_K, 33), &kF16);
  const Codec q8_0{.name = "q8_0", .block = 32, .block_bytes = 34, .gguf_type = 8};
  EXPECT_EQ(&codec_for_rows(q8_0, 33), &kF16);
}

TEST(GgufWriter, keeps_rope_scaling) {
  using Kind = RopeScaling::Kind;
  const RopeScaling scalings[] = {
      {.kind = Kind::linear, .factor = 4},
      {.kind = Kind::llama3, .factor = 8, .original_context = 8192},
      {.kind = Kind::yarn, .factor = 4, .original_context = 4096},
  };
  for (const RopeScaling& scaling : scalings) {
    TemporaryFolder folder;
    Architecture a = tiny_architecture("llama");
    a.ropes[0] = {.rotated = 64, .base = 500000, .scaling = scaling};
    for (Block& block : a.blocks) block.attention.head_dim = 64;
    const MemoryModel model(a);
    const auto report = write_gguf_model(folder.file("m.gguf"), a, model.tensors, model.rows());
    ASSERT_TRUE(report) << report.error().message;
    const auto source = ModelSource::open(folder.file("m.gguf"));
    ASSERT_TRUE(source) << source.error().message;
    EXPECT_EQ((*source)->architecture(), a);
    ASSERT_TRUE(write_hf_model(folder.file("hf"), a, model.tensors, model.rows()));
    EXPECT_EQ((*ModelSource::open(folder.file("hf")))->architecture(), a);
  }
}

// What cos and sin are multiplied with follows from the extents in config.json; llama.cpp takes it from the file, and 1
// where the file says nothing.
TEST(GgufWriter, says_how_longrope_scales) {
  TemporaryFolder folder;
  Json config = tiny_config("phi3");
  config["max_position_embeddings"] = 128, config["original_max_position_embeddings"] = 32;
  config["rope_parameters"] = {{"rope_theta", 5000},
                               {"rope_type", "longrope"},
                               {"short_factor", {1, 1, 1, 1}},
                               {"long_factor", {1, 1.25, 1.5, 2}}};
  const auto a = parse_config(config.dump(), "config.json");
  ASSERT_TRUE(a) << a.error().message;
  const MemoryModel model(*a);
  const auto report = write_gguf_model(folder.file("m.gguf"), *a, model.tensors, model.rows());
  ASSERT_TRUE(report) << report.error().message;
  const auto file = GgufFile::open(folder.file("m.gguf"));
  ASSERT_TRUE(file) << file.error().message;
  const auto factor = file->get<double>("phi3.rope.scaling.attn_factor");
  ASSERT_TRUE(factor) << factor.error().message;
  EXPECT_NEAR(*factor, std::sqrt(1 + std::log(4.0) / std::log(32.0)), 1e-6);
  EXPECT_NEAR(rope_scale((*ModelSource::open(folder.file("m.gguf")))->architecture().ropes[0].scaling), *factor, 1e-6);
}

TEST(GgufWriter, refuses_windows_that_llama_cpp_fixes_otherwise) {
  TemporaryFolder folder;
  Json config = tiny_config("exaone4");
  config["sliding_window"] = 8;
  const auto a = parse_config(config.dump(), "config.json");
  ASSERT_TRUE(a) << a.error().message;
  ASSERT_EQ(a->blocks[0].attention.window, 8);
  const MemoryModel model(*a);
  const auto report = write_gguf_model(folder.file("m.gguf"), *a, model.tensors, model.rows());
  ASSERT_FALSE(report);
  EXPECT_THAT(report.error().message, HasSubstr("'sliding_window'"));
  EXPECT_FALSE(is_file(folder.file("m.gguf")));
  // 64 layers are those of the 32B model.
  config["num_hidden_layers"] = 64;
  const auto large = parse_config(config.dump(), "config.json");
  ASSERT_TRUE(large) << large.error().message;
  const MemoryModel whole(*large);
  const auto written = write_gguf_model(folder.file("m.gguf"), *large, whole.tensors, whole.rows());
  ASSERT_TRUE(written) << written.error().message;
}

// The loader of llama.cpp wants the tensors that it knows of an architecture, and no other.
TEST(GgufWriter, refuses_what_llama_cpp_would_not_load) {
  struct Case {
    const char* family;
    Json changed;
    const char* says;
  };
  const Json llama3 = {{"rope_theta", 10000},  {"rope_type", "llama3"}, {"factor", 8},
                       {"low_freq_factor", 1}, {"high_freq_factor", 4}, {"original_max_position_embeddings", 8192}};
  const Case cases[] = {
      {"gemma", {{"tie_word_embeddings", false}}, "a head of its own"},
      {"cohere2", {{"tie_word_embeddings", false}}, "a head of its own"},
      {"olmo2", {{"tie_word_embeddings", true}}, "no head of its own"},
      {"gpt_neox", {{"tie_word_embeddings", true}}, "no head of its own"},
      {"gpt_neox", {{"attention_bias", false}}, "no biases of queries"},
      {"qwen3", {{"attention_bias", true}}, "bias of attention's output"},
      {"smollm3", {{"mlp_bias", true}}, "biases of its FFNs"},
      {"starcoder2", {{"use_bias", false}}, "no bias of attention's output"},
      {"falcon", {{"bias", true}}, "biases of queries"},
      {"qwen2", {{"head_dim", 32}}, "another width"},
      {"qwen2", {{"rope_parameters", llama3}}, "rope_scaling of the type llama3"},
  };
  for (const Case& c : cases) {
    SCOPED_TRACE(std::string(c.family) + c.changed.dump());
    TemporaryFolder folder;
    Json config = tiny_config(c.family);
    config.update(c.changed);
    const auto a = parse_config(config.dump(), "config.json");
    ASSERT_TRUE(a) << a.error().message;
    const MemoryModel model(*a);
    const auto report = write_gguf_model(folder.file("m.gguf"), *a, model.tensors, model.rows());
    ASSERT_FALSE(report);
    EXPECT_THAT(report.error().message, HasSubstr(c.says));
    EXPECT_THAT(report.error().message, HasSubstr("llama.cpp's loader"));
    EXPECT_FALSE(is_file(folder.file("m.gguf")));
  }
}

TEST(GgufWriter, says_that_llama_cpp_ignores_a_window) {
  std::vector<std::string> warnings;
  listen_for_warnings([&](const std::string& text) { warnings.push_back(text); });
  for (const char* family : {"mistral", "phi3", "starcoder2"}) {
    TemporaryFolder folder;
    const MemoryModel model(tiny_architecture(family));
    const auto report = write_gguf_model(folder.file("m.gguf"), model.architecture, model.tensors, model.rows());
    EXPECT_TRUE(report) << report.error().message;
    const auto said = [&](const std::string& text) { return text.find("llama.cpp has no window") != text.npos; };
    EXPECT_EQ(std::ranges::count_if(warnings, said), 1) << family;
    warnings.clear();
  }
  listen_for_warnings({});
}

}  // namespace
}  // namespace thimble
