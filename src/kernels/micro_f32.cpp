// f32 micro-kernel, for whatever vectors the level in use has (Highway's copies, chosen by core/isa.h).
// One copy a level; Highway has none for plain x86-64 (micro_plain.cpp). On AArch64 the one for NEON alone: GCC 12 does
// not survive its own header for SVE.
#define HWY_DISABLED_TARGETS (HWY_SSSE3 | HWY_SSE4 | HWY_AVX3_DL | HWY_SVE | HWY_SVE2 | HWY_SVE_256 | HWY_SVE2_128)
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/micro_f32.cpp"
#include <hwy/foreach_target.h>
// after foreach_target
#include <hwy/highway.h>

#include <array>
#include <utility>

#include "core/isa.h"
#include "kernels/micro.h"

HWY_BEFORE_NAMESPACE();
namespace thimble::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using F32 = hn::CappedTag<float, 16>;
constexpr int kVectors = 3;
// Accumulators, a panel row and one broadcast must fit the registers: 32 with AVX-512 and NEON, 16 with AVX2.
constexpr int kRows = (HWY_TARGET <= HWY_AVX3 || HWY_TARGET == HWY_NEON) ? 8 : 4;

template <int R, int V>
HWY_NOINLINE void kernel(const float* a, int64_t row_stride, int64_t step, const float* panel, int64_t steps, float* c,
                         int64_t c_stride, bool fresh) noexcept {
  const F32 d;
  const int lanes = static_cast<int>(hn::Lanes(d));
  hn::Vec<F32> sum[R][V];
  if (fresh) {
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 3
      for (int v = 0; v < V; ++v) sum[r][v] = hn::Zero(d);
  } else {
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 3
      for (int v = 0; v < V; ++v) sum[r][v] = hn::LoadU(d, c + r * c_stride + v * lanes);
  }
  for (int64_t i = 0; i < steps; ++i, a += step, panel += kVectors * lanes) {
    hn::Vec<F32> b[V];
    for (int v = 0; v < V; ++v) b[v] = hn::LoadU(d, panel + v * lanes);
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
      const auto x = hn::Set(d, a[r * row_stride]);
#pragma GCC unroll 3
      for (int v = 0; v < V; ++v) sum[r][v] = hn::MulAdd(x, b[v], sum[r][v]);
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 3
    for (int v = 0; v < V; ++v) hn::StoreU(sum[r][v], d, c + r * c_stride + v * lanes);
}

using Kernel = void (*)(const float*, int64_t, int64_t, const float*, int64_t, float*, int64_t, bool) noexcept;
template <int V, size_t... R>
constexpr std::array<Kernel, sizeof...(R)> by_rows(std::index_sequence<R...>) {
  return {kernel<static_cast<int>(R) + 1, V>...};
}

void run(const void* a, int64_t row_stride, int64_t step, const void* panel, int64_t steps, int rows, int vectors,
         float* c, int64_t c_stride, bool fresh) noexcept {
  using Rows = std::make_index_sequence<kRows>;
  static constexpr std::array<Kernel, kRows> kKernels[] = {by_rows<1>(Rows()), by_rows<2>(Rows()), by_rows<3>(Rows())};
  kKernels[vectors - 1][static_cast<size_t>(rows - 1)](static_cast<const float*>(a), row_stride, step,
                                                       static_cast<const float*>(panel), steps, c, c_stride, fresh);
}

MicroKernel describe() {
  const int lanes = static_cast<int>(hn::Lanes(F32()));
  return {.rows = kRows, .columns = kVectors * lanes, .lanes = lanes, .pair = 1, .run = run};
}

}  // namespace thimble::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace thimble {
HWY_EXPORT(describe);

#if defined(__x86_64__)
namespace {

// Highway's copy for a target, or what the whole build is compiled for where that is wider.
MicroKernel copy_for(int64_t target) noexcept {
  hwy::ChosenTarget chosen;
  chosen.Update(target | HWY_STATIC_TARGET);
  return HWY_DISPATCH_TABLE(describe)[chosen.GetIndex()]();
}

}  // namespace
#endif

const MicroKernel& micro_f32() {
#if defined(__x86_64__)
  if (isa_has(Isa::avx512)) {
    static const MicroKernel kernel = copy_for(HWY_AVX3);
    return kernel;
  }
  if (isa_has(Isa::avx2)) {
    static const MicroKernel kernel = copy_for(HWY_AVX2);
    return kernel;
  }
  return micro_f32_plain();
#else
  static const MicroKernel kernel = HWY_STATIC_DISPATCH(describe)();
  return kernel.lanes > 1 ? kernel : micro_f32_plain();
#endif
}

}  // namespace thimble
#endif
