// delta_rule: a linear recurrence whose state is corrected towards the value of each key.
//
//   Paper    Schlag et al. 2021, arXiv:2102.11174, equation 24; trained in chunks as Yang et al. 2024,
//            arXiv:2406.06484, keep states at the beginning of chunks only and compute those within again for the
//            gradient
//   State    [key, value] a head, f32, in the cache of a core; a thread has a head at a time
//   Order    every sum over a key's or a value's elements is in their order; nothing depends on rows or threads
#include <algorithm>

#include "ops/backward.h"
#include "ops/delta_rule_parts.h"
#include "ops/shape_rule.h"

namespace thimble {
namespace {

using namespace delta;

const DeltaRuleAttributes& of(const std::any& attributes) { return *std::any_cast<DeltaRuleAttributes>(&attributes); }

Result<std::vector<Type>> infer(const std::any& any, std::span<const Type> in) {
  CHECK_OK(expect_operands("delta_rule", in, 5));
  CHECK_OK(expect_rows("delta_rule", of(any).heads, in));
  CHECK_OK(expect_indices("delta_rule", "starts", in[4], in[0].shape[0]));
  return std::vector{in[2]};
}

int64_t workspace(const std::any& any, std::span<const Type> in, std::span<const Type>, Multiply, int threads) {
  const Extents e = extents(of(any).heads, in[1].shape, in[2].shape);
  return row_buffer_bytes(e.state() + 2 * e.key + 3 * e.value, 1, threads);
}

void run(const Call& call) noexcept {
  const Extents e = extents(of(call.attributes).heads, call.in[1].shape, call.in[2].shape);
  const auto* const starts = call.in[4].as<const int32_t>();
  call.run.threads.split(e.heads, 1, [&](int64_t begin, int64_t end, int thread) {
    float* const state = row_buffer(call, e.state() + 2 * e.key + 3 * e.value, 1, thread, 0);
    float* const rows = state + e.state();
    for (int64_t head = begin; head < end; ++head)
      for (int64_t t = 0; t < call.in[0].shape[0]; ++t) {
        if (starts[t] == t || t == 0) std::fill_n(state, e.state(), 0.0f);
        one_row(call, e, t, head, state, rows);
      }
  });
}

// One row and head in double; state [key, value].
[[gnu::cold]] void reference_row(const ReferenceCall& call, const Extents& e, int64_t t, int64_t head, double* state) {
  const auto at = [&](size_t operand, int64_t width, int64_t i) {
    return call.in[operand][(t * e.heads + head) * width + i];
  };
  for (int64_t j = 0; j < e.value; ++j) {
    double predicted = 0;
    for (int64_t i = 0; i < e.key; ++i) predicted += state[i * e.value + j] * at(1, e.key, i);
    const double u = at(3, 1, 0) * (at(2, e.value, j) - predicted);
    double o = 0;
    for (int64_t i = 0; i < e.key; ++i) {
      state[i * e.value + j] += u * at(1, e.key, i);
      o += state[i * e.value + j] * at(0, e.key, i);
    }
    call.out[0][(t * e.heads + head) * e.value + j] = o;
  }
}

[[gnu::cold]] void reference(const ReferenceCall& call) {
  const Extents e = extents(call.as<DeltaRuleAttributes>().heads, call.in[1].shape, call.in[2].shape);
  for (int64_t head = 0; head < e.heads; ++head) {
    std::vector<double> state(static_cast<size_t>(e.state()), 0);
    for (int64_t t = 0; t < call.in[0].shape[0]; ++t) {
      if (static_cast<int64_t>(call.in[4][t]) == t) std::ranges::fill(state, 0.0);
      reference_row(call, e, t, head, state.data());
    }
  }
}

Result<void> gradient(Backward& backward, const Node& node) {
  const ValueId dy = backward.gradient_of(node.out[0]);
  if (dy == kNone) return {};
  std::array<bool, 4> wanted{};
  std::vector<ValueId> in{dy};
  for (size_t i = 0; i < node.in.size(); ++i) {
    if (i < wanted.size()) wanted[i] = backward.wanted(node.in[i]);
    in.push_back(backward.saved(node.in[i]));
  }
  if (std::ranges::none_of(wanted, [](bool w) { return w; })) return {};
  const auto out = backward.graph().emit_all(kDeltaRuleGrad, node.attributes, in, backward.name(node.in[0]), wanted);
  for (size_t i = 0; i < wanted.size(); ++i)
    if (wanted[i]) backward.add(node.in[i], out[i]);
  return {};
}

Cost cost(const std::any& any, std::span<const Type> in, std::span<const Type> out) {
  const Extents e = extents(of(any).heads, in[1].shape, in[2].shape);
  Cost cost{.bytes = moved_bytes(in, out)};
  cost.of(ProductUse::attention) = 6 * static_cast<double>(in[0].shape[0] * e.heads * e.state());
  return cost;
}

std::string text(const std::any& any) { return fmt::format("{{{} heads}}", of(any).heads); }

[[gnu::cold]] std::vector<Sample> samples() {
  const auto make = [](DeltaRuleAttributes a, int64_t rows, int64_t key, int64_t value, const Codec* codec,
                       std::vector<int32_t> starts) {
    const Type k{{rows, a.heads * key}, codec}, v{{rows, a.heads * value}, codec};
    return Sample{a, {k, k, v, Type{{rows, a.heads}}, Type{{rows}, &kI32}}, {{}, {}, {}, {}, std::move(starts)}};
  };
  std::vector<int32_t> documents(24, 0);  // more rows than a chunk
  for (size_t t = 19; t < documents.size(); ++t) documents[t] = 19;
  return {make({2}, 5, 3, 4, &kF32, {0, 0, 0, 3, 3}), make({1, 4}, 6, 5, 2, &kF32, {0, 0, 2, 2, 2, 2}),
          make({3}, 4, 8, 8, &kBf16, {0, 0, 0, 0}), make({1}, 24, 2, 3, &kF32, documents)};
}

// in: q, k, v, beta, states, slots, positions.
Result<std::vector<Type>> infer_cached(const std::any& any, std::span<const Type> in) {
  CHECK_OK(expect_operands("delta_rule_cached", in, 7));
  CHECK_OK(expect_rows("delta_rule_cached", of(any).heads, in));
  const Extents e = extents(of(any).heads, in[1].shape, in[2].shape);
  CHECK_OK(expect_rank("delta_rule_cached", "states", in[4], 3));
  CHECK_OK(expect_shape("delta_rule_cached", "states", in[4], {in[4].shape[0], e.heads, e.state()}));
  CHECK_OK(expect_f32("delta_rule_cached", "states", in[4]));
  CHECK_OK(expect_indices("delta_rule_cached", "slots", in[5], in[0].shape[0]));
  CHECK_OK(expect_indices("delta_rule_cached", "positions", in[6], in[0].shape[0]));
  return std::vector{in[2], in[4]};
}

int64_t workspace_cached(const std::any& any, std::span<const Type> in, std::span<const Type>, Multiply, int threads) {
  const Extents e = extents(of(any).heads, in[1].shape, in[2].shape);
  return row_buffer_bytes(2 * e.key + 3 * e.value, 1, threads);
}

void run_cached(const Call& call) noexcept {
  const Extents e = extents(of(call.attributes).heads, call.in[1].shape, call.in[2].shape);
  const auto *const slots = call.in[5].as<const int32_t>(), *const positions = call.in[6].as<const int32_t>();
  call.run.threads.split(e.heads, 1, [&](int64_t begin, int64_t end, int thread) {
    float* const rows = row_buffer(call, 2 * e.key + 3 * e.value, 1, thread, 0);
    for (int64_t head = begin; head < end; ++head)
      for (int64_t t = 0; t < call.in[0].shape[0]; ++t) {
        float* const state = call.out[1].as<float>() + (slots[t] * e.heads + head) * e.state();
        if (positions[t] == 0) std::fill_n(state, e.state(), 0.0f);
        one_row(call, e, t, head, state, rows);
      }
  });
}

[[gnu::cold]] void reference_cached(const ReferenceCall& call) {
  const Extents e = extents(call.as<DeltaRuleAttributes>().heads, call.in[1].shape, call.in[2].shape);
  for (int64_t i = 0; i < call.out[1].shape.count(); ++i) call.out[1][i] = call.in[4][i];
  for (int64_t t = 0; t < call.in[0].shape[0]; ++t)
    for (int64_t head = 0; head < e.heads; ++head) {
      double* const state = &call.out[1][(static_cast<int64_t>(call.in[5][t]) * e.heads + head) * e.state()];
      if (call.in[6][t] == 0) std::fill_n(state, e.state(), 0.0);
      reference_row(call, e, t, head, state);
    }
}

[[gnu::cold]] std::vector<Sample> samples_cached() {
  const auto make = [](int64_t heads, int64_t key, int64_t value, const Codec* codec) {
    const Type k{{5, heads * key}, codec}, v{{5, heads * value}, codec}, index{{5}, &kI32};
    return Sample{DeltaRuleAttributes{heads},
                  {k, k, v, Type{{5, heads}}, Type{{3, heads, key * value}}, index, index},
                  {{}, {}, {}, {}, {}, {2, 0, 0, 2, 0}, {0, 7, 8, 1, 9}}};
  };
  return {make(2, 3, 5, &kF32), make(3, 8, 8, &kBf16)};
}

constexpr InPlace kStates[] = {{1, 4, true}};

}  // namespace

const Op kDeltaRule = {.name = "delta_rule",
                       .infer = infer,
                       .text = text,
                       .gradient = gradient,
                       .workspace = workspace,
                       .cost = cost,
                       .reference = reference,
                       .run = run,
                       .samples = samples};
const Op kDeltaRuleCached = {.name = "delta_rule_cached",
                             .infer = infer_cached,
                             .text = text,
                             .workspace = workspace_cached,
                             .cost = cost,
                             .reference = reference_cached,
                             .run = run_cached,
                             .samples = samples_cached,
                             .in_place = kStates};

}  // namespace thimble
