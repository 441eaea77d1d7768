// text_labels: the label of a text, which its last row has, at all of its rows, and what part each is of it.
#include "ops/text_labels.h"

#include "ops/shape_rule.h"

namespace thimble {
namespace {

Result<std::vector<Type>> infer(const std::any&, std::span<const Type> in) {
  CHECK_OK(expect_operands("text_labels", in, 2));
  CHECK_OK(expect_indices("text_labels", "targets", in[0]));
  CHECK_OK(expect_indices("text_labels", "starts", in[1], in[0].shape[0]));
  return std::vector{in[0], Type{in[0].shape, &kF32, in[0].extent}};
}

void run(const Call& call) noexcept {
  call.run.threads.once([&] {
    const int64_t rows = call.in[0].shape[0];
    const int32_t *const targets = call.in[0].as<const int32_t>(), *const starts = call.in[1].as<const int32_t>();
    for (int64_t first = 0, end = 0; first < rows; first = end) {
      while (end < rows && starts[end] == starts[first]) ++end;
      const int32_t label = targets[end - 1];
      if (call.out[0])
        std::fill(call.out[0].as<int32_t>() + first, call.out[0].as<int32_t>() + end, std::max(label, 0));
      const float share = label < 0 ? 0 : 1.0f / static_cast<float>(end - first);
      if (call.out[1]) std::fill(call.out[1].as<float>() + first, call.out[1].as<float>() + end, share);
    }
  });
}

[[gnu::cold]] void reference(const ReferenceCall& call) {
  const int64_t rows = call.in[0].shape[0];
  for (int64_t i = 0; i < rows; ++i) {
    double label = -1;
    int64_t alike = 0;
    for (int64_t j = 0; j < rows; ++j)
      if (call.in[1][j] == call.in[1][i]) label = call.in[0][j], ++alike;
    if (call.out[0]) call.out[0][i] = label < 0 ? 0 : label;
    if (call.out[1]) call.out[1][i] = label < 0 ? 0 : 1 / static_cast<double>(alike);
  }
}

[[gnu::cold]] std::vector<Sample> samples() {
  return {{{}, {Type{{8}, &kI32}, Type{{8}, &kI32}}, {{-1, -1, 4, -1, -1, 0, 2, -1}, {0, 0, 0, 3, 3, 3, 6, 7}}},
          {{}, {Type{{1}, &kI32}, Type{{1}, &kI32}}, {{3}, {0}}}};
}

}  // namespace

const Op kTextLabels = {.name = "text_labels",
                        .infer = infer,
                        .cost = pointwise_cost,
                        .reference = reference,
                        .run = run,
                        .samples = samples,
                        .detaches = true};

}  // namespace thimble
