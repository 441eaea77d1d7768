// Keys are taken kChunk positions at a time, chunks beginning at multiples of it; the parts of a softmax are then
// joined in order (Dao et al. 2023, "Flash-Decoding for long-context inference"). So a long context is shared by
// threads. A chunk's keys and values are read in the order of addresses before its heads take their parts of them,
// which lie apart: weights have driven them out of the caches, and memory is fast at nothing else.
#include "core/read_ahead.h"
#include "core/round.h"
#include "kernels/attend.h"
#include "kernels/math.h"
#include "ops/attention_cached.h"
#include "ops/rows.h"

namespace thimble::cached {
namespace {

constexpr int64_t kChunk = 32;
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
        chunks((cache[1] + kChunk - 1) / kChunk),
        rows(rows),
        width(padded_head(a.head_dim)),
        scratch(round_up(group() * width + attend_scratch_floats(codec, group(), a.head_dim, kChunk), 16)) {}

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
      for (; next < done + count; next += stride) attend_chunk(row, next - done, scratch_ + thread * plan_.scratch);
      done += count;
    }
  }

  void join(int64_t row) noexcept {
    const Operand& y = call_.out[0];
    const int64_t chunks = chunks_of(seen(call_, row));
    for (int64_t head = 0; head < a_.heads; ++head) {
      float* const sum = out(row, 0, head);
      const PartialSoftmax all = join_head(row, head, chunks);
      scale(sum, 1 / all.sum, a_.head_dim);
      y.codec->encode(sum, y.data + (row * a_.heads + head) * a_.head_dim * y.codec->block_bytes, a_.head_dim);
    }
  }

 private:
  static int64_t chunks_of(const Seen& s) noexcept { return s.position / kChunk - s.first / kChunk + 1; }
  int64_t part(int64_t row, int64_t chunk, int64_t head) const noexcept {
    return (row * plan_.chunks + chunk) * a_.heads + head;
  }
  float* out(int64_t row, int64_t chunk, int64_t head) const noexcept {
    return out_ + part(row, chunk, head) * plan_.width;
  }

  void attend_chunk(int64_t row, int64_t chunk, float* scratch) noexcept {
    const Seen s = seen(call_, row);
    const int64_t begin = std::max(s.first, (s.first / kChunk + chunk) * kChunk);
    const int64_t end = std::min(s.position + 1, (s.first / kChunk + chunk + 1) * kChunk);
    for (int i : {1, 2}) {
      const Operand& cache = call_.out[i];
      read_ahead(
          {at(cache, a_, s.slot, begin, 0), static_cast<size_t>((end - begin) * cache.codec->bytes(cache.shape[2]))});
    }
    for (int64_t kv = 0; kv < a_.kv_heads; ++kv) attend_head(row, kv, chunk, {s.slot, begin, end}, scratch);
  }

  struct Range {
    int64_t slot, begin, end;
  };
  void attend_head(int64_t row, int64_t kv, int64_t chunk, const Range& r, float* scratch) noexcept {
    const int64_t group = plan_.group(), element = call_.in[kQ].codec->block_bytes;
    for (int64_t i = 0; i < group; ++i) {
      float* const q = scratch + i * plan_.width;
      call_.in[kQ].codec->decode(call_.in[kQ].data + (row * a_.heads + kv * group + i) * a_.head_dim * element, q,
                                 a_.head_dim);
      std::fill(q + a_.head_dim, q + plan_.width, 0.0f);
    }
    const Operand& keys = call_.out[1];
    const CachedHead head{keys.codec, at(keys, a_, r.slot, r.begin, kv), at(call_.out[2], a_, r.slot, r.begin, kv),
                          keys.codec->bytes(keys.shape[2])};
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
  call.run.threads.split(plan.rows, 4, [&](int64_t begin, int64_t end, int) {
    for (int64_t row = begin; row < end; ++row) step.join(row);
  });
}

}  // namespace thimble::cached
