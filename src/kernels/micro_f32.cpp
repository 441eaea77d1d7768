// f32 micro-kernel, for whatever vectors the CPU has (Highway, chosen at run time).
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/micro_f32.cpp"
#include <hwy/foreach_target.h>
// after foreach_target
#include <hwy/highway.h>

#include "kernels/micro.h"

HWY_BEFORE_NAMESPACE();
namespace thimble::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using F32 = hn::CappedTag<float, 16>;
constexpr int kVectors = 3;
// Accumulators, a panel row and one broadcast must fit the registers: 32 with AVX-512, 16 before.
constexpr int kRows = (HWY_TARGET <= HWY_AVX3) ? 8 : 4;

template <int R, int V>
HWY_NOINLINE void kernel(const float* a, int64_t lda, const float* panel, int64_t k, float* acc) noexcept {
  const F32 d;
  const int lanes = static_cast<int>(hn::Lanes(d));
  const int columns = kVectors * lanes;
  hn::Vec<F32> sum[R][V];
  for (int r = 0; r < R; ++r)
    for (int v = 0; v < V; ++v) sum[r][v] = hn::LoadU(d, acc + r * columns + v * lanes);
  for (int64_t i = 0; i < k; ++i) {
    hn::Vec<F32> b[V];
    for (int v = 0; v < V; ++v) b[v] = hn::LoadU(d, panel + i * columns + v * lanes);
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
      const auto x = hn::Set(d, a[r * lda + i]);
#pragma GCC unroll 3
      for (int v = 0; v < V; ++v) sum[r][v] = hn::MulAdd(x, b[v], sum[r][v]);
    }
  }
  for (int r = 0; r < R; ++r)
    for (int v = 0; v < V; ++v) hn::StoreU(sum[r][v], d, acc + r * columns + v * lanes);
}

template <int V>
void by_rows(const float* a, int64_t lda, const float* panel, int64_t k, int rows, float* acc) noexcept {
  if constexpr (kRows == 8) {
    switch (rows) {
      case 8:
        return kernel<8, V>(a, lda, panel, k, acc);
      case 7:
        return kernel<7, V>(a, lda, panel, k, acc);
      case 6:
        return kernel<6, V>(a, lda, panel, k, acc);
      case 5:
        return kernel<5, V>(a, lda, panel, k, acc);
    }
  }
  switch (rows) {
    case 4:
      return kernel<4, V>(a, lda, panel, k, acc);
    case 3:
      return kernel<3, V>(a, lda, panel, k, acc);
    case 2:
      return kernel<2, V>(a, lda, panel, k, acc);
    default:
      return kernel<1, V>(a, lda, panel, k, acc);
  }
}

void run(const void* a, int64_t lda, const void* panel, int64_t k, int rows, int vectors, float* acc) noexcept {
  const auto function = vectors == 1 ? by_rows<1> : vectors == 2 ? by_rows<2> : by_rows<3>;
  function(static_cast<const float*>(a), lda, static_cast<const float*>(panel), k, rows, acc);
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

const MicroKernel& micro_f32() {
  static const MicroKernel kernel = HWY_DYNAMIC_DISPATCH(describe)();
  return kernel;
}

}  // namespace thimble
#endif
