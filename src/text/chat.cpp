#include "text/chat.h"

#include <array>

#include "text/chat_formats.h"

namespace thimble {
namespace {

class Writer {
 public:
  Writer(const Tokenizer& tokenizer, ChatText& to) : tokenizer_(tokenizer), to_(to) {
    to_.text.clear();
    to_.parts.clear();
  }

  void words(std::string_view text, bool trained = false) {
    if (text.empty()) return;
    if (to_.parts.empty() || to_.parts.back().control >= 0 || to_.parts.back().trained != trained) {
      to_.parts.push_back({to_.text.size(), 0, -1, trained});
    }
    to_.parts.back().length += text.size();
    to_.text += text;
  }

  void control(std::optional<int32_t> id, bool trained = false) {
    if (!id) return;
    const std::string_view text = tokenizer_.bytes(*id);
    to_.parts.push_back({to_.text.size(), text.size(), *id, trained});
    to_.text += text;
  }

  // Text of the template: control tokens in it are such, {bos} and {eos} are the tokenizer's.
  void markup(std::string_view text, bool trained = false) {
    while (!text.empty()) {
      const size_t open = std::min(text.find_first_of("<{["), text.size());
      words(text.substr(0, open), trained);
      text.remove_prefix(open);
      const size_t close = text.find(text.starts_with('{') ? '}' : text.starts_with('[') ? ']' : '>');
      if (close == std::string_view::npos) return words(text, trained);
      const std::string_view name = text.substr(0, close + 1);
      const auto id = name == kBos ? tokenizer_.bos() : name == kEos ? tokenizer_.eos() : tokenizer_.find(name);
      if (name == kBos || name == kEos || (id && tokenizer_.is_special(*id))) {
        control(id, trained);
        text.remove_prefix(name.size());
      } else {
        words(text.substr(0, 1), trained);
        text.remove_prefix(1);
      }
    }
  }

 private:
  const Tokenizer& tokenizer_;
  ChatText& to_;
};

Result<const Turn*> turn_of(const ChatFormat& format, const Message& message, size_t place) {
  if (message.role == "user") return &format.user;
  if (message.role == "assistant") return &format.assistant;
  if (message.role == "system" && (place == 0 || format.system_into == Folded::nowhere)) return &format.system;
  if (message.role == "system") {
    return fail(ErrorCode::invalid_argument,
                "formatting a chat as {}: message {} is a system message; this format has one only at the start",
                format.name, place);
  }
  return fail(ErrorCode::invalid_argument,
              "formatting a chat as {}: message {} has the role '{}', expected system, user or assistant", format.name,
              place, message.role);
}

void write_turn(Writer& writer, const ChatFormat& format, const Turn& turn, const Message* folded,
                std::string_view content, bool learnt = true) {
  const bool trained = learnt && &turn == &format.assistant;
  writer.markup(turn.open);
  if (folded) {
    writer.words(format.system.open);
    writer.words(folded->content);
    writer.words(format.system.close);
  }
  writer.words(turn.before, trained);
  writer.words(turn.trims ? trimmed(content) : content, trained);
  writer.markup(turn.close, trained);
  writer.markup(turn.tail);
}

// The message that the system message, the first, goes into; 0: none.
size_t message_for_system(const ChatFormat& format, std::span<const Message> messages) {
  size_t found = 0;
  for (size_t i = 1; i < messages.size() && format.system_into != Folded::nowhere; ++i) {
    if (messages[i].role == "user" && (found == 0 || format.system_into == Folded::last)) found = i;
  }
  return found;
}

}  // namespace

Result<void> write_chat(const ChatFormat& format, const Tokenizer& tokenizer, std::span<const Message> messages,
                        bool generation_prompt, bool whole, ChatText& to) {
  Writer writer(tokenizer, to);
  const std::string& source = tokenizer.chat_template();
  const bool bos = source.find("bos_token") != std::string::npos || (whole && tokenizer.adds_bos());
  if (bos && !format.bos_by_turn) writer.control(tokenizer.bos());
  const bool has_system = !messages.empty() && messages[0].role == "system";
  const std::string standard = default_system(format, source, has_system ? &messages[0] : nullptr);
  if (!standard.empty()) write_turn(writer, format, format.system, nullptr, standard);
  const size_t folds_into = has_system ? message_for_system(format, messages) : 0;
  const bool told = has_system && (!standard.empty() || format.system_into != Folded::nowhere);
  for (size_t i = told ? 1 : 0; i < messages.size(); ++i) {
    const Turn* turn = TRY(turn_of(format, messages[i], i));
    write_turn(writer, format, *turn, i > 0 && i == folds_into ? &messages[0] : nullptr, messages[i].content,
               messages[i].trained);
  }
  if (generation_prompt) writer.markup(format.generation);
  return {};
}

Result<void> encode_chat_text(Tokenizer& tokenizer, const ChatText& chat, std::vector<int32_t>& ids,
                              std::vector<uint8_t>& trained) {
  EncodeOptions options{.special = false};
  for (const ChatText::Part& part : chat.parts) {
    if (part.control >= 0) {
      ids.push_back(part.control);
    } else {
      CHECK_OK(tokenizer.encode(std::string_view(chat.text).substr(part.start, part.length), options, ids));
    }
    options.continued = part.control < 0;
    options.after_special = part.control >= 0;
    trained.resize(ids.size(), part.trained ? 1 : 0);
  }
  return {};
}

Result<std::string> render(const ChatFormat& format, const Tokenizer& tokenizer, std::span<const Message> messages,
                           bool generation_prompt) {
  ChatText chat;
  CHECK_OK(write_chat(format, tokenizer, messages, generation_prompt, false, chat));
  return std::move(chat.text);
}

Result<void> encode_chat(const ChatFormat& format, Tokenizer& tokenizer, std::span<const Message> messages,
                         bool generation_prompt, std::vector<int32_t>& ids, std::vector<uint8_t>& trained) {
  ChatText chat;
  CHECK_OK(write_chat(format, tokenizer, messages, generation_prompt, true, chat));
  return encode_chat_text(tokenizer, chat, ids, trained);
}

}  // namespace thimble
