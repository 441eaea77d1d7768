#include "text/chat_formats.h"

#include <algorithm>
#include <array>

namespace thimble {
namespace {

using Texts = std::string_view;

constexpr std::array kChatMlTells{Texts("<|im_start|>"), Texts("<|im_end|>")};
constexpr std::array kLlama3Tells{Texts("<|start_header_id|>"), Texts("<|eot_id|>")};
constexpr std::array kGemmaTells{Texts("<start_of_turn>"), Texts("<end_of_turn>")};
constexpr std::array kZephyrTells{Texts("<|user|>"), Texts("<|assistant|>"), Texts("eos_token")};
constexpr std::array kLlama2Tells{Texts("[INST]"), Texts("<<SYS>>")};
constexpr std::array kMistralV3Tells{Texts("\"[INST] \""), Texts("\"[/INST]\""), Texts("eos_token")};
constexpr std::array kMistralV1Tells{Texts("' [INST] '"), Texts("' [/INST]'"), Texts("eos_token")};
constexpr std::array kMistralSpacedTells{Texts("'[INST] '"), Texts("' [/INST]'"), Texts("eos_token + ' '")};
constexpr std::array kMistralTells{Texts("'[INST] '"), Texts("' [/INST]'"), Texts("eos_token")};

constexpr std::array kChatMlEnds{Texts("<|im_end|>")};
constexpr std::array kLlama3Ends{Texts("<|eot_id|>"), Texts("<|eom_id|>")};
constexpr std::array kGemmaEnds{Texts("<end_of_turn>")};

constexpr std::array kFormats{
    ChatFormat{.name = "chatml",
               .tells = kChatMlTells,
               .system = {"<|im_start|>system\n", "", "<|im_end|>", "\n"},
               .user = {"<|im_start|>user\n", "", "<|im_end|>", "\n"},
               .assistant = {"<|im_start|>assistant\n", "", "<|im_end|>", "\n"},
               .generation = "<|im_start|>assistant\n",
               .ends = kChatMlEnds},
    ChatFormat{.name = "llama3",
               .tells = kLlama3Tells,
               .system = {"<|start_header_id|>system<|end_header_id|>\n\n", "", "<|eot_id|>", "", true},
               .user = {"<|start_header_id|>user<|end_header_id|>\n\n", "", "<|eot_id|>", "", true},
               .assistant = {"<|start_header_id|>assistant<|end_header_id|>\n\n", "", "<|eot_id|>", "", true},
               .generation = "<|start_header_id|>assistant<|end_header_id|>\n\n",
               .ends = kLlama3Ends},
    ChatFormat{.name = "gemma",
               .tells = kGemmaTells,
               .system = {"", "", "\n\n", ""},
               .user = {"<start_of_turn>user\n", "", "<end_of_turn>", "\n", true},
               .assistant = {"<start_of_turn>model\n", "", "<end_of_turn>", "\n", true},
               .generation = "<start_of_turn>model\n",
               .ends = kGemmaEnds,
               .system_into = Folded::first},
    ChatFormat{.name = "zephyr",
               .tells = kZephyrTells,
               .system = {"<|system|>\n", "", kEos, "\n"},
               .user = {"<|user|>\n", "", kEos, "\n"},
               .assistant = {"<|assistant|>\n", "", kEos, "\n"},
               .generation = "<|assistant|>\n"},
    ChatFormat{.name = "llama2",
               .tells = kLlama2Tells,
               .system = {"<<SYS>>\n", "", "\n<</SYS>>\n\n", ""},
               .user = {"{bos}[INST] ", "", " [/INST]", "", true},
               .assistant = {"", " ", " {eos}", "", true},
               .generation = "",
               .system_into = Folded::first,
               .bos_by_turn = true},
    // Mistral's templates differ in spaces, which are tokens: the model was trained on one of them.
    ChatFormat{.name = "mistral-v3",
               .tells = kMistralV3Tells,
               .system = {"", "", "\n\n", ""},
               .user = {"[INST] ", "", "[/INST]", ""},
               .assistant = {"", " ", kEos, "", true},
               .generation = "",
               .system_into = Folded::last},
    ChatFormat{.name = "mistral-v1",
               .tells = kMistralV1Tells,
               .system = {"", "", "\n\n", ""},
               .user = {" [INST] ", "", " [/INST]", ""},
               .assistant = {"", " ", kEos, ""},
               .generation = "",
               .system_into = Folded::first},
    ChatFormat{.name = "mistral-spaced",
               .tells = kMistralSpacedTells,
               .system = {"", "", "\n\n", ""},
               .user = {"[INST] ", "", " [/INST]", ""},
               .assistant = {"", "", kEos, " "},
               .generation = "",
               .system_into = Folded::first},
    ChatFormat{.name = "mistral",
               .tells = kMistralTells,
               .system = {"", "", "\n\n", ""},
               .user = {"[INST] ", "", " [/INST]", ""},
               .assistant = {"", "", kEos, ""},
               .generation = "",
               .system_into = Folded::first},
};

// The text of a Jinja string literal from `from` on, up to `end`; nothing when the literal is over before.
std::string literal_until(std::string_view source, size_t from, std::string_view end, char quote) {
  std::string text;
  for (size_t i = from; i < source.size() && source[i] != quote; ++i) {
    if (source.substr(i).starts_with(end)) return text;
    if (source[i] == '\\' && i + 1 < source.size()) {
      const char escaped = source[++i];
      text += escaped == 'n' ? '\n' : escaped == 't' ? '\t' : escaped;
    } else {
      text += source[i];
    }
  }
  return {};
}

// "'<|im_start|>system\nYou are ...<|im_end|>\n'" in the template's source.
std::string chatml_default(std::string_view source) {
  constexpr std::string_view kOpen = "<|im_start|>system";
  for (size_t at = source.find(kOpen); at != std::string_view::npos; at = source.find(kOpen, at + 1)) {
    size_t quote = at;
    while (quote > 0 && source[quote - 1] != '\'' && source[quote - 1] != '"') --quote;
    size_t from = at + kOpen.size();
    if (source.substr(from).starts_with("\\n")) {
      from += 2;
    } else if (source.substr(from).starts_with("\n")) {
      from += 1;
    } else {
      continue;
    }
    const std::string text = quote > 0 ? literal_until(source, from, "<|im_end|>", source[quote - 1]) : std::string();
    if (!text.empty()) return text;
  }
  return {};
}

}  // namespace

// Llama 3.1 and later open every chat with a system message that tells two dates; the second is what the template
// itself falls back to, so that a prompt does not change from day to day.
std::string default_system(const ChatFormat& format, std::string_view source, const Message* given) {
  if (format.name == "llama3" && source.find("Cutting Knowledge Date: December 2023") != std::string_view::npos) {
    return fmt::format("Cutting Knowledge Date: December 2023\nToday Date: 26 Jul 2024\n\n{}",
                       given ? trimmed(given->content) : "");
  }
  return format.name == "chatml" && !given ? chatml_default(source) : std::string();
}

Result<const ChatFormat*> chat_format(const Tokenizer& tokenizer) {
  const std::string& source = tokenizer.chat_template();
  std::string names;
  for (const ChatFormat& format : kFormats) {
    if (std::ranges::all_of(format.tells, [&](Texts tell) { return source.find(tell) != std::string::npos; })) {
      return &format;
    }
    names += fmt::format("{}{}", names.empty() ? "" : ", ", format.name);
  }
  return fail(ErrorCode::unsupported, "recognising the chat format: the model {}; known formats are {}",
              source.empty() ? "has no chat template" : "has a chat template of another kind", names);
}

std::string_view trimmed(std::string_view text) {
  constexpr std::string_view kWhitespace = " \t\n\r\f\v";
  const size_t start = text.find_first_not_of(kWhitespace);
  if (start == std::string_view::npos) return {};
  return text.substr(start, text.find_last_not_of(kWhitespace) - start + 1);
}

std::string_view name(const ChatFormat& format) { return format.name; }

std::vector<int32_t> end_of_turn(const ChatFormat& format, const Tokenizer& tokenizer) {
  std::vector<int32_t> ids;
  for (Texts text : format.ends) {
    if (const auto id = tokenizer.find(text)) ids.push_back(*id);
  }
  if (tokenizer.eos() && std::ranges::find(ids, *tokenizer.eos()) == ids.end()) ids.push_back(*tokenizer.eos());
  return ids;
}

}  // namespace thimble
