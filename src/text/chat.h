// Chat formats: messages to token ids, with the assistant's tokens marked.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "text/tokenizer.h"

namespace thimble {

struct Message {
  std::string role;  // system, user, assistant
  std::string content;
  bool trained = true;  // false: context only, also where it is the assistant's
};

// One entry of the table of formats in chat_formats.cpp.
struct ChatFormat;

// Recognised from the model's template; `unsupported` with the list of formats when it is none of ours.
Result<const ChatFormat*> chat_format(const Tokenizer& tokenizer);
std::string_view name(const ChatFormat& format);

// The text that the model's template makes of the messages. The template's default system message is included when
// the template has one and the messages bring none.
Result<std::string> render(const ChatFormat& format, const Tokenizer& tokenizer, std::span<const Message> messages,
                           bool generation_prompt);

// As render, in tokens. `trained` gets one flag a token: 1 for the assistant's words and the end-of-turn token after
// them. User text that looks like a special token stays ordinary text. Both vectors are appended to.
Result<void> encode_chat(const ChatFormat& format, Tokenizer& tokenizer, std::span<const Message> messages,
                         bool generation_prompt, std::vector<int32_t>& ids, std::vector<uint8_t>& trained);

// Tokens that end the assistant's turn.
std::vector<int32_t> end_of_turn(const ChatFormat& format, const Tokenizer& tokenizer);

}  // namespace thimble
