// The pre-tokenizers that GGUF files name, as llama.cpp knows them (src/llama-vocab.cpp).
#include <algorithm>
#include <array>

#include "text/pre_tokenizer.h"

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
constexpr std::array kSparkPatterns{
    kDeepseek3Patterns[0], kDeepseek3Patterns[1],
    Names(
        R"([!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+|[\r\n]|\s+(?!\S)|\s+)"),
    kDigit};
constexpr std::array kFalconPatterns{Names(R"([\p{P}\$\+<=>\^~\|`]+)"), kGpt2, Names(R"([0-9][0-9][0-9])")};
constexpr std::array kBloomPatterns{Names(R"( ?[^(\s|.,!?…。，、।۔،)]+)")};
constexpr std::array kVikingPatterns{Names(R"( ?[^(\s|.,!?…。，、।۔،)]+)"), kDigit};
constexpr std::array kBailingPatterns{Names(
    R"('(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+)")};
constexpr std::array kSeedPatterns{Names(
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1}| ?[^\s\p{L}\p{N}\r\n]+|\s*[\r\n]+|\s+(?!\S)|\s+)")};
constexpr std::array kExaoneMoePatterns{Names(
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?(?:\p{L}\p{M}*(?: \p{L}\p{M}*)*)+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]?|\s*[\r\n]|\s+(?!\S)|\s+)")};

// Letters that have cases, but for Georgian's, which had none when that was written.
constexpr std::array kDeepseekLlmPatterns{Names(R"([\r\n])"),
                                          Names(R"(\s?(?:(?![\x{10d0}-\x{10ff}])[\p{Lu}\p{Ll}\p{Lt}])+)"),
                                          Names(R"(\s?[!-/:-~！-／：-～‘-‟　-。]+)"),
                                          Names(R"(\s+$)"),
                                          Names(R"([一-龥ࠀ-一가-퟿]+)"),
                                          kDigit};
constexpr Names kYoutuScripts =
    R"([가-힣ㄱ-ㆎ]+|[！…“”‘’—：；，、-〿︰-﹏]+|[ㄅ-ㄯ]+|[一-龥぀-ゟ゠-ヿ]+)";
