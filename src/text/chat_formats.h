// The table of chat formats: what stands around a message, by role.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "text/chat.h"

namespace thimble {

// In a turn's text: the tokenizer's tokens of beginning and end of sequence.
inline constexpr std::string_view kBos = "{bos}";
inline constexpr std::string_view kEos = "{eos}";

struct Turn {
  std::string_view open;    // before the message
  std::string_view before;  // the message's own first character(s), trained with it
  std::string_view close;   // after it; of an assistant's turn, trained with it
  std::string_view tail;    // after that; never trained
  bool trims = false;       // the message loses the whitespace around it
};

// Where the system message goes that has no turn of its own: into a user's message.
enum class Folded { nowhere, first, last };

struct ChatFormat {
  std::string_view name;
  std::span<const std::string_view> tells;  // all of them stand in the model's template
  Turn system, user, assistant;
  std::string_view generation;             // what makes the assistant speak
  std::span<const std::string_view> ends;  // tokens that end its turn, beside eos
  Folded system_into = Folded::nowhere;
  bool bos_by_turn = false;  // the turns bring it, not the whole
};

// The system message that the template makes: its default when there is none (`given` is nullptr), or the one given
// with what the template puts before it. Empty: none of its own.
std::string default_system(const ChatFormat& format, std::string_view source, const Message* given);
std::string_view trimmed(std::string_view text);  // without the whitespace around it

// A conversation as text. Between two control tokens, parts are tokenised together, as a whole rendered text would be,
// but for the assistant's words: they start a new part, for in use they are generated after a prompt.
struct ChatText {
  struct Part {
    size_t start, length;  // in `text`
    int32_t control;       // the id, when the part is a control token; else -1
    bool trained;
  };
  std::string text;
  std::vector<Part> parts;
};

// render and encode_chat in two steps, whose buffers can be used again and again. `whole`: with the bos token that the
// tokenizer adds although the template has none.
Result<void> write_chat(const ChatFormat& format, const Tokenizer& tokenizer, std::span<const Message> messages,
                        bool generation_prompt, bool whole, ChatText& to);
Result<void> encode_chat_text(Tokenizer& tokenizer, const ChatText& chat, std::vector<int32_t>& ids,
                              std::vector<uint8_t>& trained);

}  // namespace thimble
