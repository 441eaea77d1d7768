// Keys are taken a chunk of positions at a time, chunks beginning at multiples of their size; the parts of a softmax
// are then joined in order (Dao et al. 2023, "Flash-Decoding for long-context inference"). So a long context is shared
// by threads. The size follows from the number of positions alone.
#include <bit>

#include "core/round.h"
#include "kernels/attend.h"
#include "ops/attention_cached.h"
#include "ops/rows.h"

namespace thimble::cached {
namespace {

// Many for all threads, and few to join.
constexpr int64_t kLeastChunk = 32, kMostChunk = 256, kChunks = 16;
int64_t chunk_size(int64_t positions) {
  return std::clamp(static_cast<int64_t>(std::bit_ceil(static_cast<uint64_t>(positions)) / kChunks), kLeastChunk,
                    kMostChunk);
}
constexpr int64_t kWorthWaking = 1 << 15;  // multiplications, below which one thread is faster

// Where things lie: for every row and chunk the parts of all heads, then each thread's own memory.
struct Plan {
  const AttentionAttributes& a;
  int64_t chunks;  // that a row sees, at most
  int64_t rows;
  int64_t width;  // of a head's row
  int64_t scratch;

  Plan(const AttentionAttributes& attributes, int64_t rows, const Shape& cache, const Codec& codec)
      : a(attributes),
        chunks(std::max(kChunks, cache[1] / kMostChunk) + 2),
        rows(rows),
        width(padded_head(a.head_dim)),
        scratch(round_up(group() * width + attend_scratch_floats(codec, group(), a.head_dim, kMostChunk), 16)) {}

  int64_t group() const { return a.heads / a.kv_heads; }
  int64_t parts() const { return rows * chunks * a.heads; }
  int64_t floats(int threads) const { return parts() * (width + 2) + 16 + threads * scratch; }
};

class Step {
 public:
  Step(const Call& call, const Plan& plan) : call_(call), plan_(plan), a_(plan.a) {
    out_ = reinterpret_cast<float*>(call.workspace.data());
    partial_ = reinterpret_cast<PartialSoftmax*>(out_ + plan.parts() * plan.width);
    scratch_ = out_ + round_up(plan.parts() * (plan.width + 2), 16);
  }

  int64_t multiplications() const {
    int64_t positions = 0;
    for (int64_t row = 0; row < plan_.rows; ++row) {
      const Seen s = seen(call_, row);
      positions += s.position - s.first + 1;
    }
    return 2 * positions * a_.heads * a_.head_dim;
  }

  // A chunk of a row, one head of keys: of all rows.
  int64_t parts() const {
    int64_t count = 0;
    for (int64_t row = 0; row < plan_.rows; ++row) count += a_.kv_heads * chunks_of(seen(call_, row));
    return count;
  }

  // Parts [begin, end), counted over all rows, the heads of a chunk one after the other: their keys lie side by side.
  void attend_parts(int64_t begin, int64_t end, int thread) noexcept {
    for (int64_t row = 0, before = 0; row < plan_.rows && before < end; ++row) {
      const int64_t count = a_.kv_heads * chunks_of(seen(call_, row));
      for (int64_t part = std::max<int64_t>(begin - before, 0); part < std::min(end - before, count); ++part)
        attend_part(row, part, part + 1 < std::min(end - before, count), scratch_ + thread * plan_.scratch);
      before += count;
    }
  }

  // Keys and values of those parts that were there before this call.
  Threads::Ahead read_by(int64_t begin, int64_t end) const noexcept {
    if (plan_.rows > 1) return {};  // rows see one another
    const Seen s = seen(call_, 0);
    const Positions first = positions(s, begin / a_.kv_heads), last = positions(s, (end - 1) / a_.kv_heads);
    const auto cached = [&](const Operand& cache) {
      const std::byte* const data = at(cache, a_, s.slot, first.begin, 0);
      return std::span(data, at(cache, a_, s.slot, std::max(first.begin, std::min(last.end, s.position)), 0));
    };
    return {cached(call_.out[1]), cached(call_.out[2])};
  }

  void join_head(int64_t row, int64_t head, int thread) noexcept {
    const Operand& y = call_.out[0];
    float* const joined = scratch_ + thread * plan_.scratch;
    join({out(row, 0, head), a_.heads * plan_.width, partial_ + part(row, 0, head), a_.heads,
          chunks_of(seen(call_, row))},
         plan_.width, joined);
    y.codec->encode(joined, y.data + (row * a_.heads + head) * a_.head_dim * y.codec->block_bytes, a_.head_dim);
  }

