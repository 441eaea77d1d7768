// route: from gates of every token and expert to places sorted by expert, with the offsets of experts.
//
//   Gradient  of gates: the gradient of a place goes back to its token and expert (route_grad); zeros elsewhere
//   Tangent   of gates: that of its token and expert goes to every place (route_tangent); places stay where they are
#include <algorithm>

#include "ops/backward.h"
#include "ops/experts.h"
#include "ops/rows.h"
#include "ops/shape_rule.h"
#include "ops/tangents.h"

namespace thimble {
namespace {

int64_t count_of(const std::any& attributes) { return std::any_cast<PlacesAttributes>(&attributes)->count; }

Result<std::vector<Type>> infer(const std::any& any, std::span<const Type> in) {
  CHECK_OK(expect_operands("route", in, 1));
  CHECK_OK(expect_rank("route", "gates", in[0], 2));
  CHECK_OK(expect_f32("route", "gates", in[0]));
  const int64_t rows = in[0].shape[0], experts = in[0].shape[1], count = count_of(any);
  if (count < 1 || count > experts) return fail(ErrorCode::shape, "route: {} places of {} experts", count, experts);
  const Extent extent = in[0].extent;
  return std::vector{Type{{rows, count}, &kF32, extent}, Type{{rows, count}, &kI32, extent},
                     Type{{experts + 1}, &kI32}};
}

// Calls each(row, expert) for the gates in use.
template <class Gate, class Each>
void for_used(int64_t rows, int64_t experts, int64_t count, const Gate& gate, const Each& each) {
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t e = 0, used = 0; e < experts && used < count; ++e)
      if (gate(r, e) != 0) ++used, each(r, e);
}

// Where the next place of an expert is: counts of experts become the places where they begin.
template <class Count>
void begin_places(Count* next, int64_t experts) {
  Count sum = 0;
  for (int64_t e = 0; e <= experts; ++e) sum += std::exchange(next[e], sum);
}

int64_t workspace(const std::any&, std::span<const Type> in, std::span<const Type>, Multiply, int) {
  return 4 * (in[0].shape[1] + 1);
}

void run(const Call& call) noexcept {
  call.run.threads.once([&] {
    const int64_t rows = call.in[0].shape[0], experts = call.in[0].shape[1], count = count_of(call.attributes);
    const float* const gates = call.in[0].as<const float>();
    float* const gate = call.out[0].as<float>();
    auto* const token = call.out[1].as<int32_t>();
    auto* const next = reinterpret_cast<int32_t*>(call.workspace.data());
    const auto at = [&](int64_t r, int64_t e) { return gates[r * experts + e]; };
    std::fill_n(next, experts + 1, 0);
    for_used(rows, experts, count, at, [&](int64_t, int64_t e) { ++next[e]; });
    begin_places(next, experts);
    if (call.out[2]) std::copy_n(next, experts + 1, call.out[2].as<int32_t>());
    if (gate) std::fill(gate + next[experts], gate + rows * count, 0.0f);
    if (token) std::fill(token + next[experts], token + rows * count, -1);
    for_used(rows, experts, count, at, [&](int64_t r, int64_t e) {
      const int32_t place = next[e]++;
      if (gate) gate[place] = at(r, e);
      if (token) token[place] = static_cast<int32_t>(r);
    });
  });
}

[[gnu::cold]] void reference(const ReferenceCall& call) {
  const int64_t rows = call.in[0].shape[0], experts = call.in[0].shape[1], count = count_of(call.attributes);
  int64_t place = 0;
  for (int64_t i = 0; i < rows * count; ++i) {
    if (call.out[0]) call.out[0][i] = 0;
    if (call.out[1]) call.out[1][i] = -1;
  }
  for (int64_t e = 0; e <= experts; ++e) {
    if (call.out[2]) call.out[2][e] = static_cast<double>(place);
    const auto at = [&](int64_t r, int64_t k) { return call.in[0][r * experts + k]; };
    for_used(rows, experts, count, at, [&](int64_t r, int64_t k) {
      if (k != e) return;
      if (call.out[0]) call.out[0][place] = at(r, k);
      if (call.out[1]) call.out[1][place] = static_cast<double>(r);
      ++place;
    });
  }
}

Result<void> gradient(Backward& backward, const Node& node) {
  const ValueId dy = backward.gradient_of(node.out[0]), gates = node.in[0];
  if (dy == kNone || !backward.wanted(gates)) return {};
  backward.add(gates, backward.graph().emit(kRouteGrad, node.attributes,
                                            {dy, backward.saved(node.out[1]), backward.saved(node.out[2])},
                                            backward.name(gates)));
  return {};
}

Result<void> tangent(Tangents& tangents, const Node& node) {
  const ValueId gates = node.out[0];
  tangents.set(gates, tangents.graph().emit(kRouteTangent, node.attributes,
                                            {tangents.of(node.in[0]), node.out[1], node.out[2]}, tangents.name(gates)));
  return {};
}

std::string text(const std::any& any) { return fmt::format("{{{}}}", count_of(any)); }

// in: dgates, tokens, offsets.
Result<std::vector<Type>> infer_grad(const std::any& any, std::span<const Type> in) {
  CHECK_OK(expect_operands("route_grad", in, 3));
  CHECK_OK(expect_rank("route_grad", "dgates", in[0], 2));
  CHECK_OK(expect_f32("route_grad", "dgates", in[0]));
  CHECK_OK(expect_places("route_grad", in[1], in[0].shape[0], count_of(any)));
  CHECK_OK(expect_shape("route_grad", "dgates", in[0], in[1].shape));
  CHECK_OK(expect_indices("route_grad", "offsets", in[2]));
  return std::vector{Type{{in[0].shape[0], in[2].shape[0] - 1}, &kF32, in[0].extent}};
}

// Calls f(place, expert) for every place that is taken.
template <class Offsets, class F>
void each_place(const Offsets& offsets, int64_t experts, F f) {
  for (int64_t e = 0; e < experts; ++e)
    for (auto p = static_cast<int64_t>(offsets[e]); p < static_cast<int64_t>(offsets[e + 1]); ++p) f(p, e);
}

void run_grad(const Call& call) noexcept {
  call.run.threads.once([&] {
    const int64_t experts = call.out[0].shape[1];
    const auto* const tokens = call.in[1].as<const int32_t>();
    const auto* const offsets = call.in[2].as<const int32_t>();
    float* const to = call.out[0].as<float>();
    const auto* const from = call.in[0].as<const float>();
    std::fill_n(to, call.out[0].shape.count(), 0.0f);
    each_place(offsets, experts, [&](int64_t p, int64_t e) { to[tokens[p] * experts + e] = from[p]; });
  });
}

[[gnu::cold]] void reference_grad(const ReferenceCall& call) {
  const int64_t experts = call.out[0].shape[1];
  for (int64_t i = 0; i < call.out[0].shape.count(); ++i) call.out[0][i] = 0;
  each_place(call.in[2], experts, [&](int64_t p, int64_t e) {
    call.out[0][static_cast<int64_t>(call.in[1][p]) * experts + e] = call.in[0][p];
  });
}

// in: derivatives of gates, tokens, offsets.
Result<std::vector<Type>> infer_tangent(const std::any& any, std::span<const Type> in) {
  CHECK_OK(expect_operands("route_tangent", in, 3));
  CHECK_OK(expect_rank("route_tangent", "gates", in[0], 2));
  CHECK_OK(expect_f32("route_tangent", "gates", in[0]));
  CHECK_OK(expect_places("route_tangent", in[1], in[0].shape[0], count_of(any)));
  CHECK_OK(expect_indices("route_tangent", "offsets", in[2], in[0].shape[1] + 1));
  return std::vector{Type{in[1].shape, &kF32, in[0].extent}};
}

void run_tangent(const Call& call) noexcept {
  call.run.threads.once([&] {
    const int64_t experts = call.in[0].shape[1];
    const auto* const tokens = call.in[1].as<const int32_t>();
    const auto* const offsets = call.in[2].as<const int32_t>();
    float* const to = call.out[0].as<float>();
    const auto* const from = call.in[0].as<const float>();
    std::fill_n(to, call.out[0].shape.count(), 0.0f);
    each_place(offsets, experts, [&](int64_t p, int64_t e) { to[p] = from[tokens[p] * experts + e]; });
  });
}

[[gnu::cold]] void reference_tangent(const ReferenceCall& call) {
  const int64_t experts = call.in[0].shape[1];
  for (int64_t i = 0; i < call.out[0].shape.count(); ++i) call.out[0][i] = 0;
  each_place(call.in[2], experts, [&](int64_t p, int64_t e) {
    call.out[0][p] = call.in[0][static_cast<int64_t>(call.in[1][p]) * experts + e];
  });
}

[[gnu::cold]] std::vector<Sample> samples() {
  return {{PlacesAttributes{1}, {Type{{5, 1}}}},
          {PlacesAttributes{2}, {Type{{6, 3}}}},
          {PlacesAttributes{4}, {Type{{9, 4}}}}};
}

[[gnu::cold]] std::vector<Sample> samples_tangent() {
  return {{PlacesAttributes{2},
           {Type{{3, 3}}, Type{{3, 2}, &kI32}, Type{{4}, &kI32}},
           {{}, {1, 0, 2, 1, -1, -1}, {0, 1, 1, 4}}}};
}

[[gnu::cold]] std::vector<Sample> samples_grad() {
  return {{PlacesAttributes{2},
           {Type{{3, 2}}, Type{{3, 2}, &kI32}, Type{{4}, &kI32}},
           {{}, {1, 0, 2, 1, -1, -1}, {0, 1, 1, 4}}}};
}

}  // namespace

const Op kRoute = {.name = "route",
                   .infer = infer,
                   .text = text,
                   .gradient = gradient,
                   .tangent = tangent,
                   .workspace = workspace,
                   .cost = pointwise_cost,
                   .reference = reference,
                   .run = run,
                   .samples = samples};
const Op kRouteGrad = {.name = "route_grad",
                       .infer = infer_grad,
                       .text = text,
                       .cost = pointwise_cost,
                       .reference = reference_grad,
                       .run = run_grad,
                       .samples = samples_grad};
const Op kRouteTangent = {.name = "route_tangent",
                          .infer = infer_tangent,
                          .text = text,
                          .cost = pointwise_cost,
                          .reference = reference_tangent,
                          .run = run_tangent,
                          .samples = samples_tangent};

}  // namespace thimble
