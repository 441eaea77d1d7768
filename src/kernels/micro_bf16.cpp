// bf16 micro-kernel: AVX512-BF16 dot products of pairs, f32 accumulation. One vdpbf16ps adds the products of a pair of
// k to 16 columns.
#include "core/isa.h"
#include "kernels/micro.h"

#if defined(THIMBLE_X86_INTRINSICS)
#include <immintrin.h>

#include <cstring>

namespace thimble {
namespace {

constexpr int kRows = 8;
constexpr int kLanes = 16;
constexpr int kVectors = 3;
constexpr int kColumns = kLanes * kVectors;

#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")

template <int R, int V>
void kernel(const uint16_t* a, int64_t row_stride, int64_t step, const uint32_t* panel, int64_t steps, float* c,
            int64_t c_stride, bool fresh) noexcept {
  __m512 sum[R][V];
  if (fresh) {
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 3
      for (int v = 0; v < V; ++v) sum[r][v] = _mm512_setzero_ps();
  } else {
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 3
      for (int v = 0; v < V; ++v) sum[r][v] = _mm512_loadu_ps(c + r * c_stride + v * kLanes);
  }
  for (int64_t p = 0; p < steps; ++p, a += step, panel += kColumns) {
    __m512i b[V];
    for (int v = 0; v < V; ++v) b[v] = _mm512_loadu_si512(panel + v * kLanes);
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
      uint32_t word;
      std::memcpy(&word, a + r * row_stride, 4);
      const __m512i x = _mm512_set1_epi32(static_cast<int>(word));
#pragma GCC unroll 3
      for (int v = 0; v < V; ++v) sum[r][v] = _mm512_dpbf16_ps(sum[r][v], (__m512bh)x, (__m512bh)b[v]);
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 3
    for (int v = 0; v < V; ++v) _mm512_storeu_ps(c + r * c_stride + v * kLanes, sum[r][v]);
}
#pragma GCC pop_options

using Kernel = void (*)(const uint16_t*, int64_t, int64_t, const uint32_t*, int64_t, float*, int64_t, bool) noexcept;
template <int V>
constexpr Kernel kByRows[kRows] = {kernel<1, V>, kernel<2, V>, kernel<3, V>, kernel<4, V>,
                                   kernel<5, V>, kernel<6, V>, kernel<7, V>, kernel<8, V>};

void run(const void* a, int64_t row_stride, int64_t step, const void* panel, int64_t steps, int rows, int vectors,
         float* c, int64_t c_stride, bool fresh) noexcept {
  const Kernel* by_rows = vectors == 1 ? kByRows<1> : vectors == 2 ? kByRows<2> : kByRows<3>;
  by_rows[rows - 1](static_cast<const uint16_t*>(a), row_stride, step, static_cast<const uint32_t*>(panel), steps, c,
                    c_stride, fresh);
}

constexpr MicroKernel kKernel = {.rows = kRows, .columns = kColumns, .lanes = kLanes, .pair = 2, .run = run};

}  // namespace

const MicroKernel* micro_bf16() {
  if (const MicroKernel* const tiles = micro_amx()) return tiles;
  return isa_has(Isa::avx512_bf16) ? &kKernel : nullptr;
}

}  // namespace thimble

#else

const thimble::MicroKernel* thimble::micro_bf16() { return nullptr; }

#endif