constexpr std::array kYoutuPatterns{
    kYoutuScripts,
    Names(
        R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)")};
constexpr std::array kQwen35Patterns{Names(
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)")};
// Blanks in powers of two.
constexpr std::array kJais2Patterns{Names(
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s{512}(?!\S)|\s{256}(?!\S)|\s{128}(?!\S)|\s{64}(?!\S)|\s{32}(?!\S)|\s{16}(?!\S)|\s{8}(?!\S)|\s{4}(?!\S)|\s{1,2}(?!\S)|\s{1})")};
constexpr std::array kKimiPatterns{Names(
    R"([\p{Han}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]*[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]+[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)")};
// Digits in threes from the right.
constexpr std::array kSuperbpePatterns{Names(R"(\p{N}+)"), Names(R"(\d{1,3}(?=(?:\d{3})*(?!\d)))")};
constexpr std::array kTinyAyaPatterns{Names(R"(\d{1,3}(?=(?:\d{3})*\b))"), kGpt4oPatterns[0]};
constexpr std::array kAfmoePatterns{
    Names(R"(\p{N}{1,3}(?=(?:\p{N}{3})*(?!\p{N})))"),
    Names(
        R"([一-鿿㐀-䶿豈-﫿぀-ゟ゠-ヿ･-ﾟ⼀-⿟เ-๿຀-໿ក-៿က-႟ꩠ-ꩿꧠ-꧿가-힯ᄀ-ᇿ]+)"),
    kDeepseek3Patterns[2]};
constexpr std::array kLagunaPatterns{Names(R"([^\n]+|[\n]+)"), kQwen2Patterns[0]};
constexpr std::array kUfakzekaPatterns{
    Names(R"([^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)")};
constexpr std::array kMinicpm5Patterns{
    Names(R"(\p{N}{1,3})"),
    Names(
        R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}+| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)")};
constexpr std::array kChameleonPatterns{
    Names(R"(<sentinel:[0-9]+>)"),    Names(R"((IMGIMG)((A|B|C|D|E|F|G|H|I){1,4})Z)"),
    Names(R"([\t\n]|    |  )"),       kDigit,
    Names(R"([\p{P}!-/:-@\[-`{-~])"), kGpt2};

// The same patterns under other names, as in llama.cpp (src/llama-vocab.cpp; the patterns are those of the models' own
// tokenizer.json, where llama.cpp's stand for them).
constexpr std::array kGpt2Names{
    Names("phi-2"),        Names("olmo"),       Names("mpt"),        Names("jais"),        Names("exaone4"),
    Names("trillion"),     Names("gigachat"),   Names("jina-es"),    Names("jina-de"),     Names("jina-v2-es"),
    Names("jina-v2-de"),   Names("a.x-4.0"),    Names("mellum"),     Names("modern-bert"), Names("granite-docling"),
    Names("jina-v2-code"), Names("jina-v1-en"), Names("roberta-bpe")};
constexpr std::array kSmolNames{Names("starcoder"), Names("refact"),     Names("command-r"), Names("codeshell"),
                                Names("exaone"),    Names("minerva-7b"), Names("mellum2")};
constexpr std::array kLlama3Names{Names("llama3"),  Names("llama-v3"), Names("falcon3"), Names("falcon-h1"),
                                  Names("pixtral"), Names("midm-2.0"), Names("lfm2"),    Names("jina-v5-nano")};
constexpr std::array kQwen2Names{Names("stablelm2"), Names("deepseek-r1-qwen"), Names("megrez"),     Names("kormo"),
                                 Names("hunyuan"),   Names("grok-2"),           Names("solar-open"), Names("f2llmv2")};
constexpr std::array kSmaugNames{Names("smaug-bpe"), Names("glm4"), Names("chatglm-bpe")};
constexpr std::array kGpt4oNames{Names("llama4"), Names("minimax-m2"), Names("kanana2"), Names("talkie")};
constexpr std::array kDeepseek3Names{Names("hunyuan-dense"), Names("joyai-llm"), Names("hy_v4")};
constexpr std::array kTinyAyaNames{Names("cohere2moe")};
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
    NamedPattern{"spark2_5", {}, kSparkPatterns, false, false},
    NamedPattern{"falcon", {}, kFalconPatterns, false, false},
    NamedPattern{"bloom", kBloomNames, kBloomPatterns, false, false},
    NamedPattern{"viking", {}, kVikingPatterns, false, false},
    NamedPattern{"bailingmoe", kBailingNames, kBailingPatterns, false, false},
    NamedPattern{"seed-coder", {}, kSeedPatterns, false, false},
    NamedPattern{"exaone-moe", {}, kExaoneMoePatterns, false, false},
    NamedPattern{"deepseek-llm", {}, kDeepseekLlmPatterns, false, false},
    NamedPattern{"youtu", {}, kYoutuPatterns, true, false},
    NamedPattern{"qwen35", {}, kQwen35Patterns, false, false},
    NamedPattern{"jais-2", {}, kJais2Patterns, false, false},
    NamedPattern{"kimi-k2", {}, kKimiPatterns, false, false},
    NamedPattern{"superbpe", {}, kSuperbpePatterns, false, false},
    NamedPattern{"tiny_aya", kTinyAyaNames, kTinyAyaPatterns, false, false},
    NamedPattern{"granite-embed-multi-97m", {}, kGpt4oPatterns, true, false},
    NamedPattern{"afmoe", {}, kAfmoePatterns, false, false},
    NamedPattern{"laguna", {}, kLagunaPatterns, false, false},
    NamedPattern{"ufakzeka", {}, kUfakzekaPatterns, false, false},
    NamedPattern{"minicpm5", {}, kMinicpm5Patterns, true, false},
    NamedPattern{"chameleon", {}, kChameleonPatterns, false, true},
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

}  // namespace thimble
