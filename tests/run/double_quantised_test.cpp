// A base with double quantisation (codec nf4_double): read from a folder as bitsandbytes writes it, it trains and waits
// on disk as its numbers do.
#include <gmock/gmock.h>

#include <cmath>
#include <nlohmann/json.hpp>
#include <numeric>

#include "models/hf_writer.h"
#include "models/memory_model.h"
#include "ops/table.h"
#include "run/trainer.h"
#include "run/values.h"
#include "temporary_folder.h"
#include "whole.h"

namespace thimble {
namespace {

Architecture small_llama() {
  Architecture a = llama({.vocab = 64,
                          .width = 1024,
                          .layers = 1,
                          .heads = 8,
                          .kv_heads = 1,
                          .head_dim = 128,
                          .ffn_width = 1024,
                          .context = 64});
  a.family = "llama";
  return a;
}

// Tensors of a file, by name.
using Parts = std::map<std::string, std::pair<SafetensorsTensor, std::vector<std::byte>>>;

template <class T>
void put(Parts& parts, const std::string& name, std::string_view dtype, const Shape& shape, std::span<const T> values) {
  const auto bytes = std::as_bytes(values);
  parts[name] = {{name, dtype, shape}, {bytes.begin(), bytes.end()}};
}

std::vector<float> values_of(const Codec& codec, const std::vector<std::byte>& bytes, int64_t count) {
  std::vector<float> out(static_cast<size_t>(count));
  codec.decode(bytes.data(), out.data(), count);
  return out;
}

// A table that a codec has: what codes 0, 1 ... stand for.
std::vector<float> table_of(const Codec& codec, const std::vector<uint8_t>& codes, int64_t count) {
  std::vector<std::byte> block(static_cast<size_t>(codec.block_bytes));
  const float one = 1;
  std::memcpy(block.data(), &one, sizeof one);
  std::memcpy(block.data() + 4, codes.data(), codes.size());
  return values_of(codec, block, count);
}

// As quantize_4bit(compress_statistics=True) makes it, and the numbers that this stands for.
std::vector<float> put_quantised(Parts& parts, const std::string& name, const Shape& shape, std::span<const float> w) {
  const auto blocks = static_cast<int64_t>(w.size()) / 64, groups = (blocks + 255) / 256;
  std::vector<std::byte> plain(static_cast<size_t>(kNf4.bytes(blocks * 64)));
  kNf4.encode(w.data(), plain.data(), blocks * 64);
  std::vector<float> scales(static_cast<size_t>(blocks)), nested(static_cast<size_t>(groups));
  std::vector<uint8_t> pairs, codes;
  for (int64_t b = 0; b < blocks; ++b) {
    std::memcpy(&scales[static_cast<size_t>(b)], plain.data() + 36 * b, 4);
    for (int i = 0; i < 32; ++i) pairs.push_back(std::to_integer<uint8_t>(plain[static_cast<size_t>(36 * b + 4 + i)]));
  }
  const float offset = std::accumulate(scales.begin(), scales.end(), 0.0f) / static_cast<float>(blocks);
  for (float& scale : scales) scale -= offset;
  std::vector<std::byte> coded(static_cast<size_t>(kInt8Block.bytes(blocks)));
  kInt8Block.encode(scales.data(), coded.data(), blocks);
  for (int64_t b = 0; b < blocks; ++b) {
    if (b % 256 == 0) std::memcpy(&nested[static_cast<size_t>(b / 256)], coded.data() + b / 256 * 260, 4);
    codes.push_back(std::to_integer<uint8_t>(coded[static_cast<size_t>(b / 256 * 260 + 4 + b % 256)]));
  }
  std::vector<uint8_t> all(256), levels;
  std::iota(all.begin(), all.end(), uint8_t{0});
  for (int i = 0; i < 8; ++i) levels.push_back(static_cast<uint8_t>(2 * i << 4 | (2 * i + 1)));
  const std::string state = fmt::format(
      R"({{"quant_type":"nf4","blocksize":64,"dtype":"float32","shape":[{},{}],"nested_blocksize":256,"nested_dtype":"float32","nested_offset":{}}})",
      shape[0], shape[1], static_cast<double>(offset));
  const auto count = static_cast<int64_t>(pairs.size());
  put<uint8_t>(parts, name + ".weight", "U8", {count, 1}, pairs);
  put<uint8_t>(parts, name + ".weight.absmax", "U8", {blocks}, codes);
  put<float>(parts, name + ".weight.nested_absmax", "F32", {groups}, nested);
  put<float>(parts, name + ".weight.nested_quant_map", "F32", {256}, table_of(kInt8Block, all, 256));
  put<float>(parts, name + ".weight.quant_map", "F32", {16}, table_of(kNf4, levels, 16));
  put<char>(parts, name + ".weight.quant_state.bitsandbytes__nf4", "U8", {static_cast<int64_t>(state.size())}, state);
  std::vector<float> read = values_of(kInt8Block, coded, blocks), out;
  for (int64_t b = 0; b < blocks; ++b) {
    const float scale = read[static_cast<size_t>(b)] + offset;
    std::memcpy(plain.data() + 36 * b, &scale, 4);
  }
  return values_of(kNf4, plain, blocks * 64);
}

class DoubleQuantised : public testing::Test {
 protected:
  void SetUp() override {
    const MemoryModel model(small_llama());
    Parts quantised, plain;
    for (const ModelTensor& tensor : model.tensors) {
      const std::vector<float>& values = model.values.at(tensor.name);
      put<float>(plain, tensor.name, "F32", tensor.shape, values);
      put<float>(quantised, tensor.name, "F32", tensor.shape, values);
      if (tensor.shape.rank() < 2 || !tensor.name.starts_with("model.layers.")) continue;
      const std::string module = tensor.name.substr(0, tensor.name.rfind('.'));
      quantised.erase(tensor.name);
      put<float>(plain, tensor.name, "F32", tensor.shape, put_quantised(quantised, module, tensor.shape, values));
    }
    write("double", quantised, true), write("plain", plain, false);
    std::vector<int32_t> ids;
    for (int i = 0; i < 4 * 32; ++i) ids.push_back(1 + i * i * 7 % 61);
    Parts windows;
    put<int32_t>(windows, "ids", "I32", {4, 32}, ids);
    write_file(folder_.file("ids.safetensors"), windows);
  }

