// Matrix products of thimble beside oneDNN's, in one run: GFLOP/s on two threads.
//   build/bench/bench/gemm_bench
#include <benchmark/benchmark.h>

#include <vector>

#include "kernels/gemm.h"
#ifdef THIMBLE_HAS_DNNL
#include <dnnl.hpp>
#endif

namespace thimble {
namespace {

void report(benchmark::State& state, int64_t m, int64_t n, int64_t k) {
  state.counters["GFLOP/s"] = benchmark::Counter(2.0 * m * n * k * 1e-9, benchmark::Counter::kIsIterationInvariantRate);
}

// Arguments: multiply (0: f32, 1: bf16), m, n, k, b_transposed, a_transposed.
void product(benchmark::State& state, const Codec* activation, const Codec* weight) {
  const auto multiply = static_cast<Multiply>(state.range(0));
  const int64_t m = state.range(1), n = state.range(2), k = state.range(3);
  const bool bt = state.range(4), at = state.range(5);
  const Codec& act = *activation;
  const std::vector<float> ones(m * k + n * k, 0.5f);
  std::vector<std::byte> a(act.bytes(m * k)), b(weight->bytes(n * k));
  act.encode(ones.data(), a.data(), m * k);
  weight->encode(ones.data(), b.data(), n * k);
  std::vector<float> c(m * n);
  const Term term{{&act, a.data(), at ? k : m, at ? m : k}, {weight, b.data(), bt ? n : k, bt ? k : n}, at, bt, 1};
  const Product p{
      .terms = {&term, 1}, .codec = at ? &kF32 : &act, .c = reinterpret_cast<std::byte*>(c.data()), .m = m, .n = n};
  Threads threads(2);
  std::vector<std::byte> workspace(gemm_workspace_bytes(multiply, p, 2));
  for (auto _ : state) gemm(threads, multiply, p, workspace);
  report(state, m, n, k);
}

void shapes(benchmark::internal::Benchmark* b) {
  for (int multiply : {0, 1}) {
    b->Args({multiply, 2048, 2048, 2048, 1, 0});
    b->Args({multiply, 2048, 576, 576, 1, 0})->Args({multiply, 2048, 1536, 576, 1, 0});
    b->Args({multiply, 512, 1536, 576, 1, 0})->Args({multiply, 512, 576, 1536, 1, 0});
    b->Args({multiply, 512, 192, 576, 1, 0})->Args({multiply, 512, 8, 576, 1, 0});
    b->Args({multiply, 512, 576, 1536, 0, 0})->Args({multiply, 2048, 576, 1536, 0, 0});
    b->Args({multiply, 1536, 576, 512, 0, 1});
    b->Args({multiply, 1, 1536, 576, 1, 0})->Args({multiply, 16, 1536, 576, 1, 0});
  }
  b->MeasureProcessCPUTime()->UseRealTime();
}
BENCHMARK_CAPTURE(product, bf16, &kBf16, &kBf16)->Apply(shapes);
BENCHMARK_CAPTURE(product, masters, &kBf16, &kF32)->Apply(shapes);
BENCHMARK_CAPTURE(product, f32, &kF32, &kF32)->Apply(shapes);

#ifdef THIMBLE_HAS_DNNL
void onednn(benchmark::State& state) {
  using namespace dnnl;
  const auto type = state.range(0) ? memory::data_type::bf16 : memory::data_type::f32;
  const int64_t n = 2048;
  engine cpu(engine::kind::cpu, 0);
  stream s(cpu);
  const memory::desc d({n, n}, type, memory::format_tag::ab);
  memory a(d, cpu), b(d, cpu), c(d, cpu);
  matmul::primitive_desc pd(matmul::desc(d, d, d), cpu);
  matmul product(pd);
  for (auto _ : state) {
    product.execute(s, {{DNNL_ARG_SRC, a}, {DNNL_ARG_WEIGHTS, b}, {DNNL_ARG_DST, c}});
    s.wait();
  }
  report(state, n, n, n);
}
BENCHMARK(onednn)->Arg(0)->Arg(1)->MeasureProcessCPUTime()->UseRealTime();
#endif

}  // namespace
}  // namespace thimble
