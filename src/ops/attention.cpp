// attention: causal, grouped queries, sliding window, packed documents, in tiles. Keeps only y and the log-sum-exp.
//
//   Paper     Dao et al. 2022, arXiv:2205.14135, Algorithms 1 and 4; Ainslie et al. 2023, arXiv:2305.13245 (groups)
//   y_i       sum_j p_ij v_j, p_ij = exp(scale q_i.k_j - lse_i), j from max(starts_i, i - window + 1) to i
//   Gradient  D_i = dy_i.y_i;  dp_ij = dy_i.v_j;  ds_ij = p_ij (dp_ij - D_i) scale;
//             dq_i = sum_j ds_ij k_j;  dk_j = sum_i ds_ij q_i;  dv_j = sum_i p_ij dy_i
//   Order     tiles begin at multiples of their size, so bits do not depend on which rows are together in memory
#include <cmath>
#include <limits>
#include <utility>

#include "core/round.h"
#include "kernels/packed.h"
#include "ops/attention_parts.h"
#include "ops/backward.h"
#include "ops/rows.h"
#include "ops/shape_rule.h"
#include "ops/table.h"

namespace thimble {
namespace {

constexpr int64_t kKeyTile = 128;

const AttentionAttributes& of(const std::any& attributes) { return *std::any_cast<AttentionAttributes>(&attributes); }

Result<void> expect_heads(const AttentionAttributes& a, const Type& q, const Type& k, const Type& v) {
  CHECK_OK(expect_rank("attention", "q", q, 2));
  if (a.heads <= 0 || a.kv_heads <= 0 || a.heads % a.kv_heads)
    return fail(ErrorCode::shape, "attention: {} heads do not share {} key heads evenly", a.heads, a.kv_heads);
  if (!(a.scale > 0)) return fail(ErrorCode::shape, "attention: the scale should be positive, found {}", a.scale);
  CHECK_OK(expect_shape("attention", "q", q, {q.shape[0], a.heads * a.head_dim}));
  CHECK_OK(expect_shape("attention", "k", k, {q.shape[0], a.kv_heads * a.head_dim}));
  return expect_shape("attention", "v", v, k.shape);
}

Result<std::vector<Type>> infer(const std::any& any, std::span<const Type> in) {
  CHECK_OK(expect_operands("attention", in, 4));
  CHECK_OK(expect_heads(of(any), in[0], in[1], in[2]));
  CHECK_OK(expect_shape("attention", "starts", in[3], {in[0].shape[0]}));
  return std::vector{in[0], Type{{in[0].shape[0], of(any).heads}, &kF32, in[0].extent}};
}

// Rows of queries at once, for all heads that share a key head: a tile of keys is laid out once for some 192 rows.
int64_t query_tile(const AttentionAttributes& a) {
  const int64_t group = a.heads / a.kv_heads;
  return std::clamp<int64_t>(round_up(192 / group, 8), 64, 192);
}

// Pieces of one thread's memory.
struct Memory {
  int64_t rows, group, width;  // of a tile, heads of a key head, head_dim rounded up to 16
  float *scores, *output, *largest, *sums, *scratch;
  std::byte *weights, *left, *keys, *values;
  int64_t bytes;

  Memory(std::byte* base, const AttentionAttributes& a, Multiply multiply, const Codec& codec)
      : rows(query_tile(a)), group(a.heads / a.kv_heads), width(round_up(a.head_dim, 16)) {
    int64_t at = 0;
    const auto take = [&](int64_t size) {
      const int64_t begin = std::exchange(at, round_up(at + size, 64));
      return base ? base + begin : nullptr;
    };
    const auto floats = [&](int64_t count) { return reinterpret_cast<float*>(take(4 * count)); };
    scores = floats(rows * kKeyTile);
    output = floats(group * rows * width);
    largest = floats(group * rows);
    sums = floats(group * rows);
    scratch = reinterpret_cast<float*>(take(lay_scratch_bytes(multiply, std::max(a.head_dim, kKeyTile), codec)));
    weights = take(codec.bytes(rows * kKeyTile));
    left = take(left_bytes(multiply, rows, std::max(a.head_dim, kKeyTile)));
    keys = take(right_bytes(multiply, a.head_dim, kKeyTile));
    values = take(right_bytes(multiply, kKeyTile, a.head_dim));
    bytes = at;
  }
};

int64_t workspace(const std::any& any, std::span<const Type> in, std::span<const Type>, Multiply multiply,
                  int threads) {
  return threads * Memory(nullptr, of(any), multiply, *in[0].codec).bytes;
}

// Queries [row, row + rows) of the heads that share key head kv.
struct Task {
  const Call& call;
  const AttentionAttributes& a;
  const Memory& m;
  const AttentionMask mask;
  const int64_t kv, row, rows;

