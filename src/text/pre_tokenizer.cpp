#include "text/pre_tokenizer.h"

#include <algorithm>
#include <array>

#include "text/utf8.h"

namespace thimble {
namespace {

using Names = std::string_view;

constexpr Names kGpt2 = R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";
constexpr Names kDigit = R"(\p{N})";

constexpr std::array kGpt2Patterns{kGpt2};
constexpr std::array kSmolPatterns{kDigit, kGpt2};
constexpr std::array kLlama3Patterns{Names(
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)")};
constexpr std::array kQwen2Patterns{Names(
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)")};
// llama.cpp's for files that name none.
constexpr std::array kDefaultPatterns{Names(R"([\p{P}\$\+<=>\^~\|]+)"), kGpt2, Names(R"(\p{N}+)"),
                                      Names(R"([0-9][0-9][0-9])")};

// Words by case: capitals, then small letters; in gpt-4o with a contraction at the end.
constexpr std::array kTekkenPatterns{Names(
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)")};
constexpr std::array kGpt4oPatterns{Names(
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)")};
constexpr std::array kDeepseekCoderPatterns{Names(R"([\r\n])"), Names(R"(\s?\p{L}+)"), Names(R"(\s?\p{P}+)"),
                                            Names(R"([一-龥ࠀ-一가-퟿]+)"), kDigit};
constexpr std::array kDeepseek3Patterns{
    Names(R"(\p{N}{1,3})"), Names(R"([一-龥぀-ゟ゠-ヿ]+)"),
    Names(
        R"([!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)")};
constexpr std::array kFalconPatterns{Names(R"([\p{P}\$\+<=>\^~\|`]+)"), kGpt2, Names(R"([0-9][0-9][0-9])")};
constexpr std::array kBloomPatterns{Names(R"( ?[^(\s|.,!?…。，、।۔،)]+)")};
constexpr std::array kVikingPatterns{Names(R"( ?[^(\s|.,!?…。，、।۔،)]+)"), kDigit};
constexpr std::array kBailingPatterns{Names(
    R"('(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+)")};
constexpr std::array kSeedPatterns{Names(
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1}| ?[^\s\p{L}\p{N}\r\n]+|\s*[\r\n]+|\s+(?!\S)|\s+)")};
constexpr std::array kExaoneMoePatterns{Names(
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?(?:\p{L}\p{M}*(?: \p{L}\p{M}*)*)+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]?|\s*[\r\n]|\s+(?!\S)|\s+)")};

// The same patterns under other names, as in llama.cpp (src/llama-vocab.cpp; the patterns are those of the models' own
// tokenizer.json, where llama.cpp's stand for them).
constexpr std::array kGpt2Names{
    Names("phi-2"),        Names("olmo"),       Names("mpt"),        Names("jais"),        Names("exaone4"),
    Names("trillion"),     Names("gigachat"),   Names("jina-es"),    Names("jina-de"),     Names("jina-v2-es"),
    Names("jina-v2-de"),   Names("a.x-4.0"),    Names("mellum"),     Names("modern-bert"), Names("granite-docling"),
    Names("jina-v2-code"), Names("jina-v1-en"), Names("roberta-bpe")};
constexpr std::array kSmolNames{Names("starcoder"), Names("refact"), Names("command-r"),
                                Names("codeshell"), Names("exaone"), Names("minerva-7b")};
constexpr std::array kLlama3Names{Names("llama3"),  Names("llama-v3"), Names("falcon3"), Names("falcon-h1"),
                                  Names("pixtral"), Names("midm-2.0"), Names("lfm2")};
constexpr std::array kQwen2Names{Names("stablelm2"), Names("deepseek-r1-qwen"), Names("megrez"),    Names("kormo"),
                                 Names("hunyuan"),   Names("grok-2"),           Names("solar-open")};
constexpr std::array kSmaugNames{Names("smaug-bpe"), Names("glm4"), Names("chatglm-bpe")};
constexpr std::array kGpt4oNames{Names("llama4"), Names("minimax-m2")};
constexpr std::array kDeepseek3Names{Names("hunyuan-dense")};
constexpr std::array kBloomNames{Names("poro-chat"), Names("gpt3-finnish")};
constexpr std::array kBailingNames{Names("bailingmoe2"), Names("llada-moe")};

constexpr std::array kNamedPatterns{
    NamedPattern{"gpt-2", kGpt2Names, kGpt2Patterns, false, false},
    NamedPattern{"smollm", kSmolNames, kSmolPatterns, false, false},
    NamedPattern{"llama-bpe", kLlama3Names, kLlama3Patterns, true, true},
    NamedPattern{"qwen2", kQwen2Names, kQwen2Patterns, false, false},
    NamedPattern{"dbrx", kSmaugNames, kLlama3Patterns, false, false},
    NamedPattern{"tekken", {}, kTekkenPatterns, true, true},
    NamedPattern{"gpt-4o", kGpt4oNames, kGpt4oPatterns, false, false},
    NamedPattern{"deepseek-coder", {}, kDeepseekCoderPatterns, false, false},
    NamedPattern{"deepseek-v3", kDeepseek3Names, kDeepseek3Patterns, false, false},
    NamedPattern{"falcon", {}, kFalconPatterns, false, false},
    NamedPattern{"bloom", kBloomNames, kBloomPatterns, false, false},
    NamedPattern{"viking", {}, kVikingPatterns, false, false},
    NamedPattern{"bailingmoe", kBailingNames, kBailingPatterns, false, false},
    NamedPattern{"seed-coder", {}, kSeedPatterns, false, false},
    NamedPattern{"exaone-moe", {}, kExaoneMoePatterns, false, false},
    NamedPattern{"default", {}, kDefaultPatterns, false, false},
};

}  // namespace

std::span<const NamedPattern> named_patterns() { return kNamedPatterns; }
std::string_view gpt2_pattern() { return kGpt2; }
std::string_view digit_pattern() { return kDigit; }

Result<const NamedPattern*> find_named_pattern(std::string_view name) {
  std::string known;
  for (const NamedPattern& pattern : kNamedPatterns) {
    if (pattern.name == name || std::ranges::find(pattern.aliases, name) != pattern.aliases.end()) return &pattern;
    known += fmt::format("{}{}", known.empty() ? "" : ", ", pattern.name);
    for (std::string_view alias : pattern.aliases) known += fmt::format(", {}", alias);
  }
  return fail(ErrorCode::unsupported, "the pre-tokenizer '{}' is not known; known are {}", name, known);
}

Result<void> PreTokenizer::add(std::string_view pattern) {
  constexpr size_t kMaxStages = 16;  // split_stage recurses once a stage
  if (stages_.size() == kMaxStages) {
    return fail(ErrorCode::unsupported, "building a pre-tokenizer: more than {} patterns", kMaxStages);
  }
  stages_.push_back(TRY(Pattern::compile(std::string(pattern))));
  looks_behind_ = looks_behind_ || stages_.back().looks_behind();
  return {};
}

const NamedPattern* PreTokenizer::named() const {
  for (const NamedPattern& named : kNamedPatterns) {
    if (std::ranges::equal(named.patterns, stages_, {}, {},
                           [](const Pattern& p) { return std::string_view(p.source()); })) {
      return &named;
    }
  }
  return nullptr;
}

Result<size_t> PreTokenizer::split(std::string_view text, bool more, Sink& sink) const {
  if (more && looks_behind_) return size_t{0};
  size_t start = 0;  // of the stretch of valid UTF-8 that ends at `at`
  for (size_t at = 0; at < text.size();) {
    const Utf8Char c = decode_utf8(text, at);
    if (c.valid) {
      at += c.length;
      continue;
    }
    if (c.truncated && more) return start + TRY(split_stage(0, text.substr(start, at - start), true, sink));
    TRY(split_stage(0, text.substr(start, at - start), false, sink));
    CHECK_OK(sink.piece(text.substr(at, 1)));
    start = ++at;
  }
  return start + TRY(split_stage(0, text.substr(start), more, sink));
}

Result<size_t> PreTokenizer::split_stage(size_t stage, std::string_view text, bool more, Sink& sink) const {
  if (text.empty()) return size_t{0};
  if (stage == stages_.size()) {
    if (more) return size_t{0};
    CHECK_OK(sink.piece(text));
    return text.size();
  }
  for (size_t at = 0; at < text.size();) {
    const Pattern::Match match = TRY(stages_[stage].find(text, at, more));
    if (match.kind != Pattern::Match::Kind::found) {
      // To the next stage a partial match is the unknown: it may end the stretch before it or become part of it.
      return at + TRY(split_stage(stage + 1, text.substr(at, match.start - at), more, sink));
    }
    TRY(split_stage(stage + 1, text.substr(at, match.start - at), false, sink));
    TRY(split_stage(stage + 1, text.substr(match.start, match.end - match.start), false, sink));
    at = match.end;
  }
  return text.size();
}

}  // namespace thimble