  static void write_file(const std::string& path, const Parts& parts) {
    std::vector<SafetensorsTensor> tensors;
    for (const auto& [name, part] : parts) tensors.push_back(part.first);
    auto writer = SafetensorsWriter::create(path, tensors);
    ASSERT_TRUE(writer) << writer.error().message;
    for (const auto& [name, part] : parts) ASSERT_TRUE(writer->write(part.second));
    ASSERT_TRUE(writer->finish());
  }

  void write(const std::string& name, const Parts& parts, bool quantised) {
    Json config = Json::parse(*config_text(small_llama(), {.dtype = "float32"}));
    if (quantised)
      config["quantization_config"] = {
          {"quant_method", "bitsandbytes"}, {"load_in_4bit", true}, {"bnb_4bit_quant_type", "nf4"}};
    ASSERT_TRUE(make_directories(folder_.file(name)));
    folder_.write(name + "/config.json", config.dump());
    write_file(folder_.file(name) + "/model.safetensors", parts);
  }

  std::vector<double> losses(const std::string& model, const std::string& method) {
    Events events(true);
    std::vector<double> out;
    events.on_step([&](const StepEvent& step) { out.push_back(step.loss); });
    auto trainer = Trainer::prepare({.model = folder_.file(model),
                                     .data = folder_.file("ids.safetensors"),
                                     .out = folder_.file(model + method),
                                     .method = method,
                                     .precision = "f32",
                                     .multiply = "f32",
                                     .scratch = "none",
                                     .batch = 2,
                                     .context = 32,
                                     .steps = 3,
                                     .threads = 2,
                                     .lr = 1e-3},
                                    events);
    EXPECT_TRUE(trainer) << trainer.error().message;
    if (!trainer) return {};
    const auto done = (*trainer)->run();
    EXPECT_TRUE(done) << done.error().message;
    return out;
  }

  const TemporaryFolder folder_;
};

TEST_F(DoubleQuantised, trains_as_its_numbers_do) {
  const auto source = ModelSource::open(folder_.file("double"));
  ASSERT_TRUE(source) << source.error().message;
  EXPECT_EQ((*source)->find("model.layers.0.mlp.down_proj.weight")->codec, &kNf4Double);
  for (const char* method : {"dora", "lst"}) {
    const std::vector<double> found = losses("double", method), expected = losses("plain", method);
    ASSERT_EQ(found.size(), 3U) << method;
    EXPECT_EQ(found, expected) << method;
    EXPECT_LT(found[2], found[0]) << method;
  }
}

// Rows end behind the last part of a block that is filled: what is on disk is counted by rows.
TEST(DoubleQuantisedValues, are_on_disk_what_they_are_in_memory) {
  constexpr int64_t kRows = 700, kColumns = 576;
  Graph graph;
  const ValueId w = graph.add_value("w", {{kRows, kColumns}, &kNf4Double}, Role::weight);
  const ValueId x = graph.add_value("x", {{4, kColumns}}, Role::input);
  graph.emit(kLinear, LinearAttributes{}, {x, w, kNone, kNone}, "y");
  const auto row_bytes = static_cast<size_t>(kNf4Double.bytes(kColumns));
  EXPECT_EQ(row_bytes, 272U + 8 + 33);
  std::vector<std::byte> expected(kRows * row_bytes);
  for (size_t i = 0; i < expected.size(); ++i) expected[i] = static_cast<std::byte>(i * 7 % 251);
  Layout layout({"w"});
  ASSERT_TRUE(layout.add(graph));
  Threads threads(2);
  const auto scratch = Scratch::create({.folder = testing::TempDir(), .bytes = layout.disk_bytes()}, threads);
  ASSERT_TRUE(scratch) << scratch.error().message;
  std::vector<std::byte> memory(static_cast<size_t>(layout.bytes())), staging(96 << 10);
  Values values(layout, memory.data(), scratch->get(), staging);
  const Layout::Entry& entry = *layout.find("w");
  EXPECT_EQ(entry.type.bytes(), static_cast<int64_t>(expected.size()));
  const auto filled =
      values.fill(entry, kColumns, [&](int64_t first, int64_t count, std::byte* to, auto) -> Result<void> {
        std::memcpy(to, expected.data() + static_cast<size_t>(first / kColumns) * row_bytes,
                    static_cast<size_t>(count / kColumns) * row_bytes);
        return {};
      });
  ASSERT_TRUE(filled) << filled.error().message;
  std::vector<std::byte> found(expected.size());
  ASSERT_TRUE(values.read(entry, 0, found));
  EXPECT_EQ(found, expected);
}

}  // namespace
}  // namespace thimble
