// dispatch and combine: rows of tokens to places of experts, and back.
//
//   dispatch  y[p] = x[tokens[p]], zeros where no token is
//   combine   y[t] = addend[t] + sum over the places p of t, in order, of gates[p] rows[p], in f32, rounded once
//   Gradient  of dispatch: combine without gates;  of combine: drows[p] = gates[p] dy[t], dgates[p] = dy[t] . rows[p],
//             daddend = dy
#include <algorithm>
#include <cstring>

#include "ops/backward.h"
#include "ops/experts.h"
#include "ops/rows.h"
#include "ops/shape_rule.h"
#include "ops/tangents.h"

namespace thimble {
namespace {

int64_t count_of(const std::any& attributes) { return std::any_cast<PlacesAttributes>(&attributes)->count; }

// One row a place, of an operand [t, count * n].
Operand by_places(const Operand& operand, int64_t places) {
  return {operand.data, {places, operand.shape.count() / std::max<int64_t>(1, places)}, operand.codec};
}

Result<std::vector<Type>> infer_dispatch(const std::any& any, std::span<const Type> in) {
  CHECK_OK(expect_operands("dispatch", in, 2));
  CHECK_OK(expect_rank("dispatch", "x", in[0], 2));
  CHECK_OK(expect_elements("dispatch", "x", in[0]));
  CHECK_OK(expect_places("dispatch", in[1], in[0].shape[0], count_of(any)));
  return std::vector{Type{{in[0].shape[0], in[0].shape[1] * count_of(any)}, in[0].codec, in[0].extent}};
}

void run_dispatch(const Call& call) noexcept {
  const int64_t places = call.in[1].shape.count();
  const auto bytes = static_cast<size_t>(call.in[0].codec->bytes(call.in[0].shape[1]));
  call.run.threads.split(places, 16, [&](int64_t begin, int64_t end, int) {
    for (int64_t p = begin; p < end; ++p) {
      const int32_t token = call.in[1].as<const int32_t>()[p];
      std::byte* const to = call.out[0].data + static_cast<size_t>(p) * bytes;
      if (token < 0)
        std::memset(to, 0, bytes);
      else
        std::memcpy(to, call.in[0].data + static_cast<size_t>(token) * bytes, bytes);
    }
  });
}

[[gnu::cold]] void reference_dispatch(const ReferenceCall& call) {
  const int64_t n = call.in[0].shape[1];
  for (int64_t p = 0; p < call.in[1].shape.count(); ++p)
    for (int64_t i = 0; i < n; ++i) {
      const auto token = static_cast<int64_t>(call.in[1][p]);
      call.out[0][p * n + i] = token < 0 ? 0 : call.in[0][token * n + i];
    }
}

Result<void> gradient_dispatch(Backward& backward, const Node& node) {
  const ValueId dy = backward.gradient_of(node.out[0]), x = node.in[0];
  if (dy == kNone || !backward.wanted(x)) return {};
  backward.add(x, backward.graph().emit(kCombine, node.attributes, {dy, kNone, backward.saved(node.in[1]), kNone},
                                        backward.name(x)));
  return {};
}

Result<void> expect_rows(const char* op, const Type& rows, const Type& gates, const Type& tokens, int64_t count) {
  CHECK_OK(expect_rank(op, "rows", rows, 2));
  CHECK_OK(expect_elements(op, "rows", rows));
  CHECK_OK(expect_places(op, tokens, rows.shape[0], count));
  if (count < 1 || rows.shape[1] % count != 0)
    return fail(ErrorCode::shape, "{}: rows of {} are not of {} places", op, rows.shape[1], count);
  if (absent(gates)) return {};
  CHECK_OK(expect_shape(op, "gates", gates, tokens.shape));
  return expect_f32(op, "gates", gates);
}

Result<std::vector<Type>> infer_combine(const std::any& any, std::span<const Type> in) {
  CHECK_OK(expect_operands("combine", in, 4));
  const int64_t count = count_of(any);
  CHECK_OK(expect_rows("combine", in[0], in[1], in[2], count));
  const Type y{{in[0].shape[0], in[0].shape[1] / count}, in[0].codec, in[0].extent};
  if (!absent(in[3])) {
    CHECK_OK(expect_shape("combine", "addend", in[3], y.shape));
    CHECK_OK(expect_elements("combine", "addend", in[3]));
    if (in[3].codec != y.codec) return fail(ErrorCode::shape, "combine: the addend should be {}", y.codec->name);
  }
  return std::vector{y};
}

// The places of every token, and two rows of f32 a thread.
int64_t workspace_combine(const std::any&, std::span<const Type> in, std::span<const Type> out, Multiply, int threads) {
  return (4 * in[2].shape.count() + 63) / 64 * 64 + row_buffer_bytes(out[0].shape.columns(), 2, threads);
}

void run_combine(const Call& call) noexcept {
  const int64_t count = count_of(call.attributes), tokens = call.out[0].shape[0], n = call.out[0].shape[1];
  auto* const places = reinterpret_cast<int32_t*>(call.workspace.data());
  float* const buffers = reinterpret_cast<float*>(call.workspace.data() + (4 * tokens * count + 63) / 64 * 64);
  call.run.threads.once([&] {
    std::fill_n(places, tokens * count, -1);
    for (int64_t p = 0; p < tokens * count; ++p) {
      const int32_t token = call.in[2].as<const int32_t>()[p];
      if (token >= 0)
        *std::find(places + token * count, places + (token + 1) * count - 1, -1) = static_cast<int32_t>(p);
    }
  });
  const Operand rows = by_places(call.in[0], tokens * count);
  call.run.threads.split(tokens, 4, [&](int64_t begin, int64_t end, int thread) {
    float* const sum = buffers + 2 * thread * ((n + 15) / 16 * 16);
    float* const decoded = sum + (n + 15) / 16 * 16;
    for (int64_t t = begin; t < end; ++t) {
      if (call.in[3])
        std::copy_n(read_row(call.in[3], t, n, decoded), n, sum);
      else
        std::fill_n(sum, n, 0.0f);
      for (int64_t c = 0; c < count; ++c)
        if (const int32_t p = places[t * count + c]; p >= 0)
          add_scaled(sum, read_row(rows, p, n, decoded), call.in[1] ? call.in[1].as<const float>()[p] : 1, n);
      write_row(call.out[0], t, n, sum);
    }
  });
}

[[gnu::cold]] void reference_combine(const ReferenceCall& call) {
  const int64_t n = call.out[0].shape[1];
  for (int64_t i = 0; i < call.out[0].shape.count(); ++i) call.out[0][i] = call.in[3] ? call.in[3][i] : 0;
  for (int64_t p = 0; p < call.in[2].shape.count(); ++p)
    for (int64_t i = 0; i < n; ++i)
      if (const auto token = static_cast<int64_t>(call.in[2][p]); token >= 0)
        call.out[0][token * n + i] += (call.in[1] ? call.in[1][p] : 1) * call.in[0][p * n + i];
}

// Linear in rows and addend together, and in gates.
Result<void> tangent_combine(Tangents& tangents, const Node& node) {
  const ValueId rows = tangents.of(node.in[0]), gates = tangents.of(node.in[1]), tokens = node.in[2];
  const std::string name = tangents.name(node.out[0]);
  ValueId sum = tangents.of(node.in[3]);
  Graph& g = tangents.graph();
  if (rows != kNone) sum = g.emit(kCombine, node.attributes, {rows, node.in[1], tokens, sum}, name);
  if (gates != kNone) sum = g.emit(kCombine, node.attributes, {node.in[0], gates, tokens, sum}, name);
  tangents.set(node.out[0], sum);
  return {};
}

Result<void> gradient_combine(Backward& backward, const Node& node) {
  const ValueId dy = backward.gradient_of(node.out[0]);
  if (dy == kNone) return {};
  const ValueId rows = node.in[0], gates = node.in[1], addend = node.in[3];
  if (backward.wanted(addend)) backward.add(addend, dy);
  const bool wanted[] = {backward.wanted(rows), backward.wanted(gates)};
  if (!wanted[0] && !wanted[1]) return {};
  const auto out = backward.graph().emit_all(
      kCombineGrad, node.attributes, {dy, backward.saved(rows), backward.saved(gates), backward.saved(node.in[2])},
      backward.name(rows), wanted);
  if (wanted[0]) backward.add(rows, out[0]);
  if (wanted[1]) backward.add(gates, out[1]);
  return {};
}

// in: dy, rows, gates, tokens.
Result<std::vector<Type>> infer_grad(const std::any& any, std::span<const Type> in) {
  CHECK_OK(expect_operands("combine_grad", in, 4));
  const int64_t count = count_of(any);
  CHECK_OK(expect_rows("combine_grad", in[1], in[2], in[3], count));
  CHECK_OK(expect_shape("combine_grad", "dy", in[0], {in[1].shape[0], in[1].shape[1] / count}));
  CHECK_OK(expect_elements("combine_grad", "dy", in[0]));
  return std::vector{in[1], Type{in[3].shape, &kF32, in[3].extent}};
}

int64_t workspace_grad(const std::any&, std::span<const Type> in, std::span<const Type>, Multiply, int threads) {
  return row_buffer_bytes(in[0].shape.columns(), 3, threads);
}

void run_grad(const Call& call) noexcept {
  const int64_t places = call.in[3].shape.count(), n = call.in[0].shape[1];
  const Operand rows = by_places(call.in[1], places);
  call.run.threads.split(places, 4, [&](int64_t begin, int64_t end, int thread) {
    float* const scaled = row_buffer(call, n, 3, thread, 2);
    for (int64_t p = begin; p < end; ++p) {
      const int32_t token = call.in[3].as<const int32_t>()[p];
      const float* const dy = token < 0 ? nullptr : read_row(call.in[0], token, n, row_buffer(call, n, 3, thread, 0));
      if (call.out[1])
        call.out[1].as<float>()[p] = dy ? dot(dy, read_row(rows, p, n, row_buffer(call, n, 3, thread, 1)), n) : 0;
      if (!call.out[0]) continue;
      std::fill_n(scaled, n, 0.0f);
      if (dy) add_scaled(scaled, dy, call.in[2] ? call.in[2].as<const float>()[p] : 1, n);
      write_row(by_places(call.out[0], places), p, n, scaled);
    }
  });
}

[[gnu::cold]] void reference_grad(const ReferenceCall& call) {
  const int64_t n = call.in[0].shape[1];
  for (int64_t p = 0; p < call.in[3].shape.count(); ++p) {
    const auto token = static_cast<int64_t>(call.in[3][p]);
    double product = 0;
    for (int64_t i = 0; i < n; ++i) {
      const double dy = token < 0 ? 0 : call.in[0][token * n + i];
      product += dy * call.in[1][p * n + i];
      if (call.out[0]) call.out[0][p * n + i] = (call.in[2] ? call.in[2][p] : 1) * dy;
    }
    if (call.out[1]) call.out[1][p] = product;
  }
}

std::string text(const std::any& any) { return fmt::format("{{{}}}", count_of(any)); }

constexpr Type kAbsent{.codec = nullptr};

[[gnu::cold]] std::vector<Sample> samples_dispatch() {
  return {{PlacesAttributes{1}, {Type{{4, 7}}, Type{{4, 1}, &kI32}}, {{}, {2, 0, 1, -1}}},
          {PlacesAttributes{2}, {Type{{3, 33}, &kBf16}, Type{{3, 2}, &kI32}}, {{}, {0, 1, 0, 2, 1, -1}}}};
}

[[gnu::cold]] std::vector<Sample> samples_combine() {
  return {
      {PlacesAttributes{1},
       {Type{{4, 7}}, Type{{4, 1}}, Type{{4, 1}, &kI32}, Type{{4, 7}}},
       {{}, {}, {2, 0, 1, -1}, {}}},
      {PlacesAttributes{2}, {Type{{3, 18}}, kAbsent, Type{{3, 2}, &kI32}, kAbsent}, {{}, {}, {0, 1, 0, 2, 1, -1}, {}}},
      {PlacesAttributes{2},
       {Type{{3, 66}, &kBf16}, Type{{3, 2}}, Type{{3, 2}, &kI32}, Type{{3, 33}, &kBf16}},
       {{}, {}, {0, 1, 0, 2, 1, -1}, {}}}};
}

[[gnu::cold]] std::vector<Sample> samples_grad() {
  return {{PlacesAttributes{2},
           {Type{{3, 9}}, Type{{3, 18}}, Type{{3, 2}}, Type{{3, 2}, &kI32}},
           {{}, {}, {}, {0, 1, 0, 2, 1, -1}}}};
}

}  // namespace

const Op kDispatch = {.name = "dispatch",
                      .infer = infer_dispatch,
                      .text = text,
                      .gradient = gradient_dispatch,
                      .tangent = linear_tangent<0>,
                      .cost = pointwise_cost,
                      .reference = reference_dispatch,
                      .run = run_dispatch,
                      .samples = samples_dispatch};
const Op kCombine = {.name = "combine",
                     .infer = infer_combine,
                     .text = text,
                     .gradient = gradient_combine,
                     .tangent = tangent_combine,
                     .workspace = workspace_combine,
                     .cost = pointwise_cost,
                     .reference = reference_combine,
                     .run = run_combine,
                     .samples = samples_combine};
const Op kCombineGrad = {.name = "combine_grad",
                         .infer = infer_grad,
                         .text = text,
                         .workspace = workspace_grad,
                         .cost = pointwise_cost,
                         .reference = reference_grad,
                         .run = run_grad,
                         .samples = samples_grad};

}  // namespace thimble
