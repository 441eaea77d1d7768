// delta_rule_grad: back through a sequence, with dS the gradient of the state:
//
//   dS += do_t q_t^T;  dq_t = S_t^T do_t;  du_t = dS k_t;  dv_t = beta_t du_t;  dbeta_t = du_t . (v_t - S_(t-1) k_t)
//   dk_t = dS^T u_t - S_(t-1)^T dv_t;  dS -= dv_t k_t^T
//   States  those at the beginning of every 16 rows are kept on the way forward, those within are computed again: the
//           same operations in the same order, so that S_t is what it was
#include <algorithm>

#include "ops/delta_rule_parts.h"

namespace thimble {
namespace {

using namespace delta;

constexpr int64_t kChunk = 16;  // rows

const DeltaRuleAttributes& of(const std::any& attributes) { return *std::any_cast<DeltaRuleAttributes>(&attributes); }

enum In { kDo, kQ, kK, kV, kBeta, kStarts };

Result<std::vector<Type>> infer(const std::any& any, std::span<const Type> in) {
  CHECK_OK(expect_operands("delta_rule_grad", in, 6));
  CHECK_OK(expect_rows("delta_rule_grad", of(any).heads, in.subspan(kQ)));
  CHECK_OK(expect_shape("delta_rule_grad", "do", in[kDo], in[kV].shape));
  CHECK_OK(expect_elements("delta_rule_grad", "do", in[kDo]));
  CHECK_OK(expect_indices("delta_rule_grad", "starts", in[kStarts], in[kQ].shape[0]));
  return std::vector{in[kQ], in[kK], in[kV], in[kBeta]};
}

// What a thread works in, f32.
struct Memory {
  float* base;
  Extents e;
  int64_t chunks;

  static int64_t chunks_of(const DeltaRuleAttributes& a, int64_t rows) {
    return (std::min(a.longest > 0 ? a.longest : rows, rows) + kChunk - 1) / kChunk;
  }
  static int64_t count(const Extents& e, int64_t chunks) {
    return (chunks + kChunk + 2) * e.state() + 2 * kChunk * e.value + 3 * e.key + 3 * e.value;
  }
  float* begin_of(int64_t chunk) const { return base + chunk * e.state(); }
  // The state after so many rows of a chunk.
  float* within(int64_t rows) const { return base + (chunks + rows) * e.state(); }
  float* gradient() const { return within(kChunk + 1); }
  float* error(int64_t row) const { return gradient() + e.state() + row * e.value; }
  float* u(int64_t row) const { return error(kChunk + row); }
  float* rows() const { return u(kChunk); }  // [3 key + 3 value]
};

int64_t workspace(const std::any& any, std::span<const Type> in, std::span<const Type>, Multiply, int threads) {
  const Extents e = extents(of(any).heads, in[kK].shape, in[kV].shape);
  return row_buffer_bytes(Memory::count(e, Memory::chunks_of(of(any), in[kQ].shape[0])), 1, threads);
}

// Rows [first, last) of one sequence and one head.
class Sequence {
 public:
  Sequence(const Call& call, const Memory& memory, int64_t head, int64_t first, int64_t last)
      : call_(call), m_(memory), e_(memory.e), head_(head), first_(first), last_(last) {
    k_ = m_.rows(), q_ = k_ + e_.key, dk_ = q_ + e_.key, v_ = dk_ + e_.key, do_ = v_ + e_.value, du_ = do_ + e_.value;
  }

  void run() {
    const int64_t chunks = (last_ - first_ + kChunk - 1) / kChunk;
    std::fill_n(m_.begin_of(0), e_.state(), 0.0f);
    for (int64_t chunk = 0; chunk + 1 < chunks; ++chunk) {
      std::copy_n(m_.begin_of(chunk), e_.state(), m_.begin_of(chunk + 1));
      for (int64_t row = 0; row < kChunk; ++row) forward(first_ + chunk * kChunk + row, m_.begin_of(chunk + 1), row);
    }
    std::fill_n(m_.gradient(), e_.state(), 0.0f);
    for (int64_t chunk = chunks - 1; chunk >= 0; --chunk) {
      const int64_t begin = first_ + chunk * kChunk, rows = std::min(kChunk, last_ - begin);
      std::copy_n(m_.begin_of(chunk), e_.state(), m_.within(0));
      for (int64_t row = 0; row < rows; ++row) {
        std::copy_n(m_.within(row), e_.state(), m_.within(row + 1));
        forward(begin + row, m_.within(row + 1), row);
      }
      for (int64_t row = rows - 1; row >= 0; --row) back(begin + row, row);
    }
  }

