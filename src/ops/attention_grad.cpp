// attention_grad: the gradient of attention (equations in attention.cpp), one query head a task.
//
// Scores are formed transposed, [keys, queries], so that p^T and ds^T are the left operands of dv and dk as they lie.
// Query heads that share a key head write partial dk and dv, added in the order of heads.
#include <cmath>
#include <tuple>

#include "kernels/gemm.h"
#include "ops/attention_mask.h"
#include "ops/rows.h"
#include "ops/shape_rule.h"
#include "ops/table.h"

namespace thimble {
namespace {

constexpr int64_t kTile = 128;  // of queries and of keys

const AttentionAttributes& of(const std::any& attributes) { return *std::any_cast<AttentionAttributes>(&attributes); }

enum In { kDy, kQ, kK, kV, kY, kLse, kStarts };

Result<std::vector<Type>> infer(const std::any& any, std::span<const Type> in) {
  CHECK_OK(expect_operands("attention_grad", in, 7));
  CHECK_OK(expect_shape("attention_grad", "dy", in[kDy], in[kQ].shape));
  CHECK_OK(expect_shape("attention_grad", "y", in[kY], in[kQ].shape));
  CHECK_OK(expect_rank("attention_grad", "k", in[kK], 2));
  CHECK_OK(expect_shape("attention_grad", "k", in[kK], {in[kQ].shape[0], of(any).kv_heads * of(any).head_dim}));
  CHECK_OK(expect_shape("attention_grad", "v", in[kV], in[kK].shape));
  CHECK_OK(expect_shape("attention_grad", "starts", in[kStarts], {in[kQ].shape[0]}));
  CHECK_OK(expect_shape("attention_grad", "lse", in[kLse], {in[kQ].shape[0], of(any).heads}));
  return std::vector{in[kQ], in[kK], in[kV]};
}

Matrix head_rows(const Operand& x, int64_t head, int64_t head_dim, int64_t row, int64_t rows) {
  const int64_t element = x.codec->block_bytes, columns = x.shape[1];
  return {x.codec, x.data + (row * columns + head * head_dim) * element, rows, head_dim, columns * element};
}

Product product(const Term& term, float* c, int64_t m, int64_t n, bool accumulate) {
  return {.terms = {&term, 1},
          .codec = &kF32,
          .c = reinterpret_cast<std::byte*>(c),
          .m = m,
          .n = n,
          .accumulate = accumulate};
}

int64_t product_bytes(Multiply multiply, int64_t head_dim) {
  int64_t most = 0;
  for (const Codec* codec : {&kF32, &kBf16})
    for (int64_t k : {head_dim, kTile, kTile - 1})
      for (auto [a_transposed, b_transposed] : {std::tuple{false, true}, {false, false}, {true, false}}) {
        const int64_t n = b_transposed ? kTile : head_dim;
        const Term term{{codec, nullptr, a_transposed ? k : kTile, a_transposed ? kTile : k},
                        {codec, nullptr, b_transposed ? n : k, b_transposed ? k : n},
                        a_transposed,
                        b_transposed,
                        1};
        most = std::max(most, gemm_workspace_bytes(multiply, product(term, nullptr, kTile, n, false), 1));
      }
  return most;
}

// One thread's memory, and the partial sums of all heads.
struct Memory {
  float *s, *dp, *lse, *delta, *dq;
  std::byte *p16, *ds16;
  std::span<std::byte> product;

  static int64_t bytes(Multiply multiply, int64_t head_dim, int64_t rows) {
    return 4 * (2 * kTile * kTile + 2 * kTile + rows * head_dim) + 8 * kTile * kTile +
           product_bytes(multiply, head_dim) + 64;
  }
  Memory(std::byte* memory, Multiply multiply, int64_t head_dim, int64_t rows) {
    s = reinterpret_cast<float*>(memory);
    dp = s + kTile * kTile;
    lse = dp + kTile * kTile;
    delta = lse + kTile;
    dq = delta + kTile;
    p16 = reinterpret_cast<std::byte*>(dq + rows * head_dim);
    ds16 = p16 + 4 * kTile * kTile;
    product = {ds16 + 4 * kTile * kTile, static_cast<size_t>(product_bytes(multiply, head_dim))};
  }
};

int64_t partial_floats(const AttentionAttributes& a, int64_t rows) { return 2 * rows * a.heads * a.head_dim; }

int64_t workspace(const std::any& any, std::span<const Type> in, std::span<const Type>, Multiply multiply,
                  int threads) {
  const AttentionAttributes& a = of(any);
  return 4 * partial_floats(a, in[kQ].shape[0]) + threads * Memory::bytes(multiply, a.head_dim, in[kQ].shape[0]);
}

struct Task {
  const Call& call;
  const AttentionAttributes& a;
  const Memory& m;
  int64_t head, kv;
  float *dk, *dv;  // [rows, head_dim] of this query head

