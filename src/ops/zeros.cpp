// zeros: a new f32 value of zeros: where a sum begins that no leaf accumulates.
#include <cstring>

#include "ops/shape_rule.h"
#include "ops/table.h"

namespace thimble {
namespace {

Result<std::vector<Type>> infer(const std::any& any, std::span<const Type> in) {
  CHECK_OK(expect_operands("zeros", in, 0));
  return std::vector{Type{std::any_cast<ZerosAttributes>(&any)->shape}};
}

std::string text(const std::any& any) { return std::any_cast<ZerosAttributes>(&any)->shape.text(); }

void run(const Call& call) noexcept {
  call.run.threads.split(call.out[0].shape.count(), 1024, [&](int64_t begin, int64_t end, int) {
    std::memset(call.out[0].data + begin * 4, 0, static_cast<size_t>(end - begin) * 4);
  });
}

[[gnu::cold]] void reference(const ReferenceCall& call) {
  for (int64_t i = 0; i < call.out[0].shape.count(); ++i) call.out[0][i] = 0;
}

[[gnu::cold]] std::vector<Sample> samples() { return {{ZerosAttributes{{3, 1500}}, {}}}; }

}  // namespace

const Op kZeros = {.name = "zeros",
                   .infer = infer,
                   .text = text,
                   .cost = pointwise_cost,
                   .reference = reference,
                   .run = run,
                   .samples = samples};

}  // namespace thimble