 private:
  const float* key(int64_t t) const { return read(call_.in[kK], e_, t, head_, e_.key, k_); }
  float beta(int64_t t) const { return call_.in[kBeta].as<const float>()[t * e_.heads + head_]; }

  void forward(int64_t t, float* state, int64_t row) {
    correct(e_, key(t), read(call_.in[kV], e_, t, head_, e_.value, v_), beta(t), state, m_.error(row), m_.u(row));
  }

  void back(int64_t t, int64_t row) {
    const float *const k = key(t), *const q = read(call_.in[kQ], e_, t, head_, e_.key, q_),
                       *const upstream = read(call_.in[kDo], e_, t, head_, e_.value, do_);
    const float *const before = m_.within(row), *const after = m_.within(row + 1), *const u = m_.u(row);
    float* const gradient = m_.gradient();
    std::fill_n(du_, e_.value, 0.0f);
    for (int64_t i = 0; i < e_.key; ++i) {
      dk_[i] = dot(after + i * e_.value, upstream, e_.value);  // of q, until it is written
      add_scaled(gradient + i * e_.value, upstream, q[i], e_.value);
      add_scaled(du_, gradient + i * e_.value, k[i], e_.value);
    }
    if (call_.out[0]) write(call_.out[0], e_, t, head_, e_.key, dk_);
    if (call_.out[3]) call_.out[3].as<float>()[t * e_.heads + head_] = dot(du_, m_.error(row), e_.value);
    for (int64_t j = 0; j < e_.value; ++j) du_[j] *= beta(t);
    if (call_.out[2]) write(call_.out[2], e_, t, head_, e_.value, du_);
    for (int64_t i = 0; i < e_.key; ++i) {
      dk_[i] = dot(gradient + i * e_.value, u, e_.value) - dot(before + i * e_.value, du_, e_.value);
      add_scaled(gradient + i * e_.value, du_, -k[i], e_.value);
    }
    if (call_.out[1]) write(call_.out[1], e_, t, head_, e_.key, dk_);
  }

