// Records that judge a reply or a text: preference pairs, verdicts and labels.
#include <algorithm>

#include "text/example_reader.h"
#include "text/record_fields.h"

namespace thimble {

namespace dom = simdjson::dom;

namespace {

bool same_message(const Message& a, const Message& b) {
  const bool whole = a.whole.is(jinja::Kind::dict);
  return a.role == b.role && a.content == b.content && whole == b.whole.is(jinja::Kind::dict) &&
         (!whole || equal(a.whole, b.whole));
}

}  // namespace

// chosen and rejected: strings after `prompt` (or `question`), or after `instruction` and `input` in the model's chat;
// lists of messages, which go on from a prompt or repeat it; or one message each, behind `messages` (or
// `conversations`) or a prompt. What is not asked for is looked at as well, so that a bad record is found when the data
// set is opened.
Result<void> ExampleReader::parse_preference(RecordFields& record, bool rejected) {
  has_rejected_ = true;
  label_ = rejected ? -1 : 1;
  const std::string_view wanted = rejected ? "rejected" : "chosen", other = rejected ? "chosen" : "rejected";
  const auto reply = record.find(wanted);
  if (reply->is_string() != record.find(other)->is_string())
    return fail(ErrorCode::invalid_argument, "'chosen' and 'rejected' are of different kinds");
  const std::string_view prompt = record.has("prompt") ? "prompt" : record.has("question") ? "question" : "";
  if (reply->is_string() && prompt.empty() && record.has("instruction")) return parse_instructed(record, wanted);
  if (reply->is_string()) {
    if (prompt.empty()) return fail(ErrorCode::invalid_argument, "the field 'prompt' is missing");
    kind_ = Kind::pair;
    add_message("user").content = TRY(record.text(prompt));
    add_message("assistant").content = TRY(record.text(wanted));
    return {};
  }
  kind_ = Kind::chat;
  CHECK_OK(add_system(record));
  const size_t first = count_;
  const bool listed = !prompt.empty() && record.find(prompt)->is_array();
  if (listed) CHECK_OK(add_messages(record, prompt, false));
  if (reply->is_object()) {  // one message, as LLaMA-Factory has it
    for (const ChatFields& fields : kChats)
      if (!listed && record.has(fields.list)) CHECK_OK(add_messages(record, fields.list, false));
    dom::object object;
    if (reply->get(object) != simdjson::SUCCESS) return fail(ErrorCode::invalid_argument, "'{}' is no message", wanted);
    RecordFields message(object, fmt::format("{}: ", wanted));
    return add_message(message, kChats[message.has("role") ? 0 : 1], true);
  }
  const size_t before = count_;
  CHECK_OK(add_messages(record, wanted, true));
  // A whole chat begins with the prompt, which is then not said twice.
  const auto said = std::span(pool_).subspan(first, before - first);
  const auto again = std::span(pool_).subspan(before, std::min(said.size(), count_ - before));
  if (!said.empty() && std::ranges::equal(said, again, same_message)) {
    const auto place = [&](size_t i) { return pool_.begin() + static_cast<std::ptrdiff_t>(i); };
    std::rotate(place(first), place(before), place(count_));
    count_ -= said.size();
  }
  if (!prompt.empty() && record.find(prompt)->is_string() && before == count_ - 1)
    return fail(ErrorCode::invalid_argument, "'prompt' is a string and '{}' a list that does not hold it", wanted);
  for (size_t i = first; i + 1 < count_; ++i) pool_[i].trained = false;  // the last reply is what was chosen
  return {};
}

// Alpaca's fields with two outputs, as LLaMA-Factory has them: a chat.
Result<void> ExampleReader::parse_instructed(RecordFields& record, std::string_view reply) {
  if (!format_) return Failure(format_.error());
  kind_ = Kind::chat;
  CHECK_OK(add_system(record));
  CHECK_OK(add_history(record));
  for (Message& message : std::span(pool_).first(count_)) message.trained = false;
  std::string& prompt = add_message("user").content = TRY(record.text("instruction"));
  if (const auto input = TRY(record.text_or("input", "")); !input.empty()) prompt.append("\n").append(input);
  add_message("assistant").content = TRY(record.text(reply));
  return {};
}

Result<void> ExampleReader::parse_verdict(RecordFields& record) {
  if (kind_ == Kind::text)
    return fail(ErrorCode::invalid_argument,
                "a text has no reply to judge; expected prompt, completion and label, or chosen and rejected");
  label_ = TRY(record.verdict(record.has("kto_tag") ? "kto_tag" : "label")) ? 1 : -1;
  return {};
}

// Of a chat, the messages are the text.
Result<void> ExampleReader::parse_labelled(RecordFields& record) {
  label_ = TRY(labels_->read(record));
  for (const ChatFields& fields : kChats)
    if (record.has(fields.list)) return parse_chat(record, fields);
  kind_ = Kind::labelled;
  for (const std::string_view field : {"text", "sentence"}) {
    if (!record.has(field)) continue;
    add_message("text").content = TRY(record.text(field));
    if (record.has("text_pair")) add_message("text").content = TRY(record.text("text_pair"));
    return {};
  }
  return fail(ErrorCode::invalid_argument,
              "expected a text with a label: text (or sentence) and text_pair, if any, or messages (--columns names "
              "others); found {}",
              record.names());
}

}  // namespace thimble
