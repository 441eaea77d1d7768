// attention_grad: the gradient of attention (equations in attention.cpp), one query head of a sequence a task.
//
// Scores are formed transposed, [keys, queries], so that p^T and ds^T are the left operands of dv and dk as they lie.
// Query heads that share a key head write partial dk and dv, added in the order of heads.
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

enum In { kDy, kQ, kK, kV, kY, kLse, kStarts, kBias };

Result<std::vector<Type>> infer(const std::any& any, std::span<const Type> in) {
  CHECK_OK(expect_operands("attention_grad", in, 8));
  CHECK_OK(expect_shape("attention_grad", "dy", in[kDy], in[kQ].shape));
  CHECK_OK(expect_shape("attention_grad", "y", in[kY], in[kQ].shape));
  CHECK_OK(expect_rank("attention_grad", "k", in[kK], 2));
  CHECK_OK(expect_shape("attention_grad", "k", in[kK], {in[kQ].shape[0], of(any).kv_heads * of(any).head_dim}));
  CHECK_OK(expect_shape("attention_grad", "v", in[kV], in[kK].shape));
  CHECK_OK(expect_heads("attention_grad", of(any), in[kQ], in[kK], in[kV]));
  CHECK_OK(expect_elements("attention_grad", "dy", in[kDy]));
  CHECK_OK(expect_elements("attention_grad", "y", in[kY]));
  CHECK_OK(expect_f32("attention_grad", "lse", in[kLse]));
  CHECK_OK(expect_indices("attention_grad", "starts", in[kStarts], in[kQ].shape[0]));
  CHECK_OK(expect_bias("attention_grad", of(any), in[kBias]));
  CHECK_OK(expect_shape("attention_grad", "lse", in[kLse], {in[kQ].shape[0], of(any).heads}));
  return std::vector{in[kQ], in[kK], in[kV]};
}

// One thread's memory: a tile of scores, and both operands' layouts of a tile of queries.
struct Memory {
  int64_t width;  // head_dim rounded up to 16
  float *s, *dp, *lse, *delta, *first, *dq, *scratch;
  uint16_t *p16 = nullptr, *ds16 = nullptr;  // where weights are bf16
  std::byte *left, *q_rows, *dy_rows, *q_columns, *dy_columns, *k_rows;
  int64_t bytes;

  Memory(std::byte* base, const AttentionAttributes& a, Multiply multiply, const Codec& codec)
      : width(round_up(a.head_dim, 16)) {
    int64_t at = 0;
    const auto take = [&](int64_t size) {
      const int64_t begin = std::exchange(at, round_up(at + size, 64));
      return base ? base + begin : nullptr;
    };
    const auto floats = [&](int64_t count) { return reinterpret_cast<float*>(take(4 * count)); };
    s = floats(kTile * kTile), dp = floats(kTile * kTile);
    lse = floats(kTile), delta = floats(kTile), first = floats(kTile), dq = floats(kTile * width);
    scratch = reinterpret_cast<float*>(take(lay_scratch_bytes(multiply, std::max(a.head_dim, kTile), codec)));
    if (weights_form(codec, multiply) == Weights::bf16)
      p16 = reinterpret_cast<uint16_t*>(take(kBf16.bytes(kTile * kTile))),
      ds16 = reinterpret_cast<uint16_t*>(take(kBf16.bytes(kTile * kTile)));
    left = take(left_bytes(multiply, kTile, std::max(a.head_dim, kTile)));
    q_columns = take(right_bytes(multiply, a.head_dim, kTile)),
    dy_columns = take(right_bytes(multiply, a.head_dim, kTile));
    q_rows = take(right_bytes(multiply, kTile, a.head_dim)), dy_rows = take(right_bytes(multiply, kTile, a.head_dim));
    k_rows = take(right_bytes(multiply, kTile, a.head_dim));
    bytes = at;
  }
};

// Partial dk or dv of all query heads, in floats.
int64_t partial_floats(const AttentionAttributes& a, int64_t rows) { return rows * a.heads * round_up(a.head_dim, 16); }

