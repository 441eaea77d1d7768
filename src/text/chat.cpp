#include "text/chat.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "core/split.h"
#include "core/warnings.h"

namespace thimble {
namespace {

using jinja::Dict;
using jinja::Kind;
using jinja::Value;

Value foreign(std::string_view text) { return Value(jinja::make_text(text, true)); }

// Fields of a message that mean something by themselves. Reasoning stands under each of its names before a template
// sees it, so that one of them suffices.
struct Meaning {
  std::string_view field;
  std::array<std::string_view, 2> seen_as;
};
constexpr auto kMeanings = std::to_array<Meaning>({{"tool_calls", {"tool_calls", ""}},
                                                   {"tool_call_id", {"tool_call_id", "role"}},
                                                   {"function_call", {"function_call", ""}},
                                                   {"reasoning_content", {"reasoning_content", "thinking"}},
                                                   {"reasoning", {"reasoning_content", "thinking"}},
                                                   {"thinking", {"reasoning_content", "thinking"}}});

bool says_something(const Value& value) { return !value.is(Kind::none) && truth(value); }

// Parts of text, one after the other, for a template that knows texts only.
Result<Value> joined_parts(const Value& parts) {
  jinja::TextBuilder text;
  for (const Value& part : parts.list().items) {
    const Value* words = part.is(Kind::dict) ? part.dict().find(std::string_view("text")) : &part;
    if (!words || !words->is(Kind::text)) {
      return fail(ErrorCode::unsupported,
                  "a part of a message's content is no text, and the chat template knows texts only");
    }
    text.append(words->text());
  }
  return Value(text.finish());
}

// What is in a chat's text of one reply of the assistant.
struct Learnt {
  size_t message;
  TextSpan span;
};

std::vector<size_t> replies_of(std::span<const Message> messages) {
  std::vector<size_t> places;
  for (size_t i = 0; i < messages.size(); ++i) {
    if (messages[i].role == "assistant") places.push_back(i);
  }
  return places;
}

Result<void> learn(ChatText& chat, std::span<const Message> messages, std::vector<Learnt> learnt, TrainOn train_on) {
  if (train_on == TrainOn::all) {
    chat.trained.push_back({0, chat.text.bytes.size()});
    chat.blank_tails = false;
    return {};
  }
  if (train_on == TrainOn::last && learnt.size() > 1) learnt.erase(learnt.begin(), learnt.end() - 1);
  for (const Learnt& one : learnt) {
    if (messages[one.message].trained) chat.trained.push_back(one.span);
  }
  return {};
}

struct RoleName {
  std::string_view name, role;
  bool templates_own = false;  // the name that some templates know the role by themselves, as GLM's do
};
constexpr std::array kRoles{RoleName{"human", "user"},        RoleName{"gpt", "assistant"},
                            RoleName{"bot", "assistant"},     RoleName{"model", "assistant"},
                            RoleName{"chatgpt", "assistant"}, RoleName{"observation", "tool", true}};

Result<ChatInput> with_content(ChatInput input, size_t place, std::string_view content) {
  std::vector<Value> messages = input.messages.list().items;
  std::vector<Dict::Entry> entries = messages[place].dict().entries;
  for (auto& [key, value] : entries)
    if (key.is(Kind::text) && key.bytes() == "content") value = foreign(content);
  messages[place] = TRY(make_dict(std::move(entries)));
  input.messages = TRY(make_list(std::move(messages)));
  return input;
}

// Where a text begins in another, from an offset on; in linear time, unlike string_view::find.
size_t find_linearly(std::string_view text, std::string_view part, size_t from) {
  const void* const found = ::memmem(text.data() + from, text.size() - from, part.data(), part.size());
  return found ? static_cast<size_t>(static_cast<const char*>(found) - text.data()) : std::string_view::npos;
}

// A template passes over messages of roles that it does not know. What it changes stands in the text otherwise: then
// other words make another text.
Result<void> warn_of_lost_messages(const ChatFormat& format, std::span<const Message> messages, const ChatInput& input,
                                   std::string_view text) {
  size_t at = 0;  // messages mostly stand there in their order
  for (size_t i = 0; i < messages.size(); ++i) {
    const Message& message = messages[i];
    const std::string_view words = trimmed(message.content);
    size_t found = find_linearly(text, words, at);
    if (found != std::string_view::npos) at = found + words.size();
    if (found == std::string_view::npos && at > 0) found = find_linearly(text, words, 0);
    if (message.role == "assistant" || found != std::string_view::npos) continue;
    const auto other = format.chat_template().render(TRY(with_content(input, i, "thimbles words")));
    if (!other || other->text.bytes != text) continue;
    warn(
        fmt::format("{} writes nothing of a message of '{}': its words are not in the text, here as in transformers; "
                    "give them another role, or another template by --chat-template",
                    format.name(), message.role));
  }
  return {};
}

// By {% generation %}: the stretches are the replies', one after the other.
Result<ChatText> write_generated(const ChatFormat& format, std::span<const Message> messages, const ChatInput& input,
                                 TrainOn train_on) {
  RenderedChat rendered = TRY(format.chat_template().render_trained(input));
  CHECK_OK(warn_of_lost_messages(format, messages, input, rendered.text.bytes));
  const std::vector<size_t> replies = replies_of(messages);
  ChatText chat{.text = std::move(rendered.text)};
  const bool each_its_own = replies.size() == rendered.trained.size();
  const bool some_left_out = std::ranges::any_of(replies, [&](size_t i) { return !messages[i].trained; });
  if (!each_its_own && some_left_out) {
    return fail(
        ErrorCode::unsupported,
        "a reply is not to be trained on, and {} marks {} stretches for {} replies: which is whose cannot be told",
        format.name(), rendered.trained.size(), replies.size());
  }
  std::vector<Learnt> learnt;
  for (size_t i = 0; i < rendered.trained.size(); ++i)
    learnt.push_back({each_its_own ? replies[i] : replies.empty() ? 0 : replies.back(), rendered.trained[i]});
  CHECK_OK(learn(chat, messages, std::move(learnt), train_on));
  return chat;
}

}  // namespace

std::string_view usual_role(std::string_view name) {
  const auto known = std::ranges::find(kRoles, name, &RoleName::name);
  return known == kRoles.end() ? name : known->role;
}

std::string_view ChatFormat::role_of(std::string_view name) const {
  const auto known = std::ranges::find(kRoles, name, &RoleName::name);
  return known != kRoles.end() && known->templates_own && template_.mentions(name) ? name : usual_role(name);
}

Result<std::shared_ptr<const ChatFormat>> ChatFormat::open(const Tokenizer& tokenizer,
                                                           const ModelTemplateOptions& options) {
  auto compiled = TRY(model_template(&tokenizer, options));
  if (!compiled.mentions("messages")) {
    return fail(ErrorCode::unsupported, "reading {}: it does not look at messages, so it makes no chat",
                compiled.name());
  }
  std::shared_ptr<ChatFormat> format(new ChatFormat(std::move(compiled)));
  format->begins_with_bos_ = tokenizer.begins_with_bos(options.bos, options.no_bos);
  if (const std::string mark = format->find_ends(tokenizer); !mark.empty()) {
    const std::string what = fmt::format(
        "{} ends a reply with '{}', which is no token of this vocabulary: it would be learnt and written as pieces of "
        "text, and end nothing",
        format->name(), mark);
    if (!options.chosen.empty())
      return fail(ErrorCode::unsupported, "{}; choose a template whose tokens the model has", what);
    warn(what);
  }
  return std::shared_ptr<const ChatFormat>(std::move(format));
}

// The first special token after a reply. A template that takes no chat of a question and a reply tells nothing.
std::string ChatFormat::find_ends(const Tokenizer& tokenizer) {
  ends_ = tokenizer.ends();
  constexpr std::string_view kReply = "thimbles reply";
  const std::array<Message, 2> probe{Message{"user", "question"}, Message{"assistant", std::string(kReply)}};
  const auto text = thimble::render(*this, probe, false);
  const size_t at = text ? text->rfind(kReply) : std::string::npos;
  if (at == std::string::npos) return "";
  const std::string_view rest = std::string_view(*text).substr(at + kReply.size());
  const auto end = tokenizer.first_special(rest);
  const bool known = !end || std::ranges::find(ends_, *end) != ends_.end();
  if (!known && end != tokenizer.bos()) ends_.push_back(*end);
  const size_t mark = rest.find_first_not_of(" \n");
  if (end || mark == std::string_view::npos || rest[mark] != '<') return "";
  const size_t close = rest.find('>', mark), space = rest.find_first_of(" \n", mark);
  return close == std::string_view::npos || space < close ? "" : std::string(rest.substr(mark, close + 1 - mark));
}

Result<void> ChatFormat::check(std::span<const Message> messages, const ChatExtras& extras) const {
  const auto unseen = [&](std::string_view what) {
    return fail(ErrorCode::unsupported,
                "the chat has {}, which {} does not look at: they would be lost; leave them out, or give a template "
                "that knows them by --chat-template",
                what, name());
  };
  if (says_something(extras.tools) && !template_.mentions("tools")) return unseen("tools");
  if (says_something(extras.documents) && !template_.mentions("documents")) return unseen("documents");
  for (const Message& message : messages) {
    if (!message.whole.is(Kind::dict)) continue;
    for (const Meaning& meaning : kMeanings) {
      const Value* value = message.whole.dict().find(meaning.field);
      const bool seen = std::ranges::any_of(
          meaning.seen_as, [&](std::string_view name) { return !name.empty() && template_.mentions(name); });
      if (value && says_something(*value) && !seen) return unseen(fmt::format("'{}' in a message", meaning.field));
    }
  }
  return {};
}

bool ChatFormat::may_see(std::string_view field) const {
  return template_.mentions(field) || std::ranges::find(kMeanings, field, &Meaning::field) != kMeanings.end();
}

Result<Value> ChatFormat::value_of(const Message& message) const {
  if (!message.whole.is(Kind::dict))
    return jinja::make_dict(
        {{Value::text("role"), foreign(message.role)}, {Value::text("content"), foreign(message.content)}});
  std::vector<Dict::Entry> entries = message.whole.dict().entries;
  for (auto& [key, value] : entries) {
    if (key.is(Kind::text) && key.bytes() == "content" && value.is(Kind::list) && !template_.mentions("text"))
      value = TRY(joined_parts(value));
  }
  return make_dict(std::move(entries));
}

Result<ChatInput> ChatFormat::input(std::span<const Message> messages, const ChatExtras& extras,
                                    bool generation_prompt) const {
  CHECK_OK(check(messages, extras));
  ChatInput input{.tools = extras.tools, .documents = extras.documents, .variables = extras.variables};
  std::vector<Value> values;
  for (const Message& message : messages) values.push_back(TRY(value_of(message)));
  input.messages = TRY(make_list(std::move(values)));
  input.generation_prompt = generation_prompt;
  return input;
}

Result<ChatText> write_chat(const ChatFormat& format, std::span<const Message> messages, const ChatAsked& asked) {
  static const ChatExtras kNothing{};
  const ChatInput input = TRY(format.input(messages, asked.extras ? *asked.extras : kNothing, asked.generation_prompt));
  const ChatTemplate& source = format.chat_template();
  if (asked.masked && !asked.generation_prompt && source.has_generation())
    return write_generated(format, messages, input, asked.train_on);
  ChatText chat{.text = TRY(source.render(input)).text};
  CHECK_OK(warn_of_lost_messages(format, messages, input, chat.text.bytes));
  if (asked.generation_prompt || !asked.masked) return chat;
  chat.blank_tails = true;
  const std::vector<size_t> replies = replies_of(messages);
  std::vector<Learnt> learnt;
  std::optional<ChatTemplate::Reply> last;
  bool whole = true;
  for (size_t i = 0; i < replies.size() && (whole || i + 1 == replies.size()); ++i) {
    if (asked.train_on == TrainOn::last && i + 1 < replies.size()) continue;
    auto one = source.reply(input, replies[i]);
    if (!one && i + 1 == replies.size()) return Failure(one.error());
    whole = whole && one && chat.text.bytes.starts_with(one->rendering.text.bytes);
    if (one) learnt.push_back({replies[i], one->span});
    if (one && i + 1 == replies.size()) last = *std::move(one);
  }
  if (whole && !asked.reply) {
    CHECK_OK(learn(chat, messages, std::move(learnt), asked.train_on));
    return chat;
  }
  // The template rewrites earlier turns: each reply is learnt in the text that it stood at the end of.
  const size_t wanted = asked.reply ? replies.at(*asked.reply) : replies.back();
  if (asked.reply && wanted != replies.back()) last = TRY(source.reply(input, wanted));
  chat.text = std::move(last->rendering.text);
  if (asked.train_on != TrainOn::last) chat.replies = replies.size();
  CHECK_OK(learn(chat, messages, {{wanted, last->span}}, asked.train_on));
  return chat;
}

Result<void> encode_chat_text(const ChatFormat& format, Tokenizer& tokenizer, const ChatText& chat,
                              std::vector<int32_t>& ids, std::vector<uint8_t>& trained) {
  const size_t first = ids.size();
  const std::string_view text = chat.text.bytes;
  EncodeOptions options{.bos = format.begins_with_bos()};
  const auto encode = [&](size_t begin, size_t end, bool learnt) -> Result<void> {
    if (begin == end) return {};
    std::vector<TextSpan> ordinary;
    for (const TextSpan& span : chat.text.foreign) {
      if (span.end > begin && span.begin < end)
        ordinary.push_back({std::max(span.begin, begin) - begin, std::min(span.end, end) - begin});
    }
    options.ordinary = ordinary;
    CHECK_OK(tokenizer.encode(text.substr(begin, end - begin), options, ids));
    trained.resize(ids.size(), learnt ? 1 : 0);
    options.after_special = ids.size() > first && tokenizer.ends_apart(text.substr(0, end), ids);
    options.continued = ids.size() > first && !options.after_special;
    if (!learnt || !chat.blank_tails) return {};
    size_t tail = ids.size();
    while (tail > first && tokenizer.bytes(ids[tail - 1]).find_first_not_of(" \t\r\n") == std::string_view::npos)
      --tail;
    if (tail > first && tokenizer.is_special(ids[tail - 1]))
      std::fill(trained.begin() + static_cast<std::ptrdiff_t>(tail), trained.end(), 0);
    return {};
  };
  size_t at = 0;
  for (const TextSpan& span : chat.trained) {
    CHECK_OK(encode(at, span.begin, false));
    CHECK_OK(encode(span.begin, span.end, true));
    at = span.end;
  }
  return encode(at, text.size(), false);
}

Result<void> encode_chat(const ChatFormat& format, Tokenizer& tokenizer, std::span<const Message> messages,
                         const ChatAsked& asked, std::vector<int32_t>& ids, std::vector<uint8_t>& trained) {
  return encode_chat_text(format, tokenizer, TRY(write_chat(format, messages, asked)), ids, trained);
}

Result<std::string> render(const ChatFormat& format, std::span<const Message> messages, bool generation_prompt) {
  const ChatInput input = TRY(format.input(messages, {}, generation_prompt));
  return TRY(format.chat_template().render(input)).text.bytes;
}

}  // namespace thimble
