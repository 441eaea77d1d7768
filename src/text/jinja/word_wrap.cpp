#include "text/jinja/word_wrap.h"

#include <algorithm>

#include "text/jinja/characters.h"

namespace thimble::jinja {
namespace {

// A stretch of code points that is not parted, unless it is longer than a line.
struct Chunk {
  size_t begin = 0, end = 0;  // in code points
  size_t size() const { return end - begin; }
};

bool is_blank(uint32_t code) { return code == ' ' || (code >= 9 && code <= 13); }

class Wrapper {
 public:
  Wrapper(const Text& text, const WrapOptions& options) : text_(text), options_(options) {
    size_t at = 0;
    for_each_code(text, 0, text.bytes.size(), [&](uint32_t code, size_t length, bool) {
      codes_.push_back(code);
      starts_.push_back(at);
      at += length;
    });
    starts_.push_back(at);
  }

  std::vector<TextPointer> run() {
    split();
    std::vector<TextPointer> lines;
    const auto width = static_cast<size_t>(options_.width);
    size_t next = 0;
    while (next < chunks_.size()) {
      if (!lines.empty() && blank(chunks_[next])) ++next;
      std::vector<Chunk> line;
      size_t length = 0;
      while (next < chunks_.size() && length + chunks_[next].size() <= width) {
        length += chunks_[next].size();
        line.push_back(chunks_[next++]);
      }
      if (next < chunks_.size() && chunks_[next].size() > width) long_word(next, width - length, line);
      if (!line.empty() && blank(line.back())) line.pop_back();
      if (!line.empty()) lines.push_back(slice_bytes(text_, starts_[line.front().begin], starts_[line.back().end]));
    }
    return lines;
  }

 private:
  bool blank(const Chunk& chunk) const { return chunk.size() == 0 || is_blank(codes_[chunk.begin]); }

  void long_word(size_t& next, size_t room, std::vector<Chunk>& line) {
    Chunk& chunk = chunks_[next];
    if (!options_.breaks_long_words) {
      if (line.empty()) line.push_back(chunks_[next++]);
      return;
    }
    size_t end = chunk.begin + room;
    if (options_.breaks_on_hyphens && chunk.size() > room) {
      size_t hyphen = end;
      while (hyphen > chunk.begin && codes_[hyphen - 1] != '-') --hyphen;
      const bool has_word =
          std::any_of(codes_.begin() + static_cast<std::ptrdiff_t>(chunk.begin),
                      codes_.begin() + static_cast<std::ptrdiff_t>(std::max(hyphen, chunk.begin + 1) - 1),
                      [](uint32_t code) { return code != '-'; });
      if (hyphen > chunk.begin + 1 && has_word) end = hyphen;
    }
    // Where no room is left this is an empty piece, which keeps a blank before it, as Python's does.
    line.push_back({chunk.begin, end});
    chunk.begin = end;
  }

  bool letter(size_t at) const { return at < codes_.size() && is_word(codes_[at]) && !is_decimal(codes_[at]); }

  // Whitespace; words, parted after a hyphen between letters; dashes of two or more between words.
  void split() {
    const size_t size = codes_.size();
    for (size_t at = 0; at < size;) {
      size_t end = at + 1;
      const bool space = is_blank(codes_[at]);
      if (space) {
        while (end < size && is_blank(codes_[end])) ++end;
      } else if (!options_.breaks_on_hyphens) {
        while (end < size && !is_blank(codes_[end])) ++end;
      } else {
        end = word_end(at);
      }
      chunks_.push_back({at, end});
      at = end;
    }
  }

  size_t dashes(size_t at) const {
    size_t end = at;
    while (end < codes_.size() && codes_[end] == '-') ++end;
    return end;
  }

  bool word_mark(size_t at) const {
    if (at >= codes_.size()) return false;
    const uint32_t code = codes_[at];
    return is_word(code) || code == '!' || code == '"' || code == '\'' || code == '&' || code == '.' || code == ',' ||
           code == '?';
  }

  size_t word_end(size_t at) const {
    const size_t size = codes_.size();
    const size_t dash = dashes(at);
    if (dash - at >= 2 && at > 0 && word_mark(at - 1) && dash < size && is_word(codes_[dash])) return dash;
    for (size_t end = at + 1; end < size; ++end) {
      if (is_blank(codes_[end])) return end;
      if (codes_[end] != '-') continue;
      const size_t after = dashes(end);
      if (after - end >= 2) {
        if (word_mark(end - 1) && after < size && is_word(codes_[after])) return end;
        end = after - 1;
        continue;
      }
      const bool before =
          letter(end - 1) && ((end >= at + 2 && letter(end - 2)) || (end >= at + 2 && codes_[end - 2] == '-'));
      const bool behind =
          letter(end + 1) && (letter(end + 2) || (end + 2 < size && codes_[end + 2] == '-' && letter(end + 3)));
      if (before && behind) return end + 1;
    }
    return size;
  }

  const Text& text_;
  const WrapOptions options_;
  std::vector<uint32_t> codes_;
  std::vector<size_t> starts_;
  std::vector<Chunk> chunks_;
};

}  // namespace

std::vector<TextPointer> wrap(const Text& line, const WrapOptions& options) { return Wrapper(line, options).run(); }

}  // namespace thimble::jinja
