// couple: y = scale x + by f + cross c, with x, c and y as sums of four f32 numbers (couple.h). It is its own inverse
// with respect to x, by other factors.
//
//   Paper     Gomez et al. 2017 (RevNet), arXiv:1707.04585, eq. 6 and 7; several numbers for one: Dekker 1971,
//             "A floating-point technique for extending the available precision"
//   Gradient  dx = scale dy;  df = by dy;  dc = cross dy; low parts have none
//   Tangent   y' = scale x' + by f' + cross c'
//   Keeps     nothing
#include "ops/couple.h"

#include <optional>

#include "ops/backward.h"
#include "ops/pointwise.h"
#include "ops/rows.h"
#include "ops/shape_rule.h"
#include "ops/tangents.h"
#include "ops/update.h"

namespace thimble {
namespace {

constexpr auto kX = CoupleAttributes::kX, kLow = CoupleAttributes::kLow, kF = CoupleAttributes::kF,
               kC = CoupleAttributes::kC, kCLow = CoupleAttributes::kCLow;

constexpr int64_t kLowParts = 3;

const CoupleAttributes& of(const std::any& attributes) { return *std::any_cast<CoupleAttributes>(&attributes); }

Result<std::vector<Type>> infer(const std::any&, std::span<const Type> in) {
  CHECK_OK(expect_operands("couple", in, 5));
  CHECK_OK(expect_rank("couple", "x", in[kX], 2));
  CHECK_OK(expect_shape("couple", "f", in[kF], in[kX].shape));
  const Shape& shape = in[kX].shape;
  Type low = in[kX];
  low.shape = {shape[0], kLowParts * shape[1]};
  struct {
    size_t operand;
    const char* name;
    const Shape& shape;
  } const expected[] = {
      {kX, "x", shape}, {kC, "c", shape}, {kLow, "low parts of x", low.shape}, {kCLow, "low parts of c", low.shape}};
  for (const auto& [operand, name, of_it] : expected) {
    if (absent(in[operand])) continue;
    CHECK_OK(expect_shape("couple", name, in[operand], of_it));
    CHECK_OK(expect_f32("couple", name, in[operand]));
  }
  if (absent(in[kC]) && !absent(in[kCLow]))
    return fail(ErrorCode::shape, "couple: c is missing, its low parts are not");
  return std::vector{in[kX], low};
}

int64_t workspace(const std::any&, std::span<const Type> in, std::span<const Type>, Multiply, int threads) {
  return row_buffer_bytes(in[kX].shape[1], 1, threads);
}

// A number as the sum of two doubles, the second below the last bit of the first.
struct Pair {
  double high = 0, low = 0;
};

// x + y is high + low without an error (Knuth 1969).
Pair exact_sum(double x, double y) noexcept {
  const double high = x + y, part = high - x;
  return {high, (x - (high - part)) + (y - part)};
}

// Two f32 numbers of 24 bits each fit into a double of 53.
Pair pair_of(const float* high, const float* low, int64_t j) noexcept {
  if (!high) return {};
  if (!low) return {high[j], 0};
  const float* const parts = low + kLowParts * j;
  return {double{high[j]} + parts[0], double{parts[1]} + parts[2]};
}

void write(Pair sum, float* high, float* low, int64_t j) noexcept {
  high[j] = static_cast<float>(sum.high);
  if (!low) return;
  float* const parts = low + kLowParts * j;
  const double rest = sum.high - high[j];  // exact, as is what is left of it
  parts[0] = static_cast<float>(rest);
  const double last = (rest - parts[0]) + sum.low;
  parts[1] = static_cast<float>(last);
  parts[2] = static_cast<float>(last - parts[1]);
}

void run(const Call& call) noexcept {
  const CoupleAttributes a = call.as<CoupleAttributes>();
  const int64_t n = call.in[kX].shape[1];
  call.run.threads.split(call.in[kX].shape[0], 1, [&](int64_t begin, int64_t end, int thread) {
    const auto row = [](const Operand& operand, int64_t i, int64_t columns) {
      return operand ? operand.as<float>() + i * columns : nullptr;
    };
    for (int64_t i = begin; i < end; ++i) {
      const float *const x = row(call.in[kX], i, n), *const low = row(call.in[kLow], i, kLowParts * n);
      const float *const c = row(call.in[kC], i, n), *const c_low = row(call.in[kCLow], i, kLowParts * n);
      const float* const f = read_row(call.in[kF], i, n, row_buffer(call, n, 1, thread, 0));
      float *const y = row(call.out[0], i, n), *const y_low = row(call.out[1], i, kLowParts * n);
      for (int64_t j = 0; j < n; ++j) {
        const Pair own = pair_of(x, low, j), other = pair_of(c, c_low, j);
        const Pair both = exact_sum(a.scale * own.high, a.cross * other.high);
        const Pair all = exact_sum(both.high, a.by * f[j]);
        const double rest = all.low + both.low + (a.scale * own.low + a.cross * other.low);
        write(exact_sum(all.high, rest), y, y_low, j);
      }
    }
  });
}

[[gnu::cold]] void reference(const ReferenceCall& call) {
  const CoupleAttributes& a = of(call.attributes);
  const auto at = [&](size_t operand, int64_t i) { return call.in[operand] ? call.in[operand][i] : 0.0; };
  const auto whole = [&](size_t high, size_t low, int64_t i) {
    return at(high, i) + at(low, kLowParts * i) + at(low, kLowParts * i + 1) + at(low, kLowParts * i + 2);
  };
  for (int64_t i = 0; i < call.in[kX].shape.count(); ++i)
    call.out[0][i] = a.scale * whole(kX, kLow, i) + a.by * at(kF, i) + a.cross * whole(kC, kCLow, i);
  // A double holds all of it.
  for (int64_t i = 0; call.out[1] && i < call.out[1].shape.count(); ++i) call.out[1][i] = 0;
}

Result<void> gradient(Backward& backward, const Node& node) {
  const ValueId dy = backward.gradient_of(node.out[0]);
  if (dy == kNone) return {};
  const CoupleAttributes& a = of(node.attributes);
  Graph& graph = backward.graph();
  for (const auto& [operand, factor] : {std::pair{kX, a.scale}, {kF, a.by}, {kC, a.cross}}) {
    const ValueId value = node.in[operand];
    if (!backward.wanted(value)) continue;
    if (factor == 1) {
      backward.add(value, dy);
      continue;
    }
    PointwiseBuilder b;
    b.output(b.tensor() * factor, graph.value(value).type.codec);
    backward.add(value, graph.emit(kPointwise, b.attributes(), {dy}, backward.name(value)));
  }
  return {};
}

// Numbers that the low parts add are below what a derivative in f32 holds.
Result<void> tangent(Tangents& tangents, const Node& node) {
  const CoupleAttributes& a = of(node.attributes);
  std::optional<Expr> sum;
  std::vector<ValueId> in;
  PointwiseBuilder b;
  for (const auto& [operand, factor] : {std::pair{kX, a.scale}, {kF, a.by}, {kC, a.cross}}) {
    const ValueId moved = tangents.of(node.in[operand]);
    if (moved == kNone) continue;
    const Expr term = b.tensor() * factor;
    sum = sum ? *sum + term : term;
    in.push_back(moved);
  }
  if (!sum) return {};
  b.output(*sum);
  tangents.set(node.out[0], tangents.graph().emit(kPointwise, b.attributes(), in, tangents.name(node.out[0])));
  return {};
}

[[gnu::cold]] std::vector<Sample> samples() {
  const Type none{.codec = nullptr}, x{{5, 33}}, low{{5, 99}};
  return {{CoupleAttributes{0.5, 1.5, -1}, {x, low, x, x, low}, {}, {1, 4}},
          {CoupleAttributes{1, 1, 0}, {x, none, Type{{5, 33}, &kBf16}, none, none}},
          {CoupleAttributes{0.25, 1, 2}, {x, none, x, x, none}}};
}

std::string text(const std::any& attributes) {
  const CoupleAttributes& a = of(attributes);
  return fmt::format("{{{} {} {}}}", a.scale, a.by, a.cross);
}

constexpr InPlace kOverX[] = {{0, 0, false}, {1, 1, false}};  // a number is read whole before it is written

}  // namespace

const Op kCouple = {.name = "couple",
                    .infer = infer,
                    .text = text,
                    .gradient = gradient,
                    .tangent = tangent,
                    .workspace = workspace,
                    .cost = pointwise_cost,
                    .reference = reference,
                    .run = run,
                    .samples = samples,
                    .in_place = kOverX};

Wide couple(Graph& graph, const CoupleAttributes& attributes, const Wide& x, ValueId f, const Wide& c,
            const std::string& name) {
  const std::vector<ValueId> out = graph.emit_all(kCouple, attributes, {x.high, x.low, f, c.high, c.low}, name);
  return {out[0], out[1]};
}

ValueId in_codec(Graph& graph, ValueId rows, const Codec& codec, const std::string& name) {
  if (graph.value(rows).type.codec == &codec) return rows;
  PointwiseBuilder b;
  b.output(b.tensor(), &codec);
  return graph.emit(kPointwise, b.attributes(), {rows}, name);
}

ValueId joined(Graph& graph, const Wide& x, const Wide& y, double weight, const Codec& codec, const std::string& name) {
  PointwiseBuilder b;
  const Expr one = b.tensor(), other = b.tensor();
  b.output((one + weight * other) * (1 / (1 + weight)), &codec);
  return graph.emit(kPointwise, b.attributes(), {x.high, y.high}, name);
}

}  // namespace thimble
