// f32 micro-kernel of the baseline: vectors of four, which every 64-bit CPU has. A product and an addition, both
// rounded: there is no fused instruction.
#include "kernels/micro.h"

namespace thimble {
namespace {

constexpr int kRows = 4, kLanes = 4, kVectors = 3, kColumns = kLanes * kVectors;
using Four = float __attribute__((vector_size(16), aligned(4), may_alias));

template <int R, int V>
void kernel(const float* a, int64_t row_stride, int64_t step, const float* panel, int64_t steps, float* c,
            int64_t c_stride, bool fresh) noexcept {
  Four sum[R][V] = {};
  const auto at = [&](int r, int v) { return reinterpret_cast<Four*>(c + r * c_stride + v * kLanes); };
  if (!fresh)
    for (int r = 0; r < R; ++r)
      for (int v = 0; v < V; ++v) sum[r][v] = *at(r, v);
  for (int64_t i = 0; i < steps; ++i, a += step, panel += kColumns)
#pragma GCC unroll 3
    for (int v = 0; v < V; ++v) {
      const Four b = *reinterpret_cast<const Four*>(panel + v * kLanes);
#pragma GCC unroll 4
      for (int r = 0; r < R; ++r) sum[r][v] += a[r * row_stride] * b;
    }
  for (int r = 0; r < R; ++r)
    for (int v = 0; v < V; ++v) *at(r, v) = sum[r][v];
}

using Kernel = void (*)(const float*, int64_t, int64_t, const float*, int64_t, float*, int64_t, bool) noexcept;
template <int V>
constexpr Kernel kByRows[kRows] = {kernel<1, V>, kernel<2, V>, kernel<3, V>, kernel<4, V>};

void run(const void* a, int64_t row_stride, int64_t step, const void* panel, int64_t steps, int rows, int vectors,
         float* c, int64_t c_stride, bool fresh) noexcept {
  const Kernel* by_rows = vectors == 1 ? kByRows<1> : vectors == 2 ? kByRows<2> : kByRows<3>;
  by_rows[rows - 1](static_cast<const float*>(a), row_stride, step, static_cast<const float*>(panel), steps, c,
                    c_stride, fresh);
}

constexpr MicroKernel kKernel = {.rows = kRows, .columns = kColumns, .lanes = kLanes, .pair = 1, .run = run};

}  // namespace

const MicroKernel& micro_f32_plain() { return kKernel; }

}  // namespace thimble
