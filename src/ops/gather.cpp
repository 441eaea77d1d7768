// gather: y[i] = x[rows[i]]: the rows whose logits are wanted. For inference only; no gradient.
#include "ops/rows.h"
#include "ops/shape_rule.h"
#include "ops/table.h"

namespace thimble {
namespace {

Result<std::vector<Type>> infer(const std::any&, std::span<const Type> in) {
  CHECK_OK(expect_operands("gather", in, 2));
  CHECK_OK(expect_rank("gather", "x", in[0], 2));
  CHECK_OK(expect_indices("gather", "rows", in[1]));
  return std::vector{Type{{in[1].shape[0], in[0].shape[1]}, in[0].codec, in[1].extent}};
}

void run(const Call& call) noexcept {
  const int64_t bytes = call.in[0].codec->bytes(call.in[0].shape[1]);
  call.run.threads.once([&] {
    for (int64_t i = 0; i < call.in[1].shape[0]; ++i)
      std::memcpy(call.out[0].data + i * bytes, call.in[0].data + call.in[1].as<int32_t>()[i] * bytes,
                  static_cast<size_t>(bytes));
  });
}

void reference(const ReferenceCall& call) {
  const int64_t n = call.in[0].shape[1];
  for (int64_t i = 0; i < call.in[1].shape[0]; ++i)
    for (int64_t j = 0; j < n; ++j) call.out[0][i * n + j] = call.in[0][static_cast<int64_t>(call.in[1][i]) * n + j];
}

std::vector<Sample> samples() { return {{{}, {Type{{5, 7}}, Type{{3}, &kI32}}, {{}, {4, 0, 4}}}}; }

}  // namespace

const Op kGather = {
    .name = "gather", .infer = infer, .cost = pointwise_cost, .reference = reference, .run = run, .samples = samples};

}  // namespace thimble