 private:
  static int64_t size_of(const Seen& s) noexcept { return chunk_size(s.position - s.first + 1); }
  static int64_t chunks_of(const Seen& s) noexcept {
    const int64_t size = size_of(s);
    return s.position / size - s.first / size + 1;
  }
  int64_t part(int64_t row, int64_t chunk, int64_t head) const noexcept {
    return (row * plan_.chunks + chunk) * a_.heads + head;
  }
  float* out(int64_t row, int64_t chunk, int64_t head) const noexcept {
    return out_ + part(row, chunk, head) * plan_.width;
  }

  struct Positions {
    int64_t begin, end;
  };
  static Positions positions(const Seen& s, int64_t chunk) noexcept {
    const int64_t size = size_of(s), before = (s.first / size + chunk) * size;
    return {std::max(s.first, before), std::min(s.position + 1, before + size)};
  }

  // goes_on: the next part is of the same thread.
  void attend_part(int64_t row, int64_t part, bool goes_on, float* scratch) noexcept {
    const Seen s = seen(call_, row);
    const int64_t chunk = part / a_.kv_heads, kv = part % a_.kv_heads, next = part + goes_on;
    const Positions p = positions(s, chunk);
    attend_head(row, kv, chunk, {s.slot, p.begin, p.end},
                at(call_.out[1], a_, s.slot, positions(s, next / a_.kv_heads).begin, next % a_.kv_heads), scratch);
  }

  struct Range {
    int64_t slot, begin, end;
  };
  void attend_head(int64_t row, int64_t kv, int64_t chunk, const Range& r, const std::byte* next,
                   float* scratch) noexcept {
    const int64_t group = plan_.group(), element = call_.in[kQ].codec->block_bytes;
    for (int64_t i = 0; i < group; ++i) {
      float* const q = scratch + i * plan_.width;
      call_.in[kQ].codec->decode(call_.in[kQ].data + (row * a_.heads + kv * group + i) * a_.head_dim * element, q,
                                 a_.head_dim);
      std::fill(q + a_.head_dim, q + plan_.width, 0.0f);
    }
    const Operand& keys = call_.out[1];
    const CachedHead head{keys.codec, at(keys, a_, r.slot, r.begin, kv), at(call_.out[2], a_, r.slot, r.begin, kv),
                          next, keys.codec->bytes(keys.shape[2])};
    const Operand& bias = call_.in[kBias];
    const float* const by_place = bias ? bias.as<const float>() + kv * group * bias.shape[1] + r.begin : nullptr;
    attend({scratch, group, a_.head_dim, a_.scale, a_.cap, by_place, bias ? bias.shape[1] : 0}, head, r.end - r.begin,
           out(row, chunk, kv * group), partial_ + part(row, chunk, kv * group), scratch + group * plan_.width);
  }

  const Call& call_;
  const Plan& plan_;
  const AttentionAttributes& a_;
  float* out_;
  PartialSoftmax* partial_;
  float* scratch_;
};

}  // namespace

int64_t step_workspace_bytes(const AttentionAttributes& attributes, const Type& q, const Type& cache, int threads) {
  return 4 * Plan(attributes, q.shape[0], cache.shape, *cache.codec).floats(threads);
}

void step(const Call& call) noexcept {
  const Plan plan(call.as<AttentionAttributes>(), call.in[kQ].shape[0], call.in[kCacheK].shape,
                  *call.in[kCacheK].codec);
  Step step(call, plan);
  if (step.multiplications() < kWorthWaking)
    call.run.threads.once([&] { step.attend_parts(0, step.parts(), 0); });
  else
    call.run.threads.share(
        step.parts(), [&](int64_t begin, int64_t end, int thread) { step.attend_parts(begin, end, thread); },
        [&](int64_t begin, int64_t end) { return step.read_by(begin, end); });
  constexpr int64_t kHeads = 32;  // worth waking for
  const int64_t heads = plan.a.heads;
  call.run.threads.split(plan.rows * heads, kHeads, [&](int64_t begin, int64_t end, int thread) {
    for (int64_t i = begin; i < end; ++i) step.join_head(i / heads, i % heads, thread);
  });
}

}  // namespace thimble::cached
