// Products of few rows with weights in each format, as decoding makes them: bytes of weights a second, beside what
// reading as many bytes takes in the same run.
//   build/bench/bench/narrow_bench
#include "kernels/dot/int8_dot.h"
#include "kernels/narrow.h"
#include "memory.h"

namespace thimble {
namespace {

constexpr int64_t kColumns = 768;

void fill_weights(const Codec& codec, const Memory& out) {
  std::vector<float> some(kColumns * 16);
  for (size_t i = 0; i < some.size(); ++i) some[i] = static_cast<float>(static_cast<int>(i * 7 % 31) - 15);
  const size_t bytes = static_cast<size_t>(codec.bytes(kColumns * 16));
  codec.encode(some.data(), out.data, kColumns * 16);
  if (const Codec* const home = interleaved(codec); home && int8_format(codec, kColumns)) {
    const std::vector<std::byte> plain(out.data, out.data + bytes);
    interleave_rows(codec, plain.data(), codec.bytes(kColumns), kColumns, out.data);
  }
  for (size_t at = bytes; at < out.size; at += bytes) std::memcpy(out.data + at, out.data, bytes);
}

// Arguments: threads, rows of x.
void narrow_product(benchmark::State& state, const Codec* codec, Multiply multiply) {
  const int threads = static_cast<int>(state.range(0));
  const int64_t m = state.range(1), n = kReadBytes / codec->bytes(kColumns) / 16 * 16;
  const Memory weights(codec->bytes(kColumns * n));
  fill_weights(*codec, weights);
  if (multiply == Multiply::int8) codec = interleaved(*codec);
  const std::vector<float> x(m * kColumns, 0.5f);
  std::vector<float> y(m * n);
  const Term term{{&kF32, reinterpret_cast<const std::byte*>(x.data()), m, kColumns, 0},
                  {codec, weights.data, n, kColumns, 0},
                  false,
                  true,
                  1};
  const Product product{.terms = {&term, 1}, .c = reinterpret_cast<std::byte*>(y.data()), .m = m, .n = n};
  Threads team(threads);
  std::vector<std::byte> workspace(narrow_workspace_bytes(multiply, {&product, 1}, threads));
  for (auto _ : state) narrow(team, multiply, {&product, 1}, workspace);
  state.SetBytesProcessed(static_cast<int64_t>(state.iterations()) * static_cast<int64_t>(weights.size));
  state.counters["GOP/s"] =
      benchmark::Counter(2e-9 * static_cast<double>(m * n * kColumns), benchmark::Counter::kIsIterationInvariantRate);
}

void sizes(benchmark::internal::Benchmark* b) {
  for (int rows : {1, 4, 32}) b->Args({1, rows})->Args({2, rows});
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
BENCHMARK_CAPTURE(narrow_product, q5_1, &kQ5_1, Multiply::int8)->Apply(sizes);
BENCHMARK_CAPTURE(narrow_product, nf4, &kNf4, Multiply::f32)->Apply(sizes);
BENCHMARK_CAPTURE(narrow_product, q4_0_f32, &kQ4_0, Multiply::f32)->Apply(sizes);

}  // namespace
}  // namespace thimble
