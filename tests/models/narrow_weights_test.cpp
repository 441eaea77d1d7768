// What narrow blocks begin with: the rows and columns of the largest sums, chosen once more here, one by one.
#include "models/narrow_weights.h"

#include <gtest/gtest.h>

#include <cmath>
#include <numeric>

#include "models/hf_writer.h"
#include "models/memory_model.h"
#include "models/narrower.h"
#include "temporary_folder.h"

namespace thimble {
namespace {

constexpr int64_t kBy = 4;

Architecture small_llama() {
  Architecture a = llama({.vocab = 40,
                          .width = 64,
                          .layers = 2,
                          .heads = 4,
                          .kv_heads = 2,
                          .head_dim = 16,
                          .ffn_width = 96,
                          .context = 64});
  a.family = "llama";
  return a;
}

using Values = std::map<std::string, std::vector<float>>;

double at(const Values& values, const std::string& name, int64_t columns, int64_t row, int64_t column) {
  return std::abs(values.at(name)[static_cast<size_t>(row * columns + column)]);
}

// Places 0 .. count - 1 with the largest sums, ascending.
template <class Sum>
std::vector<int64_t> best(int64_t count, int64_t kept, Sum sum) {
  std::vector<std::pair<double, int64_t>> all;
  for (int64_t i = 0; i < count; ++i) all.emplace_back(-sum(i), i);
  std::sort(all.begin(), all.end());
  std::vector<int64_t> out;
  for (int64_t i = 0; i < kept; ++i) out.push_back(all[static_cast<size_t>(i)].second);
  std::sort(out.begin(), out.end());
  return out;
}

struct Expected {
  std::vector<int64_t> rows, columns;
};

class NarrowWeightsOfModel : public ::testing::Test {
 protected:
  void SetUp() override {
    const MemoryModel model(small_llama());
    values_.insert(model.values.begin(), model.values.end());
    ASSERT_TRUE(write_hf_model(folder_.file("m"), model.architecture, model.tensors, model.rows()));
    auto opened = ModelSource::open(folder_.file("m"));
    ASSERT_TRUE(opened) << opened.error().message;
    source_ = *std::move(opened);
  }

  Expected expected(const std::string& module) const {
    const std::string name = "model.layers.1.";
    const auto stream = best(64, 16, [&](int64_t c) {
      double sum = 0;
      for (int64_t r = 0; r < 40; ++r) sum += at(values_, "model.embed_tokens.weight", 64, r, c);
      return sum;
    });
    const auto units = best(96, 24, [&](int64_t u) {
      double sum = 0;
      for (int64_t c = 0; c < 64; ++c)
        sum += at(values_, name + "mlp.gate_proj.weight", 64, u, c) +
               at(values_, name + "mlp.up_proj.weight", 64, u, c) +
               at(values_, name + "mlp.down_proj.weight", 96, c, u);
      return sum;
    });
    std::vector<int64_t> kept_values, outputs, queries, keys;
    for (int64_t kv = 0; kv < 2; ++kv) {
      const auto elements = best(16, 4, [&](int64_t e) {
        double sum = 0;
        for (int64_t c = 0; c < 64; ++c) {
          sum += at(values_, name + "self_attn.v_proj.weight", 64, kv * 16 + e, c);
          for (int64_t q : {2 * kv, 2 * kv + 1})
            sum += at(values_, name + "self_attn.o_proj.weight", 64, c, q * 16 + e);
        }
        return sum;
      });
      for (const int64_t e : elements) kept_values.push_back(kv * 16 + e);
      for (int64_t q : {2 * kv, 2 * kv + 1})
        for (const int64_t e : elements) outputs.push_back(q * 16 + e);
    }
    // Pairs are e and e + 8; every fourth of them.
    for (int64_t h = 0; h < 4; ++h)
      for (const int64_t e : {0, 4, 8, 12}) {
        queries.push_back(h * 16 + e);
        if (h < 2) keys.push_back(h * 16 + e);
      }
    if (module == "self_attn.q_proj") return {queries, stream};
    if (module == "self_attn.k_proj") return {keys, stream};
    if (module == "self_attn.v_proj") return {kept_values, stream};
    if (module == "self_attn.o_proj") return {stream, outputs};
    if (module == "mlp.down_proj") return {stream, units};
    if (module.starts_with("mlp.")) return {units, stream};
    return {{0}, stream};
  }

  TemporaryFolder folder_;
  Values values_;
  std::unique_ptr<ModelSource> source_;
};

TEST_F(NarrowWeightsOfModel, are_the_rows_and_columns_of_the_largest_sums) {
  auto weights = NarrowWeights::choose(*source_, kBy);
  ASSERT_TRUE(weights) << weights.error().message;
  const auto narrow = narrower(small_llama(), kBy);
  ASSERT_TRUE(narrow);
  int compared = 0;
  for (const TensorSpec& spec : tensor_specs(*narrow)) {
    if (!spec.name.starts_with("model.layers.1.")) continue;
    ASSERT_TRUE(weights->has(spec.name)) << spec.name;
    const size_t begin = std::string("model.layers.1.").size();
    const Expected e = expected(spec.name.substr(begin, spec.name.rfind('.') - begin));
    ASSERT_EQ(static_cast<int64_t>(e.columns.size()), spec.shape.columns()) << spec.name;
    ASSERT_EQ(static_cast<int64_t>(e.rows.size()), spec.shape.rows()) << spec.name;
    const int64_t whole = source_->find(spec.name)->shape.columns();
    std::vector<float> row(e.columns.size());
    for (size_t r = 0; r < e.rows.size(); ++r) {
      ASSERT_TRUE(weights->read(spec.name, static_cast<int64_t>(r), row));
      for (size_t c = 0; c < row.size(); ++c, ++compared)
        ASSERT_EQ(row[c], values_.at(spec.name)[static_cast<size_t>(e.rows[r] * whole + e.columns[c])])
            << spec.name << " " << r << " " << c;
    }
  }
  EXPECT_EQ(compared, 16 * (16 + 8 + 8 + 16) + 3 * 24 * 16 + 2 * 16);
  EXPECT_TRUE(weights->has("model.norm.weight"));
  EXPECT_FALSE(weights->has("model.layers.1.mlp.router.weight"));
  EXPECT_FALSE(weights->has("lm_head.weight"));
}

TEST_F(NarrowWeightsOfModel, cannot_be_of_what_does_not_divide) {
  EXPECT_FALSE(narrower(small_llama(), 5));
  EXPECT_FALSE(narrower(small_llama(), 16)) << "heads of one element have no pair that turns";
  const auto narrow = narrower(small_llama(), 8);
  ASSERT_TRUE(narrow);
  EXPECT_EQ(narrow->ropes.front().rotated, 2);
  EXPECT_EQ(narrow->blocks.front().attention.kv_width(), 4);
}

}  // namespace
}  // namespace thimble
