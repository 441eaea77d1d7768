// keep_largest: a pruning mask by scores, applied.
//
//   y         w_i where i is not among the `drop` smallest scores of its group, else 0; a score that is not a number
//             counts as the smallest
//   Gradient  none: an order is not differentiated
#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "ops/rows.h"
#include "ops/shape_rule.h"
#include "ops/transform.h"

namespace thimble {
namespace {

using Attributes = KeepLargestAttributes;
using Group = Attributes::Group;

const Attributes& of(const std::any& attributes) { return *std::any_cast<Attributes>(&attributes); }

int64_t group_length(const Attributes& a, const Shape& w) {
  return a.group == Group::matrix ? w.count() : a.group == Group::row ? w[1] : a.length;
}

Result<std::vector<Type>> infer(const std::any& any, std::span<const Type> in) {
  CHECK_OK(expect_operands("keep_largest", in, 2));
  CHECK_OK(expect_rank("keep_largest", "w", in[0], 2));
  CHECK_OK(expect_f32("keep_largest", "w", in[0]));
  CHECK_OK(expect_shape("keep_largest", "scores", in[1], in[0].shape));
  CHECK_OK(expect_f32("keep_largest", "scores", in[1]));
  const Attributes& a = of(any);
  const int64_t length = group_length(a, in[0].shape);
  if (length < 1 || in[0].shape.count() > std::numeric_limits<int32_t>::max())
    return fail(ErrorCode::shape, "keep_largest: groups of {} in w {}", length, in[0].shape.text());
  if (a.group == Group::run && in[0].shape[1] % length != 0)
    return fail(ErrorCode::shape, "keep_largest: rows of {} are no whole runs of {}", in[0].shape[1], length);
  if (a.drop < 0 || a.drop > length)
    return fail(ErrorCode::shape, "keep_largest: {} of {} elements to drop", a.drop, length);
  return std::vector{Type{in[0].shape}};
}

// Places of a group, for each thread.
int64_t workspace(const std::any& any, std::span<const Type> in, std::span<const Type>, Multiply, int threads) {
  const Attributes& a = of(any);
  return 4 * group_length(a, in[0].shape) * (a.group == Group::matrix ? 1 : threads);
}

// Puts zeros at the places of the smallest scores of a group.
void drop_smallest(const float* scores, float* y, int32_t* places, int64_t length, int64_t drop) noexcept {
  if (drop == 0) return;
  std::iota(places, places + length, 0);
  const auto key = [&](int32_t i) {
    return std::isnan(scores[i]) ? -std::numeric_limits<float>::infinity() : scores[i];
  };
  std::nth_element(places, places + drop - 1, places + length, [&](int32_t a, int32_t b) {
    const float first = key(a), second = key(b);
    return first != second ? first < second : a < b;
  });
  for (int64_t i = 0; i < drop; ++i) y[places[i]] = 0;
}

void run(const Call& call) noexcept {
  const Attributes& a = of(call.attributes);
  const int64_t length = group_length(a, call.in[0].shape), groups = call.in[0].shape.count() / length;
  const float* const w = call.in[0].as<const float>();
  const float* const scores = call.in[1].as<const float>();
  float* const y = call.out[0].as<float>();
  auto* const places = reinterpret_cast<int32_t*>(call.workspace.data());
  const int64_t grain = std::max<int64_t>(1, 1024 / length);
  call.run.threads.split(groups, grain, [&](int64_t begin, int64_t end, int thread) {
    for (int64_t g = begin; g < end; ++g) {
      if (w != y) std::copy_n(w + g * length, length, y + g * length);
      drop_smallest(scores + g * length, y + g * length, places + (groups == 1 ? 0 : thread) * length, length, a.drop);
    }
  });
}

[[gnu::cold]] void reference(const ReferenceCall& call) {
  const auto& a = call.as<Attributes>();
  const int64_t length = group_length(a, call.in[0].shape);
  for (int64_t i = 0; i < call.in[0].shape.count(); ++i) {
    const int64_t first = i / length * length;
    int64_t smaller = 0;  // elements of the group that go before this one
    for (int64_t k = first; k < first + length; ++k)
      smaller += call.in[1][k] < call.in[1][i] || (call.in[1][k] == call.in[1][i] && k < i);
    call.out[0][i] = smaller < a.drop ? 0 : call.in[0][i];
  }
}

std::string text(const std::any& any) {
  constexpr const char* kGroups[] = {"matrix", "row", "run"};
  const Attributes& a = of(any);
  return fmt::format("{{-{} of {}{}}}", a.drop, kGroups[static_cast<int>(a.group)],
                     a.group == Group::run ? fmt::format(" {}", a.length) : "");
}

Cost cost(const std::any&, std::span<const Type> in, std::span<const Type> out) {
  return {.bytes = 4 * moved_bytes(in, out)};
}

[[gnu::cold]] std::vector<Sample> samples() {
  const std::vector<Type> in = {Type{{5, 32}}, Type{{5, 32}}};
  return {{Attributes{Group::row, 16}, in},
          {Attributes{Group::matrix, 57}, {Type{{7, 33}}, Type{{7, 33}}}},
          {Attributes{Group::run, 2, 4}, in},
          {Attributes{Group::row, 0}, in}};
}

constexpr InPlace kOverW[] = {{0, 0, false}};

}  // namespace

const Op kKeepLargest = {.name = "keep_largest",
                         .infer = infer,
                         .text = text,
                         .workspace = workspace,
                         .cost = cost,
                         .reference = reference,
                         .run = run,
                         .samples = samples,
                         .in_place = kOverW};

}  // namespace thimble
