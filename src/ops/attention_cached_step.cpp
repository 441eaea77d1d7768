// Keys are taken a chunk of positions at a time, chunks beginning at multiples of their size; the parts of a softmax
// are then joined in order (Dao et al. 2023, "Flash-Decoding for long-context inference"). So a long context is shared
// by threads. The size follows from the number of positions alone.
#include <bit>

#include "core/round.h"
#include "kernels/attend.h"
#include "kernels/math.h"
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

  // Chunks `first`, first + stride, ... of all rows. All heads of one by one thread: their keys lie side by side.
  void attend_all(int64_t first, int64_t stride, int thread) noexcept {
    int64_t done = 0, next = first;
    for (int64_t row = 0; row < plan_.rows; ++row) {
      const int64_t count = chunks_of(seen(call_, row));
      for (; next < done + count; next += stride)
        attend_chunk(row, next - done, next - done + stride, scratch_ + thread * plan_.scratch);
      done += count;
    }
  }

  void join(int64_t row, int64_t head) noexcept {
    const Operand& y = call_.out[0];
    float* const sum = out(row, 0, head);
    const PartialSoftmax all = join_head(row, head, chunks_of(seen(call_, row)));
    scale(sum, 1 / all.sum, a_.head_dim);
    y.codec->encode(sum, y.data + (row * a_.heads + head) * a_.head_dim * y.codec->block_bytes, a_.head_dim);
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

  // `after` is the thread's next one, if there are so many.
  void attend_chunk(int64_t row, int64_t chunk, int64_t after, float* scratch) noexcept {
    const Seen s = seen(call_, row);
    const int64_t size = size_of(s), before = (s.first / size + chunk) * size;
    const int64_t begin = std::max(s.first, before), end = std::min(s.position + 1, before + size);
    const int64_t following = after < chunks_of(s) ? begin + (after - chunk) * size : begin;
    for (int64_t kv = 0; kv < a_.kv_heads; ++kv) {
      const bool last = kv + 1 == a_.kv_heads;
      attend_head(row, kv, chunk, {s.slot, begin, end},
                  at(call_.out[1], a_, s.slot, last ? following : begin, last ? 0 : kv + 1), scratch);
    }
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
    attend({scratch, group, a_.head_dim, a_.scale}, head, r.end - r.begin, out(row, chunk, kv * group),
           partial_ + part(row, chunk, kv * group), scratch + group * plan_.width);
  }

  // Into chunk 0.
  PartialSoftmax join_head(int64_t row, int64_t head, int64_t chunks) noexcept {
    PartialSoftmax all = partial_[part(row, 0, head)];
    for (int64_t chunk = 1; chunk < chunks; ++chunk) {
      const PartialSoftmax more = partial_[part(row, chunk, head)];
      const float largest = std::max(all.largest, more.largest);
      const float old = exp_f32(all.largest - largest), added = exp_f32(more.largest - largest);
      scale(out(row, 0, head), old, a_.head_dim);
      add_scaled(out(row, 0, head), out(row, chunk, head), added, a_.head_dim);
      all = {largest, all.sum * old + more.sum * added};
    }
    return all;
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
  const int threads = call.run.threads.count();
  if (step.multiplications() < kWorthWaking)
    step.attend_all(0, 1, 0);
  else
    call.run.threads.each([&](int thread) { step.attend_all(thread, threads, thread); });
  constexpr int64_t kHeads = 32;  // worth waking for
  const int64_t heads = plan.a.heads;
  call.run.threads.split(plan.rows * heads, kHeads, [&](int64_t begin, int64_t end, int) {
    for (int64_t i = begin; i < end; ++i) step.join(i / heads, i % heads);
  });
}

}  // namespace thimble::cached