  Matrix rows_of(int operand, int64_t which, int64_t row, int64_t rows) const {
    return head_rows(call.in[static_cast<size_t>(operand)], which, a.head_dim, row, rows);
  }
  void times(const Matrix& left, bool left_transposed, const Matrix& right, bool right_transposed, float* c,
             bool accumulate) const noexcept {
    const Term term{left, right, left_transposed, right_transposed, 1};
    gemm_serial(call.run.multiply,
                product(term, c, left_transposed ? left.columns : left.rows,
                        right_transposed ? right.rows : right.columns, accumulate),
                m.product);
  }

  // lse and D of queries [row, row + rows).
  void load_queries(int64_t row, int64_t rows) const noexcept {
    const Matrix dy = rows_of(kDy, head, row, rows), y = rows_of(kY, head, row, rows);
    float* const a_row = m.s;
    float* const b_row = m.dp;
    for (int64_t r = 0; r < rows; ++r) {
      dy.codec->decode(dy.row(r), a_row, a.head_dim);
      y.codec->decode(y.row(r), b_row, a.head_dim);
      m.delta[r] = dot(a_row, b_row, a.head_dim);
      m.lse[r] = call.in[kLse].as<const float>()[(row + r) * a.heads + head];
    }
  }

  // p^T and ds^T of one tile, zero where the mask hides.
  void weights(const AttentionMask& mask, int64_t row, int64_t rows, int64_t key, int64_t keys) const noexcept {
    times(rows_of(kK, kv, key, keys), false, rows_of(kQ, head, row, rows), true, m.s, false);
    times(rows_of(kV, kv, key, keys), false, rows_of(kDy, head, row, rows), true, m.dp, false);
    softmax_gradient_tile(mask, row, rows, key, keys);
    const Codec* const codec = call.in[kQ].codec;
    codec->encode(m.s, m.p16, keys * rows);
    codec->encode(m.dp, m.ds16, keys * rows);
  }

  void softmax_gradient_tile(const AttentionMask& mask, int64_t row, int64_t rows, int64_t key,
                             int64_t keys) const noexcept {
    for (int64_t j = 0; j < keys; ++j) {
      float* const s = m.s + j * rows;
      float* const dp = m.dp + j * rows;
      softmax_gradient(s, dp, m.lse, m.delta, a.scale, rows);
      for (int64_t r = 0; r < rows; ++r)
        if (key + j > row + r || key + j < mask.first(row + r)) s[r] = dp[r] = 0;
    }
  }

