// UniPT: rows of all blocks are gathered beside the frozen model, each block's by attention of the last one's rows and
// with a confidence of its own; no gradient passes through the model.
//
//   Paper   Diao et al. 2023, arXiv:2308.14316, section 3; the authors' code (Paranioar/UniPT, adapter_for_transformer)
//   Graph   of h_l, the residual stream behind block l, l = 0 (the embedding) .. L:  t_l = norm(D_l h_l + b_l);
//           g = t_L, the guide;  m_l = attention(g, t_l, t_l) + t_l;  c = softmax over l < L of (w * g) . t_l;
//           the head reads h + U relu(g + norm(P sum of c_l m_l + p)) + u
//   Adds    D_l [width / r, width], P [width / r, width / r] with biases, uniform in +-1/sqrt(columns); gains ones and
//           biases zeros of norms; w [width / r] likewise; U [width, width / r] and u, zeros
//   Names   "side.down.<l>.weight", "side.down.<l>.norm.weight" and so on, "side.confidence", "side.projection",
//           "side.up"; peft_type UNIPT, which other tools do not read
//   Choice  for language models: attention sees the tokens so far and is a softmax, where the authors' sees all tokens
//           and divides max(g t_l^T, 0) by its sum; confidences are of every token by itself, where theirs are of means
//           over the sequence. h is added to and U begins at zero, so that training begins at the model
#include <algorithm>
#include <cmath>

#include "methods/rewrites/ladder.h"
#include "ops/matrix.h"
#include "ops/pointwise.h"
#include "ops/table.h"
#include "ops/update.h"

namespace thimble {
namespace {

constexpr Option kOptions[] = {
    whole_number("reduction", 8, 1, 1024, "r: what is gathered is so many times as narrow as the model"),
};
using Kind = PeftField::Kind;
constexpr PeftField kFields[] = {{"reduction", "reduction", Kind::whole, {}, 8}};

int64_t narrower(const OptionValues& options) { return static_cast<int64_t>(options["reduction"]); }

// norm(W x + b), of the network's width.
ValueId normed(SideRewrite& side, ValueId x, const std::string& name) {
  const int64_t columns = side.graph.value(x).type.shape.columns();
  const ValueId y = side.project(x, name, SideRewrite::fresh_projection(columns, side.width));
  const ValueId gain = side.trained(name + ".norm.weight", {side.width}, Initial::constant(1));
  const ValueId bias = side.trained(name + ".norm.bias", {side.width}, Initial::constant(0));
  return side.graph.emit(kLayerNorm, NormAttributes{}, {y, gain, bias}, fmt::format("side.{}.normed", name));
}

void tap(SideRewrite& side, int64_t blocks, ValueId stream) {
  side.rows.push_back(normed(side, stream, fmt::format("down.{}", blocks)));
}

// c, f32 [rows, layers].
ValueId confidences(SideRewrite& side, ValueId guide, const std::vector<ValueId>& layers) {
  Graph& g = side.graph;
  const auto count = static_cast<int64_t>(layers.size());
  const Initial initial = Initial::uniform(1 / std::sqrt(static_cast<float>(side.width)));
  PointwiseBuilder product, weighed;
  const Expr rows = weighed.tensor(), by = weighed.row();
  weighed.output(rows * by, side.attributes.codec);
  // Read once: a pass may then be cut, as its gradient is the sum of what passes say.
  const ValueId query = g.emit(kPointwise, weighed.attributes(),
                               {guide, side.trained("confidence", {side.width}, initial)}, "side.query");
  product.output(product.tensor() * product.tensor(), side.attributes.codec);
  ValueId scores = kNone;
  for (int64_t l = 0; l < count; ++l) {
    const std::string name = fmt::format("side.confidence.{}", l);
    const ValueId products =
        g.emit(kPointwise, product.attributes(), {query, layers[static_cast<size_t>(l)]}, name + ".products");
    const auto fill = [=, width = side.width](int64_t first, int64_t n, float* to) {
      for (int64_t e = first; e < first + n; ++e) to[e - first] = e / width == l ? 1.0f : 0.0f;
    };
    const std::string column = fmt::format("sum into {} of {} by {}", l, count, side.width);
    const ValueId into = side.constant("side." + column, {count, side.width}, Initial::table(fill, column));
    scores = g.emit(kLinear, LinearAttributes{.codec = &kF32}, {products, into, kNone, scores}, name);
  }
  return g.emit(kTopSoftmax, TopKAttributes{count}, {scores}, "side.confidences");
}

// The sum over l of c_l m_l, some layers at a time.
ValueId merged(SideRewrite& side, ValueId guide, const std::vector<ValueId>& layers) {
  constexpr size_t kAtOnce = 5;  // a pointwise gradient has 16 results at most
  Graph& g = side.graph;
  const ValueId c = confidences(side, guide, layers);
  ValueId sum = kNone;
  for (size_t first = 0; first < layers.size(); first += kAtOnce) {
    PointwiseBuilder b;
    std::vector<ValueId> in;
    std::optional<Expr> all;
    if (sum != kNone) in.push_back(sum), all = b.tensor();
    for (size_t l = first; l < std::min(layers.size(), first + kAtOnce); ++l) {
      const ValueId seen = side.attend(guide, layers[l], layers[l], fmt::format("attention.{}", l));
      const SliceAttributes one{SliceAttributes::Axis::columns, static_cast<int64_t>(l), 1};
      const ValueId column = g.emit(kSlice, one, {c}, fmt::format("side.confidences.{}", l));
      in.insert(in.end(), {seen, layers[l],
                           g.emit(kReduce, ReduceAttributes{}, {column}, fmt::format("side.confidences.{}.row", l))});
      const Expr by_tokens = b.tensor(), own = b.tensor(), confidence = b.column();
      const Expr term = (by_tokens + own) * confidence;
      all = all ? *all + term : term;
    }
    b.output(*all, side.attributes.codec);
    sum = g.emit(kPointwise, b.attributes(), in, fmt::format("side.merged.{}", first));
  }
  return sum;
}

ValueId join(SideRewrite& side, ValueId hidden) {
  const ValueId guide = side.rows.back();
  const std::vector<ValueId> layers(side.rows.begin(), side.rows.end() - 1);
  const ValueId projected = normed(side, merged(side, guide, layers), "projection");
  PointwiseBuilder b;
  b.output(max(b.tensor() + b.tensor(), 0), side.attributes.codec);
  const ValueId gathered = side.graph.emit(kPointwise, b.attributes(), {guide, projected}, "side.gathered");
  const Initial zero = Initial::constant(0);
  return side.project(gathered, "up", {side.graph.value(hidden).type.shape.columns(), zero, zero}, hidden);
}

}  // namespace

const Rewrite kUnipt = {.name = "unipt",
                        .summary = "rows of all blocks are gathered beside the frozen model, by attention",
                        .paper = "arXiv:2308.14316",
                        .rate = 5,
                        .options = kOptions,
                        .tap = tap,
                        .join = join,
                        .narrower = narrower,
                        .targets = "embed_tokens",
                        .not_merged = kBesideNotMerged,
                        .form = {.type = "UNIPT", .fields = kFields}};

}  // namespace thimble
