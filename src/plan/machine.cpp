#include "plan/machine.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <vector>

#include "kernels/rows.h"

namespace thimble {
namespace {

template <class Work>
double median_seconds(int repeats, Work work) {
  std::vector<double> seconds;
  for (int i = 0; i < repeats; ++i) {
    const auto start = std::chrono::steady_clock::now();
    work();
    seconds.push_back(std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
  }
  std::nth_element(seconds.begin(), seconds.begin() + repeats / 2, seconds.end());
  return seconds[static_cast<size_t>(repeats / 2)];
}

// A product of the shape of a small model's FFN.
double product_flops(Threads& threads, Multiply multiply, std::span<std::byte> memory) {
  constexpr int64_t m = 256, n = 960, k = 576;
  const Codec& codec = multiply == Multiply::bf16 ? kBf16 : kF32;
  std::byte* const a = memory.data();
  std::byte* const b = a + 4 * m * k;
  std::byte* const c = b + 4 * n * k;
  const Term term{{&codec, a, m, k, 0}, {&codec, b, n, k, 0}, false, true, 1};
  const Product product{.terms = {&term, 1}, .codec = &codec, .c = c, .m = m, .n = n};
  const std::span<std::byte> workspace = memory.subspan(static_cast<size_t>(4 * (m * k + n * k + m * n)));
  return 2.0 * m * n * k / median_seconds(7, [&] { gemm(threads, multiply, product, workspace); });
}

}  // namespace

Machine probe_machine(Threads& threads) {
  Machine machine;
  std::vector<std::byte> memory(6u << 20);
  machine.f32_flops = product_flops(threads, Multiply::f32, memory);
  machine.bf16_flops = multiplies(Multiply::bf16) ? product_flops(threads, Multiply::bf16, memory) : 0;
  const int64_t floats = static_cast<int64_t>(memory.size() / 4);
  std::vector<float> sums(static_cast<size_t>(threads.count()));
  const double seconds = median_seconds(5, [&] {
    threads.split(floats, 4096, [&](int64_t begin, int64_t end, int thread) {
      sums[static_cast<size_t>(thread)] = sum(reinterpret_cast<const float*>(memory.data()) + begin, end - begin);
    });
  });
  machine.bandwidth = static_cast<double>(memory.size()) / seconds;
  const Codec* codec = find_codec("q4_1") ? find_codec("q4_1") : &kBf16;
  constexpr int64_t kElements = 1 << 16;
  std::vector<float> out(kElements);
  const double decode_seconds = median_seconds(5, [&] { codec->decode(memory.data(), out.data(), kElements); });
  machine.decode = kElements / decode_seconds * threads.count() / 2;  // half goes into packing
  return machine;
}

// The probe's operands lie in cache. Of whole steps of a 135M model, full and LoRA, products reached 0.71 to 0.82 of
// the probe's speed, and memory a sixth (Zen 4; docs/budget.md).
constexpr double kProductEfficiency = 0.76;
constexpr double kMemoryEfficiency = 1.0 / 6;

double predicted_seconds(const Machine& machine, Multiply multiply, const Cost& cost) {
  return cost.flops / (kProductEfficiency * machine.product_flops(multiply)) +
         cost.bytes / (kMemoryEfficiency * machine.bandwidth) + cost.decoded / machine.decode;
}

}  // namespace thimble
