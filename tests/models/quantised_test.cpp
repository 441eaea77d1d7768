// Matrices that other tools have quantised: bits as those tools read them (tools/quantised_goldens.py), in a folder,
// and what is refused.
#include "models/quantised.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <nlohmann/json.hpp>

#include "files/binary_files.h"
#include "memory_model.h"
#include "models/hf_writer.h"
#include "temporary_folder.h"

namespace thimble {
namespace {

using ::testing::HasSubstr;

// One golden file: a module "m" of it, as a folder of Hugging Face would offer it.
struct Golden {
  SafetensorsFile file;
  std::map<std::string, PackedPart, std::less<>> parts;
  std::vector<InputFile> files;
  PackedSource source;
  Quantisation quantisation;

  explicit Golden(SafetensorsFile opened) : file(std::move(opened)) {
    for (const SafetensorsEntry& entry : file.entries()) parts[entry.name] = {0, entry};
    const auto& said = file.metadata();
    source = {.name = "golden: m",
              .rows = std::stoll(said.at("rows")),
              .columns = std::stoll(said.at("columns")),
              .files = {},
              .find = {}};
    source.find = [this](std::string_view suffix) -> const PackedPart* {
      const auto found = parts.find("m" + std::string(suffix));
      return found == parts.end() ? nullptr : &found->second;
    };
    quantisation.config = Json::parse(said.at("quantization_config"));
    quantisation.source = "golden";
    quantisation.dtype = find_codec(said.at("dtype") == "bfloat16" ? "bf16" : "f16");
    for (const QuantMethod* method : quant_methods())
      if (method->name == (*quantisation.config)["quant_method"]) quantisation.method = method;
    files.push_back(std::move(file).take_file());
    source.files = files;
  }

