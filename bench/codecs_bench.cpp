// Decode and encode speed of every codec, in elements a second on one core. Encoded rows lie in L2 and are decoded
// into one row that stays in L1, as a matrix product does it.
#include <benchmark/benchmark.h>

#include <vector>

#include "codecs/codec.h"
#include "core/random.h"

namespace thimble {
namespace {

constexpr int64_t kColumns = 1536;
constexpr int64_t kRows = 128;

std::vector<float> sample(int64_t count) {
  const Random random(11, "bench");
  std::vector<float> values(count);
  for (int64_t i = 0; i < count; ++i) values[i] = random.normal(i);
  return values;
}

void decode(benchmark::State& state, const Codec& codec) {
  const std::vector<float> from = sample(kColumns * kRows);
  std::vector<std::byte> bytes(codec.bytes(kColumns) * kRows);
  for (int64_t r = 0; r < kRows; ++r)
    codec.encode(from.data() + r * kColumns, bytes.data() + r * codec.bytes(kColumns), kColumns);
  std::vector<float> row(kColumns);
  for (auto _ : state) {
    for (int64_t r = 0; r < kRows; ++r) {
      codec.decode(bytes.data() + r * codec.bytes(kColumns), row.data(), kColumns);
      benchmark::DoNotOptimize(row.data());
      benchmark::ClobberMemory();
    }
  }
  state.SetItemsProcessed(state.iterations() * kColumns * kRows);
}

void encode(benchmark::State& state, const Codec& codec) {
  const std::vector<float> from = sample(kColumns);
  std::vector<std::byte> bytes(codec.bytes(kColumns));
  for (auto _ : state) {
    codec.encode(from.data(), bytes.data(), kColumns);
    benchmark::DoNotOptimize(bytes.data());
    benchmark::ClobberMemory();
  }
  state.SetItemsProcessed(state.iterations() * kColumns);
}

const bool registered = [] {
  for (const Codec* codec : codecs()) {
    const std::string name(codec->name);
    benchmark::RegisterBenchmark(("decode/" + name).c_str(), decode, *codec);
    benchmark::RegisterBenchmark(("encode/" + name).c_str(), encode, *codec);
  }
  return true;
}();

}  // namespace
}  // namespace thimble
