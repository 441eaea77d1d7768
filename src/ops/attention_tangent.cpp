// attention_tangent: the derivative of attention along a direction, one query head of a tile of queries a task.
//
//   with p_ij, s_ij and the cap as in attention.cpp, the cap's slope c_ij = 1 - tanh^2:
//     s'_ij = scale c_ij (q'_i.k_j + q_i.k'_j);  u_ij = p_ij s'_ij
//     y'_i  = sum_j u_ij v_j - (sum_j u_ij) y_i + sum_j p_ij v'_j
//
// The log-sum-exp is that of the forward pass, so that one sweep over the keys is enough. Scores are formed transposed,
// [keys, queries], as by attention_grad, whose row of weights makes u too: for D = 0 it is p dp scale.
#include <cmath>
#include <utility>

#include "core/round.h"
#include "kernels/math.h"
#include "kernels/packed.h"
#include "ops/attention_parts.h"
#include "ops/rows.h"
#include "ops/shape_rule.h"
#include "ops/table.h"

namespace thimble {
namespace {

constexpr int64_t kTile = kGradientTile;

const AttentionAttributes& of(const std::any& attributes) { return *std::any_cast<AttentionAttributes>(&attributes); }

enum In { kQ, kK, kV, kY, kLse, kStarts, kBias, kDq, kDk, kDv };

Result<std::vector<Type>> infer(const std::any& any, std::span<const Type> in) {
  constexpr const char* kName = "attention_tangent";
  CHECK_OK(expect_operands(kName, in, 10));
  CHECK_OK(expect_heads(kName, of(any), in[kQ], in[kK], in[kV]));
  CHECK_OK(expect_shape(kName, "y", in[kY], in[kQ].shape));
  CHECK_OK(expect_elements(kName, "y", in[kY]));
  CHECK_OK(expect_shape(kName, "lse", in[kLse], {in[kQ].shape[0], of(any).heads}));
  CHECK_OK(expect_f32(kName, "lse", in[kLse]));
  CHECK_OK(expect_indices(kName, "starts", in[kStarts], in[kQ].shape[0]));
  CHECK_OK(expect_bias(kName, of(any), in[kBias]));
  for (const auto& [operand, tangent, of_what] : {std::tuple{"dq", kDq, kQ}, {"dk", kDk, kK}, {"dv", kDv, kV}}) {
    if (absent(in[tangent])) continue;
    CHECK_OK(expect_shape(kName, operand, in[tangent], in[of_what].shape));
    CHECK_OK(expect_elements(kName, operand, in[tangent]));
  }
  return std::vector{in[kQ]};
}

// One thread's memory: two tiles of scores, and the layouts of a tile of queries and of a tile of keys.
struct Memory {
  int64_t width;  // head_dim rounded up to 16
  float *p, *u, *lse, *delta, *first, *sums, *out, *scratch;
  std::byte *left, *q, *dq, *v, *dv;
  int64_t bytes;

  Memory(std::byte* base, const AttentionAttributes& a, Multiply multiply, const Codec& codec)
      : width(round_up(a.head_dim, 16)) {
    int64_t at = 0;
    const auto take = [&](int64_t size) {
      const int64_t begin = std::exchange(at, round_up(at + size, 64));
      return base ? base + begin : nullptr;
    };
    const auto floats = [&](int64_t count) { return reinterpret_cast<float*>(take(4 * count)); };
    const int64_t deepest = std::max(a.head_dim, kTile);
    p = floats(kTile * kTile), u = floats(kTile * kTile);
    lse = floats(kTile), delta = floats(kTile), first = floats(kTile), sums = floats(kTile);
    out = floats(kTile * width);
    scratch = reinterpret_cast<float*>(
        take(std::max(lay_scratch_bytes(multiply, deepest, codec), lay_scratch_bytes(multiply, deepest, kF32))));
    left = take(left_bytes(multiply, kTile, deepest));
    q = take(right_bytes(multiply, a.head_dim, kTile)), dq = take(right_bytes(multiply, a.head_dim, kTile));
    v = take(right_bytes(multiply, kTile, a.head_dim)), dv = take(right_bytes(multiply, kTile, a.head_dim));
    bytes = at;
  }
};

int64_t workspace(const std::any& any, std::span<const Type> in, std::span<const Type>, Multiply multiply,
                  int threads) {
  return threads * Memory(nullptr, of(any), multiply, *in[kQ].codec).bytes;
}

// Queries [row, row + rows) of one head.
struct Task : TileProducts {
  const Call& call;
  const AttentionAttributes& a;
  const Memory& m;
  const AttentionMask mask;
  const int64_t head, kv, row, rows;

