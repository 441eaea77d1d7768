// A plain text as consecutive windows of tokens. The text is tokenised piece by piece, with the ids of the whole; of
// each piece only its place and the number of tokens before it are kept (16 bytes for 8 KiB of text), and it is
// tokenised again when one of its windows is asked for.
#include <algorithm>

#include "files/file_kind.h"
#include "text/datasets.h"

namespace thimble {
namespace {

constexpr size_t kChunkBytes = 8 << 10;

class TextWindows final : public Dataset {
 public:
  TextWindows(InputFile file, Tokenizer& tokenizer, const DatasetOptions& options)
      : file_(std::move(file)), tokenizer_(tokenizer), rows_(options.rows) {
    if (tokenizer.begins_with_bos(options.bos, options.no_bos)) bos_ = tokenizer.bos();
    window_ = options.context - (bos_ ? 1 : 0);
  }

  Result<void> scan() {
    if (window_ < 1)
      return fail(ErrorCode::invalid_argument, "cutting {}: a context of {} tokens", file_.path(), window_);
    begin_ = TRY(byte_order_mark(file_));
    add_to_fingerprint(static_cast<uint64_t>(window_));
    add_to_fingerprint(bos_ ? static_cast<uint64_t>(*bos_) + 1 : 0);
    uint64_t offset = begin_;
    bool after_special = false;
    while (offset < file_.size()) {
      chunks_.push_back({offset, tokens_, after_special});
      const uint64_t done = TRY(load(chunks_.back()));
      after_special = tokenizer_.ends_apart(std::string_view(buffer_.data(), static_cast<size_t>(done)), ids_);
      offset += done;
      tokens_ += static_cast<int64_t>(ids_.size());
      if (rows_ > 0)
        if (const auto known = check_rows(tokenizer_, ids_, rows_); !known)
          return fail(known.error().code, "reading {}: {}", file_.path(), known.error().message);
      for (const int32_t id : ids_) add_to_fingerprint(static_cast<uint64_t>(id));
    }
    loaded_ = static_cast<int64_t>(chunks_.size()) - 1;
    chunks_.push_back({offset, tokens_, false});
    chunks_.shrink_to_fit();
    windows_ = tokens_ < window_ ? (tokens_ + (bos_ ? 1 : 0) > 1 ? 1 : 0) : tokens_ / window_;
    report_.examples = windows_;
    report_.dropped_tokens = tokens_ < window_ ? 0 : tokens_ % window_;
    return {};
  }

  int64_t size() const override { return windows_; }
  bool windows() const override { return true; }
  int64_t tokens(int64_t index) const override {
    return std::min((index + 1) * window_, tokens_) - index * window_ + (bos_ ? 1 : 0);
  }

  Result<void> read(int64_t index, Example& example) override {
    if (index < 0 || index >= windows_) {
      return fail(ErrorCode::invalid_argument, "reading window {} of {}: it has {}", index, file_.path(), windows_);
    }
    example.clear();
    if (bos_) example.ids.push_back(*bos_);
    const int64_t end = std::min((index + 1) * window_, tokens_);
    for (int64_t at = index * window_; at < end;) {
      CHECK_OK(load_chunk_of(at));
      const Chunk& chunk = chunks_[static_cast<size_t>(loaded_)];
      const auto from = at - chunk.tokens_before;
      const auto count = std::min(end - at, static_cast<int64_t>(ids_.size()) - from);
      example.ids.insert(example.ids.end(), ids_.begin() + from, ids_.begin() + from + count);
      at += count;
    }
    example.trained.assign(example.ids.size(), 1);
    return {};
  }

  Result<std::vector<Message>> messages(int64_t) override {
    return fail(ErrorCode::unsupported, "showing the messages of {}: it is a plain text, it has none", file_.path());
  }

 private:
  struct Chunk {
    uint64_t offset;
    int64_t tokens_before : 63;
    bool after_special : 1;  // the last token before it is one
  };

  // Fills ids_ with the tokens of the stretch that starts where `chunk` does, and gives its bytes: as many as are
  // certain within kChunkBytes, or within twice as many, and so on.
  Result<uint64_t> load(const Chunk& chunk) {
    const uint64_t offset = chunk.offset;
    for (size_t bytes = kChunkBytes;; bytes *= 2) {
      const auto length = static_cast<size_t>(std::min<uint64_t>(bytes, file_.size() - offset));
      if (buffer_.size() < length) buffer_.resize(length);
      const auto target = std::span(buffer_).first(length);
      CHECK_OK(file_.read(offset, std::as_writable_bytes(target)));
      const std::string_view text(target.data(), length);
      const bool last = offset + length == file_.size();
      if (const size_t valid = valid_utf8(text, !last); valid < length)
        return fail(ErrorCode::unsupported,
                    "reading {}: the byte 0x{:02X} at offset {} is not UTF-8 text; if it is text in an older encoding, "
                    "convert it: iconv -f LATIN1 -t UTF-8 FILE > NEW",
                    file_.path(), static_cast<unsigned char>(text[valid]), offset + valid);
      const EncodeOptions options{.continued = offset > begin_, .after_special = chunk.after_special};
      ids_.clear();
      const auto done = last ? tokenizer_.encode(text, options, ids_).map([&] { return length; })
                             : tokenizer_.encode_part(text, options, ids_);
      if (!done) {
        return fail(done.error().code, "{}, from byte {} on: {}", file_.path(), offset, done.error().message);
      }
      if (*done > 0) return *done;
      if (bytes >= kLongestWord) {
        return fail(ErrorCode::unsupported,
                    "tokenizing {} from byte {} on: there is no place to cut the text in {} bytes; break it into lines",
                    file_.path(), offset, bytes);
      }
    }
  }

  Result<void> load_chunk_of(int64_t token) {
    const auto after =
        std::ranges::upper_bound(chunks_, token, {}, [](const Chunk& chunk) -> int64_t { return chunk.tokens_before; });
    const auto wanted = after - chunks_.begin() - 1;
    if (wanted == loaded_) return {};
    loaded_ = -1;
    const auto at = static_cast<size_t>(wanted);
    const uint64_t bytes = TRY(load(chunks_[at]));
    if (chunks_[at].offset + bytes != chunks_[at + 1].offset ||
        chunks_[at].tokens_before + static_cast<int64_t>(ids_.size()) != chunks_[at + 1].tokens_before) {
      return fail(ErrorCode::io, "reading {}: it was changed since it was opened", file_.path());
    }
    loaded_ = wanted;
    return {};
  }

  InputFile file_;
  Tokenizer& tokenizer_;
  int64_t rows_;  // of the model's embedding; 0: not looked at
  std::optional<int32_t> bos_;
  uint64_t begin_ = 0;  // of the text in the file
  int64_t window_ = 0;  // tokens of the text in a window
  int64_t tokens_ = 0, windows_ = 0;
  std::vector<Chunk> chunks_;  // and one more, for the end
  std::string buffer_;
  std::vector<int32_t> ids_;  // of chunk loaded_
  int64_t loaded_ = -1;
};

}  // namespace

Result<std::unique_ptr<Dataset>> open_text_windows(InputFile file, Tokenizer& tokenizer,
                                                   const DatasetOptions& options) {
  auto dataset = std::make_unique<TextWindows>(std::move(file), tokenizer, options);
  CHECK_OK(dataset->scan());
  return dataset;
}

}  // namespace thimble
