// hybrid_tokens: a text in which some tokens are replaced by earlier ones of it, so that single tokens say nothing
// about what is wrong and only what is around them does.
//
//   Source  the negative data of Hinton 2022, arXiv:2212.13345, section 3.2: hybrids of two real inputs
//   Draws   two numbers a row, keyed by (seed, stream, step, row of the step): neither the rows of a pass nor threads
//           change them
#include "ops/hybrid_tokens.h"

#include "core/random.h"
#include "ops/shape_rule.h"

namespace thimble {
namespace {

const HybridTokensAttributes& of(const std::any& any) { return *std::any_cast<HybridTokensAttributes>(&any); }

Result<std::vector<Type>> infer(const std::any& any, std::span<const Type> in) {
  CHECK_OK(expect_operands("hybrid_tokens", in, 3));
  CHECK_OK(expect_indices("hybrid_tokens", "ids", in[0]));
  CHECK_OK(expect_indices("hybrid_tokens", "starts", in[1], in[0].shape[0]));
  CHECK_OK(expect_indices("hybrid_tokens", "targets", in[2], in[0].shape[0]));
  if (!(of(any).replaced >= 0 && of(any).replaced <= 1))
    return fail(ErrorCode::invalid_argument, "hybrid_tokens: the part that is replaced should be in [0, 1], found {}",
                of(any).replaced);
  const Type counts{in[0].shape, &kF32, in[0].extent};
  return std::vector{in[0], counts, counts};
}

// Calls write(row, token, counts in the text, counts in the other one) for each row, in order.
template <class Id, class Write>
void walk(const HybridTokensAttributes& a, const RunContext& run, int64_t rows, const Id& at, const Write& write) {
  const Random random(run.seed, a.stream, run.step);
  bool wrong = false;
  for (int64_t i = 0; i < rows; ++i) {
    const uint64_t row = 2 * (run.first_row + static_cast<uint64_t>(i));
    const int64_t begin = at(1, i), id = at(0, i);
    int64_t token = id;
    if (begin < i && static_cast<double>(random.uniform(row)) < a.replaced)
      token = at(0, begin + static_cast<int64_t>(random.below(row + 1, static_cast<uint64_t>(i - begin))));
    wrong = token != id || (a.lasting && wrong && begin < i);
    const bool counts = at(2, i) >= 0;
    write(i, token, counts, counts && wrong);
  }
}

void run(const Call& call) noexcept {
  call.run.threads.once([&] {
    const auto at = [&](size_t operand, int64_t i) -> int64_t { return call.in[operand].as<const int32_t>()[i]; };
    walk(of(call.attributes), call.run, call.in[0].shape[0], at, [&](int64_t i, int64_t token, bool real, bool wrong) {
      if (call.out[0]) call.out[0].as<int32_t>()[i] = static_cast<int32_t>(token);
      if (call.out[1]) call.out[1].as<float>()[i] = real ? 1.0f : 0.0f;
      if (call.out[2]) call.out[2].as<float>()[i] = wrong ? 1.0f : 0.0f;
    });
  });
}

// Row by row from the definition: whether some token up to here, of the same text, was replaced by another.
[[gnu::cold]] void reference(const ReferenceCall& call) {
  const auto& a = of(call.attributes);
  const Random random(call.run.seed, a.stream, call.run.step);
  const auto token = [&](int64_t i) {
    const uint64_t row = 2 * (call.run.first_row + static_cast<uint64_t>(i));
    const auto begin = static_cast<int64_t>(call.in[1][i]);
    if (begin == i || static_cast<double>(random.uniform(row)) >= a.replaced) return call.in[0][i];
    return call.in[0][begin + static_cast<int64_t>(random.below(row + 1, static_cast<uint64_t>(i - begin)))];
  };
  for (int64_t i = 0; i < call.in[0].shape[0]; ++i) {
    const int64_t first = a.lasting ? static_cast<int64_t>(call.in[1][i]) : i;
    bool wrong = false;
    for (int64_t j = first; j <= i; ++j) wrong |= token(j) != call.in[0][j];
    const bool counts = call.in[2][i] >= 0;
    if (call.out[0]) call.out[0][i] = token(i);
    if (call.out[1]) call.out[1][i] = counts;
    if (call.out[2]) call.out[2][i] = counts && wrong;
  }
}

[[gnu::cold]] std::vector<Sample> samples() {
  const std::vector<std::vector<int32_t>> integers{
      {5, 6, 7, 8, 9, 1, 2, 3, 4, 5, 6}, {0, 0, 0, 0, 0, 0, 6, 6, 6, 6, 10}, {6, 7, 8, 9, 1, -1, 3, -1, 5, 6, -1}};
  const Type rows{{11}, &kI32};
  return {{HybridTokensAttributes{.replaced = 0.5, .stream = 3}, {rows, rows, rows}, integers},
          {HybridTokensAttributes{.replaced = 0.4, .stream = 5, .lasting = true}, {rows, rows, rows}, integers},
          {HybridTokensAttributes{.replaced = 1, .stream = 7}, {rows, rows, rows}, integers}};
}

std::string text(const std::any& any) {
  return fmt::format("{{{} {:x}{}}}", of(any).replaced, of(any).stream, of(any).lasting ? ", lasting" : "");
}

}  // namespace

const Op kHybridTokens = {.name = "hybrid_tokens",
                          .infer = infer,
                          .text = text,
                          .cost = pointwise_cost,
                          .reference = reference,
                          .run = run,
                          .samples = samples,
                          .detaches = true};

}  // namespace thimble
