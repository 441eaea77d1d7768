// attention: causal, grouped queries, sliding window, packed documents, in tiles. Keeps only y and the log-sum-exp.
//
//   Paper     Dao et al. 2022, arXiv:2205.14135, Algorithms 1 and 4; Ainslie et al. 2023, arXiv:2305.13245 (groups)
//   y_i       sum_j p_ij v_j, p_ij = exp(s_ij - lse_i), s_ij = scale q_i.k_j, j from max(starts_i, i - window + 1) to i
//   Cap       s = cap tanh(s / cap): Gemma Team 2024, arXiv:2408.00118
//   Bias      added to s, by head and place of the key: Press et al. 2021, arXiv:2108.12409 (ALiBi)
//   Gradient  D_i = dy_i.y_i;  dp_ij = dy_i.v_j;  ds_ij = p_ij (dp_ij - D_i) scale (1 - tanh^2);
//             dq_i = sum_j ds_ij k_j;  dk_j = sum_i ds_ij q_i;  dv_j = sum_i p_ij dy_i
#include <cmath>

#include "ops/attention_parts.h"
#include "ops/attention_tile.h"
#include "ops/backward.h"
#include "ops/rows.h"
#include "ops/shape_rule.h"
#include "ops/table.h"
#include "ops/tangents.h"

