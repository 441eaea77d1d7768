// LeMo's predictors: fitted once, before a run, to what attention makes of the tokens of the first windows.
//
//   Target   y_j = log of the mean over the queries i >= j of a sequence, and over heads, of p_ij (i + 1): how much of
//            their attention token j has, 1 where attention is even
//   Features z = relu(R n(x)) of the token's row: n a layer norm without gains, R fixed random numbers of variance
//            1 / width
//   Measured the moments of (z, 1, y), every token by 1 - 1 / (queries that see it), whose sum over the data is the
//            gradient of a probe; what they are fitted by is in lemo_fit.cpp
//   Choice   the paper sums positive q_i k_j over a whole sequence and fits three matrices with ReLUs between for
//            queries and for keys of 64 tokens at once, by descent. A sum over queries behind a token grows with their
//            number, hence the mean; p is bounded where q k is not. The first matrix is random here and the last is
//            the least-squares fit
#include <algorithm>
#include <cmath>
#include <utility>

#include "core/random.h"
#include "methods/rewrites/lemo.h"
#include "ops/matrix.h"
#include "ops/pointwise.h"
#include "ops/table.h"
#include "ops/update.h"

namespace thimble {
namespace {

constexpr double kLeast = 1e-4;  // of attention, below which the logarithm does not look

template <class Number>
ValueId table(StreamRewrite& s, const std::string& name, const Shape& shape, Number number,
              const Codec* codec = &kF32) {
  const auto fill = [number](int64_t first, int64_t n, float* to) {
    for (int64_t i = 0; i < n; ++i) to[i] = static_cast<float>(number(first + i));
  };
  return s.constant("lemo." + name, shape, Initial::table(fill, "lemo " + name + shape.text()), codec);
}

ValueId linear(StreamRewrite& s, ValueId x, ValueId w, const Codec* codec, const std::string& name, double scale = 1) {
  const LinearAttributes attributes{.terms = {{true, static_cast<float>(scale)}}, .codec = codec};
  return s.graph.emit(kLinear, attributes, {x, w, kNone, kNone}, name);
}

// sum over i of p_ij dy_i, [rows, kv_heads * head_dim]: the gradient of the values of an attention.
ValueId attended(StreamRewrite& s, const AttentionAttributes& attributes, std::vector<ValueId> in,
                 const std::string& name) {
  const bool wanted[] = {false, false, true};
  return s.graph.emit_all(kAttentionGrad, attributes, std::move(in), name, wanted)[2];
}

// By query i + 1, and by token the number of queries that see it, f32 [rows, 1] each: attention whose scores are equal
// gives each of them 1 / (i + 1).
void count_queries(StreamRewrite& s) {
  s.graph.set_block(-1);
  const ValueId places = table(s, "places", {s.inputs.window, 1}, [](int64_t i) { return i + 1; });
  const ValueId by = s.graph.emit(kEmbedding, EmbeddingAttributes{}, {s.inputs.positions, places}, "lemo.by");
  PointwiseBuilder b;
  b.output(b.tensor() * 0.0);
  const ValueId zero = s.graph.emit(kPointwise, b.attributes(), {by}, "lemo.zero");
  AttentionAttributes even;
  even.longest = s.inputs.window;
  const auto y = s.graph.emit_all(kAttention, even, {zero, zero, zero, s.inputs.starts, kNone}, "lemo.even");
  s.rows = {by, attended(s, even, {by, zero, zero, zero, y[0], y[1], s.inputs.starts, kNone}, "lemo.queries")};
}

// y, f32 [rows, 1].
ValueId informativeness(StreamRewrite& s, const Node& attention, const std::string& name) {
  const auto& a = attention.as<AttentionAttributes>();
  const Type q = s.graph.value(attention.in[0]).type, v = s.graph.value(attention.in[2]).type;
  const auto one = [](int64_t) { return 1; };
  const ValueId dy = linear(s, s.rows[0], table(s, "ones", {q.shape[1], 1}, one), q.codec, name + "dy");
  std::vector<ValueId> in{dy};
  in.insert(in.end(), attention.in.begin(), attention.in.begin() + 3);
  in.insert(in.end(), {attention.out[0], attention.out[1], attention.in[3], attention.in[4]});
  const ValueId dv = attended(s, a, std::move(in), name + "attended");
  const double mean = 1 / static_cast<double>(a.heads * a.head_dim);
  const ValueId sum = linear(s, dv, table(s, "sum", {1, v.shape[1]}, one), &kF32, name + "sum", mean);
  PointwiseBuilder b;
  const Expr all = b.tensor(), queries = b.tensor();
  b.output(log(max(all / max(queries, 1), kLeast)));
  return s.graph.emit(kPointwise, b.attributes(), {sum, s.rows[1]}, name + "y");
}

}  // namespace

ValueId lemo_features(StreamRewrite& s, ValueId x, int64_t block) {
  const std::string name = fmt::format("lemo.{}.", block);
  const int64_t width = s.graph.value(x).type.shape.columns(), features = static_cast<int64_t>(s.option("features"));
  const double deviation = 1 / std::sqrt(static_cast<double>(width));
  const ValueId random = table(s, "random", {features, width}, [deviation](int64_t i) {
    return deviation * double{Random(0, "lemo", 0).normal(static_cast<uint64_t>(i))};
  });
  const ValueId n = s.graph.emit(kLayerNorm, NormAttributes{}, {x, kNone, kNone}, name + "norm");
  return s.graph.emit(kActivation, ActivationAttributes{Activation::relu},
                      {linear(s, n, random, &kF32, name + "low"), kNone}, name + "features");
}

Result<void> lemo_probe(StreamRewrite& s, ValueId x, int64_t block) {
  const auto& nodes = s.graph.nodes();
  const auto found = std::find_if(nodes.rbegin(), nodes.rend(), [&](const Node& node) {
    return node.op == &kAttention && node.block == static_cast<int>(block);
  });
  if (found == nodes.rend())
    return fail(ErrorCode::unsupported,
                "--method lemo: block {} has no attention that would say which tokens are informative; give --set "
                "lemo.windows=0, so that tokens are left out evenly",
                block);
  const Node attention = *found;
  if (s.rows.empty()) count_queries(s);
  s.graph.set_block(static_cast<int>(block));
  const std::string name = fmt::format("lemo.{}.", block);
  const ValueId z = lemo_features(s, x, block), y = informativeness(s, attention, name);
  const int64_t r = s.graph.value(z).type.shape.columns(), n = r + 2;
  const auto place = [&](std::string what, const Shape& shape, int64_t columns, int64_t first) {
    return table(s, what, shape, [=](int64_t i) { return i / columns == first + i % columns; });
  };
  const LinearAttributes both{.terms = {{true, 1}, {true, 1}}};
  const ValueId f = s.graph.emit(kLinear, both,
                                 {z, place("place_z", {n, r}, r, 0), y, place("place_y", {n, 1}, 1, r + 1),
                                  table(s, "place_1", {n}, [r](int64_t i) { return i == r; }), kNone},
                                 name + "all");
  const auto pairs = lemo_moments(r);
  const auto side = [&](const char* which, bool left) {
    const auto at = [pairs, left](int64_t i) {
      const auto& [row, column] = pairs[static_cast<size_t>(i)];
      return left ? row : column;
    };
    const ValueId indices = table(s, which, {std::ssize(pairs)}, at, &kI32);
    return s.graph.emit(kGather, GatherAttributes{GatherAttributes::Axis::columns}, {f, indices}, name + which);
  };
  const ValueId left = side("left", true), right = side("right", false);
  const ValueId queries = s.graph.emit(kReduce, ReduceAttributes{}, {s.rows[1]}, name + "queries");
  PointwiseBuilder b;
  const Expr one = b.tensor(), other = b.tensor(), seen = b.column();
  b.output(one * other * (1 - 1 / max(seen, 1)));
  s.probe(s.graph.emit(kPointwise, b.attributes(), {left, right, queries}, name + "moments"),
          fmt::format("lemo.{}", block));
  return {};
}

}  // namespace thimble
