// attention: causal, grouped queries, sliding window, packed documents, in tiles. Keeps only y and the log-sum-exp.
//
//   Paper     Dao et al. 2022, arXiv:2205.14135, Algorithms 1 and 4; Ainslie et al. 2023, arXiv:2305.13245 (groups)
//   y_i       sum_j p_ij v_j, p_ij = exp(scale q_i.k_j - lse_i), j from max(starts_i, i - window + 1) to i
//   Gradient  D_i = dy_i.y_i;  dp_ij = dy_i.v_j;  ds_ij = p_ij (dp_ij - D_i) scale;
//             dq_i = sum_j ds_ij k_j;  dk_j = sum_i ds_ij q_i;  dv_j = sum_i p_ij dy_i
//   Order     tiles begin at multiples of their size, so bits do not depend on which rows are together in memory
#include <cmath>
#include <limits>

#include "kernels/gemm.h"
#include "kernels/math.h"
#include "ops/attention_mask.h"
#include "ops/backward.h"
#include "ops/rows.h"
#include "ops/shape_rule.h"
#include "ops/table.h"

namespace thimble {
namespace {

constexpr int64_t kQueryTile = 64;
constexpr int64_t kKeyTile = 128;

const AttentionAttributes& of(const std::any& attributes) { return *std::any_cast<AttentionAttributes>(&attributes); }

Result<void> expect_heads(const AttentionAttributes& a, const Type& q, const Type& k, const Type& v) {
  CHECK_OK(expect_rank("attention", "q", q, 2));
  if (a.heads <= 0 || a.kv_heads <= 0 || a.heads % a.kv_heads)
    return fail(ErrorCode::shape, "attention: {} heads do not share {} key heads evenly", a.heads, a.kv_heads);
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

// Rows [row, row + rows) of one head of a [t, heads * head_dim] operand.
Matrix head_rows(const Operand& x, int64_t head, int64_t head_dim, int64_t row, int64_t rows) {
  const int64_t element = x.codec->block_bytes, columns = x.shape[1];
  return {x.codec, x.data + (row * columns + head * head_dim) * element, rows, head_dim, columns * element};
}

Matrix tile(const Codec* codec, const std::byte* data, int64_t rows, int64_t columns) {
  return {codec, data, rows, columns, 0};
}

// C [m, n] f32, tight. A and B as in gemm.
void multiply_into(Multiply multiply, const Matrix& a, const Matrix& b, bool b_transposed, float* c, bool accumulate,
                   std::span<std::byte> workspace) noexcept {
  const Term term{a, b, false, b_transposed, 1};
  gemm_serial(multiply,
              {.terms = {&term, 1},
               .codec = &kF32,
               .c = reinterpret_cast<std::byte*>(c),
               .m = a.rows,
               .n = b_transposed ? b.rows : b.columns,
               .accumulate = accumulate},
              workspace);
}

// Most that any product between tiles needs.
int64_t product_bytes(Multiply multiply, int64_t head_dim) {
  int64_t most = 0;
  for (const Codec* codec : {&kF32, &kBf16})
    for (auto [m, n, k, transposed] : {std::tuple{kQueryTile, kKeyTile, head_dim, true},
                                       {kQueryTile, head_dim, kKeyTile, false},
                                       {kKeyTile, kKeyTile, head_dim, true},
                                       {kKeyTile, head_dim, kKeyTile, false}}) {
      const Term term{
          {codec, nullptr, m, k}, {codec, nullptr, transposed ? n : k, transposed ? k : n}, false, transposed, 1};
      // A tile shorter than a whole one may be odd, and then be packed.
      const Term odd{{codec, nullptr, m, k - 1},
                     {codec, nullptr, transposed ? n : k - 1, transposed ? k - 1 : n},
                     false,
                     transposed,
                     1};
      for (const Term& t : {term, odd})
        most = std::max(most, gemm_workspace_bytes(multiply, {.terms = {&t, 1}, .m = m, .n = n}, 1));
    }
  return most;
}

// Pieces of one thread's memory.
struct Forward {
  float *scores, *output, *largest, *sums;
  std::byte* weights;
  std::span<std::byte> product;

  static int64_t bytes(Multiply multiply, int64_t head_dim) {
    return 4 * (kQueryTile * kKeyTile + kQueryTile * head_dim + 2 * kQueryTile) + 4 * kQueryTile * kKeyTile +
           product_bytes(multiply, head_dim) + 64;
  }
  Forward(std::byte* memory, Multiply multiply, int64_t head_dim) {
    scores = reinterpret_cast<float*>(memory);
    output = scores + kQueryTile * kKeyTile;
    largest = output + kQueryTile * head_dim;
    sums = largest + kQueryTile;
    weights = reinterpret_cast<std::byte*>(sums + kQueryTile);
    product = {weights + 4 * kQueryTile * kKeyTile, static_cast<size_t>(product_bytes(multiply, head_dim))};
  }
};

int64_t workspace(const std::any& any, std::span<const Type>, std::span<const Type>, Multiply multiply, int threads) {
  return threads * Forward::bytes(multiply, of(any).head_dim);
}

// One tile of keys: rescales what there is, and adds exp(s - max) v.
void add_keys(const Call& call, const Forward& m, const AttentionMask& mask, int64_t head, int64_t row, int64_t rows,
              int64_t key, int64_t keys) noexcept {
  const AttentionAttributes& a = call.as<AttentionAttributes>();
  const int64_t kv = head / (a.heads / a.kv_heads);
  multiply_into(call.run.multiply, head_rows(call.in[0], head, a.head_dim, row, rows),
                head_rows(call.in[1], kv, a.head_dim, key, keys), true, m.scores, false, m.product);
  const Codec* const codec = call.in[0].codec;
  for (int64_t r = 0; r < rows; ++r) {
    float* const s = m.scores + r * keys;
    const int64_t from = std::clamp(mask.first(row + r) - key, int64_t{0}, keys),
                  to = std::clamp(row + r + 1 - key, from, keys);
    std::byte* const weights = m.weights + r * codec->bytes(keys);
    if (from == to) {
      std::memset(weights, 0, static_cast<size_t>(codec->bytes(keys)));
      continue;
    }
    scale(s + from, a.scale, to - from);
    const float largest = std::max(m.largest[r], max(s + from, to - from));
    const float shrink = exp_f32(m.largest[r] - largest);
    m.sums[r] = m.sums[r] * shrink + exp_sum(s + from, largest, to - from);
    m.largest[r] = largest;
    if (shrink != 1) scale(m.output + r * a.head_dim, shrink, a.head_dim);
    std::fill(s, s + from, 0.0f);
    std::fill(s + to, s + keys, 0.0f);
    codec->encode(s, weights, keys);
  }
  multiply_into(call.run.multiply, tile(codec, m.weights, rows, keys), head_rows(call.in[2], kv, a.head_dim, key, keys),
                false, m.output, true, m.product);
}

void attend(const Call& call, const Forward& m, int64_t head, int64_t row, int64_t rows) noexcept {
  const AttentionAttributes& a = call.as<AttentionAttributes>();
  const AttentionMask mask{call.in[3].as<const int32_t>(), a.window};
  std::fill(m.largest, m.largest + rows, -std::numeric_limits<float>::infinity());
  std::fill(m.sums, m.sums + rows, 0.0f);
  std::fill(m.output, m.output + rows * a.head_dim, 0.0f);
  for (int64_t key = mask.first_of(row, row + rows) / kKeyTile * kKeyTile; key < row + rows; key += kKeyTile)
    add_keys(call, m, mask, head, row, rows, key, std::min(kKeyTile, row + rows - key));
  const Matrix y = head_rows(call.out[0], head, a.head_dim, row, rows);
  for (int64_t r = 0; r < rows; ++r) {
    scale(m.output + r * a.head_dim, 1 / m.sums[r], a.head_dim);
    y.codec->encode(m.output + r * a.head_dim, const_cast<std::byte*>(y.row(r)), a.head_dim);
    if (call.out[1]) call.out[1].as<float>()[(row + r) * a.heads + head] = m.largest[r] + std::log(m.sums[r]);
  }
}

void run(const Call& call) noexcept {
  const AttentionAttributes& a = call.as<AttentionAttributes>();
  const int64_t rows = call.in[0].shape[0];
  const int64_t tiles = (rows + kQueryTile - 1) / kQueryTile;
  const int threads = call.run.threads.count();
  call.run.threads.each([&](int thread) {
    const Forward memory(call.workspace.data() + thread * Forward::bytes(call.run.multiply, a.head_dim),
                         call.run.multiply, a.head_dim);
    for (int64_t task = thread; task < tiles * a.heads; task += threads) {
      const int64_t row = task / a.heads * kQueryTile;
      attend(call, memory, task % a.heads, row, std::min(kQueryTile, rows - row));
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

// Causal: half of the square, two products forward.
Cost cost(const std::any& any, std::span<const Type> in, std::span<const Type> out) {
  const double rows = static_cast<double>(in[0].shape[0]);
  Cost cost{.bytes = moved_bytes(in, out), .attending = in[0].shape[0]};
  cost.of(ProductUse::attention) = 2.0 * rows * rows * static_cast<double>(of(any).heads * of(any).head_dim);
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
