// expert_linear: every place's row with the matrix of its expert: one product an expert, of as many rows as it has.
//
//   Gradient  dx, the same operation with the matrices the other way round; dW_e = dy_e^T x_e, one node an expert
//   Tangent   y' = x' W_e^T + x W'_e^T
//   Order     a row of y depends on its own row of x alone; dW_e is summed over its tokens, granule by granule
//   Cost      that of the places, however experts share them
#include <algorithm>
#include <cstring>

#include "kernels/gemm.h"
#include "kernels/narrow.h"
#include "ops/backward.h"
#include "ops/experts.h"
#include "ops/rows.h"
#include "ops/shape_rule.h"
#include "ops/table.h"
#include "ops/tangents.h"

namespace thimble {
namespace {

constexpr size_t kFirst = 3;  // operand of the first expert

const ExpertLinearAttributes& of(const std::any& attributes) {
  return *std::any_cast<ExpertLinearAttributes>(&attributes);
}

// Extents of a matrix as it is multiplied with: y [n] of x [k].
struct Extents {
  int64_t n, k;
};
Extents extents(const ExpertLinearAttributes& a, const Shape& w) {
  return a.transposed ? Extents{w[0], w[1]} : Extents{w[1], w[0]};
}

Result<std::vector<Type>> infer(const std::any& any, std::span<const Type> in) {
  const auto& a = of(any);
  if (in.size() <= kFirst) return fail(ErrorCode::shape, "expert_linear: there is no expert");
  CHECK_OK(expect_rank("expert_linear", "x", in[0], 2));
  CHECK_OK(expect_places("expert_linear", in[1], in[0].shape[0], a.count));
  CHECK_OK(expect_indices("expert_linear", "offsets", in[2], static_cast<int64_t>(in.size() - kFirst) + 1));
  for (size_t e = kFirst; e < in.size(); ++e) {
    CHECK_OK(expect_rank("expert_linear", "w", in[e], 2));
    CHECK_OK(expect_shape("expert_linear", "w", in[e], in[kFirst].shape));
  }
  const Extents w = extents(a, in[kFirst].shape);
  if (in[0].shape[1] != a.count * w.k)
    return fail(ErrorCode::shape, "expert_linear: x {} is not of {} places of {}", in[0].shape.text(), a.count, w.k);
  // Places lie within rows of tokens: their blocks must not run over the end of a place.
  if (in[0].codec->block > 1 && w.k % in[0].codec->block != 0)
    return fail(ErrorCode::shape, "expert_linear: places of {} are no whole blocks of {}", w.k, in[0].codec->name);
  if (a.narrow && !a.transposed) return fail(ErrorCode::shape, "expert_linear: a narrow product needs w transposed");
  return std::vector{Type{{in[0].shape[0], a.count * w.n}, a.codec, in[0].extent}};
}

// The product of places [first, last) with a matrix; operands may have no data.
Product describe(const ExpertLinearAttributes& a, const Operand& x, const Operand& w, const Operand& y, int64_t first,
                 int64_t last, Term* term) {
  const Extents e = extents(a, w.shape);
  const int64_t from = x.codec->bytes(e.k), to = y.codec->bytes(e.n), rows = last - first;
  *term = {{x.codec, x.data ? x.data + first * from : nullptr, rows, e.k, 0}, w.matrix(), false, a.transposed, 1};
  return {.terms = {term, 1}, .codec = y.codec, .c = y.data ? y.data + first * to : nullptr, .m = rows, .n = e.n};
}

int64_t workspace(const std::any& any, std::span<const Type> in, std::span<const Type> out, Multiply multiply,
                  int threads) {
  const auto& a = of(any);
  int64_t most = 0;
  for (size_t e = kFirst; e < in.size(); ++e) {
    Term term;
    const Product product = describe(a, {nullptr, in[0].shape, in[0].codec}, {nullptr, in[e].shape, in[e].codec},
                                     {nullptr, out[0].shape, out[0].codec}, 0, in[0].shape[0] * a.count, &term);
    most = std::max(most, a.narrow ? narrow_workspace_bytes(multiply, {&product, 1}, threads)
                                   : gemm_workspace_bytes(multiply, product, threads));
  }
  return most;
}

void run(const Call& call) noexcept {
  const auto& a = of(call.attributes);
  const auto* const offsets = call.in[2].as<const int32_t>();
  const size_t experts = call.in.size() - kFirst;
  for (size_t e = 0; e < experts; ++e) {
    if (offsets[e] == offsets[e + 1]) continue;
    Term term;
    const Product product =
        describe(a, call.in[0], call.in[e + kFirst], call.out[0], offsets[e], offsets[e + 1], &term);
    if (a.narrow)
      narrow(call.run.threads, call.run.multiply, {&product, 1}, call.workspace);
    else
      gemm(call.run.threads, call.run.multiply, product, call.workspace);
  }
  const int64_t used = offsets[experts], places = call.in[1].shape.count();
  const int64_t bytes = call.out[0].codec->bytes(call.out[0].shape[1] / a.count);
  std::memset(call.out[0].data + used * bytes, 0, static_cast<size_t>((places - used) * bytes));
}

[[gnu::cold]] void reference(const ReferenceCall& call) {
  const auto& a = call.as<ExpertLinearAttributes>();
  const Extents w = extents(a, call.in[kFirst].shape);
  for (int64_t i = 0; i < call.out[0].shape.count(); ++i) call.out[0][i] = 0;
  for (size_t e = 0; e + kFirst < call.in.size(); ++e)
    for (auto p = static_cast<int64_t>(call.in[2][static_cast<int64_t>(e)]);
         p < static_cast<int64_t>(call.in[2][static_cast<int64_t>(e) + 1]); ++p)
      for (int64_t j = 0; j < w.n; ++j)
        for (int64_t k = 0; k < w.k; ++k)
          call.out[0][p * w.n + j] +=
              call.in[0][p * w.k + k] * call.in[e + kFirst][a.transposed ? j * w.k + k : k * w.n + j];
}

Result<void> gradient(Backward& backward, const Node& node) {
  const ValueId dy = backward.gradient_of(node.out[0]), x = node.in[0];
  if (dy == kNone) return {};
  ExpertLinearAttributes attributes = of(node.attributes);
  const ValueId tokens = backward.saved(node.in[1]), offsets = backward.saved(node.in[2]);
  for (size_t e = kFirst; e < node.in.size(); ++e) {
    if (!backward.wanted(node.in[e])) continue;
    const ValueId kept = backward.saved(x);
    const ExpertDwAttributes own{attributes.count, static_cast<int64_t>(e - kFirst)};
    const ValueId left = attributes.transposed ? dy : kept, right = attributes.transposed ? kept : dy;
    backward.accumulate(node.in[e], kExpertLinearDw, own, {left, right, tokens, offsets}, ".sum");
  }
  if (!backward.wanted(x)) return {};
  attributes.transposed = !attributes.transposed, attributes.narrow = false;
  attributes.codec = backward.graph().value(x).type.codec;
  std::vector<ValueId> in{dy, tokens, offsets};
  in.insert(in.end(), node.in.begin() + kFirst, node.in.end());
  backward.add(x, backward.graph().emit(kExpertLinear, attributes, in, backward.name(x)));
  return {};
}

Result<void> tangent(Tangents& tangents, const Node& node) {
  Graph& g = tangents.graph();
  const std::string name = tangents.name(node.out[0]);
  const auto with = [&](size_t first, const std::vector<ValueId>& moved) {
    std::vector<ValueId> in = node.in;
    std::ranges::copy(moved, in.begin() + static_cast<std::ptrdiff_t>(first));
    return g.emit(kExpertLinear, node.attributes, in, name);
  };
  ValueId sum = kNone;
  if (const ValueId x = tangents.of(node.in[0]); x != kNone) sum = with(0, {x});
  std::vector<ValueId> moved;
  for (size_t e = kFirst; e < node.in.size(); ++e) moved.push_back(tangents.of(node.in[e]));
  if (std::ranges::any_of(moved, [](ValueId w) { return w != kNone; })) {
    for (ValueId& w : moved)
      if (w == kNone) w = g.emit(kZeros, ZerosAttributes{g.value(node.in[kFirst]).type.shape}, {}, name + ".still");
    sum = tangents.sum(sum, with(kFirst, moved), name);
  }
  tangents.set(node.out[0], sum);
  return {};
}

double places(const Type& tokens) { return static_cast<double>(tokens.shape.count()); }

Cost cost(const std::any& any, std::span<const Type> in, std::span<const Type> out) {
  Cost cost{.bytes = moved_bytes(in, out)};
  const Type& w = in[kFirst];
  cost.of(of(any).transposed ? ProductUse::forward : ProductUse::input_gradient) =
      2 * places(in[1]) * static_cast<double>(w.shape.count());
  for (size_t e = kFirst; e < in.size(); ++e)
    if (in[e].codec->block > 1) cost.decoded += static_cast<double>(in[e].shape.count());
  return cost;
}

std::string text(const std::any& any) {
  const auto& a = of(any);
  return fmt::format("{{{} {}{}}}", a.count, a.transposed ? "T" : "N", a.narrow ? " narrow" : "");
}

[[gnu::cold]] std::vector<Sample> samples() {
  const Type tokens{{3, 2}, &kI32}, offsets{{4}, &kI32};
  const auto f = [](int64_t a, int64_t b) { return Type{{a, b}}; };
  const std::vector<std::vector<int32_t>> integers{{}, {0, 2, 1, 2, -1, -1}, {0, 2, 2, 4}, {}, {}, {}};
  return {{ExpertLinearAttributes{.count = 2}, {f(3, 14), tokens, offsets, f(5, 7), f(5, 7), f(5, 7)}, integers},
          {ExpertLinearAttributes{.count = 2, .transposed = false},
           {f(3, 14), tokens, offsets, f(7, 5), f(7, 5), f(7, 5)},
           integers},
          {ExpertLinearAttributes{.count = 2, .codec = &kBf16, .narrow = true},
           {Type{{3, 128}, &kBf16}, tokens, offsets, Type{{33, 64}, &kQ8_0}, Type{{33, 64}, &kBf16}, f(33, 64)},
           integers}};
}

// in: accumulator, left, right, tokens, offsets.
Result<std::vector<Type>> infer_dw(const std::any& any, std::span<const Type> in) {
  const auto& a = *std::any_cast<ExpertDwAttributes>(&any);
  CHECK_OK(expect_operands("expert_linear_dw", in, 5));
  CHECK_OK(expect_rank("expert_linear_dw", "accumulator", in[0], 2));
  CHECK_OK(expect_f32("expert_linear_dw", "accumulator", in[0]));
  CHECK_OK(expect_rank("expert_linear_dw", "left", in[1], 2));
  CHECK_OK(expect_places("expert_linear_dw", in[3], in[1].shape[0], a.count));
  CHECK_OK(expect_indices("expert_linear_dw", "offsets", in[4]));
  if (a.expert < 0 || a.expert + 1 >= in[4].shape[0])
    return fail(ErrorCode::shape, "expert_linear_dw: there is no expert {}", a.expert);
  for (const size_t i : {size_t{1}, size_t{2}}) {
    const int64_t columns = in[0].shape[static_cast<int>(i) - 1];
    CHECK_OK(expect_shape("expert_linear_dw", i == 1 ? "left" : "right", in[i], {in[1].shape[0], a.count * columns}));
    if (columns % in[i].codec->block != 0)
      return fail(ErrorCode::shape, "expert_linear_dw: places of {} are no whole blocks of {}", columns,
                  in[i].codec->name);
  }
  return std::vector{Type{in[0].shape, &kF32}};
}

// Places [first, last), all of one granule.
Product describe_dw(const Operand& left, const Operand& right, const Operand& out, int64_t first, int64_t last,
                    Term* term) {
  const auto rows = [&](const Operand& operand, int64_t columns) {
    return Matrix{operand.codec, operand.data ? operand.data + first * operand.codec->bytes(columns) : nullptr,
                  last - first, columns, 0};
  };
  *term = {rows(left, out.shape[0]), rows(right, out.shape[1]), true, false, 1};
  return {.terms = {term, 1}, .codec = &kF32, .c = out.data, .m = out.shape[0], .n = out.shape[1], .accumulate = true};
}

int64_t workspace_dw(const std::any&, std::span<const Type> in, std::span<const Type> out, Multiply multiply,
                     int threads) {
  const auto operand = [](const Type& type) { return Operand{nullptr, type.shape, type.codec}; };
  Term term;
  const Product product =
      describe_dw(operand(in[1]), operand(in[2]), operand(out[0]), 0, std::min(kGranule, in[1].shape[0]), &term);
  return gemm_workspace_bytes(multiply, product, threads);
}

void run_dw(const Call& call) noexcept {
  const auto expert = static_cast<size_t>(call.as<ExpertDwAttributes>().expert);
  const auto* const tokens = call.in[3].as<const int32_t>();
  const auto* const offsets = call.in[4].as<const int32_t>();
  for (int64_t first = offsets[expert]; first < offsets[expert + 1];) {
    int64_t last = first + 1;
    while (last < offsets[expert + 1] && tokens[last] / kGranule == tokens[first] / kGranule) ++last;
    Term term;
    const Product product = describe_dw(call.in[1], call.in[2], call.out[0], first, last, &term);
    gemm(call.run.threads, call.run.multiply, product, call.workspace);
    first = last;
  }
}

[[gnu::cold]] void reference_dw(const ReferenceCall& call) {
  const int64_t n = call.in[0].shape[0], k = call.in[0].shape[1], e = call.as<ExpertDwAttributes>().expert;
  for (int64_t i = 0; i < n * k; ++i) call.out[0][i] = call.in[0][i];
  for (auto p = static_cast<int64_t>(call.in[4][e]); p < static_cast<int64_t>(call.in[4][e + 1]); ++p)
    for (int64_t i = 0; i < n; ++i)
      for (int64_t j = 0; j < k; ++j) call.out[0][i * k + j] += call.in[1][p * n + i] * call.in[2][p * k + j];
}

Cost cost_dw(const std::any&, std::span<const Type> in, std::span<const Type> out) {
  Cost cost{.bytes = moved_bytes(in, out)};
  cost.of(ProductUse::weight_gradient) =
      2 * places(in[3]) * static_cast<double>(out[0].shape.count()) / static_cast<double>(in[4].shape[0] - 1);
  return cost;
}

std::string text_dw(const std::any& any) {
  const auto& a = *std::any_cast<ExpertDwAttributes>(&any);
  return fmt::format("{{{} expert {}}}", a.count, a.expert);
}

[[gnu::cold]] std::vector<Sample> samples_dw() {
  const Type tokens{{3, 2}, &kI32}, offsets{{4}, &kI32};
  const std::vector<std::vector<int32_t>> integers{{}, {}, {}, {0, 2, 1, 2, -1, -1}, {0, 2, 2, 4}};
  // Tokens of three granules.
  std::vector<int32_t> many(1100, -1);
  for (int32_t i = 0; i < 700; ++i) many[static_cast<size_t>(i)] = i < 100 ? i : i + 400;
  return {{ExpertDwAttributes{2, 0}, {Type{{5, 7}}, Type{{3, 10}}, Type{{3, 14}}, tokens, offsets}, integers},
          {ExpertDwAttributes{2, 1}, {Type{{5, 7}}, Type{{3, 10}}, Type{{3, 14}}, tokens, offsets}, integers},
          {ExpertDwAttributes{1, 1},
           {Type{{9, 5}}, Type{{1100, 9}, &kBf16}, Type{{1100, 5}, &kBf16}, Type{{1100, 1}, &kI32}, Type{{3}, &kI32}},
           {{}, {}, {}, many, {0, 50, 700}}}};
}

constexpr InPlace kAccumulates[] = {{0, 0, true}};

}  // namespace

const Op kExpertLinear = {.name = "expert_linear",
                          .infer = infer,
                          .text = text,
                          .gradient = gradient,
                          .tangent = tangent,
                          .workspace = workspace,
                          .cost = cost,
                          .reference = reference,
                          .run = run,
                          .samples = samples,
                          .alone = true};
const Op kExpertLinearDw = {.name = "expert_linear_dw",
                            .infer = infer_dw,
                            .text = text_dw,
                            .workspace = workspace_dw,
                            .cost = cost_dw,
                            .reference = reference_dw,
                            .run = run_dw,
                            .samples = samples_dw,
                            .in_place = kAccumulates,
                            .alone = true};

}  // namespace thimble