  const Call& call_;
  const Memory m_;
  const Extents e_;
  const int64_t head_, first_, last_;
  float *k_, *q_, *dk_, *v_, *do_, *du_;
};

void run(const Call& call) noexcept {
  const Extents e = extents(of(call.attributes).heads, call.in[kK].shape, call.in[kV].shape);
  const int64_t rows = call.in[kQ].shape[0], chunks = Memory::chunks_of(of(call.attributes), rows);
  const auto* const starts = call.in[kStarts].as<const int32_t>();
  call.run.threads.split(e.heads, 1, [&](int64_t begin, int64_t end, int thread) {
    const Memory memory{row_buffer(call, Memory::count(e, chunks), 1, thread, 0), e, chunks};
    for (int64_t head = begin; head < end; ++head)
      for (int64_t first = 0, last = 0; first < rows; first = last) {
        last = first + 1;
        while (last < rows && starts[last] != last) ++last;
        Sequence(call, memory, head, first, last).run();
      }
  });
}

// As the header says, one step after the other, with all states.
[[gnu::cold]] void reference(const ReferenceCall& call) {
  const Extents e = extents(call.as<DeltaRuleAttributes>().heads, call.in[kK].shape, call.in[kV].shape);
  const int64_t rows = call.in[kQ].shape[0];
  for (int64_t head = 0; head < e.heads; ++head) {
    const auto at = [&](size_t operand, int64_t width, int64_t t, int64_t i) {
      return call.in[operand][(t * e.heads + head) * width + i];
    };
    const auto to = [&](size_t out, int64_t width, int64_t t, int64_t i, double x) {
      if (call.out[out]) call.out[out][(t * e.heads + head) * width + i] = x;
    };
    const auto fresh = [&](int64_t t) { return static_cast<int64_t>(call.in[kStarts][t]) == t; };
    std::vector<std::vector<double>> states{std::vector<double>(static_cast<size_t>(e.state()), 0)}, errors;
    for (int64_t t = 0; t < rows; ++t) {
      const std::vector<double> before =
          fresh(t) ? std::vector<double>(static_cast<size_t>(e.state()), 0) : states.back();
      std::vector<double> next = before, error;
      for (int64_t j = 0; j < e.value; ++j) {
        double predicted = 0;
        for (int64_t i = 0; i < e.key; ++i)
          predicted += before[static_cast<size_t>(i * e.value + j)] * at(kK, e.key, t, i);
        error.push_back(at(kV, e.value, t, j) - predicted);
        for (int64_t i = 0; i < e.key; ++i)
          next[static_cast<size_t>(i * e.value + j)] += at(kBeta, 1, t, 0) * error.back() * at(kK, e.key, t, i);
      }
      errors.push_back(error);
      states.push_back(next);
    }
    std::vector<double> gradient(static_cast<size_t>(e.state()), 0);
    for (int64_t t = rows - 1; t >= 0; --t) {
      const auto &after = states[static_cast<size_t>(t) + 1], &error = errors[static_cast<size_t>(t)];
      const double beta = at(kBeta, 1, t, 0);
      // The state before the row: after it, less what the row has added.
      const auto before = [&](size_t at_, int64_t i, int64_t j) {
        return after[at_] - beta * error[static_cast<size_t>(j)] * at(kK, e.key, t, i);
      };
      std::vector<double> du(static_cast<size_t>(e.value), 0);
      double dbeta = 0;
      for (int64_t i = 0; i < e.key; ++i) {
        double dq = 0;
        for (int64_t j = 0; j < e.value; ++j) {
          const auto s = static_cast<size_t>(i * e.value + j);
          dq += after[s] * at(kDo, e.value, t, j);
          gradient[s] += at(kDo, e.value, t, j) * at(kQ, e.key, t, i);
          du[static_cast<size_t>(j)] += gradient[s] * at(kK, e.key, t, i);
        }
        to(0, e.key, t, i, dq);
      }
      for (int64_t j = 0; j < e.value; ++j) {
        dbeta += du[static_cast<size_t>(j)] * error[static_cast<size_t>(j)];
        to(2, e.value, t, j, beta * du[static_cast<size_t>(j)]);
      }
      to(3, 1, t, 0, dbeta);
      for (int64_t i = 0; i < e.key; ++i) {
        double dk = 0;
        for (int64_t j = 0; j < e.value; ++j) {
          const auto s = static_cast<size_t>(i * e.value + j);
          const double dv = beta * du[static_cast<size_t>(j)];
          dk += gradient[s] * beta * error[static_cast<size_t>(j)] - before(s, i, j) * dv;
          gradient[s] -= dv * at(kK, e.key, t, i);
        }
        to(1, e.key, t, i, dk);
      }
      if (fresh(t)) std::ranges::fill(gradient, 0.0);
    }
  }
}

Cost cost(const std::any& any, std::span<const Type> in, std::span<const Type> out) {
  const Extents e = extents(of(any).heads, in[kK].shape, in[kV].shape);
  Cost cost{.bytes = moved_bytes(in, out)};
  cost.of(ProductUse::attention_gradient) = 22 * static_cast<double>(in[kQ].shape[0] * e.heads * e.state());
  return cost;
}

std::string text(const std::any& any) { return fmt::format("{{{} heads}}", of(any).heads); }

[[gnu::cold]] std::vector<Sample> samples() {
  const auto make = [](DeltaRuleAttributes a, int64_t rows, int64_t key, int64_t value, const Codec* codec,
                       std::vector<int32_t> starts) {
    const Type k{{rows, a.heads * key}, codec}, v{{rows, a.heads * value}, codec};
    return Sample{a, {v, k, k, v, Type{{rows, a.heads}}, Type{{rows}, &kI32}}, {{}, {}, {}, {}, {}, std::move(starts)}};
  };
  return {make({2}, 5, 3, 4, &kF32, {0, 0, 0, 3, 3}), make({3}, 4, 8, 8, &kBf16, {0, 0, 0, 0})};
}

}  // namespace

const Op kDeltaRuleGrad = {.name = "delta_rule_grad",
                           .infer = infer,
                           .text = text,
                           .workspace = workspace,
                           .cost = cost,
                           .reference = reference,
                           .run = run,
                           .samples = samples};

}  // namespace thimble