  void run() const noexcept {
    const int64_t total = call.in[kQ].shape[0];
    const AttentionMask mask{call.in[kStarts].as<const int32_t>(), a.window};
    const Codec* const codec = call.in[kQ].codec;
    std::fill(m.dq, m.dq + total * a.head_dim, 0.0f);
    std::fill(dk, dk + total * a.head_dim, 0.0f);
    std::fill(dv, dv + total * a.head_dim, 0.0f);
    for (int64_t row = 0; row < total; row += kTile) {
      const int64_t rows = std::min(kTile, total - row);
      for (int64_t key = mask.first_of(row, row + rows) / kTile * kTile; key < row + rows; key += kTile) {
        const int64_t keys = std::min(kTile, row + rows - key);
        load_queries(row, rows);
        weights(mask, row, rows, key, keys);
        const Matrix p{codec, m.p16, keys, rows}, ds{codec, m.ds16, keys, rows};
        times(p, false, rows_of(kDy, head, row, rows), false, dv + key * a.head_dim, true);
        times(ds, false, rows_of(kQ, head, row, rows), false, dk + key * a.head_dim, true);
        times(ds, true, rows_of(kK, kv, key, keys), false, m.dq + row * a.head_dim, true);
      }
    }
  }
};

// out = the sum of the partials of the heads that share key head kv.
void add_heads(const Call& call, const Operand& out, const float* partial, int64_t row, float* buffer) noexcept {
  const AttentionAttributes& a = call.as<AttentionAttributes>();
  const int64_t total = call.in[kQ].shape[0], group = a.heads / a.kv_heads;
  for (int64_t kv = 0; kv < a.kv_heads; ++kv) {
    std::fill(buffer, buffer + a.head_dim, 0.0f);
    for (int64_t h = kv * group; h < (kv + 1) * group; ++h)
      add_scaled(buffer, partial + (h * total + row) * a.head_dim, 1, a.head_dim);
    const Matrix to = head_rows(out, kv, a.head_dim, row, 1);
    to.codec->encode(buffer, const_cast<std::byte*>(to.data), a.head_dim);
  }
}

void run(const Call& call) noexcept {
  const AttentionAttributes& a = call.as<AttentionAttributes>();
  const int64_t total = call.in[kQ].shape[0], size = total * a.head_dim;
  const Multiply multiply = call.run.multiply;
  float* const dk = reinterpret_cast<float*>(call.workspace.data());
  float* const dv = dk + a.heads * size;
  std::byte* const memory = reinterpret_cast<std::byte*>(dv + a.heads * size);
  const int64_t bound = Memory::bytes(multiply, a.head_dim, total);
  const int threads = call.run.threads.count();
  call.run.threads.each([&](int thread) {
    const Memory m(memory + thread * bound, multiply, a.head_dim, total);
    for (int64_t head = thread; head < a.heads; head += threads) {
      Task{call, a, m, head, head / (a.heads / a.kv_heads), dk + head * size, dv + head * size}.run();
      if (!call.out[0]) continue;
      const Matrix dq = head_rows(call.out[0], head, a.head_dim, 0, total);
      for (int64_t r = 0; r < total; ++r)
        dq.codec->encode(m.dq + r * a.head_dim, const_cast<std::byte*>(dq.row(r)), a.head_dim);
    }
  });
  call.run.threads.split(total, 1, [&](int64_t begin, int64_t end, int thread) {
    const Memory m(memory + thread * bound, multiply, a.head_dim, total);
    for (int64_t row = begin; row < end; ++row) {
      if (call.out[1]) add_heads(call, call.out[1], dk, row, m.s);
      if (call.out[2]) add_heads(call, call.out[2], dv, row, m.s);
    }
  });
}

void reference(const ReferenceCall& call) {
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
        const double p = std::exp(a.scale * s - call.in[kLse][i * a.heads + h]);
        const double ds = p * (dp - delta) * a.scale;
        for (int64_t x = 0; x < d; ++x) {
          if (call.out[0]) call.out[0][(i * a.heads + h) * d + x] += ds * at(kK, j, x);
          if (call.out[1]) call.out[1][(j * a.kv_heads + kv) * d + x] += ds * at(kQ, i, x);
          if (call.out[2]) call.out[2][(j * a.kv_heads + kv) * d + x] += p * at(kDy, i, x);
        }
      }
    }
}

// Five products on half of the square.
Cost cost(const std::any& any, std::span<const Type> in, std::span<const Type> out) {
  const double rows = static_cast<double>(in[kQ].shape[0]);
  Cost cost{.bytes = moved_bytes(in, out), .attending = in[kQ].shape[0]};
  cost.of(ProductUse::attention_gradient) = 5.0 * rows * rows * static_cast<double>(of(any).heads * of(any).head_dim);
  return cost;
}

std::vector<Sample> samples() {
  const auto make = [](AttentionAttributes a, int64_t rows, int64_t length, const Codec* codec) {
    const Type q{{rows, a.heads * a.head_dim}, codec}, k{{rows, a.kv_heads * a.head_dim}, codec};
    std::vector<int32_t> starts;
    for (int64_t i = 0; i < rows; ++i) starts.push_back(static_cast<int32_t>(i / length * length));
    return Sample{a, {q, q, k, k, q, Type{{rows, a.heads}}, Type{{rows}, &kI32}}, {{}, {}, {}, {}, {}, {}, starts}};
  };
  return {make({2, 1, 4, 0, 0.5}, 7, 100, &kF32), make({4, 2, 6, 3, 0.4}, 11, 5, &kF32),
          make({3, 1, 16, 0, 0.1}, 150, 70, &kBf16)};
}

}  // namespace

const Op kAttentionGrad = {.name = "attention_grad",
                           .infer = infer,
                           .workspace = workspace,
                           .cost = cost,
                           .reference = reference,
                           .run = run,
                           .samples = samples};

}  // namespace thimble
