// squared_norm and clip_scale: clipping of the global gradient norm, the barrier between all gradients and all updates.
//
//   Paper   Pascanu et al. 2013, arXiv:1211.5063, Algorithm 1
#include <cmath>

#include "ops/rows.h"
#include "ops/shape_rule.h"
#include "ops/table.h"
#include "ops/update.h"

namespace thimble {
namespace {

constexpr int64_t kBlock = 4096;

int64_t blocks(int64_t count) { return (count + kBlock - 1) / kBlock; }

Result<std::vector<Type>> infer(const std::any&, std::span<const Type> in) {
  CHECK_OK(expect_operands("squared_norm", in, 1));
  CHECK_OK(expect_run("squared_norm", "x", in[0]));
  return std::vector{Type{{1}, &kF32}};
}

int64_t workspace(const std::any&, std::span<const Type> in, std::span<const Type>, Multiply, int threads) {
  return 8 * blocks(in[0].shape.count()) + row_buffer_bytes(kBlock, 1, threads);
}

void run(const Call& call) noexcept {
  const int64_t count = call.in[0].shape.count(), parts = blocks(count);
  double* const partial = reinterpret_cast<double*>(call.workspace.data());
  float* const buffers = reinterpret_cast<float*>(partial + parts);
  const Operand& x = call.in[0];
  call.run.threads.split(count, kBlock, [&](int64_t begin, int64_t end, int thread) {
    for (int64_t at = begin; at < end; at += kBlock) {
      const int64_t n = std::min(kBlock, end - at);
      float* const buffer = buffers + thread * kBlock;
      x.codec->decode(x.data + at / x.codec->block * x.codec->block_bytes, buffer, n);
      partial[at / kBlock] = dot(buffer, buffer, n);
    }
  });
  double total = 0;
  for (int64_t i = 0; i < parts; ++i) total += partial[i];
  call.out[0].as<float>()[0] = static_cast<float>(total);
}

[[gnu::cold]] void reference(const ReferenceCall& call) {
  double total = 0;
  for (int64_t i = 0; i < call.in[0].shape.count(); ++i) total += call.in[0][i] * call.in[0][i];
  call.out[0][0] = total;
}

[[gnu::cold]] std::vector<Sample> samples() { return {{{}, {Type{{7, 9}}}}, {{}, {Type{{9001}}}}}; }

Result<std::vector<Type>> infer_scale(const std::any&, std::span<const Type> in) {
  for (const Type& type : in) {
    CHECK_OK(expect_shape("clip_scale", "squared norm", type, {1}));
    CHECK_OK(expect_f32("clip_scale", "squared norm", type));
  }
  return std::vector{Type{{1}, &kF32}, Type{{1}, &kF32}};
}

double scale_for(double norm, double limit) { return limit > 0 ? std::min(1.0, limit / (norm + 1e-6)) : 1.0; }

void run_scale(const Call& call) noexcept {
  double total = 0;
  for (const Operand& part : call.in) total += part.as<const float>()[0];
  const double norm = std::sqrt(total);
  call.out[0].as<float>()[0] = static_cast<float>(scale_for(norm, call.as<ClipAttributes>().limit));
  if (call.out[1]) call.out[1].as<float>()[0] = static_cast<float>(norm);
}

[[gnu::cold]] void reference_scale(const ReferenceCall& call) {
  double total = 0;
  for (const auto& part : call.in) total += part[0];
  call.out[0][0] = scale_for(std::sqrt(total), call.as<ClipAttributes>().limit);
  if (call.out[1]) call.out[1][0] = std::sqrt(total);
}

[[gnu::cold]] std::vector<Sample> samples_scale() {
  return {{ClipAttributes{1}, {Type{{1}}, Type{{1}}, Type{{1}}}, {}, {}, true},
          {ClipAttributes{0}, {Type{{1}}}, {}, {}, true}};
}

}  // namespace

const Op kSquaredNorm = {.name = "squared_norm",
                         .infer = infer,
                         .workspace = workspace,
                         .cost = pointwise_cost,
                         .reference = reference,
                         .run = run,
                         .samples = samples,
                         .alone = true};
const Op kClipScale = {
    .name = "clip_scale",
    .infer = infer_scale,
    .text = [](const std::any& a) { return fmt::format("{{{}}}", std::any_cast<ClipAttributes>(&a)->limit); },
    .cost = pointwise_cost,
    .reference = reference_scale,
    .run = run_scale,
    .samples = samples_scale,
    .alone = true};

}  // namespace thimble
