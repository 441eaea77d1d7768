#include "text/example_reader.h"

#include <simdjson.h>

#include <algorithm>
#include <array>

#include "text/jinja/from_json.h"

namespace thimble {

namespace dom = simdjson::dom;

struct ExampleReader::Json {
  dom::parser parser;
  dom::object record;   // the last one parsed
  dom::object message;  // of its messages, the one that is read
};

// Two strings, one to be read and one to be learnt.
struct ExampleReader::PairFields {
  std::string_view prompt, input, completion;
  bool instruction;  // goes through the model's chat format, or else Alpaca's prompt
};
// Lists of messages, and what they call their parts.
struct ExampleReader::ChatFields {
  std::string_view list, role, content;
};
constexpr std::array<ExampleReader::PairFields, 3> ExampleReader::kPairs{
    PairFields{"instruction", "input", "output", true},
    PairFields{"prompt", "", "completion", false},
    PairFields{"question", "", "answer", false},
};

constexpr std::array<ExampleReader::ChatFields, 2> ExampleReader::kChats{ChatFields{"messages", "role", "content"},
                                                                         ChatFields{"conversations", "from", "value"}};

namespace {

struct RoleName {
  std::string_view name, role;
};
constexpr std::array kRoles{RoleName{"human", "user"}, RoleName{"gpt", "assistant"}};

// Taori et al. 2023, Stanford Alpaca.
constexpr std::string_view kAlpacaWithInput =
    "Below is an instruction that describes a task, paired with an input that provides further context. Write a "
    "response that appropriately completes the request.\n\n### Instruction:\n";
constexpr std::string_view kAlpaca =
    "Below is an instruction that describes a task. Write a response that appropriately completes the "
    "request.\n\n### Instruction:\n";

Result<std::string_view> string_field(const dom::object& object, std::string_view key, std::string_view where) {
  dom::element value;
  if (object.at_key(key).get(value) != simdjson::SUCCESS) {
    return fail(ErrorCode::invalid_argument, "{}the field '{}' is missing", where, key);
  }
  std::string_view text;
  if (value.get(text) != simdjson::SUCCESS) {
    return fail(ErrorCode::invalid_argument, "{}the field '{}' is not a string", where, key);
  }
  return text;
}

Failure unknown_fields(const dom::object& object) {
  std::string found;
  for (const auto field : object) found += fmt::format("{}{}", found.empty() ? "" : ", ", field.key);
  return fail(ErrorCode::invalid_argument,
              "expected one of: messages, conversations, instruction and output, prompt and completion, question and "
              "answer, text; found {}",
              found.empty() ? "no field" : found.substr(0, 200));
}

bool has(const dom::object& object, std::string_view key) {
  return !key.empty() && object.at_key(key).error() == simdjson::SUCCESS;
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
      json_(std::make_unique<Json>()) {}
ExampleReader::~ExampleReader() = default;

std::span<char> ExampleReader::buffer(size_t bytes) {
  length_ = bytes;
  if (buffer_.size() < bytes + simdjson::SIMDJSON_PADDING) buffer_.resize(bytes + simdjson::SIMDJSON_PADDING);
  return {buffer_.data(), bytes};
}

Message& ExampleReader::add_message(std::string_view role) {
  if (count_ == pool_.size()) pool_.emplace_back();
  Message& message = pool_[count_++];
  const auto known = std::ranges::find(kRoles, role, &RoleName::name);
  message.role = known == kRoles.end() ? role : known->role;
  message.content.clear();
  message.whole = {};
  return message;
}

Result<void> ExampleReader::parse() {
  count_ = 0;
  dom::element root;
  if (const auto error = json_->parser.parse(buffer_.data(), length_, false).get(root); error != simdjson::SUCCESS) {
    return fail(ErrorCode::corrupt, "not JSON: {}", simdjson::error_message(error));
  }
  if (root.get(json_->record) != simdjson::SUCCESS) return fail(ErrorCode::corrupt, "expected a JSON object");
  const dom::object& record = json_->record;
  for (const ChatFields& fields : kChats) {
    if (has(record, fields.list)) return parse_chat(fields);
  }
  for (const PairFields& fields : kPairs) {
    if (has(record, fields.prompt)) return parse_pair(fields);
  }
  if (!has(record, "text")) return unknown_fields(record);
  kind_ = Kind::text;
  add_message("text").content = TRY(string_field(record, "text", ""));
  return {};
}

Result<void> ExampleReader::parse_chat(const ChatFields& fields) {
  kind_ = Kind::chat;
  if (fields.list == "conversations" && has(json_->record, "system")) {
    const auto system = TRY(string_field(json_->record, "system", ""));
    if (!system.empty()) add_message("system").content = system;
  }
  dom::array list;
  if (json_->record.at_key(fields.list).get(list) != simdjson::SUCCESS) {
    return fail(ErrorCode::invalid_argument, "the field '{}' is not a list", fields.list);
  }
  size_t place = 0;
  for (const dom::element item : list) {
    dom::object message;
    const std::string where = fmt::format("message {}: ", place++);
    if (item.get(message) != simdjson::SUCCESS) return fail(ErrorCode::invalid_argument, "{}not an object", where);
    json_->message = message;
    CHECK_OK(take_whole(fields, where, add_message(TRY(string_field(message, fields.role, where)))));
  }
  if (place == 0) return fail(ErrorCode::invalid_argument, "the list '{}' is empty", fields.list);
  return {};
}

// A plain message is its role and its content; one with more, or with a content of parts, is kept as it is.
Result<void> ExampleReader::take_whole(const ChatFields& fields, std::string_view where, Message& message) {
  const dom::object& object = json_->message;
  bool plain = true;
  std::vector<jinja::Dict::Entry> entries{
      {jinja::Value::text("role"), jinja::Value(jinja::make_text(message.role, true))}};
  for (const auto field : object) {
    if (field.key == fields.role || field.value.is_null()) continue;
    std::string_view text;
    const bool content = field.key == fields.content;
    if (content && field.value.get(text) == simdjson::SUCCESS) message.content = text;
    if (content && !field.value.is_string() && !field.value.is_array())
      return fail(ErrorCode::invalid_argument, "{}the field '{}' is not a string", where, fields.content);
    plain = plain && content && field.value.is_string();
    entries.emplace_back(jinja::Value::text(content ? "content" : field.key), TRY(jinja::from_json(field.value, true)));
  }
  if (!has(object, fields.content) && plain)
    return fail(ErrorCode::invalid_argument, "{}the field '{}' is missing", where, fields.content);
  if (!plain) message.whole = TRY(make_dict(std::move(entries)));
  return {};
}

// tools may be a list, or its JSON in a text, as LLaMA-Factory has it.
Result<void> ExampleReader::take_extras() {
  extras_ = {};
  dom::element value;
  if (json_->record.at_key("tools").get(value) == simdjson::SUCCESS) {
    std::string_view text;
    if (value.get(text) == simdjson::SUCCESS && !text.empty()) {
      dom::parser parser;
      const simdjson::padded_string copy(text);
      if (parser.parse(copy).get(value) != simdjson::SUCCESS)
        return fail(ErrorCode::invalid_argument, "the field 'tools' is a text that is not JSON");
      extras_.tools = TRY(jinja::from_json(value, true));
    } else {
      extras_.tools = TRY(jinja::from_json(value, true));
    }
  }
  if (json_->record.at_key("documents").get(value) == simdjson::SUCCESS)
    extras_.documents = TRY(jinja::from_json(value, true));
  for (const char* key : {"chat_template_kwargs", "kwargs"}) {
    dom::object variables;
    if (json_->record.at_key(key).get(variables) != simdjson::SUCCESS) continue;
    for (const auto field : variables)
      extras_.variables.emplace_back(std::string(field.key), TRY(jinja::from_json(field.value, true)));
  }
  return {};
}

Result<void> ExampleReader::parse_pair(const PairFields& fields) {
  const dom::object& record = json_->record;
  kind_ = fields.instruction && format_ ? Kind::chat : Kind::pair;
  std::string& prompt = add_message("user").content;
  const auto instruction = TRY(string_field(record, fields.prompt, ""));
  const auto input = has(record, fields.input) ? TRY(string_field(record, fields.input, "")) : std::string_view();
  const bool alpaca = fields.instruction && kind_ == Kind::pair;
  if (alpaca) prompt = input.empty() ? kAlpaca : kAlpacaWithInput;
  prompt += instruction;
  if (!input.empty()) prompt.append(alpaca ? "\n\n### Input:\n" : "\n").append(input);
  if (alpaca) prompt += "\n\n### Response:";
  add_message("assistant").content = TRY(string_field(record, fields.completion, ""));
  return {};
}

Result<void> ExampleReader::encode(Example& example, std::optional<size_t> reply) {
  example.clear();
  replies_ = 1;
  CHECK_OK(parse());
  CHECK_OK(kind_ == Kind::chat ? encode_chat(example, reply) : encode_pair(example));
  if (options_.all_tokens) std::ranges::fill(example.trained, 1);
  return {};
}

Result<void> ExampleReader::encode_chat(Example& example, std::optional<size_t> reply) {
  if (!format_) return Failure(format_.error());
  CHECK_OK(take_extras());
  const ChatFormat& format = **format_;
  const ChatAsked asked{
      .masked = !options_.all_tokens, .train_on = options_.train_on, .extras = &extras_, .reply = reply};
  const ChatText chat = TRY(write_chat(format, std::span(pool_).first(count_), asked));
  replies_ = chat.replies;
  return encode_chat_text(format, tokenizer_, chat, example.ids, example.trained);
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
  const bool empty = !pair && pool_[0].content.empty();
  example.trained.resize(example.ids.size(), empty ? 0 : 1);
  return {};
}

Result<std::vector<Message>> ExampleReader::messages() {
  CHECK_OK(parse());
  if (kind_ == Kind::text) {
    return fail(ErrorCode::unsupported, "showing the messages of an example: it is a plain text, it has none");
  }
  return std::vector<Message>(pool_.begin(), pool_.begin() + static_cast<std::ptrdiff_t>(count_));
}

std::string_view ExampleReader::system() const {
  return kind_ == Kind::chat && count_ > 0 && pool_[0].role == "system" ? pool_[0].content : std::string_view();
}

}  // namespace thimble
