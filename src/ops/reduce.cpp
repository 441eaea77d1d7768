// reduce: sums, sums of squares or of absolute values, and maxima, over columns (one number a row), rows (one a
// column) or all elements.
//
//   y         sum_j f(x_ij), f(x) = x, x^2 or |x|;  or max_j x_ij
//   Gradient  dx_ij = f'(x_ij) dy, broadcast; none for the maximum
//   Order     a row in one vector sum; rows in granules of 512, each summed in order in f32; all: rows in double
#include <cmath>
#include <limits>

#include "ops/backward.h"
#include "ops/pointwise.h"
#include "ops/rows.h"
#include "ops/shape_rule.h"
#include "ops/table.h"
#include "ops/tangents.h"
#include "ops/update.h"

namespace thimble {
namespace {

const ReduceAttributes& of(const std::any& attributes) { return *std::any_cast<ReduceAttributes>(&attributes); }

Result<std::vector<Type>> infer(const std::any& any, std::span<const Type> in) {
  CHECK_OK(expect_operands("reduce", in, 1));
  CHECK_OK(expect_numbers("reduce", "x", in[0]));
  if (in[0].shape.count() == 0) return fail(ErrorCode::shape, "reduce: x {} is empty", in[0].shape.text());
  switch (of(any).over) {
    case ReduceOver::columns:
      return std::vector{Type{{in[0].shape.rows()}, &kF32, in[0].extent}};
    case ReduceOver::rows:
      return std::vector{Type{{in[0].shape.columns()}}};
    case ReduceOver::all:
      return std::vector{Type{{1}}};
  }
  return fail(ErrorCode::shape, "reduce: over what?");
}

double start(Reduce kind) { return kind == Reduce::maximum ? -std::numeric_limits<double>::infinity() : 0; }

double join(Reduce kind, double total, double x) {
  switch (kind) {
    case Reduce::sum:
      return total + x;
    case Reduce::squares:
      return total + x * x;
    case Reduce::absolute:
      return total + std::abs(x);
    case Reduce::maximum:
      return std::max(total, x);
  }
  return total;
}

float of_row(Reduce kind, const float* x, int64_t n) noexcept {
  if (kind == Reduce::sum) return sum(x, n);
  if (kind == Reduce::squares) return dot(x, x, n);
  if (kind == Reduce::maximum) return max(x, n);
  float total = 0;
  for (int64_t j = 0; j < n; ++j) total += std::abs(x[j]);
  return total;
}

// A row of buffers a thread; over all, a double a row too.
int64_t workspace(const std::any& any, std::span<const Type> in, std::span<const Type>, Multiply, int threads) {
  const int64_t buffers = row_buffer_bytes(in[0].shape.columns(), 2, threads);
  return buffers + (of(any).over == ReduceOver::all ? 8 * in[0].shape.rows() : 0);
}

void over_columns(const Call& call) noexcept {
  const int64_t n = call.in[0].shape.columns();
  call.run.threads.split(call.in[0].shape.rows(), 1, [&](int64_t begin, int64_t end, int thread) {
    for (int64_t r = begin; r < end; ++r)
      call.out[0].as<float>()[r] =
          of_row(of(call.attributes).kind, read_row(call.in[0], r, n, row_buffer(call, n, 2, thread, 0)), n);
  });
}

// Threads share the columns; each goes through all rows.
void over_rows(const Call& call) noexcept {
  const Operand& x = call.in[0];
  const Reduce kind = of(call.attributes).kind;
  const int64_t rows = x.shape.rows(), n = x.shape.columns();
  call.run.threads.divide(n, 16, [&](int64_t begin, int64_t end, int thread) {
    float* const buffer = row_buffer(call, n, 2, thread, 0);
    float* const partial = row_buffer(call, n, 2, thread, 1);
    float* const y = call.out[0].as<float>();
    std::fill(y + begin, y + end, static_cast<float>(start(kind)));
    for (int64_t first = 0; first < rows; first += kGranule) {
      std::fill(partial + begin, partial + end, static_cast<float>(start(kind)));
      for (int64_t r = first; r < std::min(rows, first + kGranule); ++r) {
        const float* const row = read_row(x, r, n, buffer);
        for (int64_t j = begin; j < end; ++j) partial[j] = static_cast<float>(join(kind, partial[j], row[j]));
      }
      for (int64_t j = begin; j < end; ++j)
        y[j] = kind == Reduce::maximum ? std::max(y[j], partial[j]) : y[j] + partial[j];
    }
  });
}

void over_all(const Call& call) noexcept {
  const Reduce kind = of(call.attributes).kind;
  const int64_t rows = call.in[0].shape.rows(), n = call.in[0].shape.columns();
  double* const each =
      reinterpret_cast<double*>(call.workspace.data() + row_buffer_bytes(n, 2, call.run.threads.count()));
  call.run.threads.split(rows, 1, [&](int64_t begin, int64_t end, int thread) {
    for (int64_t r = begin; r < end; ++r)
      each[r] = static_cast<double>(of_row(kind, read_row(call.in[0], r, n, row_buffer(call, n, 2, thread, 0)), n));
  });
  call.run.threads.once([&] {
    double total = start(kind);
    for (int64_t r = 0; r < rows; ++r) total = kind == Reduce::maximum ? std::max(total, each[r]) : total + each[r];
    call.out[0].as<float>()[0] = static_cast<float>(total);
  });
}

void run(const Call& call) noexcept {
  switch (of(call.attributes).over) {
    case ReduceOver::columns:
      return over_columns(call);
    case ReduceOver::rows:
      return over_rows(call);
    case ReduceOver::all:
      return over_all(call);
  }
}

[[gnu::cold]] void reference(const ReferenceCall& call) {
  const auto [kind, over] = of(call.attributes);
  const int64_t n = call.in[0].shape.columns();
  for (int64_t i = 0; i < call.out[0].shape.count(); ++i) call.out[0][i] = start(kind);
  for (int64_t e = 0; e < call.in[0].shape.count(); ++e) {
    double& y = call.out[0][over == ReduceOver::columns ? e / n : over == ReduceOver::rows ? e % n : 0];
    y = join(kind, y, call.in[0][e]);
  }
}

Result<void> gradient(Backward& backward, const Node& node) {
  const ValueId dy = backward.gradient_of(node.out[0]), x = node.in[0];
  if (dy == kNone || !backward.wanted(x)) return {};
  const auto [kind, over] = of(node.attributes);
  if (kind == Reduce::maximum) return fail(ErrorCode::unsupported, "backward: the maximum of reduce has no gradient");
  Graph& g = backward.graph();
  PointwiseBuilder b;
  const Expr d = b.operand(over == ReduceOver::columns ? PointwiseAttributes::Kind::column
                           : over == ReduceOver::rows  ? PointwiseAttributes::Kind::row
                                                       : PointwiseAttributes::Kind::scalar);
  const Expr value = b.tensor();
  b.output(kind == Reduce::squares    ? 2 * d * value
           : kind == Reduce::absolute ? d * sign(value)
                                      : d + 0 * value,
           g.producer(x) < 0 ? &kF32 : g.value(x).type.codec);
  backward.add(x, g.emit(kPointwise, b.attributes(), {dy, backward.saved(x)}, backward.name(x)));
  return {};
}

// The sum of what each number adds: x', 2 x x' or sign(x) x'.
Result<void> tangent(Tangents& tangents, const Node& node) {
  const auto [kind, over] = of(node.attributes);
  if (kind == Reduce::sum) return linear_tangent<0>(tangents, node);
  if (kind == Reduce::maximum)
    return fail(ErrorCode::unsupported, "forward-mode derivative: the maximum of reduce has none");
  Graph& g = tangents.graph();
  const std::string name = tangents.name(node.out[0]);
  PointwiseBuilder b;
  const Expr x = b.tensor(), moved = b.tensor();
  b.output(kind == Reduce::squares ? 2 * x * moved : sign(x) * moved);
  const ValueId each = g.emit(kPointwise, b.attributes(), {node.in[0], tangents.of(node.in[0])}, name + ".each");
  tangents.set(node.out[0], g.emit(kReduce, ReduceAttributes{Reduce::sum, over}, {each}, name));
  return {};
}

std::string text(const std::any& any) {
  constexpr const char* kKinds[] = {"sum", "squares", "absolute", "maximum"};
  constexpr const char* kOver[] = {"columns", "rows", "all"};
  return fmt::format("{{{} over {}}}", kKinds[static_cast<int>(of(any).kind)], kOver[static_cast<int>(of(any).over)]);
}

[[gnu::cold]] std::vector<Sample> samples() {
  std::vector<Sample> out;
  for (ReduceOver over : {ReduceOver::columns, ReduceOver::rows, ReduceOver::all}) {
    for (Reduce kind : {Reduce::sum, Reduce::squares, Reduce::absolute})
      out.push_back({ReduceAttributes{kind, over}, {Type{{5, 33}}}});
    out.push_back({ReduceAttributes{Reduce::maximum, over}, {Type{{530, 17}, &kBf16}}, {}, {0}});
  }
  return out;
}

}  // namespace

const Op kReduce = {.name = "reduce",
                    .infer = infer,
                    .text = text,
                    .gradient = gradient,
                    .tangent = tangent,
                    .workspace = workspace,
                    .cost = pointwise_cost,
                    .reference = reference,
                    .run = run,
                    .samples = samples};

}  // namespace thimble
