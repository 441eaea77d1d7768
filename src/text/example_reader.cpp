#include "text/example_reader.h"

#include <simdjson.h>

#include <algorithm>
#include <array>

#include "text/called_functions.h"
#include "text/jinja/from_json.h"
#include "text/parse_json.h"
#include "text/record_fields.h"
#include "text/refused_fields.h"

namespace thimble {

namespace dom = simdjson::dom;

struct ExampleReader::Json {
  dom::parser parser;
  dom::object record;  // the last one parsed
};

// Two strings, one to be read and one to be learnt.
struct ExampleReader::PairFields {
  std::string_view prompt, input, completion;
  bool instruction;  // goes through the model's chat format, or else Alpaca's prompt
};
constexpr std::array<ExampleReader::PairFields, 4> ExampleReader::kPairs{
    PairFields{"instruction", "input", "output", true},
    PairFields{"prompt", "", "completion", false},
    PairFields{"question", "", "answer", false},
    PairFields{"prompt", "", "response", false},
};

constexpr std::array<ExampleReader::ChatFields, 2> ExampleReader::kChats{ChatFields{"messages", "role", "content"},
                                                                         ChatFields{"conversations", "from", "value"}};

namespace {

constexpr size_t kMostUnused = 64;  // names that are remembered

// Taori et al. 2023, Stanford Alpaca.
constexpr std::string_view kAlpacaWithInput =
    "Below is an instruction that describes a task, paired with an input that provides further context. Write a "
    "response that appropriately completes the request.\n\n### Instruction:\n";
constexpr std::string_view kAlpaca =
    "Below is an instruction that describes a task. Write a response that appropriately completes the "
    "request.\n\n### Instruction:\n";

// A chat without a reply may be one whose roles have other names.
Result<void> check_roles(std::span<const Message> messages) {
  constexpr std::array<std::string_view, 5> kKnown{"system", "user", "assistant", "tool", "developer"};
  if (std::ranges::find(messages, "assistant", &Message::role) != messages.end()) return {};
  for (const Message& message : messages)
    if (std::ranges::find(kKnown, message.role) == kKnown.end())
      return fail(ErrorCode::invalid_argument,
                  "no message is of the assistant, and '{}' is no role that is known; roles are system, user (human), "
                  "assistant (gpt, bot, model, chatgpt) and tool (observation)",
                  message.role);
  return {};
}

// Of a message: whether it is learnt, as OpenAI and Mistral (weight), axolotl (train, training) and ms-swift (loss)
// say.
constexpr std::array<std::string_view, 4> kSaysIfLearnt{"weight", "train", "training", "loss"};

bool of_learning(std::string_view field) {
  return std::ranges::find(kSaysIfLearnt, field) != kSaysIfLearnt.end() || is_refused(field, RecordPart::message);
}

Failure unknown_fields(const RecordFields& record) {
  return fail(ErrorCode::invalid_argument,
              "expected one of: messages, conversations, instruction and output, prompt and completion, question and "
              "answer, chosen and rejected, text (--columns names others); found {}",
              record.names());
}

ModelTemplateOptions chat_options(const DatasetOptions& options) {
  ModelTemplateOptions chat = options.chat;
  chat.bos = options.bos;
  chat.no_bos = options.no_bos;
  return chat;
}

}  // namespace

ExampleReader::ExampleReader(Tokenizer& tokenizer, const DatasetOptions& options)
    : tokenizer_(tokenizer),
      options_(options),
      format_(chat_format(tokenizer, chat_options(options))),
      json_(std::make_unique<Json>()) {
  if (options.term == LossTerm::text) labels_.emplace(options.labels);
}
ExampleReader::~ExampleReader() = default;

std::span<char> ExampleReader::buffer(size_t bytes) {
  length_ = bytes;
  if (buffer_.size() < bytes + simdjson::SIMDJSON_PADDING) buffer_.resize(bytes + simdjson::SIMDJSON_PADDING);
  return {buffer_.data(), bytes};
}

Message& ExampleReader::add_message(std::string_view role) {
  if (count_ == pool_.size()) pool_.emplace_back();
  Message& message = pool_[count_++];
  message.role = format_ ? (*format_)->role_of(role) : usual_role(role);
  message.content.clear();
  message.trained = true;
  message.whole = {};
  return message;
}

Result<void> ExampleReader::parse(bool rejected) {
  count_ = 0;
  has_rejected_ = false;
  dom::element root;
  if (const auto error = parse_padded_json(json_->parser, {buffer_.data(), length_}).get(root);
      error != simdjson::SUCCESS) {
    return fail(ErrorCode::corrupt, "not JSON: {}", simdjson::error_message(error));
  }
  if (root.get(json_->record) != simdjson::SUCCESS) return fail(ErrorCode::corrupt, "expected a JSON object");
  RecordFields record(json_->record, "", options_.columns);
  CHECK_OK(parse_record(record, rejected));
  if (options_.term == LossTerm::reply && !has_rejected_) CHECK_OK(parse_verdict(record));
  learnt_ = TRY(record.learnt("weight")).value_or(true);
  for (size_t i = 0; i < count_ && !learnt_; ++i) pool_[i].trained = false;
  extras_ = {};
  if (kind_ == Kind::chat) CHECK_OK(take_extras(record));
  CHECK_OK(refuse_fields(record, RecordPart::record));
  if (options_.term == LossTerm::token || options_.term == LossTerm::pair)
    CHECK_OK(refuse_fields(record, RecordPart::verdicts));
  if (options_.term == LossTerm::pair) CHECK_OK(refuse_fields(record, RecordPart::pair));
  if (labels_ && options_.columns.empty()) CHECK_OK(refuse_fields(record, RecordPart::labelled));
  for (const std::string_view field : record.unused()) note_unused(std::string(field));
  for (const Column& column : options_.columns)
    if (record.took(column)) columns_.insert(column.field);
  return {};
}

Result<void> ExampleReader::parse_record(RecordFields& record, bool rejected) {
  if (labels_) return parse_labelled(record);
  if (options_.texts) return parse_text(record);
  if (record.has("chosen") && record.has("rejected")) return parse_preference(record, rejected);
  if (rejected && options_.term != LossTerm::reply)
    return fail(ErrorCode::invalid_argument, "the record is no preference pair (chosen, rejected)");
  for (const ChatFields& fields : kChats) {
    if (record.has(fields.list)) return parse_chat(record, fields);
  }
  for (const PairFields& fields : kPairs) {
    if (record.has(fields.prompt) && record.has(fields.completion)) return parse_pair(record, fields);
  }
  for (const auto& [half, other] : {std::pair{"chosen", "rejected"}, {"rejected", "chosen"}})
    if (record.has(half) && !record.has("text"))
      return fail(ErrorCode::invalid_argument, "the field '{}' is missing, which goes with '{}'", other, half);
  for (const PairFields& fields : kPairs) {
    if (record.has(fields.prompt)) return parse_pair(record, fields);  // which says what is missing
  }
  return record.has("text") ? parse_text(record) : unknown_fields(record);
}

Result<void> ExampleReader::parse_text(RecordFields& record) {
  kind_ = Kind::text;
  if (!record.has("text"))
    return fail(ErrorCode::invalid_argument, "the objective learns from texts; expected 'text', found {}",
                record.names());
  add_message("text").content = TRY(record.text("text"));
  return {};
}

// `system` beside a list of messages (sharegpt, Anthropic) is the first of them.
Result<void> ExampleReader::add_system(RecordFields& record) {
  const std::string_view system = TRY(record.text_or("system", ""));
  if (system.empty()) return {};
  add_message("system").content = system;
  system_beside_ = true;
  return {};
}

Result<void> ExampleReader::parse_chat(RecordFields& record, const ChatFields& fields) {
  kind_ = Kind::chat;
  CHECK_OK(add_system(record));
  const bool beside = count_ > 0;
  CHECK_OK(add_messages(record, fields.list, true));
  if (beside && count_ > 1 && pool_[1].role == "system")
    return fail(ErrorCode::invalid_argument, "there is a system message among the messages and one beside them");
  return check_roles(std::span(pool_).first(count_));
}

Result<void> ExampleReader::add_messages(RecordFields& record, std::string_view name, bool learnt) {
  const dom::array list = TRY(record.list(name));
  size_t place = 0;
  for (const dom::element item : list) {
    dom::object object;
    const std::string where = fmt::format("message {}: ", place++);
    if (item.get(object) != simdjson::SUCCESS) return fail(ErrorCode::invalid_argument, "{}not an object", where);
    RecordFields message(object, where);
    const bool sharegpt = !message.has("role") && message.has("from");
    CHECK_OK(add_message(message, kChats[sharegpt ? 1 : 0], learnt));
    CHECK_OK(refuse_fields(message, RecordPart::message));
  }
  if (place == 0) return fail(ErrorCode::invalid_argument, "the list '{}' is empty", name);
  return {};
}

Result<void> ExampleReader::add_message(RecordFields& message, const ChatFields& fields, bool learnt) {
  const std::string_view role = TRY(message.text(fields.role));
  Message& added = add_message(role);
  if (fields.role == "from" && role == "function_call")
    CHECK_OK(take_function_call(TRY(message.text(fields.content)), added));
  else
    CHECK_OK(take_content(message, fields, added));
  std::string_view first;
  std::optional<bool> said;
  for (const std::string_view key : kSaysIfLearnt) {
    const auto one = TRY(message.learnt(key));
    if (!one) continue;
    if (said && *said != *one)
      return fail(ErrorCode::invalid_argument, "{}'{}' and '{}' say different things", message.where(), first, key);
    if (*one && key != "weight" && added.role != "assistant")
      return fail(ErrorCode::unsupported, "{}'{}' of a message of {}: only replies of the assistant are trained",
                  message.where(), key, role);
    first = key, said = one;
  }
  added.trained = learnt && said.value_or(true);
  return {};
}

// A plain message is its role and its content; one with more, or with a content of parts, is kept as it is.
Result<void> ExampleReader::take_content(RecordFields& record, const ChatFields& fields, Message& message) {
  // What says whether a reply is learnt is no business of a template.
  const auto content = record.find(fields.content);
  if (content && !content->is_string() && !content->is_array())
    return fail(ErrorCode::invalid_argument, "{}the field '{}' is not a string", record.where(), fields.content);
  dom::array parts;
  if (content && content->get(parts) == simdjson::SUCCESS) CHECK_OK(refuse_media(parts, record.where()));
  std::string_view text;
  if (content && content->get(text) == simdjson::SUCCESS) message.content = text;
  bool plain = !content || content->is_string();
  std::vector<jinja::Dict::Entry> entries{
      {jinja::Value::text("role"), jinja::Value(jinja::make_text(message.role, true))}};
  for (const auto& [key, value] : record.entries()) {
    if (key == fields.role || of_learning(key)) continue;
    const bool is_content = key == fields.content;
    plain = plain && is_content;
    if (!is_content && format_ && !(*format_)->may_see(key)) note_unused(fmt::format("messages.{}", key));
    entries.emplace_back(jinja::Value::text(is_content ? "content" : key), TRY(jinja::from_json(value, true)));
  }
  if (!content && plain)
    return fail(ErrorCode::invalid_argument, "{}the field '{}' is missing", record.where(), fields.content);
  if (!plain) message.whole = TRY(make_dict(std::move(entries)));
  return {};
}

// tools may be a list, or its JSON in a text, as LLaMA-Factory has it.
Result<void> ExampleReader::take_extras(RecordFields& record) {
  if (auto tools = record.find("tools")) {
    dom::parser parser;
    std::string_view text;
    if (tools->get(text) == simdjson::SUCCESS && !text.empty() && parse_json(parser, text).get(*tools))
      return fail(ErrorCode::invalid_argument, "the field 'tools' is a text that is not JSON");
    extras_.tools = TRY(jinja::from_json(*tools, true));
  }
  if (const auto documents = record.find("documents")) extras_.documents = TRY(jinja::from_json(*documents, true));
  for (const char* key : {"chat_template_kwargs", "kwargs"}) {
    const auto found = record.find(key);
    dom::object variables;
    if (!found) continue;
    if (found->get(variables) != simdjson::SUCCESS)
      return fail(ErrorCode::invalid_argument, "the field '{}' is not an object", key);
    for (const auto field : variables) {
      extras_.variables.emplace_back(std::string(field.key), TRY(jinja::from_json(field.value, true)));
      if (format_ && !(*format_)->chat_template().mentions(field.key))
        note_unused(fmt::format("{}.{}", key, field.key));
    }
  }
  return {};
}

// Alpaca's earlier turns: [["question", "answer"], ...].
Result<void> ExampleReader::add_history(RecordFields& record) {
  if (!record.has("history")) return {};
  for (const dom::element item : TRY(record.list("history"))) {
    dom::array turn;
    std::string_view question, answer;
    if (item.get(turn) != simdjson::SUCCESS || turn.size() != 2 || turn.at(0).get(question) != simdjson::SUCCESS ||
        turn.at(1).get(answer) != simdjson::SUCCESS)
      return fail(ErrorCode::invalid_argument, "the field 'history' is no list of pairs of strings");
    add_message("user").content = question;
    add_message("assistant").content = answer;
  }
  return {};
}

Result<void> ExampleReader::parse_pair(RecordFields& record, const PairFields& fields) {
  std::string_view prompt_text;
  const auto prompt_field = record.find(fields.prompt);
  if (prompt_field->get(prompt_text) != simdjson::SUCCESS &&
      prompt_field->is_array()) {  // lists of messages, as TRL has them
    kind_ = Kind::chat;
    CHECK_OK(add_system(record));
    CHECK_OK(add_messages(record, fields.prompt, false));
    return add_messages(record, fields.completion, true);
  }
  kind_ = fields.instruction && format_ ? Kind::chat : Kind::pair;
  const bool alpaca = fields.instruction && kind_ == Kind::pair;
  if (fields.instruction && alpaca && (record.has("history") || !TRY(record.text_or("system", "")).empty()))
    return fail(ErrorCode::unsupported,
                "'system' and 'history' go through the model's chat template, which cannot be used: {}",
                format_.error().message);
  if (fields.instruction && !alpaca) {
    CHECK_OK(add_system(record));
    CHECK_OK(add_history(record));
  }
  std::string& prompt = add_message("user").content;
  const auto instruction = TRY(record.text(fields.prompt));
  const auto input = fields.input.empty() ? std::string_view() : TRY(record.text_or(fields.input, ""));
  if (alpaca) prompt = input.empty() ? kAlpaca : kAlpacaWithInput;
  prompt += instruction;
  if (!input.empty()) prompt.append(alpaca ? "\n\n### Input:\n" : "\n").append(input);
  if (alpaca) prompt += "\n\n### Response:";
  add_message("assistant").content = TRY(record.text(fields.completion));
  return {};
}

void ExampleReader::note_unused(const std::string& name) {
  if (unused_.size() < kMostUnused || unused_.contains(name)) ++unused_[name];
}

Result<void> ExampleReader::encode(Example& example, bool rejected, std::optional<size_t> reply) {
  example.clear();
  replies_ = 1;
  CHECK_OK(parse(rejected));
  size_t bytes = 0;
  for (size_t i = 0; i < count_; ++i) bytes += pool_[i].content.size();
  const size_t most = tokenizer_.most_bytes_per_token();
  too_long_ =
      options_.truncate == Truncate::leave_out && most > 0 && bytes / most > static_cast<size_t>(options_.context);
  if (too_long_) return {};
  CHECK_OK(kind_ == Kind::chat       ? encode_chat(example, reply)
           : kind_ == Kind::labelled ? encode_labelled(example)
                                     : encode_pair(example));
  if (labels_) {
    std::ranges::fill(example.trained, 0);
    if (example.ids.empty())
      return fail(ErrorCode::invalid_argument, "an empty text has no token that could say its label");
  }
  if (options_.all_tokens) std::ranges::fill(example.trained, 1);
  return {};
}

Result<void> ExampleReader::encode_chat(Example& example, std::optional<size_t> reply) {
  if (!format_) return Failure(format_.error());
  const ChatFormat& format = **format_;
  const ChatAsked asked{
      .masked = !options_.all_tokens, .train_on = options_.train_on, .extras = &extras_, .reply = reply};
  const ChatText chat = TRY(write_chat(format, std::span(pool_).first(count_), asked));
  replies_ = chat.replies;
  CHECK_OK(encode_chat_text(format, tokenizer_, chat, example.ids, example.trained));
  if (!learnt_) std::ranges::fill(example.trained, 0);
  return {};
}

// A prompt and its completion, or a text that is all completion; the completion ends with eos. They are tokenised one
// after the other, as they will be in use.
Result<void> ExampleReader::encode_pair(Example& example) {
  const bool pair = kind_ == Kind::pair;
  EncodeOptions options{.special = !pair, .bos = tokenizer_.begins_with_bos(options_.bos, options_.no_bos)};
  if (pair) {
    CHECK_OK(tokenizer_.encode(pool_[0].content, options, example.ids));
    example.trained.resize(example.ids.size(), 0);
    options.continued = !pool_[0].content.empty();
    options.bos = options.bos && pool_[0].content.empty() && example.ids.empty();
  }
  CHECK_OK(tokenizer_.encode(pool_[count_ - 1].content, options, example.ids));
  if (const auto eos = tokenizer_.eos(); eos && (example.ids.empty() || example.ids.back() != *eos)) {
    example.ids.push_back(*eos);
  }
  // An empty text has nothing to learn, its end included.
  const bool learnt = pool_[count_ - 1].trained && (pair || !pool_[0].content.empty());
  if (learnt && options_.train_on == TrainOn::all) std::ranges::fill(example.trained, 1);
  example.trained.resize(example.ids.size(), learnt ? 1 : 0);
  return {};
}

// As transformers' tokenizers make a text: with a beginning of sequence where they put one, and no end. A second text
// follows the first at once.
Result<void> ExampleReader::encode_labelled(Example& example) {
  EncodeOptions options{.special = true, .bos = tokenizer_.begins_with_bos(options_.bos, options_.no_bos)};
  for (size_t i = 0; i < count_; ++i, options.bos = false)
    CHECK_OK(tokenizer_.encode(pool_[i].content, options, example.ids));
  example.trained.resize(example.ids.size(), 0);
  return {};
}

Result<std::vector<Message>> ExampleReader::messages() {
  CHECK_OK(parse(false));
  if (kind_ == Kind::text || kind_ == Kind::labelled) {
    return fail(ErrorCode::unsupported, "showing the messages of an example: it is a plain text, it has none");
  }
  return std::vector<Message>(pool_.begin(), pool_.begin() + static_cast<std::ptrdiff_t>(count_));
}

std::string_view ExampleReader::system() const {
  return kind_ == Kind::chat && count_ > 0 && pool_[0].role == "system" ? pool_[0].content : std::string_view();
}

}  // namespace thimble
