// A chat with a model in one slot: the cache keeps what it can from turn to turn, and the oldest turns go when the
// context is full.
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "run/prompt_cache.h"
#include "run/sampler.h"
#include "text/chat.h"

namespace thimble {

struct ConversationOptions {
  std::string system;
  int64_t max_tokens = 0;  // of a reply; 0: as many as fit
  // What it has of the first prompt, the system message say, is not computed; nullptr: there is none.
  PromptCache* prompt_cache = nullptr;
};

class Conversation {
 public:
  struct Listener {
    std::function<void(std::string_view text)> say;   // whole characters of the reply
    std::function<void(std::string_view note)> note;  // about the context
    std::function<bool()> stop;                       // asked after every token
  };

  // All must outlive the conversation.
  Conversation(Generator& generator, Tokenizer& tokenizer, const ChatFormat& format, Sampler& sampler,
               const ConversationOptions& options);

  // Appends the user's message and the reply to it. A message that fits no context is forgotten again, with an error.
  Result<void> reply(std::string message, const Listener& listener);

  const std::vector<Message>& messages() const { return messages_; }
  // Another system message, "" for none, before what was said so far.
  void set_system(std::string text);
  const std::string& system() const { return options_.system; }
  // Forgets what was said; the system message stays.
  void clear();
  // As if this had been said. invalid_argument where a message is neither the system's, first of all, nor the user's
  // or the assistant's, or the template does not take them; then nothing is changed.
  Result<void> restore(std::vector<Message> messages);
  int64_t cached_tokens() const { return static_cast<int64_t>(cache_.size()); }
  int64_t prefilled_tokens() const { return prefilled_; }  // of all turns together

 private:
  // Ids of the conversation, with a prompt for the reply, and what there is of the reply. Drops the oldest turns until
  // `room` more tokens fit; false, with nothing dropped, when even without them they do not.
  Result<bool> fit(int64_t room, const Listener& listener);
  // Brings the slot to hold exactly ids_, from the first token on that differs.
  Result<void> feed();
  // Tokens until one ends the reply; the text of it.
  Result<std::string> speak(const Listener& listener);

  Generator& generator_;
  Tokenizer& tokenizer_;
  const ChatFormat& format_;
  Sampler& sampler_;
  ConversationOptions options_;
  std::vector<int32_t> stops_;
  std::vector<Message> messages_;
  std::vector<int32_t> cache_;  // ids in the slot
  std::vector<int32_t> ids_, reply_;
  std::vector<uint8_t> trained_;
  int64_t prefilled_ = 0;
  uint64_t turn_ = 0;
};

}  // namespace thimble
