#include "text/chat_template.h"

#include <algorithm>
#include <array>

#include "text/jinja/characters.h"

namespace thimble {
namespace {

using jinja::Dict;
using jinja::Kind;
using jinja::Span;
using jinja::Value;

// What transformers looks for in the text to find where the last message was.
constexpr std::string_view kContinueTag = "CONTINUE_FINAL_MESSAGE_TAG ";
constexpr auto kReasoning = std::to_array<std::string_view>({"reasoning_content", "thinking", "reasoning"});

std::string_view trimmed_end(std::string_view text) {
  while (!text.empty()) {
    size_t last = text.size() - 1;
    while (last > 0 && (text[last] & 0xc0) == 0x80) --last;
    if (!jinja::is_space(decode_utf8(text, last).code)) break;
    text = text.substr(0, last);
  }
  return text;
}

std::string_view trimmed(std::string_view text) {
  text = trimmed_end(text);
  while (!text.empty()) {
    const Utf8Char c = decode_utf8(text, 0);
    if (!jinja::is_space(c.code)) break;
    text.remove_prefix(c.length);
  }
  return text;
}

void set(std::vector<Dict::Entry>& entries, std::string_view key, Value value) {
  const auto at = std::ranges::find_if(
      entries, [&](const Dict::Entry& entry) { return entry.first.is(Kind::text) && entry.first.bytes() == key; });
  if (at != entries.end()) return void(at->second = std::move(value));
  entries.emplace_back(Value::text(key), std::move(value));
}

Result<std::vector<Value>> messages_of(const ChatInput& input) {
  if (!input.messages.is(Kind::list)) {
    return fail(ErrorCode::invalid_argument, "the messages of a chat should be a list, found {}",
                type_name(input.messages));
  }
  return input.messages.list().items;
}

// Keys whose value is null are dropped; the reasoning stands under each of its names.
Result<Value> normalized(const Value& message) {
  if (!message.is(Kind::dict)) {
    return fail(ErrorCode::invalid_argument, "a message of a chat should be an object, found {}", type_name(message));
  }
  std::vector<Dict::Entry> entries;
  for (const Dict::Entry& entry : message.dict().entries) {
    if (!entry.second.is(Kind::none)) entries.push_back(entry);
  }
  const Value without_nulls = TRY(make_dict(entries));
  for (std::string_view name : kReasoning) {
    const Value* reasoning = without_nulls.dict().find(name);
    if (!reasoning) continue;
    entries.insert(entries.begin(), {Value::text("thinking"), *reasoning});
    entries = TRY(make_dict(std::move(entries))).dict().entries;
    set(entries, "reasoning_content", *reasoning);
    return make_dict(std::move(entries));
  }
  return without_nulls;
}

Result<ChatInput> normalized(ChatInput input) {
  std::vector<Value> messages = TRY(messages_of(input));
  for (Value& message : messages) message = TRY(normalized(message));
  input.messages = TRY(make_list(std::move(messages)));
  input.raw = true;
  return input;
}

Result<ChatInput> first_messages(const ChatInput& input, size_t count) {
  ChatInput part = input;
  const auto& all = input.messages.list().items;
  part.messages =
      TRY(jinja::make_list(std::vector<Value>(all.begin(), all.begin() + static_cast<std::ptrdiff_t>(count))));
  part.continue_field.clear();
  return part;
}

bool is_assistant(const Value& message) {
  const Value* role = message.is(Kind::dict) ? message.dict().find(std::string_view("role")) : nullptr;
  return role && role->is(Kind::text) && role->bytes() == "assistant";
}

Value with_tag(const Value& text) {
  jinja::TextBuilder builder;
  builder.append(text.text());
  builder.append(kContinueTag);
  return Value(builder.finish());
}

Failure cannot_continue(std::string_view why) {
  return fail(ErrorCode::invalid_argument, "continue_final_message: {}", why);
}

// The last text of a list of parts gets the tag; `said` becomes what it was.
Result<Value> with_tag_in_parts(const Value& parts, Value& said) {
  std::vector<Value> all = parts.list().items;
  for (size_t i = all.size(); i-- > 0;) {
    const Value* text = all[i].is(Kind::dict) ? all[i].dict().find(std::string_view("text")) : nullptr;
    if (!text || !text->is(Kind::text)) continue;
    said = *text;
    std::vector<Dict::Entry> entries = all[i].dict().entries;
    set(entries, "text", with_tag(said));
    all[i] = TRY(make_dict(std::move(entries)));
    return make_list(std::move(all));
  }
  return cannot_continue("the last message has no text to continue");
}

}  // namespace

Result<ChatTemplate> ChatTemplate::compile(std::string_view source, std::string name, Settings settings) {
  auto compiled = jinja::Template::compile(source);
  if (!compiled) return fail(compiled.error().code, "reading {}: {}", name, compiled.error().message);
  return ChatTemplate(*std::move(compiled), source, std::move(name), std::move(settings));
}

Result<jinja::Rendering> ChatTemplate::render_prepared(const ChatInput& input) const {
  std::vector<jinja::Variable> variables = settings_.variables;
  const auto put = [&](const std::string& name, Value value) {
    const auto at = std::ranges::find(variables, name, &jinja::Variable::first);
    if (at != variables.end()) return void(at->second = std::move(value));
    variables.emplace_back(name, std::move(value));
  };
  for (const auto& [name, value] : input.variables) put(name, value);
  put("messages", input.messages);
  put("tools", input.tools);
  put("documents", input.documents);
  put("add_generation_prompt", Value(input.generation_prompt));
  bool raised = false;
  auto rendering = template_.render(variables, {.date = settings_.date}, &raised);
  if (rendering || raised) return rendering;
  return fail(rendering.error().code, "rendering a chat with {}: {}", name_, rendering.error().message);
}

Result<jinja::Rendering> ChatTemplate::render_to_continue(ChatInput input) const {
  std::vector<Value> messages = TRY(messages_of(input));
  if (messages.empty()) return cannot_continue("the conversation is empty");
  std::vector<Dict::Entry> last = messages.back().dict().entries;
  const Value* const found = messages.back().dict().find(input.continue_field);
  if (!found || found->is(Kind::none))
    return cannot_continue(fmt::format("the last message has no '{}' to continue", input.continue_field));
  Value said = *found;
  std::vector<std::string_view> fields{input.continue_field};
  if (std::ranges::find(kReasoning, input.continue_field) != kReasoning.end()) {
    fields.clear();
    for (std::string_view name : kReasoning) {
      const Value* same = messages.back().dict().find(name);
      if (same && equal(*same, said)) fields.push_back(name);
    }
  }
  if (std::ranges::none_of(fields, [&](std::string_view field) { return source_.find(field) != std::string::npos; }))
    return cannot_continue(fmt::format("the template does not use the field '{}'", input.continue_field));
  if (said.is(Kind::list)) {
    const Value parts = said;
    set(last, input.continue_field, TRY(with_tag_in_parts(parts, said)));
  } else if (said.is(Kind::text)) {
    for (std::string_view field : fields) set(last, field, with_tag(said));
  } else {
    return cannot_continue("the last message's text is no text");
  }
  messages.back() = TRY(make_dict(std::move(last)));
  input.messages = TRY(make_list(std::move(messages)));
  jinja::Rendering whole = TRY(render_prepared(input));
  const std::string_view text = whole.text.bytes, tag = trimmed_end(kContinueTag);
  const size_t at = text.rfind(tag);
  if (at == std::string_view::npos || text.find(trimmed(said.bytes())) == std::string_view::npos)
    return cannot_continue("the last message is not in what the template makes of the chat");
  // Where the template trimmed the message, the whitespace before the tag is not the message's own.
  const bool kept = text.substr(at).starts_with(kContinueTag);
  const size_t end = kept ? at : trimmed_end(text.substr(0, at)).size();
  jinja::TextBuilder cut;
  cut.append(whole.text, 0, end);
  return jinja::Rendering{cut.take(), {}};
}

Result<jinja::Rendering> ChatTemplate::render(const ChatInput& input) const {
  if (input.raw) return render_prepared(input);
  const ChatInput prepared = TRY(normalized(input));
  return input.continue_field.empty() ? render_prepared(prepared) : render_to_continue(prepared);
}

Result<ChatTemplate::Reply> ChatTemplate::reply(const ChatInput& input, size_t place) const {
  ChatInput before = TRY(first_messages(input, place)), after = TRY(first_messages(input, place + 1));
  before.generation_prompt = true;
  after.generation_prompt = false;
  const jinja::Rendering prompt = TRY(render(before));
  jinja::Rendering whole = TRY(render(after));
  const Span span{prompt.text.bytes.size(), whole.text.bytes.size()};
  if (span.begin < span.end && whole.text.bytes.starts_with(prompt.text.bytes)) return Reply{std::move(whole), span};
  return fail(ErrorCode::unsupported,
              "what the reply in message {} adds cannot be told: with {}, the text before it and its generation prompt "
              "are no beginning "
              "of the text with the reply; a template with {{% generation %}}, or another one, by --chat-template",
              place, name_);
}

Result<RenderedChat> ChatTemplate::render_trained(const ChatInput& input) const {
  jinja::Rendering whole = TRY(render(input));
  RenderedChat chat{std::move(whole.text), {}};
  if (!input.continue_field.empty()) return chat;
  if (has_generation()) {
    for (const Span& span : whole.generated)
      chat.trained.push_back({chat.text.byte_of(span.begin), chat.text.byte_of(span.end)});
    return chat;
  }
  const size_t count = input.messages.is(Kind::list) ? input.messages.list().items.size() : 0;
  for (size_t i = 0; i < count; ++i) {
    if (!is_assistant(input.messages.list().items[i])) continue;
    const auto one = reply(input, i);
    if (one && chat.text.bytes.starts_with(one->rendering.text.bytes)) chat.trained.push_back(one->span);
  }
  return chat;
}

}  // namespace thimble
