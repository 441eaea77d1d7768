// Chats: messages to token ids by the model's template, with the assistant's tokens marked.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "text/model_template.h"
#include "text/tokenizer.h"

namespace thimble {

struct Message {
  std::string role;  // system, user, assistant, tool, ...
  std::string content;
  bool trained = true;  // false: context only, also where it is the assistant's
  jinja::Value whole;   // the message with all its fields, where it has more than these; else none
};

// What templates call the role that sharegpt and others know by another name: user for `human`, assistant for `gpt`,
// `bot`, `model` and `chatgpt`, tool for `observation`; any other name as it is.
std::string_view usual_role(std::string_view name);

// What a chat has beside its messages.
struct ChatExtras {
  jinja::Value tools, documents;  // none where there are none
  std::vector<jinja::Variable> variables;
};

// A template made ready for a tokenizer: compiled, and tried once. What a run opens once and uses for every chat.
class ChatFormat {
 public:
  static Result<std::shared_ptr<const ChatFormat>> open(const Tokenizer& tokenizer,
                                                        const ModelTemplateOptions& options = {});

  const std::string& name() const { return template_.name(); }
  // Tokens that end the assistant's turn: the tokenizer's, and the one that the template writes after a reply.
  const std::vector<int32_t>& ends() const { return ends_; }

  // Fields of a message, or of a chat, that would change what is meant and that the template does not look at are an
  // error that names them.
  Result<void> check(std::span<const Message> messages, const ChatExtras& extras) const;
  Result<ChatInput> input(std::span<const Message> messages, const ChatExtras& extras, bool generation_prompt) const;
  // Whether a field of a message may change the text; one that is an error where it cannot counts as such.
  bool may_see(std::string_view field) const;
  // As usual_role(), but a name that is the template's own stays.
  std::string_view role_of(std::string_view name) const;
  const ChatTemplate& chat_template() const { return template_; }
  bool begins_with_bos() const { return begins_with_bos_; }

 private:
  explicit ChatFormat(ChatTemplate chat_template) : template_(std::move(chat_template)) {}
  // "", or the mark that the template ends a reply with where that is no token of the vocabulary.
  std::string find_ends(const Tokenizer& tokenizer);
  Result<jinja::Value> value_of(const Message& message) const;

  ChatTemplate template_;
  std::vector<int32_t> ends_;
  bool begins_with_bos_ = false;
};

inline Result<std::shared_ptr<const ChatFormat>> chat_format(const Tokenizer& tokenizer,
                                                             const ModelTemplateOptions& options = {}) {
  return ChatFormat::open(tokenizer, options);
}

// A chat as text, and which bytes of it are learnt.
struct ChatText {
  jinja::Text text;
  std::vector<TextSpan> trained;
  size_t replies = 1;        // examples that the chat is: one for each reply where the template rewrites earlier turns
  bool blank_tails = false;  // whitespace after the token that ends a reply is in `trained`, and not to be learnt
};

enum class TrainOn {
  assistant,  // every reply of the assistant
  last,       // the last reply
  all,        // every token
};

// `reply`: of a chat whose template rewrites earlier turns, the number of the assistant's reply that the text ends
// with; the last without it. Messages that are not `trained` are not learnt. An error where no reply can be told apart.
struct ChatAsked {
  bool generation_prompt = false;
  bool masked = true;  // false: the text alone, nothing of it marked
  TrainOn train_on = TrainOn::assistant;
  const ChatExtras* extras = nullptr;
  std::optional<size_t> reply;
};
Result<ChatText> write_chat(const ChatFormat& format, std::span<const Message> messages, const ChatAsked& asked);

// In tokens; both vectors are appended to. What the assistant writes is tokenised by itself, as it is generated after a
// prompt. User text that looks like a special token stays ordinary text. Begins with bos where the tokenizer says so
// and the template has none.
Result<void> encode_chat_text(const ChatFormat& format, Tokenizer& tokenizer, const ChatText& chat,
                              std::vector<int32_t>& ids, std::vector<uint8_t>& trained);

// Both in one: for a prompt, or a chat to be learnt.
Result<void> encode_chat(const ChatFormat& format, Tokenizer& tokenizer, std::span<const Message> messages,
                         const ChatAsked& asked, std::vector<int32_t>& ids, std::vector<uint8_t>& trained);

// Its text alone.
Result<std::string> render(const ChatFormat& format, std::span<const Message> messages, bool generation_prompt);

}  // namespace thimble
