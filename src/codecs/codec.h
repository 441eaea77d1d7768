// How numbers are written. A codec is one file in this folder and one row of the table in codec.cpp; it works
// everywhere a number is stored: weights, states, activations, caches, files.
//
// A codec writes blocks: `block` consecutive elements in `block_bytes` bytes, each block by itself. The last block of
// a value may be partly filled; its unused elements are written as zeros. Where a block has parts, it ends behind the
// last one that is filled at all. GGUF formats are bit-compatible with GGUF and need rows that are whole blocks.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "core/result.h"

namespace thimble {

struct Codec {
  std::string_view name;         // as on the command line: "q4_1"
  std::string_view description;  // one line, for help and docs
  int64_t block = 1;             // elements
  int64_t block_bytes = 0;
  int64_t part = 0;  // elements in each of its last `part_bytes` bytes, over and over; 0: a block has no parts
  int64_t part_bytes = 0;
  int gguf_type = -1;                 // ggml_type number, or -1 where GGUF has no such format
  std::string_view safetensors = {};  // dtype of safetensors ("BF16"), or empty
  // |x - decode(encode(x))| <= max_error * max|x| over the block of x, where x is finite and the block's scale is a
  // normal number of its format (an f16 in GGUF's: blocks below about 1e-3 or above 1e5 are not).
  double max_error = 0;

  // Decodes `count` elements from the start of a block.
  void (*decode)(const std::byte* from, float* to, int64_t count) noexcept = nullptr;
  // Encodes `count` elements to the start of a block. nullptr: thimble reads the format and does not write it; such
  // codecs hold weights as they are stored, and nothing else.
  void (*encode)(const float* from, std::byte* to, int64_t count) noexcept = nullptr;

  const Codec* rows_of = nullptr;  // where rows lie 16 at a time, their codec: interleaved.h

  bool writes() const { return encode != nullptr; }
  int64_t bytes(int64_t count) const {
    const int64_t blocks = (count + block - 1) / block, missing = blocks * block - count;
    return blocks * block_bytes - (part > 0 ? missing / part * part_bytes : 0);
  }
  // GGUF's formats cannot split a block over rows.
  bool fits_rows(int64_t columns) const { return gguf_type < 0 || columns % block == 0; }
};

// All that thimble reads and writes, in the order of the documentation.
std::span<const Codec* const> codecs();
// Those that it only reads: formats of files whose weights stay as they are stored.
std::span<const Codec* const> read_only_codecs();

// nullptr when there is none.
const Codec* find_codec(std::string_view name);
const Codec* find_codec_gguf(int gguf_type);
const Codec* find_codec_safetensors(std::string_view dtype);
// As find_codec, for what is to be written: an error names the nearest ones that are.
Result<const Codec*> codec_named(std::string_view name);

// One file each.
extern const Codec kF32;
extern const Codec kBf16;
extern const Codec kF16;
extern const Codec kQ8_0;
extern const Codec kQ4_0;
extern const Codec kQ4_1;
extern const Codec kQ5_0;
extern const Codec kQ5_1;
extern const Codec kQ4K;
extern const Codec kQ5K;
extern const Codec kQ6K;
extern const Codec kNf4;
extern const Codec kNf4Double;
extern const Codec kInt8Block;
extern const Codec kFp8;
extern const Codec kFp8Group;
extern const Codec kQ2K;
extern const Codec kQ3K;
extern const Codec kIq4Nl;
extern const Codec kIq4Xs;
extern const Codec kIq3S;
extern const Codec kIq3Xxs;
extern const Codec kIq2S;
extern const Codec kIq2Xs;
extern const Codec kIq2Xxs;
extern const Codec kMxfp4;
extern const Codec kTq10;
extern const Codec kTq20;

}  // namespace thimble