  Result<std::shared_ptr<const PackedRows>> open() {
    CHECK_OK(quantisation.method->check(*JsonFields::of(*quantisation.config, "golden")));
    return quantisation.method->open(quantisation, source);
  }
};

std::unique_ptr<Golden> golden(const std::string& name) {
  auto file = SafetensorsFile::open(std::string(THIMBLE_QUANTISED_GOLDENS) + "/" + name + ".safetensors");
  EXPECT_TRUE(file) << file.error().message;
  return file ? std::make_unique<Golden>(*std::move(file)) : nullptr;
}

std::vector<float> decoded(const Codec& codec, std::span<const std::byte> bytes, int64_t count) {
  std::vector<float> numbers(static_cast<size_t>(count));
  codec.decode(bytes.data(), numbers.data(), count);
  return numbers;
}

struct Case {
  const char* file;
  const char* codec;  // that the numbers come in
};

class QuantisedMatrix : public ::testing::TestWithParam<Case> {};

TEST_P(QuantisedMatrix, has_the_bits_of_its_tool) {
  const auto g = golden(GetParam().file);
  ASSERT_TRUE(g);
  const auto packed = g->open();
  ASSERT_TRUE(packed) << packed.error().message;
  ASSERT_TRUE(*packed);
  const Codec& codec = *(*packed)->codec();
  EXPECT_EQ(codec.name, GetParam().codec);
  const PackedPart& expected = g->parts.at("expected");
  std::vector<std::byte> theirs(expected.entry.bytes);
  ASSERT_TRUE(g->files[0].read(expected.entry.offset, theirs));
  const int64_t rows = g->source.rows, columns = g->source.columns, row_bytes = codec.bytes(columns);
  const std::vector<float> numbers = decoded(*expected.entry.codec, theirs, rows * columns);
  // All rows at once, and pieces that begin and end anywhere.
  for (const auto& [first, count] :
       std::vector<std::pair<int64_t, int64_t>>{{0, rows}, {5, 1}, {7, 9}, {rows - 3, 3}}) {
    std::vector<std::byte> ours(static_cast<size_t>(count * row_bytes));
    const auto read = (*packed)->read(g->files, first, count, ours);
    ASSERT_TRUE(read) << read.error().message;
    std::vector<float> got;
    for (int64_t row = 0; row < count; ++row) {
      const std::vector<float> one =
          decoded(codec, std::span(ours).subspan(static_cast<size_t>(row * row_bytes)), columns);
      got.insert(got.end(), one.begin(), one.end());
    }
    for (int64_t i = 0; i < count * columns; ++i)
      ASSERT_EQ(got[static_cast<size_t>(i)], numbers[static_cast<size_t>(first * columns + i)])
          << "rows " << first << "+" << count << ", element " << i;
  }
}

INSTANTIATE_TEST_SUITE_P(
    Goldens, QuantisedMatrix,
    ::testing::Values(Case{"awq", "f16"}, Case{"bitsandbytes_fp4", "f16"}, Case{"bitsandbytes_int8", "f16"},
                      Case{"bitsandbytes_nf4", "nf4"}, Case{"bitsandbytes_nf4_nested", "bf16"},
                      Case{"bitsandbytes_nf4_nested_f32", "f32"}, Case{"bitsandbytes_nf4_double", "nf4_double"},
                      Case{"bitsandbytes_nf4_double_part", "nf4"}, Case{"bitsandbytes_nf4_double_across", "nf4"},
                      Case{"fp8_block", "bf16"}, Case{"fp8_row", "bf16"}, Case{"fp8_tensor", "f16"},
                      Case{"gptq", "f16"}, Case{"gptq_8bit", "f16"}, Case{"gptq_act_order_v2", "f16"},
                      Case{"sparse_24", "bf16_2_4"}, Case{"sparse_24_f16_part", "f16_2_4"},
                      Case{"sparse_24_f32", "f32"}),
    [](const auto& info) { return std::string(info.param.file); });

TEST(Quantised, a_module_that_the_tool_left_out_is_plain) {
  for (const char* file : {"gptq", "awq", "bitsandbytes_nf4", "fp8_block", "sparse_24"}) {
    const auto g = golden(file);
    g->source.find = [](std::string_view) -> const PackedPart* { return nullptr; };
    const auto packed = g->open();
    ASSERT_TRUE(packed) << packed.error().message;
    EXPECT_FALSE(*packed) << file;
  }
}

TEST(Quantised, parts_that_do_not_fit_are_refused) {
  struct Broken {
    const char *file, *part;
    void (*change)(PackedPart&);
    const char* message;
  };
  const auto shape = [](PackedPart& part) { part.entry.shape = {3, 5}; };
  const auto dtype = [](PackedPart& part) { part.entry.dtype = "F64"; };
  for (const Broken& broken : {Broken{"gptq", "m.qweight", shape, "should have shape [16, 24]"},
                               Broken{"gptq", "m.scales", dtype, "is of dtype F64, expected F16"},
                               Broken{"gptq_act_order_v2", "m.g_idx", shape, "should have shape [128]"},
                               Broken{"awq", "m.qzeros", shape, "should have shape [4, 3]"},
                               Broken{"bitsandbytes_nf4", "m.weight.absmax", shape, "should have shape [48]"},
                               Broken{"bitsandbytes_int8", "m.SCB", shape, "should have shape [24]"},
                               Broken{"fp8_block", "m.weight_scale_inv", shape, "fit no matrix of shape [24, 128]"},
                               Broken{"sparse_24", "m.bitmask", shape, "should have shape [24, 16]"},
                               Broken{"sparse_24", "m.shape", shape, "should have shape [2, 1]"}}) {
    const auto g = golden(broken.file);
    broken.change(g->parts.at(broken.part));
    const auto packed = g->open();
    ASSERT_FALSE(packed) << broken.part;
    EXPECT_THAT(packed.error().message, HasSubstr(broken.message));
    g->parts.erase(broken.part);
    const auto without = g->open();
    if (std::string_view(broken.part).ends_with("weight") || std::string_view(broken.part).ends_with("SCB") ||
        std::string_view(broken.part).ends_with("g_idx"))
      continue;
    ASSERT_FALSE(without) << broken.part;
    EXPECT_THAT(without.error().message, ::testing::AnyOf(HasSubstr("is missing"), HasSubstr("neither")));
  }
}

TEST(Quantised, groups_that_do_not_exist_are_refused) {
  const auto g = golden("gptq_act_order_v2");
  PackedPart& groups = g->parts.at("m.g_idx");
  groups.entry.offset = g->parts.at("m.qweight").entry.offset;  // any numbers but groups
  const auto packed = g->open();
  ASSERT_TRUE(packed) << packed.error().message;
  std::vector<std::byte> row(static_cast<size_t>((*packed)->codec()->bytes(g->source.columns)));
  const auto read = (*packed)->read(g->files, 0, 1, row);
  ASSERT_FALSE(read);
  EXPECT_THAT(read.error().message, HasSubstr("g_idx names group"));
}

// A mask of other than two bits in four would put numbers in other places than they were taken from.
TEST(Quantised, masks_without_the_pattern_are_refused) {
  const auto g = golden("sparse_24");
  g->parts.at("m.bitmask").entry.offset = g->parts.at("expected").entry.offset;  // any bytes but a mask
  const auto packed = g->open();
  ASSERT_TRUE(packed) << packed.error().message;
  std::vector<std::byte> rows(static_cast<size_t>(g->source.rows * (*packed)->codec()->bytes(g->source.columns)));
  const auto read = (*packed)->read(g->files, 0, g->source.rows, rows);
  ASSERT_FALSE(read);
  EXPECT_THAT(read.error().message, HasSubstr("are set, expected 2"));
  const auto other = golden("sparse_24");
  other->parts.at("m.shape").entry.offset = other->parts.at("expected").entry.offset;
  const auto opened = other->open();
  ASSERT_FALSE(opened);
  EXPECT_THAT(opened.error().message, HasSubstr("config.json [24, 128]"));
}

// A whole folder: a tiny Llama whose up_proj of block 1 is a golden matrix, the rest plain.
class QuantisedFolder : public ::testing::Test {
 protected:
  void SetUp() override {
    architecture_ = llama({.vocab = 11,
                           .width = 128,
                           .layers = 2,
                           .heads = 4,
                           .kv_heads = 2,
                           .head_dim = 32,
                           .ffn_width = 24,
                           .context = 16});
    architecture_.family = "llama";
  }