int64_t workspace(const std::any& any, std::span<const Type> in, std::span<const Type>, Multiply multiply,
                  int threads) {
  const AttentionAttributes& a = of(any);
  return 2 * 4 * partial_floats(a, in[kQ].shape[0]) + threads * Memory(nullptr, a, multiply, *in[kQ].codec).bytes;
}

// One query head.
struct Task : TileProducts {
  const Call& call;
  const AttentionAttributes& a;
  const Memory& m;
  const AttentionMask mask;
  const int64_t head, kv;
  float *dk, *dv;  // [rows, width] of this query head
  const Weights form;

  Matrix rows_of(int operand, int64_t which, int64_t row, int64_t rows) const {
    return head_rows(call.in[static_cast<size_t>(operand)], which, a.head_dim, row, rows);
  }
  // Queries [row, row + rows): their layouts, lse, D and first keys.
  void load_queries(int64_t row, int64_t rows) const noexcept {
    const Matrix q = rows_of(kQ, head, row, rows), dy = rows_of(kDy, head, row, rows), y = rows_of(kY, head, row, rows);
    lay(q, true, m.q_columns), lay(q, false, m.q_rows);
    lay(dy, true, m.dy_columns), lay(dy, false, m.dy_rows);
    for (int64_t r = 0; r < rows; ++r) {
      decode_row(dy, r, m.s);
      decode_row(y, r, m.dp);
      m.delta[r] = dot(m.s, m.dp, a.head_dim);
      m.lse[r] = kLog2E * call.in[kLse].as<const float>()[(row + r) * a.heads + head];
      m.first[r] = static_cast<float>(mask.first(row + r));
    }
    for (int64_t r = rows; r < round_up(rows, 16); ++r) m.delta[r] = m.lse[r] = 0, m.first[r] = 0;
  }

  // p^T and ds^T of one tile, zero where the mask hides.
  void weigh(int64_t row, int64_t rows, int64_t key, int64_t keys) const noexcept {
    times(rows_of(kK, kv, key, keys), false, m.q_columns, rows, m.s, kTile, Into::fresh,
          {Reach::columns_from, key - row});
    times(rows_of(kV, kv, key, keys), false, m.dy_columns, rows, m.dp, kTile, Into::fresh,
          {Reach::columns_from, key - row});
    const bool all = key + keys <= row + 1 && *std::max_element(m.first, m.first + rows) <= static_cast<float>(key);
    const TileScores scores{m.s, m.dp, m.lse, m.delta, m.first, form, m.p16, m.ds16};
    for (int64_t j = 0; j < keys; ++j)
      weigh_key(a, multiply, scores, call.in[kBias], head, mask.starts + row, row, rows, key, j, all);
  }

  // p^T or ds^T of a tile, after weigh().
  Matrix weights(float* over, uint16_t* bf16, int64_t keys, int64_t rows) const {
    if (form == Weights::bf16) return {&kBf16, reinterpret_cast<std::byte*>(bf16), keys, rows, kBf16.bytes(kTile)};
    return {&kF32, reinterpret_cast<std::byte*>(over), keys, rows, kF32.bytes(kTile)};
  }

