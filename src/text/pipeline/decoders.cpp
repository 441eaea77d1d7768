#include "text/pipeline/decoders.h"

#include <array>
#include <memory>

#include "text/byte_characters.h"
#include "text/pipeline/splitters.h"
#include "text/pipeline/unicode.h"
#include "text/sentencepiece.h"

namespace thimble::pipeline {
namespace {

using Object = JsonTokenizer::Object;

void replace_all(std::string& text, std::string_view what, std::string_view by) {
  for (size_t at = text.find(what); at != std::string::npos; at = text.find(what, at + by.size()))
    text.replace(at, what.size(), by);
}

// What BERT's words leave before marks, taken back as tokenizers does it, token by token.
void clean_up(std::string& token) {
  struct Change {
    std::string_view what, by;
  };
  constexpr std::array kChanges{Change{" .", "."},     Change{" ?", "?"},           Change{" !", "!"},
                                Change{" ,", ","},     Change{" ' ", "'"},          Change{" n't", "n't"},
                                Change{" 'm", "'m"},   Change{" do not", " don't"}, Change{" 's", "'s"},
                                Change{" 've", "'ve"}, Change{" 're", "'re"}};
  for (const auto& [what, by] : kChanges) replace_all(token, what, by);
}

Result<Decoder> bpe(const JsonTokenizer&, const Object& part) {
  return Decoder{[suffix = std::string(text_of(part, "suffix", "</w>"))](std::string& token, bool, bool last) {
    if (!suffix.empty()) replace_all(token, suffix, last ? "" : " ");
  }};
}

// Characters back to bytes; a token that has others stays as it is.
Result<Decoder> byte_level(const JsonTokenizer&, const Object&) {
  return Decoder{[](std::string& token, bool, bool) {
                   std::string bytes;
                   if (bytes_of_characters(token, bytes)) token = bytes;
                 },
                 true};
}

Result<Decoder> byte_fallback(const JsonTokenizer&, const Object&) {
  return Decoder{[](std::string& token, bool, bool) {
    if (const int byte = byte_of_name(token); byte >= 0) token.assign(1, static_cast<char>(byte));
  }};
}

Result<Decoder> fuse(const JsonTokenizer&, const Object&) { return Decoder{nullptr, true}; }

Result<Decoder> metaspace(const JsonTokenizer&, const Object& part) {
  const uint32_t mark = decode_utf8(text_of(part, "replacement", "\u2581"), 0).code;
  const bool legacy = flag_of(part, "add_prefix_space", true);
  const bool prefix = text_of(part, "prepend_scheme", legacy ? "always" : "never") != "never";
  return Decoder{[=](std::string& token, bool first, bool) {
    map_characters(token, [&](uint32_t code, std::string& to) {
      if (code != mark) append_utf8(to, code);
      if (code == mark && !(first && prefix)) to += ' ';
    });
  }};
}

Result<Decoder> replace(const JsonTokenizer& json, const Object& part) {
  const auto pattern = std::make_shared<const Pattern>(TRY(read_pattern(json, part)));
  return Decoder{[pattern, content = std::string(text_of(part, "content"))](std::string& token, bool, bool) {
    std::string to;
    for (size_t at = 0; at < token.size();) {
      const auto match = pattern->find(token, at, false);
      if (!match) return;  // too costly a pattern: the token stays as it is
      to.append(token, at, match->start - at);
      if (match->kind != Pattern::Match::Kind::found) break;
      to += content;
      at = match->end;
    }
    token = std::move(to);
  }};
}

// Of each token, or of all once they are joined: up to `start` characters off the beginning and up to `stop` off the
// end, as long as they are `content`.
Result<Decoder> strip(const JsonTokenizer&, const Object& part) {
  const std::string content(text_of(part, "content", " "));
  int64_t start = 0, stop = 0;
  std::ignore = part.at_key("start").get(start);
  std::ignore = part.at_key("stop").get(stop);
  return Decoder{.each =
                     [=](std::string& token, bool first, bool last) {
                       for (int64_t i = 0; first && i < start && token.starts_with(content) && !content.empty(); ++i)
                         token.erase(0, content.size());
                       for (int64_t i = 0; last && i < stop && token.ends_with(content) && !content.empty(); ++i)
                         token.resize(token.size() - content.size());
                     },
                 .at_ends = true};
}

Result<Decoder> word_piece(const JsonTokenizer&, const Object& part) {
  return Decoder{[prefix = std::string(text_of(part, "prefix", "##")), cleans = flag_of(part, "cleanup", true)](
                     std::string& token, bool first, bool) {
    if (!first) {
      if (token.starts_with(prefix))
        token.erase(0, prefix.size());
      else
        token.insert(0, 1, ' ');
    }
    if (cleans) clean_up(token);
  }};
}

struct Entry {
  std::string_view type;
  Result<Decoder> (*read)(const JsonTokenizer& json, const Object& part);
};
constexpr std::array kDecoders{
    Entry{"BPEDecoder", bpe}, Entry{"ByteFallback", byte_fallback}, Entry{"ByteLevel", byte_level},
    Entry{"Fuse", fuse},      Entry{"Metaspace", metaspace},        Entry{"Replace", replace},
    Entry{"Strip", strip},    Entry{"WordPiece", word_piece},
};

// What ByteFallback has made a byte of a character is no text before it is joined: no step changes it.
void apply(const Decoder& step, std::string& token, bool first, bool last) {
  const bool byte = token.size() == 1 && static_cast<unsigned char>(token[0]) >= 0x80;
  if (step.each && !byte) step.each(token, first, last);
}

}  // namespace

Result<Decoders> Decoders::read(const JsonTokenizer& json) {
  Decoders all;
  for (const Object& part : json.decoders) {
    const auto entry = TRY(find_part(json, "decoder", kDecoders, text_of(part, "type")));
    all.steps_.push_back(TRY(entry->read(json, part)));
  }
  if (all.steps_.empty())
    all.steps_.push_back({[](std::string& token, bool first, bool) {
      if (!first) token.insert(0, 1, ' ');
    }});
  return all;
}

std::string Decoders::decode(std::vector<std::string> tokens) const {
  const auto join = [&] {
    std::string text;
    for (const std::string& token : tokens) text += token;
    return text;
  };
  bool joined = false;
  for (const Decoder& step : steps_) {
    for (size_t i = 0; i < tokens.size(); ++i)
      apply(step, tokens[i], step.at_ends || i == 0, step.at_ends || i + 1 == tokens.size());
    if (step.joins && !joined) tokens = {join()};
    joined |= step.joins;
  }
  return join();
}

std::string Decoders::inner(std::string token) const {
  bool joined = false;
  for (const Decoder& step : steps_) {
    const bool end = step.at_ends && !joined;
    apply(step, token, end, end);
    joined |= step.joins;
  }
  return token;
}

}  // namespace thimble::pipeline
