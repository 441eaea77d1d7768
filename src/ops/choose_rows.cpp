// choose_rows: of every window of rows so many, those of high scores, row by row from the first on.
//
//   Wanted    a row whose score is above a threshold, and the first of a sequence
//   Threshold begins at 0 and follows the scores so far to their quantile (Robbins and Monro 1951):
//             threshold += step ((score > threshold) - share), share = count / rows, step = max(1 / 20, 1 / (i + 1)) at
//             the i-th row
//   Pace      behind i rows share i have been chosen, give or take a sixteenth of the window: beyond that a row that is
//             wanted is left out, or one that is not is chosen. At the end exactly `count` are
//   Alone     a row that is a sequence of its own, as unused rows are, is chosen where the others leave places
//   Choice    the largest scores of a window would let later rows say which earlier ones a loss is computed with
#include <algorithm>

#include "ops/fewer_rows.h"
#include "ops/shape_rule.h"
#include "ops/table.h"

namespace thimble {
namespace {

const ChooseRowsAttributes& of(const std::any& attributes) { return *std::any_cast<ChooseRowsAttributes>(&attributes); }

Result<std::vector<Type>> infer(const std::any& any, std::span<const Type> in) {
  const auto [window, count] = of(any);
  CHECK_OK(expect_operands("choose_rows", in, 3));
  CHECK_OK(expect_rank("choose_rows", "scores", in[0], 2));
  const int64_t rows = in[0].shape[0];
  CHECK_OK(expect_shape("choose_rows", "scores", in[0], {rows, 1}));
  CHECK_OK(expect_f32("choose_rows", "scores", in[0]));
  CHECK_OK(expect_indices("choose_rows", "starts", in[1], rows));
  CHECK_OK(expect_indices("choose_rows", "positions", in[2], rows));
  if (window < 1 || rows % window != 0)
    return fail(ErrorCode::shape, "choose_rows: {} rows are no whole windows of {}", rows, window);
  if (count < 1 || count > window)
    return fail(ErrorCode::shape, "choose_rows: {} rows of windows of {}", count, window);
  return std::vector(3, Type{{rows / window * count}, &kI32, Extent::selected});
}

// Calls take(row) for the chosen rows of the window [first, first + window), in order.
template <class Number, class Index, class Take>
void choose(const ChooseRowsAttributes& a, const Number* scores, const Index* starts, int64_t first, const Take& take) {
  const int64_t end = first + a.window;
  const auto starts_at = [&](int64_t row) { return static_cast<int64_t>(starts[row]); };
  const auto alone = [&](int64_t row) {
    return starts_at(row) == row && (row + 1 == end || starts_at(row + 1) != row);
  };
  int64_t used = 0;
  for (int64_t row = first; row < end; ++row) used += !alone(row);
  const int64_t count = std::min(a.count, used);
  const double share = static_cast<double>(count) / static_cast<double>(std::max<int64_t>(1, used));
  const double slack = static_cast<double>(std::max<int64_t>(1, a.window / 16));
  double threshold = 0;
  int64_t seen = 0, chosen = 0, spare = a.count - count;
  for (int64_t row = first; row < end; ++row) {
    if (alone(row)) {
      if (spare-- > 0) take(row);
      continue;
    }
    const bool above = static_cast<double>(scores[row]) > threshold;
    const bool wanted = above || starts_at(row) == row;
    const double due = share * static_cast<double>(++seen), now = static_cast<double>(chosen);
    threshold += std::max(0.05, 1 / static_cast<double>(seen + 1)) * ((above ? 1 : 0) - share);
    const bool must = now < due - slack || count - chosen > used - seen;
    if (!must && !(wanted && chosen < count && now < due + slack)) continue;
    take(row), ++chosen;
  }
}

// What is written of a window: its rows from place `at` on.
template <class Number, class Index>
void write(const ChooseRowsAttributes& a, const Number* scores, const Index* starts, const Index* positions,
           int64_t window, Index* const to[3]) {
  int64_t at = window * a.count, before = -1, begin = at;  // the chosen row before, and where its sequence begins
  choose(a, scores, starts, window * a.window, [&](int64_t row) {
    if (before < static_cast<int64_t>(starts[row])) begin = at;
    if (to[0]) to[0][at] = static_cast<Index>(row);
    if (to[1]) to[1][at] = static_cast<Index>(begin);
    if (to[2]) to[2][at] = positions[row];
    before = row, ++at;
  });
}

void run(const Call& call) noexcept {
  const ChooseRowsAttributes& a = of(call.attributes);
  int32_t* const to[] = {call.out[0].as<int32_t>(), call.out[1].as<int32_t>(), call.out[2].as<int32_t>()};
  call.run.threads.split(call.in[0].shape[0] / a.window, 1, [&](int64_t begin, int64_t end, int) {
    for (int64_t window = begin; window < end; ++window)
      write(a, call.in[0].as<const float>(), call.in[1].as<const int32_t>(), call.in[2].as<const int32_t>(), window,
            to);
  });
}

[[gnu::cold]] void reference(const ReferenceCall& call) {
  const ChooseRowsAttributes& a = of(call.attributes);
  double* to[3];
  for (size_t i = 0; i < 3; ++i) to[i] = call.out[i] ? call.out[i].data->data() : nullptr;
  for (int64_t window = 0; window < call.in[0].shape[0] / a.window; ++window)
    write<double, double>(a, call.in[0].data->data(), call.in[1].data->data(), call.in[2].data->data(), window, to);
}

std::string text(const std::any& any) { return fmt::format("{{{} of {}}}", of(any).count, of(any).window); }

// One sequence; three in two windows; windows with unused rows, one of which has more places than rows in use.
[[gnu::cold]] std::vector<Sample> samples() {
  const auto make = [](ChooseRowsAttributes a, const std::vector<int32_t>& starts) {
    const auto rows = static_cast<int64_t>(starts.size());
    std::vector<int32_t> positions;
    for (size_t i = 0; i < starts.size(); ++i) positions.push_back(static_cast<int32_t>(i) - starts[i]);
    return Sample{a, {Type{{rows, 1}}, Type{{rows}, &kI32}, Type{{rows}, &kI32}}, {{}, starts, positions}};
  };
  return {make({7, 3}, {0, 0, 0, 0, 0, 0, 0}), make({8, 5}, {0, 0, 0, 3, 3, 3, 3, 3, 8, 8, 8, 8, 8, 8, 8, 8}),
          make({6, 4}, {0, 0, 2, 3, 4, 5, 6, 6, 6, 6, 6, 11}), make({1, 1}, {0, 1})};
}

}  // namespace

const Op kChooseRows = {.name = "choose_rows",
                        .infer = infer,
                        .text = text,
                        .cost = pointwise_cost,
                        .reference = reference,
                        .run = run,
                        .samples = samples,
                        .detaches = true};

}  // namespace thimble
