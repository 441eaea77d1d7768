// One record of a data set, JSON to tokens. Its buffers are kept from record to record.
#pragma once

#include <array>
#include <map>
#include <memory>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "text/chat.h"
#include "text/dataset.h"
#include "text/label_field.h"

namespace thimble {

class RecordFields;

class ExampleReader {
 public:
  ExampleReader(Tokenizer& tokenizer, const DatasetOptions& options);
  ~ExampleReader();

  // A buffer to read the record of `bytes` bytes into, then to call one of the others on.
  std::span<char> buffer(size_t bytes);
  // `rejected`: of a preference pair, the reply that was not chosen; of a judged reply nothing. `reply`: of a chat that
  // is an example for each reply, which of them.
  Result<void> encode(Example& example, bool rejected, std::optional<size_t> reply = std::nullopt);
  // Examples that the record last encoded is.
  size_t replies() const { return replies_; }
  Result<std::vector<Message>> messages();

  // Of what was encoded last:
  bool too_long() const { return too_long_; }  // its text alone says so: it was not made into tokens
  bool has_rejected() const { return has_rejected_; }
  float label() const { return label_; }  // Example::label
  std::string_view system() const;        // its system message; "" where it has none
  // Of all records that were encoded: fields that nothing is done with, and how often they stand there.
  bool takes_system() const { return system_beside_; }  // one record or more has `system` beside its messages
  bool is_chat() const { return kind_ == Kind::chat; }  // the last record
  const std::map<std::string, int64_t>& unused() const { return unused_; }
  const std::set<std::string>& columns() const { return columns_; }  // DatasetReport::columns

 private:
  struct Json;
  enum class Kind { chat, pair, text, labelled };

  struct PairFields;
  // Lists of messages, and what they call their parts.
  struct ChatFields {
    std::string_view list, role, content;
  };
  static const std::array<PairFields, 4> kPairs;
  static const std::array<ChatFields, 2> kChats;

  // Fills kind_ and pool_ (of a text: one message) from the buffer.
  Result<void> parse(bool rejected);
  Result<void> parse_record(RecordFields& record, bool rejected);
  Result<void> parse_chat(RecordFields& record, const ChatFields& fields);
  Result<void> parse_pair(RecordFields& record, const PairFields& fields);
  Result<void> parse_text(RecordFields& record);
  Result<void> parse_preference(RecordFields& record, bool rejected);
  Result<void> parse_instructed(RecordFields& record, std::string_view reply);
  // Whether the reply that was read is wanted.
  Result<void> parse_verdict(RecordFields& record);
  // A text, or two (`text_pair`), with a label.
  Result<void> parse_labelled(RecordFields& record);
  Result<void> encode_labelled(Example& example);
  // Appends the messages of a list; `learnt`: its replies are.
  Result<void> add_messages(RecordFields& record, std::string_view list, bool learnt);
  Result<void> add_message(RecordFields& message, const ChatFields& fields, bool learnt);
  Result<void> add_history(RecordFields& record);
  Result<void> add_system(RecordFields& record);
  Result<void> encode_chat(Example& example, std::optional<size_t> reply);
  // The content of a message, and where a template may look at more of it, the whole.
  Result<void> take_content(RecordFields& record, const ChatFields& fields, Message& message);
  // Tools, documents and variables beside the messages of a chat.
  Result<void> take_extras(RecordFields& record);
  Result<void> encode_pair(Example& example);
  void note_unused(const std::string& name);  // that a record has a field which nothing is done with
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
  float label_ = 0;
  std::optional<LabelField> labels_;  // of texts with labels
  bool too_long_ = false, has_rejected_ = false, system_beside_ = false;
  bool learnt_ = true;  // the last record is, as `weight` says
  std::map<std::string, int64_t> unused_;
  std::set<std::string> columns_;
};

}  // namespace thimble
