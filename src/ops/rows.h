// Rows of operands as f32: what row-wise operations read and write.
#pragma once

#include <algorithm>
#include <cstring>

#include "graph/op.h"
#include "kernels/rows.h"
#include "kernels/vector.h"

namespace thimble {

// Row r of a matrix as f32.
inline void decode_row(const Matrix& matrix, int64_t r, float* to) noexcept {
  if (matrix.codec == &kBf16)
    from_bf16(reinterpret_cast<const uint16_t*>(matrix.row(r)), to, matrix.columns);
  else
    matrix.decode(r, 0, matrix.columns, to);
}

// Row r as [columns] f32: in place when it is stored so, else decoded into `buffer`.
inline const float* read_row(const Operand& operand, int64_t r, int64_t columns, float* buffer) noexcept {
  if (operand.codec == &kF32) return operand.as<const float>() + r * columns;
  decode_row({operand.codec, operand.data, operand.shape.rows(), columns, 0}, r, buffer);
  return buffer;
}

// `count` values from the start of a block on; `to` may be the values themselves.
inline void encode_run(const Codec& codec, const float* values, std::byte* to, int64_t count) noexcept {
  if (&codec == &kBf16)
    to_bf16(values, reinterpret_cast<uint16_t*>(to), count);
  else if (&codec != &kF32)
    codec.encode(values, to, count);
  else if (reinterpret_cast<const std::byte*>(values) != to)
    std::memcpy(to, values, static_cast<size_t>(count) * 4);
}

inline void write_row(const Operand& operand, int64_t r, int64_t columns, const float* values) noexcept {
  encode_run(*operand.codec, values, operand.data + r * operand.codec->bytes(columns), columns);
}

// Elements [at, at + count) of all, whole blocks, likewise.
inline const float* read_run(const Operand& operand, int64_t at, int64_t count, float* buffer) noexcept {
  if (operand.codec == &kF32) return operand.as<const float>() + at;
  decode_row({operand.codec, operand.data + operand.codec->bytes(at), 1, count, 0}, 0, buffer);
  return buffer;
}
inline void write_run(const Operand& operand, int64_t at, int64_t count, const float* values) noexcept {
  encode_run(*operand.codec, values, operand.data + operand.codec->bytes(at), count);
}

// Workspace cut into `buffers` rows of f32 for each thread.
inline int64_t row_buffer_bytes(int64_t columns, int buffers, int threads) {
  return int64_t{threads} * buffers * ((columns + 15) / 16 * 16) * 4;
}
inline float* row_buffer(const Call& call, int64_t columns, int buffers, int thread, int buffer) noexcept {
  return reinterpret_cast<float*>(call.workspace.data()) +
         (int64_t{thread} * buffers + buffer) * ((columns + 15) / 16 * 16);
}

// table[ids[i]] += dy[i] for rows [first, last), in order: threads share the columns. buffers: [threads, width].
inline void add_rows(Threads& threads, float* table, const int32_t* ids, const Operand& dy, int64_t first, int64_t last,
                     int64_t width, float* buffers) noexcept {
  threads.divide(width, 16, [&](int64_t begin, int64_t end, int thread) {
    for (int64_t i = first; i < last; ++i)
      add_scaled(table + ids[i] * width + begin, read_row(dy, i, width, buffers + thread * width) + begin, 1,
                 end - begin);
  });
}

// Every reduction over tokens is done in granules of this many rows, in order, whatever part of them is in memory.
constexpr int64_t kGranule = 512;

}  // namespace thimble
