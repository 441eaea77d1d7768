// dropout: y = x * mask / (1 - rate). The mask is drawn from a counter keyed by (seed, stream, step, global element),
// so it is not stored: the gradient is the same operation on dy, and a recomputed forward pass draws the same mask.
//
//   Paper     Srivastava et al. 2014, JMLR 15
#include "core/random.h"
#include "ops/backward.h"
#include "ops/rows.h"
#include "ops/shape_rule.h"
#include "ops/table.h"
#include "ops/tangents.h"

namespace thimble {
namespace {

const DropoutAttributes& of(const std::any& attributes) { return *std::any_cast<DropoutAttributes>(&attributes); }

Result<std::vector<Type>> infer(const std::any& any, std::span<const Type> in) {
  CHECK_OK(expect_operands("dropout", in, 1));
  CHECK_OK(expect_rank("dropout", "x", in[0], 2));
  if (!(of(any).rate >= 0 && of(any).rate < 1))
    return fail(ErrorCode::invalid_argument, "dropout: the rate should be in [0, 1), found {}", of(any).rate);
  return std::vector{in[0]};
}

float factor(const DropoutAttributes& attributes, const RunContext& run, uint64_t element) noexcept {
  const Random random(run.seed, attributes.stream, run.step);
  return random.uniform(element) < static_cast<float>(attributes.rate)
             ? 0.0f
             : static_cast<float>(1.0 / (1.0 - attributes.rate));
}

int64_t workspace(const std::any&, std::span<const Type> in, std::span<const Type>, Multiply, int threads) {
  return row_buffer_bytes(in[0].shape[1], 2, threads);
}

void run(const Call& call) noexcept {
  const int64_t n = call.in[0].shape[1];
  call.run.threads.split(call.in[0].shape[0], 1, [&](int64_t begin, int64_t end, int thread) {
    float* const y = row_buffer(call, n, 2, thread, 1);
    for (int64_t i = begin; i < end; ++i) {
      const float* const x = read_row(call.in[0], i, n, row_buffer(call, n, 2, thread, 0));
      const uint64_t first = (call.run.first_row + static_cast<uint64_t>(i)) * static_cast<uint64_t>(n);
      for (int64_t j = 0; j < n; ++j)
        y[j] = x[j] * factor(call.as<DropoutAttributes>(), call.run, first + static_cast<uint64_t>(j));
      write_row(call.out[0], i, n, y);
    }
  });
}

[[gnu::cold]] void reference(const ReferenceCall& call) {
  for (int64_t i = 0; i < call.in[0].shape.count(); ++i)
    call.out[0][i] =
        call.in[0][i] * static_cast<double>(factor(call.as<DropoutAttributes>(), call.run,
                                                   call.run.first_row * static_cast<uint64_t>(call.in[0].shape[1]) +
                                                       static_cast<uint64_t>(i)));
}

Result<void> gradient(Backward& backward, const Node& node) {
  const ValueId dy = backward.gradient_of(node.out[0]);
  if (dy == kNone || !backward.wanted(node.in[0])) return {};
  backward.add(node.in[0], backward.graph().emit(kDropout, node.attributes, {dy}, backward.name(node.in[0])));
  return {};
}

[[gnu::cold]] std::vector<Sample> samples() {
  return {{DropoutAttributes{.rate = 0.3, .stream = 5}, {Type{{3, 17}}}},
          {DropoutAttributes{.rate = 0.5, .stream = 9}, {Type{{5, 33}, &kBf16}}}};
}

constexpr InPlace kOverX[] = {{0, 0, false}};

}  // namespace

const Op kDropout = {.name = "dropout",
                     .infer = infer,
                     .text = [](const std::any& a) { return fmt::format("{{{} {:x}}}", of(a).rate, of(a).stream); },
                     .gradient = gradient,
                     .tangent = linear_tangent<0>,
                     .workspace = workspace,
                     .cost = pointwise_cost,
                     .reference = reference,
                     .run = run,
                     .samples = samples,
                     .in_place = kOverX};

}  // namespace thimble