  // Scores of a query in the tile of keys become weights; a score that the mask hides weighs nothing.
  void weigh(int64_t g, int64_t r, int64_t key, int64_t keys) const noexcept {
    const Codec& codec = *call.in[0].codec;
    float* const s = m.scores + r * kKeyTile;
    std::byte* const weights = m.weights + r * codec.bytes(kKeyTile);
    const int64_t from = std::clamp(mask.first(row + r) - key, int64_t{0}, keys),
                  to = std::clamp(row + r + 1 - key, from, keys), n = round_up(keys, 16);
    if (from == to) return void(std::memset(weights, 0, static_cast<size_t>(codec.bytes(kKeyTile))));
    constexpr float kHidden = -std::numeric_limits<float>::infinity();
    std::fill(s, s + from, kHidden);
    std::fill(s + to, s + n, kHidden);
    uint16_t* const bf16 = &codec == &kBf16 ? reinterpret_cast<uint16_t*>(weights) : nullptr;
    const int64_t state = g * m.rows + r;
    const float shrink = attention_row(s, bf16, n, a.scale, m.largest[state], m.sums[state]);
    if (shrink != 1) scale(m.output + state * m.width, shrink, a.head_dim);
    if (!bf16) encode_run(codec, s, weights, keys);
  }

  // One tile of keys: rescales what there is, and adds exp(s - max) v. Queries before the first key see none of it.
  void add_keys(int64_t key, int64_t keys) const noexcept {
    const Multiply multiply = call.run.multiply;
    const Codec* const codec = call.in[0].codec;
    lay_right(multiply, head_rows(call.in[1], kv, a.head_dim, key, keys), true, m.keys, m.scratch);
    lay_right(multiply, head_rows(call.in[2], kv, a.head_dim, key, keys), false, m.values, m.scratch);
    const int64_t from = std::max<int64_t>(0, key - row), count = rows - from;
    for (int64_t g = 0; g < m.group; ++g) {
      const Matrix q = head_rows(call.in[0], kv * m.group + g, a.head_dim, row + from, count);
      multiply_packed(multiply, {.a = lay_left(multiply, q, false, m.left, m.scratch),
                                 .b = m.keys,
                                 .m = count,
                                 .k = a.head_dim,
                                 .n = keys,
                                 .c = m.scores + from * kKeyTile,
                                 .stride = kKeyTile,
                                 .reach = {Reach::columns_to, row + from - key}});
      for (int64_t r = from; r < rows; ++r) weigh(g, r, key, keys);
      const Matrix p{codec, m.weights + from * codec->bytes(kKeyTile), count, keys, codec->bytes(kKeyTile)};
      multiply_packed(multiply, {.a = lay_left(multiply, p, false, m.left, m.scratch),
                                 .b = m.values,
                                 .m = count,
                                 .k = keys,
                                 .n = a.head_dim,
                                 .c = m.output + (g * m.rows + from) * m.width,
                                 .stride = m.width,
                                 .accumulate = true,
                                 .reach = {Reach::depth_to, row + from - key}});
    }
  }

