// Products of few rows with weights in each format, as decoding makes them: bytes of weights a second, beside what
// reading as many bytes takes in the same run.
//   build/bench/bench/narrow_bench
#include <benchmark/benchmark.h>

#include <vector>

#include "kernels/narrow.h"
#include "kernels/rows.h"

namespace thimble {
namespace {

constexpr int64_t kColumns = 768, kBytes = 96 << 20;  // more than caches hold

std::vector<std::byte> weights_of(const Codec& codec, int64_t rows) {
  std::vector<float> some(kColumns * 16);
  for (size_t i = 0; i < some.size(); ++i) some[i] = static_cast<float>(static_cast<int>(i * 7 % 31) - 15);
  std::vector<std::byte> out(codec.bytes(kColumns * rows));
  codec.encode(some.data(), out.data(), kColumns * 16);
  const int64_t bytes = codec.bytes(kColumns * 16);
  for (int64_t at = bytes; at < static_cast<int64_t>(out.size()); at += bytes)
    std::copy(out.data(), out.data() + bytes, out.data() + at);
  return out;
}

// Arguments: threads, rows of x.
void narrow_product(benchmark::State& state, const Codec* codec, Multiply multiply) {
  const int threads = static_cast<int>(state.range(0));
  const int64_t m = state.range(1), n = kBytes / codec->bytes(kColumns) / 16 * 16;
  const std::vector<std::byte> weights = weights_of(*codec, n);
  const std::vector<float> x(m * kColumns, 0.5f);
  std::vector<float> y(m * n);
  const Term term{{&kF32, reinterpret_cast<const std::byte*>(x.data()), m, kColumns, 0},
                  {codec, weights.data(), n, kColumns, 0},
                  false,
                  true,
                  1};
  const Product product{.terms = {&term, 1}, .c = reinterpret_cast<std::byte*>(y.data()), .m = m, .n = n};
  Threads team(threads);
  std::vector<std::byte> workspace(narrow_workspace_bytes(multiply, product, threads));
  for (auto _ : state) narrow(team, multiply, product, workspace);
  state.SetBytesProcessed(static_cast<int64_t>(state.iterations()) * static_cast<int64_t>(weights.size()));
  state.counters["GOP/s"] =
      benchmark::Counter(2e-9 * static_cast<double>(m * n * kColumns), benchmark::Counter::kIsIterationInvariantRate);
}

void read(benchmark::State& state) {
  const int threads = static_cast<int>(state.range(0));
  const std::vector<float> data(kBytes / 4, 1.0f);
  std::vector<float> sums(threads);
  Threads team(threads);
  for (auto _ : state)
    team.split(static_cast<int64_t>(data.size()), 4096,
               [&](int64_t begin, int64_t end, int thread) { sums[thread] = sum(data.data() + begin, end - begin); });
  state.SetBytesProcessed(static_cast<int64_t>(state.iterations()) * kBytes);
}

void sizes(benchmark::internal::Benchmark* b) {
  for (int rows : {1, 4}) b->Args({1, rows})->Args({2, rows});
  b->MeasureProcessCPUTime()->UseRealTime();
}
BENCHMARK(read)->Arg(1)->Arg(2)->MeasureProcessCPUTime()->UseRealTime();
BENCHMARK_CAPTURE(narrow_product, f32, &kF32, Multiply::f32)->Apply(sizes);
BENCHMARK_CAPTURE(narrow_product, bf16, &kBf16, Multiply::f32)->Apply(sizes);
BENCHMARK_CAPTURE(narrow_product, q8_0, &kQ8_0, Multiply::int8)->Apply(sizes);
BENCHMARK_CAPTURE(narrow_product, q6_K, &kQ6K, Multiply::int8)->Apply(sizes);
BENCHMARK_CAPTURE(narrow_product, q5_K, &kQ5K, Multiply::int8)->Apply(sizes);
BENCHMARK_CAPTURE(narrow_product, q5_0, &kQ5_0, Multiply::int8)->Apply(sizes);
BENCHMARK_CAPTURE(narrow_product, q4_K, &kQ4K, Multiply::int8)->Apply(sizes);
BENCHMARK_CAPTURE(narrow_product, q4_1, &kQ4_1, Multiply::int8)->Apply(sizes);
BENCHMARK_CAPTURE(narrow_product, q4_0, &kQ4_0, Multiply::int8)->Apply(sizes);
BENCHMARK_CAPTURE(narrow_product, q4_0_f32, &kQ4_0, Multiply::f32)->Apply(sizes);

}  // namespace
}  // namespace thimble
