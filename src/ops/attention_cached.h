// The two ways of attention over a cache; attention_cached.cpp has the operation.
//
//   step  every row by itself, for one or a few tokens of each sequence: a cached key is read once for all query heads
//         that share it
//   fill  rows that follow one another in a sequence together, in tiles, for prompts
//
// Both give results of a row that do not depend on the rows beside it or on the number of threads. They differ from
// each other in the last bits, so which one a node takes is an attribute.
#pragma once

#include "ops/table.h"

namespace thimble::cached {

enum In { kQ, kK, kV, kCacheK, kCacheV, kSlots, kPositions, kBias };

// What a row sees: positions [first, position] of its slot.
struct Seen {
  int64_t slot, first, position;
};
inline Seen seen(const Call& call, int64_t row) noexcept {
  const int64_t window = call.as<AttentionAttributes>().window;
  const int64_t position = call.in[kPositions].as<int32_t>()[row];
  return {call.in[kSlots].as<int32_t>()[row], window ? std::max<int64_t>(0, position - window + 1) : 0, position};
}

// Address of a kv head's row in a cache.
inline const std::byte* at(const Operand& cache, const AttentionAttributes& a, int64_t slot, int64_t position,
                           int64_t kv) noexcept {
  const int64_t element = (slot * cache.shape[1] + position) * cache.shape[2] + kv * a.head_dim;
  return cache.data + element / cache.codec->block * cache.codec->block_bytes;
}

int64_t step_workspace_bytes(const AttentionAttributes& attributes, const Type& q, const Type& cache, int threads);
void step(const Call& call) noexcept;

int64_t fill_workspace_bytes(const AttentionAttributes& attributes, const Type& q, const Type& cache, Multiply multiply,
                             int threads);
void fill(const Call& call) noexcept;

}  // namespace thimble::cached
