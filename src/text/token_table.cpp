#include "text/token_table.h"

#include <algorithm>

namespace thimble {

void TokenTable::reserve(size_t tokens, size_t bytes) {
  tokens = std::min(tokens, static_cast<size_t>(kMaxTokens));
  blob_.reserve(bytes);
  offsets_.reserve(tokens);
  lengths_.reserve(tokens);
  kinds_.reserve(tokens);
}

Result<void> TokenTable::set(int32_t id, std::string_view bytes, TokenKind kind) {
  if (id < 0 || id >= kMaxTokens) {
    return fail(ErrorCode::corrupt, "reading a vocabulary: token id {} is outside 0..{}", id, kMaxTokens - 1);
  }
  if (bytes.size() > UINT16_MAX) {
    return fail(ErrorCode::corrupt, "reading a vocabulary: token {} has {} bytes, at most {} are allowed", id,
                bytes.size(), UINT16_MAX);
  }
  constexpr size_t kMostBytes = 256u << 20;  // of all texts
  if (blob_.size() + bytes.size() > kMostBytes)
    return fail(ErrorCode::corrupt, "reading a vocabulary: its tokens have more than {} bytes in all", kMostBytes);
  const auto at = static_cast<size_t>(id);
  if (at >= lengths_.size()) {
    offsets_.resize(at + 1);
    lengths_.resize(at + 1);
    kinds_.resize(at + 1, TokenKind::unused);
  }
  if (lengths_[at] != 0) {
    if (this->bytes(id) == bytes) return set_kind(id, kind), Result<void>();
    return fail(ErrorCode::corrupt, "reading a vocabulary: token id {} is given twice, as '{}' and as '{}'", id,
                this->bytes(id), bytes);
  }
  offsets_[at] = static_cast<uint32_t>(blob_.size());
  lengths_[at] = static_cast<uint16_t>(bytes.size());
  kinds_[at] = kind;
  blob_.append(bytes);
  return {};
}

void TokenTable::index() {
  blob_.shrink_to_fit();
  offsets_.shrink_to_fit();
  lengths_.shrink_to_fit();
  kinds_.shrink_to_fit();
  slots_.assign(lengths_.size() * 3 / 2 + 2, -1);
  longest_ = 0;
  for (int32_t id = 0; id < size(); ++id) {
    const std::string_view token = bytes(id);
    if (kind(id) != TokenKind::normal || token.empty()) continue;
    longest_ = std::max(longest_, token.size());
    uint64_t hash = kHashStart;
    for (char byte : token) hash = extend_hash(hash, byte);
    size_t at = slot(hash);
    while (slots_[at] >= 0 && bytes(slots_[at]) != token) at = at + 1 == slots_.size() ? 0 : at + 1;
    if (slots_[at] < 0) slots_[at] = id;  // of equal texts the lowest id is found
  }
}

int32_t TokenTable::find(std::string_view bytes) const {
  uint64_t hash = kHashStart;
  for (char byte : bytes) hash = extend_hash(hash, byte);
  return find(bytes, hash);
}

int32_t TokenTable::find(std::string_view bytes, uint64_t hash) const {
  if (slots_.empty() || bytes.empty()) return -1;
  size_t at = slot(hash);
  while (slots_[at] >= 0) {
    if (this->bytes(slots_[at]) == bytes) return slots_[at];
    at = at + 1 == slots_.size() ? 0 : at + 1;
  }
  return -1;
}

}  // namespace thimble
