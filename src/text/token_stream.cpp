#include "text/token_stream.h"

#include "text/utf8.h"

namespace thimble {
namespace {

// Bytes at the end of the text that begin a character without ending it.
size_t unfinished(std::string_view text) {
  for (size_t back = 1; back <= std::min<size_t>(3, text.size()); ++back)
    if (decode_utf8(text, text.size() - back).truncated) return back;
  return 0;
}

}  // namespace

TokenStream::TokenStream(const Tokenizer& tokenizer, std::span<const int32_t> before) : tokenizer_(tokenizer) {
  trims_first_ = true;
  for (int32_t id : before) trims_first_ = trims_first_ && tokenizer.is_special(id);
}

std::string_view TokenStream::push(int32_t id) {
  if (trims_first_) {
    held_ += tokenizer_.decode({&id, 1});
    trims_first_ = tokenizer_.is_special(id);
  } else {
    held_ += tokenizer_.bytes(id);
  }
  const size_t keep = unfinished(held_);
  whole_.assign(held_, 0, held_.size() - keep);
  held_.erase(0, held_.size() - keep);
  return whole_;
}

std::string_view TokenStream::rest() {
  whole_ = std::move(held_);
  held_.clear();
  return whole_;
}

}  // namespace thimble