  // Rows [begin, end), which see no key before `begin`.
  void run(int64_t begin, int64_t end) const noexcept {
    std::fill(dk + begin * m.width, dk + end * m.width, 0.0f);
    std::fill(dv + begin * m.width, dv + end * m.width, 0.0f);
    for (int64_t row = begin; row < end; row += kTile) {
      const int64_t rows = std::min(kTile, end - row);
      load_queries(row, rows);
      std::fill(m.dq, m.dq + rows * m.width, 0.0f);
      for (int64_t key = mask.first_of(row, row + rows) / kTile * kTile; key < row + rows; key += kTile) {
        const int64_t keys = std::min(kTile, row + rows - key);
        weigh(row, rows, key, keys);
        const Matrix p = weights(m.s, m.p16, keys, rows), ds = weights(m.dp, m.ds16, keys, rows);
        times(p, false, m.dy_rows, a.head_dim, dv + key * m.width, m.width, Into::sum, {Reach::depth_from, key - row});
        times(ds, false, m.q_rows, a.head_dim, dk + key * m.width, m.width, Into::sum, {Reach::depth_from, key - row});
        lay(rows_of(kK, kv, key, keys), false, m.k_rows);
        times(ds, true, m.k_rows, a.head_dim, m.dq, m.width, Into::sum, {Reach::depth_to, row - key});
      }
      if (!call.out[0]) continue;
      const Matrix dq = head_rows(call.out[0], head, a.head_dim, row, rows);
      for (int64_t r = 0; r < rows; ++r)
        encode_run(*dq.codec, m.dq + r * m.width, const_cast<std::byte*>(dq.row(r)), a.head_dim);
    }
  }
};

// The first multiple of a tile after `row` where a sequence starts: what is before has nothing to do with what follows.
int64_t next_start(const int32_t* starts, int64_t row, int64_t total) noexcept {
  for (row += kTile; row < total && starts[row] != row;) row += kTile;
  return std::min(row, total);
}

// out = the sum of the partials of the heads that share key head kv.
void add_heads(const Call& call, const Operand& out, const float* partial, int64_t row, float* buffer) noexcept {
  const AttentionAttributes& a = call.as<AttentionAttributes>();
  const int64_t total = call.in[kQ].shape[0], group = a.heads / a.kv_heads, width = round_up(a.head_dim, 16);
  for (int64_t kv = 0; kv < a.kv_heads; ++kv) {
    std::fill(buffer, buffer + a.head_dim, 0.0f);
    for (int64_t h = kv * group; h < (kv + 1) * group; ++h)
      add_scaled(buffer, partial + (h * total + row) * width, 1, a.head_dim);
    const Matrix to = head_rows(out, kv, a.head_dim, row, 1);
    encode_run(*to.codec, buffer, const_cast<std::byte*>(to.data), a.head_dim);
  }
}

void run(const Call& call) noexcept {
  const AttentionAttributes& a = call.as<AttentionAttributes>();
  const int64_t total = call.in[kQ].shape[0], size = partial_floats(a, total) / a.heads;
  float* const dk = reinterpret_cast<float*>(call.workspace.data());
  float* const dv = dk + a.heads * size;
  std::byte* const base = reinterpret_cast<std::byte*>(dv + a.heads * size);
  const auto memory = [&](std::byte* at) { return Memory(at, a, call.run.multiply, *call.in[kQ].codec); };
  const int64_t bytes = memory(nullptr).bytes;
  const AttentionMask mask{call.in[kStarts].as<const int32_t>(), a.window};
  const Weights form = weights_form(*call.in[kQ].codec, call.run.multiply);
  int64_t windows = 0;
  for (int64_t row = 0; row < total; row = next_start(mask.starts, row, total)) ++windows;
  call.run.threads.share(windows * a.heads, [&](int64_t from, int64_t to, int thread) {
    const Memory m = memory(base + thread * bytes);
    int64_t task = 0;
    for (int64_t begin = 0, end = 0; begin < total && task < to; begin = end) {
      end = next_start(mask.starts, begin, total);
      for (int64_t head = 0; head < a.heads; ++head, ++task)
        if (from <= task && task < to)
          Task{{call.run.multiply, m.left, m.scratch},
               call,
               a,
               m,
               mask,
               head,
               head / (a.heads / a.kv_heads),
               dk + head * size,
               dv + head * size,
               form}
              .run(begin, end);
    }
  });
  call.run.threads.split(total, 1, [&](int64_t begin, int64_t end, int thread) {
    const Memory m = memory(base + thread * bytes);
    for (int64_t row = begin; row < end; ++row) {
      if (call.out[1]) add_heads(call, call.out[1], dk, row, m.s);
      if (call.out[2]) add_heads(call, call.out[2], dv, row, m.s);
    }
  });
}