  // Writes the folder; the golden's parts take the place of kModule's weight. `leave` parts out.
  void write(Golden& g, const std::string& quantisation) {
    const MemoryModel model(architecture_);
    Json config = Json::parse(*config_text(architecture_, {.dtype = "float32"}));
    if (!quantisation.empty()) config["quantization_config"] = Json::parse(quantisation);
    folder_.write("config.json", config.dump());
    std::vector<SafetensorsTensor> tensors;
    std::vector<std::pair<std::string, std::vector<std::byte>>> bytes;
    for (const auto& [name, part] : g.parts) {
      if (name == "expected") continue;
      tensors.push_back({kModule + name.substr(1), part.entry.dtype, part.entry.shape});
      bytes.emplace_back(name, std::vector<std::byte>(part.entry.bytes));
      ASSERT_TRUE(g.files[0].read(part.entry.offset, bytes.back().second));
    }
    for (const ModelTensor& tensor : model.tensors) {
      if (tensor.name == kModule + ".weight") continue;
      tensors.push_back({tensor.name, "F32", tensor.shape});
      const auto& values = model.values.at(tensor.name);
      const auto raw = std::as_bytes(std::span(values));
      bytes.emplace_back(tensor.name, std::vector<std::byte>(raw.begin(), raw.end()));
    }
    auto writer = SafetensorsWriter::create(folder_.file("model.safetensors"), tensors);
    ASSERT_TRUE(writer);
    for (const auto& [name, data] : bytes) ASSERT_TRUE(writer->write(data));
    ASSERT_TRUE(writer->finish());
  }