  bool given(In operand) const { return bool(call.in[operand]); }
  Matrix rows_of(In operand, int64_t which, int64_t from, int64_t count) const {
    return head_rows(call.in[operand], which, a.head_dim, from, count);
  }
  void load_queries() const noexcept {
    lay(rows_of(kQ, head, row, rows), true, m.q);
    if (given(kDq)) lay(rows_of(kDq, head, row, rows), true, m.dq);
    std::fill(m.delta, m.delta + kTile, 0.0f);
    std::fill(m.sums, m.sums + kTile, 0.0f);
    for (int64_t r = 0; r < rows; ++r) {
      m.lse[r] = kLog2E * call.in[kLse].as<const float>()[(row + r) * a.heads + head];
      m.first[r] = static_cast<float>(mask.first(row + r));
    }
    for (int64_t r = rows; r < round_up(rows, 16); ++r) m.lse[r] = m.first[r] = 0;
  }

  // p^T and u^T of one tile, zero where the mask hides; the sums of u.
  void weigh(int64_t key, int64_t keys) const noexcept {
    const Reach reach{Reach::columns_from, key - row};
    const Matrix k = rows_of(kK, kv, key, keys);
    times(k, false, m.q, rows, m.p, kTile, Into::fresh, reach);
    if (given(kDk)) times(rows_of(kDk, kv, key, keys), false, m.q, rows, m.u, kTile, Into::fresh, reach);
    if (given(kDq)) times(k, false, m.dq, rows, m.u, kTile, given(kDk) ? Into::sum : Into::fresh, reach);
    if (!given(kDk) && !given(kDq)) std::fill(m.u, m.u + keys * kTile, 0.0f);
    const bool all = key + keys <= row + 1 && *std::max_element(m.first, m.first + rows) <= static_cast<float>(key);
    const TileScores scores{m.p, m.u, m.lse, m.delta, m.first, Weights::f32};
    for (int64_t j = 0; j < keys; ++j) {
      const int64_t from =
          weigh_key(a, multiply, scores, call.in[kBias], head, mask.starts + row, row, rows, key, j, all);
      add_scaled(m.sums + from, m.u + j * kTile + from, 1, round_up(rows, 16) - from);
    }
  }