namespace thimble {
namespace {

const AttentionAttributes& of(const std::any& attributes) { return *std::any_cast<AttentionAttributes>(&attributes); }

Result<std::vector<Type>> infer(const std::any& any, std::span<const Type> in) {
  CHECK_OK(expect_operands("attention", in, 5));
  CHECK_OK(expect_heads("attention", of(any), in[0], in[1], in[2]));
  CHECK_OK(expect_indices("attention", "starts", in[3], in[0].shape[0]));
  CHECK_OK(expect_bias("attention", of(any), in[4]));
  return std::vector{in[0], Type{{in[0].shape[0], of(any).heads}, &kF32, in[0].extent}};
}

int64_t workspace(const std::any& any, std::span<const Type> in, std::span<const Type>, Multiply multiply,
                  int threads) {
  return threads * attention_tile_bytes(of(any), *in[0].codec, *in[1].codec, multiply);
}

void run(const Call& call) noexcept {
  const AttentionAttributes& a = call.as<AttentionAttributes>();
  const int64_t total = call.in[0].shape[0], tile = query_tile(a), tiles = (total + tile - 1) / tile;
  const int64_t group = a.heads / a.kv_heads, d = a.head_dim;
  const int64_t bytes = attention_tile_bytes(a, *call.in[0].codec, *call.in[1].codec, call.run.multiply);
  call.run.threads.share(tiles * a.kv_heads, [&](int64_t begin, int64_t end, int thread) {
    for (int64_t task = begin; task < end; ++task) {
      const int64_t kv = task % a.kv_heads, head = kv * group, row = task / a.kv_heads * tile;
      const int64_t rows = std::min(tile, total - row);
      attend_tile(a,
                  {.q = head_rows(call.in[0], head, d, row, rows),
                   .y = head_rows(call.out[0], head, d, row, rows),
                   .k = head_rows(call.in[1], kv, d, 0, total),
                   .v = head_rows(call.in[2], kv, d, 0, total),
                   .position = row,
                   .starts = call.in[3].as<const int32_t>() + row,
                   .lse = call.out[1] ? call.out[1].as<float>() + row * a.heads + head : nullptr,
                   .bias = call.in[4] ? call.in[4].as<const float>() + head * call.in[4].shape[1] : nullptr,
                   .bias_stride = call.in[4] ? call.in[4].shape[1] : 0},
                  call.run.multiply, call.workspace.data() + thread * bytes);
    }
  });
}

[[gnu::cold]] void reference(const ReferenceCall& call) {
  const AttentionAttributes& a = call.as<AttentionAttributes>();
  const int64_t rows = call.in[0].shape[0], group = a.heads / a.kv_heads, d = a.head_dim;
  for (int64_t h = 0; h < a.heads; ++h)
    for (int64_t i = 0; i < rows; ++i) {
      const int64_t start = static_cast<int64_t>(call.in[3][i]);
      const int64_t first = a.window ? std::max(start, i - a.window + 1) : start;
      std::vector<double> s;
      double sum = 0;
      for (int64_t j = first; j <= i; ++j) {
        double product = 0;
        for (int64_t x = 0; x < d; ++x)
          product += call.in[0][(i * a.heads + h) * d + x] * call.in[1][(j * a.kv_heads + h / group) * d + x];
        s.push_back(std::exp(shaped_score(a, product, call.in[4], h, j - start)));
        sum += s.back();
      }
      for (int64_t x = 0; x < d; ++x) {
        double y = 0;
        for (int64_t j = first; j <= i; ++j)
          y += s[static_cast<size_t>(j - first)] / sum * call.in[2][(j * a.kv_heads + h / group) * d + x];
        call.out[0][(i * a.heads + h) * d + x] = y;
      }
      if (call.out[1]) call.out[1][i * a.heads + h] = std::log(sum);
    }
}

Result<void> gradient(Backward& backward, const Node& node) {
  const ValueId dy = backward.gradient_of(node.out[0]);
  if (dy == kNone) return {};
  const bool wanted[3] = {backward.wanted(node.in[0]), backward.wanted(node.in[1]), backward.wanted(node.in[2])};
  const auto out =
      backward.graph().emit_all(kAttentionGrad, node.attributes,
                                {dy, backward.saved(node.in[0]), backward.saved(node.in[1]), backward.saved(node.in[2]),
                                 backward.saved(node.out[0]), backward.saved(node.out[1]), node.in[3], node.in[4]},
                                backward.name(node.out[0]) + ".qkv", wanted);
  for (size_t i = 0; i < 3; ++i)
    if (wanted[i]) backward.add(node.in[i], out[i]);
  return {};
}

Result<void> tangent(Tangents& tangents, const Node& node) {
  std::vector<ValueId> in{node.in[0], node.in[1], node.in[2], node.out[0], node.out[1], node.in[3], node.in[4]};
  for (size_t i = 0; i < 3; ++i) in.push_back(tangents.of(node.in[i]));
  tangents.set(node.out[0], tangents.graph().emit(kAttentionTangent, node.attributes, in, tangents.name(node.out[0])));
  return {};
}

// Two products.
Cost cost(const std::any& any, std::span<const Type> in, std::span<const Type> out) {
  const AttentionAttributes& a = of(any);
  Cost cost{.bytes = moved_bytes(in, out)};
  cost.of(ProductUse::attention) = 2 * 2 * causal_pairs(a, in[0].shape[0]) * static_cast<double>(a.heads * a.head_dim);
  return cost;
}

std::vector<int32_t> documents(int64_t rows, int64_t length) {
  std::vector<int32_t> starts;
  for (int64_t i = 0; i < rows; ++i) starts.push_back(static_cast<int32_t>(i / length * length));
  return starts;
}

[[gnu::cold]] std::vector<Sample> samples() {
  const auto make = [](AttentionAttributes a, int64_t rows, int64_t length, const Codec* codec) {
    const Type q{{rows, a.heads * a.head_dim}, codec}, k{{rows, a.kv_heads * a.head_dim}, codec};
    return Sample{a, {q, k, k, Type{{rows}, &kI32}, Type{.codec = nullptr}}, {{}, {}, {}, documents(rows, length)}};
  };
  const auto biased = [](Sample sample, int64_t positions) {
    const int64_t heads = std::any_cast<AttentionAttributes>(&sample.attributes)->heads;
    sample.in.back() = Type{{heads, positions}};
    sample.fixed = {static_cast<int>(sample.in.size()) - 1};
    return sample;
  };
  return {make({2, 1, 4, 0, 0.5}, 7, 100, &kF32),
          make({4, 2, 6, 3, 0.4}, 11, 5, &kF32),
          make({3, 1, 16, 0, 0.25}, 150, 70, &kBf16),
          make({2, 2, 8, 40, 0.3}, 201, 1000, &kF32),
          make({4, 2, 6, 3, 0.4, 1.5}, 150, 70, &kF32),
          biased(make({4, 2, 6, 0, 0.4}, 150, 70, &kF32), 70),
          biased(make({4, 2, 6, 9, 0.4, 1.5}, 150, 70, &kBf16), 71)};
}

}  // namespace

const Op kAttention = {.name = "attention",
                       .infer = infer,
                       .text = attention_text,
                       .gradient = gradient,
                       .tangent = tangent,
                       .workspace = workspace,
                       .cost = cost,
                       .reference = reference,
                       .run = run,
                       .samples = samples};

}  // namespace thimble
