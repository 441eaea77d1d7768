// The tokens of a vocabulary: one blob of bytes, offsets into it, and an open-addressing hash from bytes to id. About
// 20 bytes a token beyond its text; no allocation per token.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "core/result.h"

namespace thimble {

// GGUF's numbers (tokenizer.ggml.token_type).
enum class TokenKind : uint8_t { normal = 1, unknown, control, user_defined, unused, byte };

class TokenTable {
 public:
  static constexpr int32_t kMaxTokens = 1 << 22;  // no vocabulary is near; bounds what a hostile id can allocate

  // 64-bit FNV-1a, so that a search can extend a hash byte by byte.
  static constexpr uint64_t kHashStart = 0xcbf29ce484222325ull;
  static constexpr uint64_t extend_hash(uint64_t hash, char byte) {
    return (hash ^ static_cast<unsigned char>(byte)) * 0x100000001b3ull;
  }

  void reserve(size_t tokens, size_t bytes);
  // Ids may come in any order; one that is never set has no text and is `unused`. A second text for an id is `corrupt`.
  Result<void> set(int32_t id, std::string_view bytes, TokenKind kind);
  void set_kind(int32_t id, TokenKind kind) { kinds_[static_cast<size_t>(id)] = kind; }
  // Makes find() work for the tokens that are `normal` now. Gives back unused memory.
  void index();

  int32_t size() const { return static_cast<int32_t>(lengths_.size()); }
  std::string_view bytes(int32_t id) const {
    const auto at = static_cast<size_t>(id);
    return at < lengths_.size() ? std::string_view(blob_).substr(offsets_[at], lengths_[at]) : std::string_view();
  }
  TokenKind kind(int32_t id) const { return kinds_[static_cast<size_t>(id)]; }
  size_t longest() const { return longest_; }  // bytes of the longest normal token

  // The normal token of these bytes, or -1.
  int32_t find(std::string_view bytes) const;
  int32_t find(std::string_view bytes, uint64_t hash) const;

 private:
  size_t slot(uint64_t hash) const {
    return static_cast<size_t>((static_cast<unsigned __int128>(hash * 0x9e3779b97f4a7c15ull) * slots_.size()) >> 64);
  }

  std::string blob_;
  std::vector<uint32_t> offsets_;
  std::vector<uint16_t> lengths_;
  std::vector<TokenKind> kinds_;
  std::vector<int32_t> slots_;  // ids, -1 where free; at most 2/3 full
  size_t longest_ = 0;
};

}  // namespace thimble
