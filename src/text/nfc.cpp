#include "text/nfc.h"

#include <algorithm>
#include <iterator>

#include "text/nfc_data.h"
#include "text/utf8.h"

namespace thimble {
namespace {

constexpr uint32_t kInvalid = 0x80000000;  // marks a byte that is not UTF-8

// Hangul syllables are computed: leading consonant, vowel, optional trailing consonant.
constexpr uint32_t kSyllables = 0xac00, kLeading = 0x1100, kVowels = 0x1161, kTrailing = 0x11a7;
constexpr uint32_t kLeadingCount = 19, kVowelCount = 21, kTrailingCount = 28;
constexpr uint32_t kSyllableCount = kLeadingCount * kVowelCount * kTrailingCount;

struct Composition {
  uint32_t first, second, code;
};

struct Tables {
  std::vector<Composition> compositions;  // sorted by first, second
  std::vector<uint32_t> seconds;          // sorted
  Tables() {
    for (const Decomposition& entry : kDecompositions) {
      if (!entry.composes) continue;
      compositions.push_back({entry.first, entry.second, entry.code});
      seconds.push_back(entry.second);
    }
    std::ranges::sort(compositions, {}, [](const Composition& c) { return std::pair(c.first, c.second); });
    std::ranges::sort(seconds);
    seconds.erase(std::unique(seconds.begin(), seconds.end()), seconds.end());
  }
};

const Tables& tables() {
  static const Tables made;
  return made;
}

uint8_t combining_class(uint32_t code) {
  const auto at = std::ranges::lower_bound(kCombining, code, {}, &CombiningRange::last);
  return at != std::end(kCombining) && at->first <= code ? at->combining : 0;
}

const Decomposition* find_decomposition(uint32_t code) {
  const auto at = std::ranges::lower_bound(kDecompositions, code, {}, &Decomposition::code);
  return at != std::end(kDecompositions) && at->code == code ? at : nullptr;
}

bool is_syllable(uint32_t code) { return code >= kSyllables && code < kSyllables + kSyllableCount; }

// Whether what stands before the character is final, whatever that is, and the character itself too unless something
// combines with it.
bool starts_afresh(uint32_t code) {
  if (code < 0x300 || (code & kInvalid)) return true;
  const bool vowel = code >= kVowels && code < kVowels + kVowelCount;
  const bool trailing = code > kTrailing && code < kTrailing + kTrailingCount;
  return !vowel && !trailing && combining_class(code) == 0 && !find_decomposition(code) &&
         !std::ranges::binary_search(tables().seconds, code);
}

uint32_t compose(uint32_t first, uint32_t second) {
  if (first >= kLeading && first < kLeading + kLeadingCount && second >= kVowels && second < kVowels + kVowelCount) {
    return kSyllables + ((first - kLeading) * kVowelCount + second - kVowels) * kTrailingCount;
  }
  if (is_syllable(first) && (first - kSyllables) % kTrailingCount == 0 && second > kTrailing &&
      second < kTrailing + kTrailingCount) {
    return first + second - kTrailing;
  }
  const auto& all = tables().compositions;
  const auto at = std::ranges::lower_bound(all, std::pair(first, second), {},
                                           [](const Composition& c) { return std::pair(c.first, c.second); });
  return at != all.end() && at->first == first && at->second == second ? at->code : 0;
}

class Segment {
 public:
  void add(uint32_t code) {
    if (is_syllable(code)) {
      const uint32_t index = code - kSyllables;
      put(kLeading + index / (kVowelCount * kTrailingCount));
      put(kVowels + index / kTrailingCount % kVowelCount);
      if (index % kTrailingCount) put(kTrailing + index % kTrailingCount);
    } else if (const Decomposition* parts = find_decomposition(code)) {
      add(parts->first);
      if (parts->second) add(parts->second);
    } else {
      put(code);
    }
  }

  void write(std::string& to) {
    order();
    join();
    for (const Mark& mark : marks_) append_utf8(to, mark.code);
    marks_.clear();
  }

 private:
  struct Mark {
    uint32_t code;
    uint8_t combining;
  };
  void put(uint32_t code) { marks_.push_back({code, combining_class(code)}); }

  void order() {
    for (auto at = marks_.begin(); at != marks_.end();) {
      const auto end = std::find_if(at, marks_.end(), [](const Mark& mark) { return mark.combining == 0; });
      std::stable_sort(at, end, [](const Mark& a, const Mark& b) { return a.combining < b.combining; });
      at = end == marks_.end() ? end : end + 1;
    }
  }

  // A mark joins the last starter unless one of its own class or above stands between them.
  void join() {
    size_t kept = 0, starter = SIZE_MAX;
    int last = -1;
    for (const Mark mark : marks_) {
      const uint32_t joined =
          starter != SIZE_MAX && last < mark.combining ? compose(marks_[starter].code, mark.code) : 0;
      if (joined) {
        marks_[starter].code = joined;
        continue;
      }
      if (mark.combining == 0) starter = kept;
      last = mark.combining == 0 ? -1 : mark.combining;
      marks_[kept++] = mark;
    }
    marks_.resize(kept);
  }

  std::vector<Mark> marks_;
};

}  // namespace

bool is_surely_nfc(std::string_view text) {
  return std::ranges::none_of(text, [](char byte) { return static_cast<unsigned char>(byte) >= 0xcc; });
}

size_t certain_nfc(std::string_view text) {
  for (size_t at = text.size(); at > 0;) {
    --at;
    if ((static_cast<unsigned char>(text[at]) & 0xc0) == 0x80) continue;
    const Utf8Char c = decode_utf8(text, at);
    if (c.valid && starts_afresh(c.code)) return at;
  }
  return 0;
}

void to_nfc(std::string_view text, std::string& to, std::vector<NfcRun>& runs) {
  to.clear();
  runs.clear();
  Segment segment;
  const auto char_at = [&](size_t at) { return decode_utf8(text, at); };
  const auto fresh = [](const Utf8Char& c) { return !c.valid || starts_afresh(c.code); };
  for (size_t at = 0; at < text.size();) {
    // Characters that nothing combines with are copied, in runs as long as they get.
    NfcRun run{at, to.size(), 0};
    while (at < text.size() && fresh(char_at(at))) {
      const size_t next = at + char_at(at).length;
      if (next < text.size() && !fresh(char_at(next)) && char_at(at).valid) break;
      at = next;
    }
    run.length = at - run.from;
    to += text.substr(run.from, run.length);
    runs.push_back(run);
    if (at == text.size()) return;
    // One that something combines with, and what does.
    do {
      segment.add(char_at(at).code);
      at += char_at(at).length;
    } while (at < text.size() && !fresh(char_at(at)));
    segment.write(to);
  }
  runs.push_back({text.size(), to.size(), 0});
}

}  // namespace thimble
