// One record of a data set, JSON to tokens. Its buffers are kept from record to record.
#pragma once

#include <array>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "text/chat.h"
#include "text/dataset.h"

namespace thimble {

class ExampleReader {
 public:
  ExampleReader(Tokenizer& tokenizer, const DatasetOptions& options);
  ~ExampleReader();

  // A buffer to read the record of `bytes` bytes into, then to call one of the others on.
  std::span<char> buffer(size_t bytes);
  // `reply`: of a chat that is an example for each reply, which of them.
  Result<void> encode(Example& example, std::optional<size_t> reply = std::nullopt);
  // Examples that the record last encoded is.
  size_t replies() const { return replies_; }
  Result<std::vector<Message>> messages();
  // The system message of what was encoded last; "" where it has none.
  std::string_view system() const;

 private:
  struct Json;
  enum class Kind { chat, pair, text };

  struct PairFields;
  struct ChatFields;
  static const std::array<PairFields, 3> kPairs;
  static const std::array<ChatFields, 2> kChats;

  // Fills kind_ and pool_ (of a text: one message) from the buffer.
  Result<void> parse();
  Result<void> parse_chat(const ChatFields& fields);
  Result<void> parse_pair(const PairFields& fields);
  Result<void> encode_chat(Example& example, std::optional<size_t> reply);
  // A message, or the chat's tools and documents, with all that a template may look at.
  Result<void> take_whole(const ChatFields& fields, std::string_view where, Message& message);
  Result<void> take_extras();
  Result<void> encode_pair(Example& example);
  Message& add_message(std::string_view role);

  Tokenizer& tokenizer_;
  DatasetOptions options_;
  Result<std::shared_ptr<const ChatFormat>> format_;
  std::unique_ptr<Json> json_;
  std::string buffer_;
  size_t length_ = 0;
  Kind kind_ = Kind::chat;
  std::vector<Message> pool_;  // the first count_ are in use; the strings of all keep their memory
  size_t count_ = 0;
  ChatExtras extras_;
  size_t replies_ = 1;
};

}  // namespace thimble
