// choose_experts: of every row of scores the largest, within the capacity of experts; expert_load: how often each is
// chosen.
//
//   Capacity  counted within a granule of 512 tokens, never within a pass, so that a batch may be cut anywhere
//   Gradient  of choose_experts: dx = dy where a score was chosen; of expert_load: none
#include <algorithm>
#include <cmath>
#include <limits>

#include "ops/backward.h"
#include "ops/experts.h"
#include "ops/pointwise.h"
#include "ops/rows.h"
#include "ops/shape_rule.h"
#include "ops/tangents.h"
#include "ops/update.h"

namespace thimble {
namespace {

const ChooseAttributes& of(const std::any& attributes) { return *std::any_cast<ChooseAttributes>(&attributes); }

Result<std::vector<Type>> infer(const char* op, const std::any& any, std::span<const Type> in) {
  CHECK_OK(expect_operands(op, in, 1));
  CHECK_OK(expect_rank(op, "scores", in[0], 2));
  CHECK_OK(expect_f32(op, "scores", in[0]));
  if (of(any).count < 1 || of(any).count > in[0].shape[1])
    return fail(ErrorCode::shape, "{}: {} experts of {}", op, of(any).count, in[0].shape[1]);
  return std::vector{Type{in[0].shape, &kF32, in[0].extent}};
}

int64_t limit(const ChooseAttributes& a, int64_t rows, int64_t experts) {
  if (a.capacity <= 0) return rows;
  return static_cast<int64_t>(
      std::ceil(a.capacity * static_cast<double>(rows * a.count) / static_cast<double>(experts)));
}

// Calls each(row, expert) for the choices of rows [first, last), in order.
template <class Number, class Each>
void for_choices(const Number* scores, int64_t experts, int64_t first, int64_t last, int64_t count, const Each& each) {
  for (int64_t r = first; r < last; ++r) {
    const Number* const row = scores + r * experts;
    const auto key = [&](int64_t e) { return std::isnan(row[e]) ? -std::numeric_limits<Number>::infinity() : row[e]; };
    Number before = 0;  // the choice before: what comes after it in order is smaller, or equal and further on
    for (int64_t c = 0, chosen = -1; c < count; ++c) {
      int64_t best = -1;
      for (int64_t e = 0; e < experts; ++e) {
        const bool after = c == 0 || key(e) < before || (key(e) == before && e > chosen);
        if (after && (best < 0 || key(e) > key(best))) best = e;
      }
      chosen = best, before = key(best);
      each(r, best);
    }
  }
}

int64_t workspace(const std::any&, std::span<const Type> in, std::span<const Type>, Multiply, int threads) {
  return row_buffer_bytes(in[0].shape[1], 1, threads);
}

// By granules: body(first, last, counters of the thread).
template <class Body>
void for_granules(const Call& call, const Body& body) noexcept {
  const int64_t rows = call.in[0].shape[0], experts = call.in[0].shape[1];
  call.run.threads.split((rows + kGranule - 1) / kGranule, 1, [&](int64_t begin, int64_t end, int thread) {
    auto* const taken = reinterpret_cast<int32_t*>(row_buffer(call, experts, 1, thread, 0));
    for (int64_t g = begin; g < end; ++g) {
      std::fill_n(taken, experts, 0);
      body(g * kGranule, std::min(rows, (g + 1) * kGranule), taken);
    }
  });
}

void run_choose(const Call& call) noexcept {
  const auto& a = of(call.attributes);
  const int64_t experts = call.in[0].shape[1];
  const float* const x = call.in[0].as<const float>();
  float* const y = call.out[0].as<float>();
  for_granules(call, [&](int64_t first, int64_t last, int32_t* taken) {
    const int64_t most = limit(a, last - first, experts);
    std::fill(y + first * experts, y + last * experts, 0.0f);
    for_choices(x, experts, first, last, a.count, [&](int64_t r, int64_t e) {
      if (taken[e]++ < most) y[r * experts + e] = x[r * experts + e];
    });
  });
}

void run_load(const Call& call) noexcept {
  const int64_t experts = call.in[0].shape[1];
  float* const y = call.out[0].as<float>();
  for_granules(call, [&](int64_t first, int64_t last, int32_t* taken) {
    for_choices(call.in[0].as<const float>(), experts, first, last, of(call.attributes).count,
                [&](int64_t, int64_t e) { ++taken[e]; });
    for (int64_t r = first; r < last; ++r)
      for (int64_t e = 0; e < experts; ++e)
        y[r * experts + e] = static_cast<float>(taken[e]) / static_cast<float>(last - first);
  });
}

[[gnu::cold]] void reference(const ReferenceCall& call, bool load) {
  const auto& a = call.as<ChooseAttributes>();
  const int64_t rows = call.in[0].shape[0], experts = call.in[0].shape[1];
  for (int64_t i = 0; i < rows * experts; ++i) call.out[0][i] = 0;
  for (int64_t first = 0; first < rows; first += kGranule) {
    const int64_t last = std::min(rows, first + kGranule);
    std::vector<double> taken(static_cast<size_t>(experts), 0);
    for_choices(call.in[0].data->data(), experts, first, last, a.count, [&](int64_t r, int64_t e) {
      const bool takes = taken[static_cast<size_t>(e)]++ < static_cast<double>(limit(a, last - first, experts));
      if (!load && takes) call.out[0][r * experts + e] = call.in[0][r * experts + e];
    });
    for (int64_t r = first; load && r < last; ++r)
      for (int64_t e = 0; e < experts; ++e)
        call.out[0][r * experts + e] = taken[static_cast<size_t>(e)] / static_cast<double>(last - first);
  }
}

// d where y was chosen, zeros elsewhere: the gradient, d being that of y, and the derivative along a direction d.
ValueId where_chosen(Graph& graph, ValueId y, ValueId d, std::string name) {
  PointwiseBuilder b;
  const Expr chosen = greater(abs(b.tensor()), 0.0), of_chosen = b.tensor();
  b.output(chosen * of_chosen);
  return graph.emit(kPointwise, b.attributes(), {y, d}, std::move(name));
}

Result<void> gradient(Backward& backward, const Node& node) {
  const ValueId dy = backward.gradient_of(node.out[0]), x = node.in[0];
  if (dy == kNone || !backward.wanted(x)) return {};
  backward.add(x, where_chosen(backward.graph(), backward.saved(node.out[0]), dy, backward.name(x)));
  return {};
}

Result<void> tangent(Tangents& tangents, const Node& node) {
  const ValueId y = node.out[0];
  tangents.set(y, where_chosen(tangents.graph(), y, tangents.of(node.in[0]), tangents.name(y)));
  return {};
}

std::string text(const std::any& any) {
  const auto& a = of(any);
  return fmt::format("{{{}{}}}", a.count, a.capacity > 0 ? fmt::format(" capacity {}", a.capacity) : "");
}

[[gnu::cold]] std::vector<Sample> samples() {
  return {{ChooseAttributes{1}, {Type{{7, 4}}}},
          {ChooseAttributes{3}, {Type{{5, 9}}}},
          {ChooseAttributes{1, 1.0}, {Type{{13, 3}}}},
          {ChooseAttributes{2, 0.75}, {Type{{1100, 5}}}}};
}

}  // namespace

const Op kChooseExperts = {
    .name = "choose_experts",
    .infer = [](const std::any& any, std::span<const Type> in) { return infer("choose_experts", any, in); },
    .text = text,
    .gradient = gradient,
    .tangent = tangent,
    .workspace = workspace,
    .cost = pointwise_cost,
    .reference = [](const ReferenceCall& call) { reference(call, false); },
    .run = run_choose,
    .samples = samples};
const Op kExpertLoad = {
    .name = "expert_load",
    .infer = [](const std::any& any, std::span<const Type> in) { return infer("expert_load", any, in); },
    .text = text,
    .workspace = workspace,
    .cost = pointwise_cost,
    .reference = [](const ReferenceCall& call) { reference(call, true); },
    .run = run_load,
    .samples = samples,
    .detaches = true};

}  // namespace thimble
