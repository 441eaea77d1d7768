// UniPT: what the head reads, by hand: attention over the tokens so far, confidences by token.
#include <gmock/gmock.h>

#include <algorithm>
#include <cmath>

#include "methods/adapted_linear.h"
#include "ops/pointwise.h"
#include "ops/update.h"

namespace thimble {
namespace {

using Row = std::vector<double>;

constexpr int64_t kRows = 5, kWidth = 6, kNarrow = 3, kBlocks = 2;
const std::vector<double> kStarts{0, 0, 0, 3, 3};  // two sequences

// Two blocks, of which the first has attention, and a copy for a head.
struct Model {
  Result<Rewritten> made = fail(ErrorCode::unsupported, "not made");
  ReferenceValues values;

  explicit Model(bool attends) {
    Graph plain;
    ModelTaps taps;
    const ValueId starts = plain.add_value("train.starts", {{kRows}, &kI32, Extent::tokens}, Role::input);
    const auto copied = [&](ValueId of, const std::string& name) {
      PointwiseBuilder b;
      b.output(b.tensor());
      return plain.emit(kPointwise, b.attributes(), {of}, name);
    };
    ValueId x = copied(plain.add_value("x", {{kRows, kWidth}, &kF32, Extent::tokens}, Role::input), "embedded");
    taps.streams = {x};
    const AttentionAttributes heads{.heads = 2, .kv_heads = 2, .head_dim = kWidth / 2, .window = 2, .scale = 0.5f};
    if (attends) x = plain.emit(kAttention, heads, {x, x, x, starts, kNone}, "attended");
    taps.streams.push_back(x);
    const ValueId w = plain.add_value("w", {{kWidth, kWidth}}, Role::weight);
    taps.streams.push_back(x = plain.emit(kLinear, LinearAttributes{}, {x, w, kNone, x}, "stream"));
    taps.hidden = copied(x, "hidden");
    plain.value(copied(taps.hidden, "head")).role = Role::result;
    taps.blocks = [](Graph&, int64_t, Role) -> Result<NarrowBlocks> { return NarrowBlocks{kNarrow, {}, {}}; };
    AdaptedModule module;
    module.name = module.owner = "model.embed_tokens";
    module.options = OptionValues(kUnipt.options);
    RewriteSpec spec{.rewrite = &kUnipt};
    spec.modules[module.name] = module;
    PassLog log;
    made = rewrite_model(std::move(plain), {{spec}}, RewriteUse::infer, log, taps);
    if (made) run();
  }

  void run() {
    for (size_t i = 0; i < made->graph.values().size(); ++i) {
      const Value& value = made->graph.values()[i];
      const auto id = static_cast<ValueId>(i);
      if (made->graph.producer(id) >= 0) continue;
      std::vector<float> table(static_cast<size_t>(value.type.shape.count()));
      for (size_t k = 0; k < table.size(); ++k) table[k] = Random(3, value.name).normal(k);
      if (value.initial.kind == Initial::Kind::table) (*value.initial.fill)(0, std::ssize(table), table.data());
      values[id] = value.name == "train.starts" ? kStarts : Row(table.begin(), table.end());
    }
    Threads threads(1);
    RunContext context{threads, Multiply::f32, 0, 0, 0};
    run_reference(made->graph, values, context);
  }
  const Row& at(const std::string& name) { return values.at(made->graph.find(name)); }
  const Row& side(const std::string& name) { return at("side." + name); }

  // W x + b, and that with a norm.
  Row linear(const std::string& name, const Row& x, int64_t in, int64_t out) {
    Row y;
    for (int64_t row = 0; row < kRows; ++row)
      for (int64_t i = 0; i < out; ++i)
        y.push_back(dot(x, side(name + ".weight"), row, i, in) + side(name + ".bias")[static_cast<size_t>(i)]);
    return y;
  }
  Row normed(const std::string& name, const Row& x, int64_t in) {
    Row y = linear(name, x, in, kNarrow);
    for (auto row = y.begin(); row != y.end(); row += kNarrow) {
      double mean = 0, variance = 0;
      for (int i = 0; i < kNarrow; ++i) mean += row[i] / kNarrow;
      for (int i = 0; i < kNarrow; ++i) variance += (row[i] - mean) * (row[i] - mean) / kNarrow;
      for (int i = 0; i < kNarrow; ++i)
        row[i] = (row[i] - mean) / std::sqrt(variance + 1e-5) * side(name + ".norm.weight")[static_cast<size_t>(i)] +
                 side(name + ".norm.bias")[static_cast<size_t>(i)];
    }
    return y;
  }
};

// Weights that are softmaxes of scores.
Row softmax(Row scores) {
  double sum = 0;
  for (double& score : scores) sum += score = std::exp(score);
  for (double& score : scores) score /= sum;
  return scores;
}

TEST(Unipt, the_head_reads_what_all_blocks_made) {
  Model model(true);
  ASSERT_TRUE(model.made) << model.made.error().message;
  std::vector<Row> t;
  const char* const streams[] = {"embedded", "attended", "stream"};
  for (int64_t l = 0; l <= kBlocks; ++l)
    t.push_back(model.normed(fmt::format("down.{}", l), model.at(streams[l]), kWidth));
  const Row& guide = t.back();
  const auto at = [](const Row& x, int64_t row, int64_t i) { return x[static_cast<size_t>(row * kNarrow + i)]; };
  Row sum(kRows * kNarrow);
  for (int64_t row = 0; row < kRows; ++row) {
    Row scores(kBlocks);
    for (int64_t l = 0; l < kBlocks; ++l)
      for (int64_t i = 0; i < kNarrow; ++i)
        scores[static_cast<size_t>(l)] += model.side("confidence")[static_cast<size_t>(i)] * at(guide, row, i) *
                                          at(t[static_cast<size_t>(l)], row, i);
    const Row confidence = softmax(scores);
    for (int64_t l = 0; l < kBlocks; ++l) {
      const Row& rows = t[static_cast<size_t>(l)];
      const auto first = static_cast<int64_t>(kStarts[static_cast<size_t>(row)]);
      Row seen;
      for (int64_t key = first; key <= row; ++key)
        seen.push_back(dot(guide, rows, row, key, kNarrow) / std::sqrt(double{kNarrow}));
      seen = softmax(seen);
      for (int64_t i = 0; i < kNarrow; ++i) {
        double merged = at(rows, row, i);
        for (int64_t key = first; key <= row; ++key)
          merged += seen[static_cast<size_t>(key - first)] * at(rows, key, i);
        sum[static_cast<size_t>(row * kNarrow + i)] += confidence[static_cast<size_t>(l)] * merged;
      }
    }
  }
  Row gathered = model.normed("projection", sum, kNarrow);
  for (size_t i = 0; i < gathered.size(); ++i) gathered[i] = std::max(0.0, gathered[i] + guide[i]);
  const Row up = model.linear("up", gathered, kNarrow, kWidth);
  for (size_t i = 0; i < up.size(); ++i) EXPECT_NEAR(model.at("head")[i], model.at("stream")[i] + up[i], 1e-5) << i;
}

TEST(Unipt, refuses_a_model_without_attention) {
  EXPECT_THAT(Model(false).made.error().message, testing::HasSubstr("this model has none"));
}

}  // namespace
}  // namespace thimble