  void run() const noexcept {
    load_queries();
    std::fill(m.out, m.out + rows * m.width, 0.0f);
    for (int64_t key = mask.first_of(row, row + rows) / kTile * kTile; key < row + rows; key += kTile) {
      const int64_t keys = std::min(kTile, row + rows - key);
      weigh(key, keys);
      const auto weights = [&](float* over) {
        return Matrix{&kF32, reinterpret_cast<std::byte*>(over), keys, rows, kF32.bytes(kTile)};
      };
      const Reach reach{Reach::depth_to, row - key};
      lay(rows_of(kV, kv, key, keys), false, m.v);
      times(weights(m.u), true, m.v, a.head_dim, m.out, m.width, Into::sum, reach);
      if (!given(kDv)) continue;
      lay(rows_of(kDv, kv, key, keys), false, m.dv);
      times(weights(m.p), true, m.dv, a.head_dim, m.out, m.width, Into::sum, reach);
    }
    const Matrix y = rows_of(kY, head, row, rows), to = head_rows(call.out[0], head, a.head_dim, row, rows);
    for (int64_t r = 0; r < rows; ++r) {
      float* const out = m.out + r * m.width;
      decode_row(y, r, m.p);
      add_scaled(out, m.p, -m.sums[r], a.head_dim);
      encode_run(*to.codec, out, const_cast<std::byte*>(to.row(r)), a.head_dim);
    }
  }
};

void run(const Call& call) noexcept {
  const AttentionAttributes& a = call.as<AttentionAttributes>();
  const int64_t total = call.in[kQ].shape[0], tiles = (total + kTile - 1) / kTile;
  const int64_t bytes = Memory(nullptr, a, call.run.multiply, *call.in[kQ].codec).bytes;
  const AttentionMask mask{call.in[kStarts].as<const int32_t>(), a.window};
  call.run.threads.share(tiles * a.heads, [&](int64_t begin, int64_t end, int thread) {
    const Memory m(call.workspace.data() + thread * bytes, a, call.run.multiply, *call.in[kQ].codec);
    for (int64_t task = begin; task < end; ++task) {
      const int64_t head = task % a.heads, row = task / a.heads * kTile;
      Task{{call.run.multiply, m.left, m.scratch},
           call,
           a,
           m,
           mask,
           head,
           head / (a.heads / a.kv_heads),
           row,
           std::min(kTile, total - row)}
          .run();
    }
  });
}

[[gnu::cold]] void reference(const ReferenceCall& call) {
  const AttentionAttributes& a = call.as<AttentionAttributes>();
  const int64_t rows = call.in[kQ].shape[0], d = a.head_dim;
  const auto at = [&](In operand, int64_t row, int64_t head, int64_t x) {
    const bool of_queries = operand == kQ || operand == kDq || operand == kY;
    return call.in[operand] ? call.in[operand][(row * (of_queries ? a.heads : a.kv_heads) + head) * d + x] : 0.0;
  };
  for (int64_t h = 0; h < a.heads; ++h)
    for (int64_t i = 0; i < rows; ++i) {
      const int64_t kv = h / (a.heads / a.kv_heads), start = static_cast<int64_t>(call.in[kStarts][i]);
      std::vector<double> out(static_cast<size_t>(d));
      double sum = 0;
      for (int64_t j = a.window ? std::max(start, i - a.window + 1) : start; j <= i; ++j) {
        double product = 0, moved = 0;
        for (int64_t x = 0; x < d; ++x) {
          product += at(kQ, i, h, x) * at(kK, j, kv, x);
          moved += at(kDq, i, h, x) * at(kK, j, kv, x) + at(kQ, i, h, x) * at(kDk, j, kv, x);
        }
        const double tanh = a.cap > 0 ? std::tanh(a.scale * product / a.cap) : 0;
        const double p =
            std::exp(shaped_score(a, product, call.in[kBias], h, j - start) - call.in[kLse][i * a.heads + h]);
        const double u = p * a.scale * moved * (1 - tanh * tanh);
        sum += u;
        for (int64_t x = 0; x < d; ++x) out[static_cast<size_t>(x)] += u * at(kV, j, kv, x) + p * at(kDv, j, kv, x);
      }
      for (int64_t x = 0; x < d; ++x)
        call.out[0][(i * a.heads + h) * d + x] = out[static_cast<size_t>(x)] - sum * at(kY, i, h, x);
    }
}

// Two products, and one for each derivative.
Cost cost(const std::any& any, std::span<const Type> in, std::span<const Type> out) {
  const AttentionAttributes& a = of(any);
  Cost cost{.bytes = moved_bytes(in, out)};
  const int products = 2 + !absent(in[kDq]) + !absent(in[kDk]) + !absent(in[kDv]);
  cost.of(ProductUse::attention_gradient) =
      products * 2 * causal_pairs(a, in[kQ].shape[0]) * static_cast<double>(a.heads * a.head_dim);
  return cost;
}

[[gnu::cold]] std::vector<Sample> samples() {
  const Type none{.codec = nullptr};
  const auto make = [&](AttentionAttributes a, int64_t rows, int64_t length, const Codec* codec, bool biased = false) {
    const Type q{{rows, a.heads * a.head_dim}, codec}, k{{rows, a.kv_heads * a.head_dim}, codec};
    std::vector<int32_t> starts;
    for (int64_t i = 0; i < rows; ++i) starts.push_back(static_cast<int32_t>(i / length * length));
    const Type bias = biased ? Type{{a.heads, length}} : none;
    return Sample{
        a, {q, k, k, q, Type{{rows, a.heads}}, Type{{rows}, &kI32}, bias, q, k, k}, {{}, {}, {}, {}, {}, starts}};
  };
  const auto without = [&](Sample sample, std::initializer_list<In> operands) {
    for (In operand : operands) sample.in[operand] = none;
    return sample;
  };
  const AttentionAttributes grouped{4, 2, 6, 3, 0.4f};
  return {make({2, 1, 4, 0, 0.5}, 7, 100, &kF32),
          make(grouped, 11, 5, &kF32),
          make({3, 1, 16, 0, 0.1}, 150, 70, &kBf16),
          make({4, 2, 6, 3, 0.4, 1.5}, 150, 70, &kF32),
          make({4, 2, 6, 9, 0.4, 1.5}, 150, 70, &kF32, true),
          without(make(grouped, 150, 70, &kF32), {kDk, kDv}),
          without(make(grouped, 150, 70, &kF32), {kDq, kDv}),
          without(make(grouped, 150, 70, &kF32), {kDq, kDk})};
}

}  // namespace

const Op kAttentionTangent = {.name = "attention_tangent",
                              .infer = infer,
                              .text = attention_text,
                              .workspace = workspace,
                              .cost = cost,
                              .reference = reference,
                              .run = run,
                              .samples = samples};

}  // namespace thimble
