#include "models/cut_model.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "memory_model.h"
#include "models/hf_writer.h"
#include "temporary_folder.h"

namespace thimble {
namespace {

using ::testing::HasSubstr;

Architecture architecture(int64_t kv_heads = 4) {
  Architecture a = llama({.vocab = 11,
                          .width = 40,
                          .layers = 2,
                          .heads = 8,
                          .kv_heads = kv_heads,
                          .head_dim = 4,
                          .ffn_width = 128,
                          .context = 16});
  a.family = "llama";
  return a;
}

class CutModel : public testing::Test {
 protected:
  void SetUp() override {
    const auto written = write_hf_model(folder_.file("whole"), model_.architecture, model_.tensors, model_.rows(), {});
    ASSERT_TRUE(written) << written.error().message;
  }
  std::unique_ptr<ModelSource> open() const {
    auto source = ModelSource::open(folder_.file("whole"));
    EXPECT_TRUE(source) << source.error().message;
    return *std::move(source);
  }
  // Element (i, j) of a matrix of the whole model.
  float whole(const std::string& name, int64_t i, int64_t j) const {
    const ModelTensor& tensor = *std::ranges::find(model_.tensors, name, [](const ModelTensor& t) { return t.name; });
    return model_.values.at(name)[static_cast<size_t>(i * tensor.shape.columns() + j)];
  }

  const MemoryModel model_{architecture()};
  const TemporaryFolder folder_;
};

TEST_F(CutModel, what_stays_is_as_it_was) {
  for (const CutBy by : {CutBy::random, CutBy::magnitude}) {
    const auto kept = choose_kept(*open(), 0.5, by, 3);
    ASSERT_TRUE(kept) << kept.error().message;
    const auto cut = cut_model(open(), *kept);
    ASSERT_TRUE(cut) << cut.error().message;
    const Block& block = (*cut)->architecture().blocks[1];
    EXPECT_EQ(block.attention.heads, 4);
    EXPECT_EQ(block.attention.kv_heads, 2);
    EXPECT_EQ(block.ffn.width, 64);
    for (size_t layer : {0, 1}) {
      const std::string name = fmt::format("model.layers.{}.", layer);
      const KeptParts::Layer& parts = kept->layers[layer];
      const auto at = [](const std::vector<int64_t>& places, int64_t i) { return places[static_cast<size_t>(i)]; };
      const auto key = [&](int64_t i) { return at(parts.kv_heads, i / 4) * 4 + i % 4; };
      const auto query = [&](int64_t i) { return at(parts.kv_heads, i / 8) * 8 + i % 8; };
      const auto unit = [&](int64_t i) { return at(parts.units, i); };
      const auto same = [](int64_t i) { return i; };
      const auto check = [&](const std::string& matrix, const Shape& shape, auto row, auto column) {
        const ModelTensor* const tensor = (*cut)->find(name + matrix + ".weight");
        ASSERT_TRUE(tensor);
        ASSERT_EQ(tensor->shape, shape) << matrix;
        const std::vector<float> values = read_all(**cut, *tensor);
        for (int64_t i = 0; i < shape[0]; ++i)
          for (int64_t j = 0; j < shape[1]; ++j)
            ASSERT_EQ(values[static_cast<size_t>(i * shape[1] + j)], whole(tensor->name, row(i), column(j))) << matrix;
      };
      check("self_attn.q_proj", {16, 40}, query, same), check("self_attn.o_proj", {40, 16}, same, query);
      check("self_attn.k_proj", {8, 40}, key, same), check("self_attn.v_proj", {8, 40}, key, same);
      check("mlp.gate_proj", {64, 40}, unit, same), check("mlp.up_proj", {64, 40}, unit, same);
      check("mlp.down_proj", {40, 64}, same, unit);
    }
  }
}

// The units whose rows and columns are largest together, counted here once more.
TEST_F(CutModel, the_largest_stay) {
  const auto kept = choose_kept(*open(), 0.5, CutBy::magnitude, 0);
  ASSERT_TRUE(kept) << kept.error().message;
  std::vector<std::pair<double, int64_t>> sums;
  for (int64_t unit = 0; unit < 128; ++unit) {
    double sum = 0;
    for (int64_t i = 0; i < 40; ++i)
      sum += std::abs(whole("model.layers.1.mlp.gate_proj.weight", unit, i)) +
             std::abs(whole("model.layers.1.mlp.up_proj.weight", unit, i)) +
             std::abs(whole("model.layers.1.mlp.down_proj.weight", i, unit));
    sums.emplace_back(-sum, unit);
  }
  std::ranges::sort(sums);
  std::vector<int64_t> expected;
  for (int i = 0; i < 64; ++i) expected.push_back(sums[static_cast<size_t>(i)].second);
  std::ranges::sort(expected);
  EXPECT_EQ(kept->layers[1].units, expected);
}

TEST_F(CutModel, draws_by_key_and_layer) {
  const auto kept = [&](uint64_t key) { return *choose_kept(*open(), 0.5, CutBy::random, key); };
  EXPECT_EQ(kept(1), kept(1));
  EXPECT_NE(kept(1), kept(2));
  EXPECT_NE(kept(1).layers[0].units, kept(1).layers[1].units);
}

TEST_F(CutModel, parts_are_read_as_written_and_checked) {
  const KeptParts kept = *choose_kept(*open(), 0.25, CutBy::random, 0);
  ASSERT_TRUE(write_kept(folder_.path(), kept));
  const auto back = read_kept(folder_.path());
  ASSERT_TRUE(back) << back.error().message;
  EXPECT_EQ(*back, kept);
  const std::string whole = R"({"whole":{"heads":8,"kv_heads":4,"head_dim":4,"units":128},"layers":)";
  for (const auto& [layers, message] : std::vector<std::pair<std::string, std::string>>{
           {"[]", "should be a list"},
           {R"([{"kv_heads":[4],"units":[1]}])", "rising numbers below 4"},
           {R"([{"kv_heads":[1,1],"units":[1]}])", "rising numbers below 4"},
           {R"([{"kv_heads":[-1],"units":[1]}])", "rising numbers below 4"},
           {R"([{"kv_heads":[1],"units":[]}])", "rising numbers below 128"},
           {R"([{"kv_heads":[1],"units":["a"]}])", "rising numbers below 128"},
           {R"([{"kv_heads":[1],"units":[1]},{"kv_heads":[1,2],"units":[1]}])", "other numbers of heads"}}) {
    folder_.write("kept.json", whole + layers + "}");
    const auto read = read_kept(folder_.path());
    ASSERT_FALSE(read) << layers;
    EXPECT_THAT(read.error().message, HasSubstr(message));
  }
  EXPECT_THAT(read_kept(folder_.file("whole")).error().message, HasSubstr("'thimble cut' writes"));
  EXPECT_THAT(check_whole(kept, architecture(2), "m").error().message, HasSubstr("not the model that was cut"));
}

}  // namespace
}  // namespace thimble
