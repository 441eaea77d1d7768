// top_k: the largest numbers of a vector, the largest first, and where they were. Of equal numbers the earlier comes
// first; what is not a number comes last.
//
//   Gradient  none: an order is not differentiated
#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "ops/matrix.h"
#include "ops/rows.h"
#include "ops/shape_rule.h"

namespace thimble {
namespace {

int64_t count_of(const std::any& attributes) { return std::any_cast<TopKAttributes>(&attributes)->count; }

Result<std::vector<Type>> infer(const std::any& any, std::span<const Type> in) {
  CHECK_OK(expect_operands("top_k", in, 1));
  CHECK_OK(expect_rank("top_k", "x", in[0], 1));
  CHECK_OK(expect_f32("top_k", "x", in[0]));
  const int64_t count = count_of(any), n = in[0].shape[0];
  if (count < 1 || count > n) return fail(ErrorCode::shape, "top_k: {} numbers of {}", count, n);
  return std::vector{Type{{count}}, Type{{count}, &kI32}};
}

// Puts the places of the `count` largest of x [n] first, in order.
void order(const float* x, int32_t* places, int64_t n, int64_t count) noexcept {
  std::iota(places, places + n, 0);
  const auto key = [&](int32_t i) { return std::isnan(x[i]) ? -std::numeric_limits<float>::infinity() : x[i]; };
  std::partial_sort(places, places + count, places + n, [&](int32_t a, int32_t b) {
    const float first = key(a), second = key(b);
    return first != second ? first > second : a < b;
  });
}

int64_t workspace(const std::any&, std::span<const Type> in, std::span<const Type>, Multiply, int) {
  return 4 * in[0].shape[0];
}

void run(const Call& call) noexcept {
  const float* const x = call.in[0].as<const float>();
  const int64_t n = call.in[0].shape[0], count = count_of(call.attributes);
  call.run.threads.once([&] {
    auto* const places = reinterpret_cast<int32_t*>(call.workspace.data());
    order(x, places, n, count);
    if (call.out[0])
      for (int64_t i = 0; i < count; ++i) call.out[0].as<float>()[i] = x[places[i]];
    if (call.out[1]) std::copy(places, places + count, call.out[1].as<int32_t>());
  });
}

[[gnu::cold]] void reference(const ReferenceCall& call) {
  const int64_t n = call.in[0].shape[0];
  std::vector<char> taken(static_cast<size_t>(n), 0);
  for (int64_t i = 0; i < count_of(call.attributes); ++i) {
    int64_t best = -1;
    for (int64_t k = 0; k < n; ++k)
      if (!taken[static_cast<size_t>(k)] && (best < 0 || call.in[0][k] > call.in[0][best])) best = k;
    taken[static_cast<size_t>(best)] = 1;
    if (call.out[0]) call.out[0][i] = call.in[0][best];
    if (call.out[1]) call.out[1][i] = static_cast<double>(best);
  }
}

std::string text(const std::any& any) { return fmt::format("{{{}}}", count_of(any)); }

Cost cost(const std::any& any, std::span<const Type> in, std::span<const Type>) {
  return {.bytes = 8 * static_cast<double>(in[0].shape[0]) * (1 + std::log2(1 + static_cast<double>(count_of(any))))};
}

[[gnu::cold]] std::vector<Sample> samples() {
  return {{TopKAttributes{5}, {Type{{37}}}}, {TopKAttributes{8}, {Type{{8}}}}, {TopKAttributes{1}, {Type{{1}}}}};
}

}  // namespace

const Op kTopK = {.name = "top_k",
                  .infer = infer,
                  .text = text,
                  .workspace = workspace,
                  .cost = cost,
                  .reference = reference,
                  .run = run,
                  .samples = samples};

}  // namespace thimble