  void run() const noexcept {
    std::fill(m.largest, m.largest + m.group * m.rows, -std::numeric_limits<float>::infinity());
    std::fill(m.sums, m.sums + m.group * m.rows, 0.0f);
    std::fill(m.output, m.output + m.group * m.rows * m.width, 0.0f);
    for (int64_t key = mask.first_of(row, row + rows) / kKeyTile * kKeyTile; key < row + rows; key += kKeyTile)
      add_keys(key, std::min(kKeyTile, row + rows - key));
    for (int64_t g = 0; g < m.group; ++g) {
      const int64_t head = kv * m.group + g;
      const Matrix y = head_rows(call.out[0], head, a.head_dim, row, rows);
      for (int64_t r = 0; r < rows; ++r) {
        const int64_t state = g * m.rows + r;
        scale(m.output + state * m.width, 1 / m.sums[state], a.head_dim);
        encode_run(*y.codec, m.output + state * m.width, const_cast<std::byte*>(y.row(r)), a.head_dim);
        if (call.out[1])
          call.out[1].as<float>()[(row + r) * a.heads + head] = m.largest[state] + std::log(m.sums[state]);
      }
    }
  }
};

void run(const Call& call) noexcept {
  const AttentionAttributes& a = call.as<AttentionAttributes>();
  const int64_t total = call.in[0].shape[0], tile = query_tile(a), tiles = (total + tile - 1) / tile;
  const int threads = call.run.threads.count();
  const auto memory = [&](std::byte* base) { return Memory(base, a, call.run.multiply, *call.in[0].codec); };
  const int64_t bytes = memory(nullptr).bytes;
  call.run.threads.each([&](int thread) {
    const Memory m = memory(call.workspace.data() + thread * bytes);
    for (int64_t task = thread; task < tiles * a.kv_heads; task += threads) {
      const int64_t row = task / a.kv_heads * tile;
      const AttentionMask mask{call.in[3].as<const int32_t>(), a.window};
      Task{call, a, m, mask, task % a.kv_heads, row, std::min(tile, total - row)}.run();
    }
  });
}

void reference(const ReferenceCall& call) {
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
        s.push_back(std::exp(a.scale * product));
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

void gradient(Backward& backward, const Node& node) {
  const ValueId dy = backward.gradient_of(node.out[0]);
  if (dy == kNone) return;
  const bool wanted[3] = {backward.wanted(node.in[0]), backward.wanted(node.in[1]), backward.wanted(node.in[2])};
  const auto out = backward.graph().emit_all(
      kAttentionGrad, node.attributes, {dy, node.in[0], node.in[1], node.in[2], node.out[0], node.out[1], node.in[3]},
      backward.name(node.out[0]) + ".qkv", wanted);
  for (size_t i = 0; i < 3; ++i)
    if (wanted[i]) backward.add(node.in[i], out[i]);
}

// Two products.
Cost cost(const std::any& any, std::span<const Type> in, std::span<const Type> out) {
  const AttentionAttributes& a = of(any);
  Cost cost{.bytes = moved_bytes(in, out)};
  cost.of(ProductUse::attention) = 2 * 2 * causal_pairs(a, in[0].shape[0]) * static_cast<double>(a.heads * a.head_dim);
  return cost;
}

std::string text(const std::any& any) {
  const AttentionAttributes& a = of(any);
  return fmt::format("{{{} heads, {} kv, {} wide, window {}, scale {}}}", a.heads, a.kv_heads, a.head_dim, a.window,
                     a.scale);
}

std::vector<int32_t> documents(int64_t rows, int64_t length) {
  std::vector<int32_t> starts;
  for (int64_t i = 0; i < rows; ++i) starts.push_back(static_cast<int32_t>(i / length * length));
  return starts;
}

std::vector<Sample> samples() {
  const auto make = [](AttentionAttributes a, int64_t rows, int64_t length, const Codec* codec) {
    const Type q{{rows, a.heads * a.head_dim}, codec}, k{{rows, a.kv_heads * a.head_dim}, codec};
    return Sample{a, {q, k, k, Type{{rows}, &kI32}}, {{}, {}, {}, documents(rows, length)}};
  };
  return {make({2, 1, 4, 0, 0.5}, 7, 100, &kF32), make({4, 2, 6, 3, 0.4}, 11, 5, &kF32),
          make({3, 1, 16, 0, 0.25}, 150, 70, &kBf16), make({2, 2, 8, 40, 0.3}, 201, 1000, &kF32)};
}

}  // namespace

const Op kAttention = {.name = "attention",
                       .infer = infer,
                       .text = text,
                       .gradient = gradient,
                       .workspace = workspace,
                       .cost = cost,
                       .reference = reference,
                       .run = run,
                       .samples = samples};

}  // namespace thimble