[[gnu::cold]] void reference(const ReferenceCall& call) {
  const AttentionAttributes& a = call.as<AttentionAttributes>();
  const int64_t rows = call.in[kQ].shape[0], d = a.head_dim;
  for (size_t o = 0; o < 3; ++o)
    if (call.out[o]) std::fill(call.out[o].data->begin(), call.out[o].data->end(), 0.0);
  for (int64_t h = 0; h < a.heads; ++h)
    for (int64_t i = 0; i < rows; ++i) {
      const int64_t kv = h / (a.heads / a.kv_heads), start = static_cast<int64_t>(call.in[kStarts][i]);
      const auto at = [&](In operand, int64_t row, int64_t x) {
        const bool query = operand == kDy || operand == kQ || operand == kY;
        return call.in[operand][(row * (query ? a.heads : a.kv_heads) + (query ? h : kv)) * d + x];
      };
      double delta = 0;
      for (int64_t x = 0; x < d; ++x) delta += at(kDy, i, x) * at(kY, i, x);
      for (int64_t j = a.window ? std::max(start, i - a.window + 1) : start; j <= i; ++j) {
        double s = 0, dp = 0;
        for (int64_t x = 0; x < d; ++x) s += at(kQ, i, x) * at(kK, j, x), dp += at(kDy, i, x) * at(kV, j, x);
        const double p = std::exp(shaped_score(a, s, call.in[kBias], h, j - start) - call.in[kLse][i * a.heads + h]);
        const double t = a.cap > 0 ? std::tanh(a.scale * s / a.cap) : 0;
        const double ds = p * (dp - delta) * a.scale * (1 - t * t);
        for (int64_t x = 0; x < d; ++x) {
          if (call.out[0]) call.out[0][(i * a.heads + h) * d + x] += ds * at(kK, j, x);
          if (call.out[1]) call.out[1][(j * a.kv_heads + kv) * d + x] += ds * at(kQ, i, x);
          if (call.out[2]) call.out[2][(j * a.kv_heads + kv) * d + x] += p * at(kDy, i, x);
        }
      }
    }
}

// Five products.
Cost cost(const std::any& any, std::span<const Type> in, std::span<const Type> out) {
  const AttentionAttributes& a = of(any);
  Cost cost{.bytes = moved_bytes(in, out)};
  cost.of(ProductUse::attention_gradient) =
      5 * 2 * causal_pairs(a, in[kQ].shape[0]) * static_cast<double>(a.heads * a.head_dim);
  return cost;
}

[[gnu::cold]] std::vector<Sample> samples() {
  const auto make = [](AttentionAttributes a, int64_t rows, int64_t length, const Codec* codec, bool biased = false) {
    const Type q{{rows, a.heads * a.head_dim}, codec}, k{{rows, a.kv_heads * a.head_dim}, codec};
    std::vector<int32_t> starts;
    for (int64_t i = 0; i < rows; ++i) starts.push_back(static_cast<int32_t>(i / length * length));
    const Type bias = biased ? Type{{a.heads, length}} : Type{.codec = nullptr};
    return Sample{
        a, {q, q, k, k, q, Type{{rows, a.heads}}, Type{{rows}, &kI32}, bias}, {{}, {}, {}, {}, {}, {}, starts}};
  };
  return {make({2, 1, 4, 0, 0.5}, 7, 100, &kF32), make({4, 2, 6, 3, 0.4}, 11, 5, &kF32),
          make({3, 1, 16, 0, 0.1}, 150, 70, &kBf16), make({4, 2, 6, 3, 0.4, 1.5}, 150, 70, &kF32),
          make({4, 2, 6, 9, 0.4, 1.5}, 150, 70, &kF32, true)};
}

}  // namespace

const Op kAttentionGrad = {.name = "attention_grad",
                           .infer = infer,
                           .text = attention_text,
                           .workspace = workspace,
                           .cost = cost,
                           .reference = reference,
                           .run = run,
                           .samples = samples};

}  // namespace thimble
