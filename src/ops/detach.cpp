// detach: y = x, through which no gradient passes.
#include <cstring>

#include "ops/rows.h"
#include "ops/shape_rule.h"
#include "ops/table.h"

namespace thimble {
namespace {

Result<std::vector<Type>> infer(const std::any&, std::span<const Type> in) {
  CHECK_OK(expect_operands("detach", in, 1));
  CHECK_OK(expect_numbers("detach", "x", in[0]));
  if (in[0].shape.rank() > 2)
    return fail(ErrorCode::shape, "detach: x should have one or two extents, found {}", in[0].shape.text());
  return std::vector{in[0]};
}

void run(const Call& call) noexcept {
  const int64_t bytes = call.in[0].shape.rows() * call.in[0].codec->bytes(call.in[0].shape.columns());
  if (call.out[0].data == call.in[0].data) return;
  call.run.threads.split(bytes, 4096, [&](int64_t begin, int64_t end, int) {
    std::memcpy(call.out[0].data + begin, call.in[0].data + begin, static_cast<size_t>(end - begin));
  });
}

[[gnu::cold]] void reference(const ReferenceCall& call) {
  for (int64_t i = 0; i < call.out[0].shape.count(); ++i) call.out[0][i] = call.in[0][i];
}

[[gnu::cold]] std::vector<Sample> samples() {
  return {{{}, {Type{{7, 33}, &kBf16}}, {}, {0}}, {{}, {Type{{5}}}, {}, {0}}};
}

constexpr InPlace kOver[] = {{0, 0}};

}  // namespace

const Op kDetach = {.name = "detach",
                    .infer = infer,
                    .cost = pointwise_cost,
                    .reference = reference,
                    .run = run,
                    .samples = samples,
                    .in_place = kOver,
                    .detaches = true};

}  // namespace thimble