  static inline const std::string kModule = "model.layers.1.mlp.up_proj";
  Architecture architecture_;
  TemporaryFolder folder_;
};

TEST_F(QuantisedFolder, is_read_whole) {
  for (const char* file : {"gptq", "awq", "bitsandbytes_nf4", "bitsandbytes_int8", "fp8_block", "sparse_24"}) {
    SCOPED_TRACE(file);
    const auto g = golden(file);
    write(*g, g->quantisation.config->dump());
    const auto source = ModelSource::open(folder_.path());
    ASSERT_TRUE(source) << source.error().message;
    const ModelTensor* const tensor = (*source)->find(kModule + ".weight");
    ASSERT_TRUE(tensor);
    const std::vector<float> all = read_all(**source, *tensor);
    const PackedPart& expected = g->parts.at("expected");
    std::vector<std::byte> theirs(expected.entry.bytes);
    ASSERT_TRUE(g->files[0].read(expected.entry.offset, theirs));
    const std::vector<float> numbers = decoded(*expected.entry.codec, theirs, tensor->shape.count());
    // The model here is f32, which fp8 and int8 are not rounded from.
    for (size_t i = 0; i < all.size(); ++i) ASSERT_NEAR(all[i], numbers[i], std::abs(numbers[i]) * 0x1p-8) << i;
    EXPECT_TRUE((*source)->fingerprint());
  }
}

TEST_F(QuantisedFolder, refuses_by_name) {
  const auto g = golden("gptq");
  for (const auto& [config, message] : std::vector<std::pair<std::string, std::string>>{
           {R"({"quant_method":"hqq"})", "quantised by 'hqq', which thimble does not read; it reads awq"},
           {R"({"bits":4})", "'quant_method' does not say how"},
           {R"({"quant_method":"gptq","bits":3})", "'bits' of GPTQ is 3"},
           {R"({"quant_method":"gptq","bits":4,"checkpoint_format":"marlin"})", "GPTQ's format is 'marlin'"},
           {R"({"quant_method":"gptq","bits":4,"group_size":0})", "'group_size' is 0"},
           {R"({"quant_method":"awq","bits":4,"version":"gemv"})", "version 'gemv'"},
           {R"({"quant_method":"modelopt","quant_algo":"NVFP4"})", "'NVFP4'"},
           {R"({"quant_method":"compressed-tensors","format":"pack-quantized"})", "'pack-quantized'"},
           {R"({"quant_method":"compressed-tensors","sparsity_config":{"format":"sparse-bitmask"}})",
            "the format 'sparse-bitmask'"},
           {R"({"quant_method":"compressed-tensors","config_groups":{"group_0":{}},"format":"float-quantized",)"
            R"("sparsity_config":{"format":"sparse-24-bitmask"}})",
            "quantised and sparse"},
           {R"({"quant_method":"fp8","weight_block_size":[128]})", "two numbers from 1 to"},
           {R"({"quant_method":"fp8","weight_block_size":[9223372036854775807,128]})", "two numbers from 1 to"},
           {R"({"quant_method":"gptq","bits":4,"group_size":9223372036854775807})",
            "'group_size' is 9223372036854775807"},
           {R"({"quant_method":"bitsandbytes","load_in_4bit":true,"bnb_4bit_quant_storage":"bfloat16"})",
            "'bnb_4bit_quant_storage' is 'bfloat16'"},
           {R"({"quant_method":"awq","bits":4,"group_size":32})", "should have shape [128, 3]"},
           {"", "is missing"}}) {
    write(*g, config);
    const auto source = ModelSource::open(folder_.path());
    ASSERT_FALSE(source) << config;
    EXPECT_THAT(source.error().message, HasSubstr(message));
  }
}

// AutoGPTQ's first files say it in a file of their own.
TEST_F(QuantisedFolder, reads_quantize_config) {
  const auto g = golden("gptq");
  write(*g, "");
  folder_.write("quantize_config.json", R"({"bits":4,"group_size":32,"desc_act":false})");
  const auto source = ModelSource::open(folder_.path());
  ASSERT_TRUE(source) << source.error().message;
  EXPECT_EQ((*source)->find(kModule + ".weight")->codec, &kF16);
}

}  // namespace
}  // namespace thimble
