#include "run/conversation.h"

#include <algorithm>

#include "core/count.h"
#include "text/token_stream.h"

namespace thimble {

Conversation::Conversation(Generator& generator, Tokenizer& tokenizer, const ChatFormat& format, Sampler& sampler,
                           const ConversationOptions& options)
    : generator_(generator),
      tokenizer_(tokenizer),
      format_(format),
      sampler_(sampler),
      options_(options),
      stops_(format.ends()) {
  if (!options_.system.empty()) messages_.push_back({"system", options_.system});
  const auto context = static_cast<size_t>(generator.context());
  cache_.reserve(context);
  ids_.reserve(2 * context);
  reply_.reserve(context);
  trained_.reserve(2 * context);
}

namespace {

// A user's message and what was said to it; never the system's message nor the last of all.
bool drop_oldest_turn(std::vector<Message>& messages) {
  const auto first = messages.begin() + (!messages.empty() && messages[0].role == "system");
  auto next = first;
  while (next != messages.end() && (next == first || next->role != "user")) ++next;
  if (next == messages.end()) return false;
  messages.erase(first, next);
  return true;
}

}  // namespace

void Conversation::set_system(std::string text) {
  options_.system = std::move(text);
  if (!messages_.empty() && messages_[0].role == "system") messages_.erase(messages_.begin());
  if (!options_.system.empty()) messages_.insert(messages_.begin(), {"system", options_.system});
}

void Conversation::clear() {
  messages_.clear();
  if (!options_.system.empty()) messages_.push_back({"system", options_.system});
}

Result<void> Conversation::restore(std::vector<Message> messages) {
  for (size_t i = 0; i < messages.size(); ++i) {
    const std::string& role = messages[i].role;
    if ((i == 0 && role == "system") || role == "user" || role == "assistant") continue;
    return fail(ErrorCode::invalid_argument,
                "message {} is of the role '{}', expected user, assistant, or system first", i, role);
  }
  TRY(render(format_, messages, false));
  const bool has_system = !messages.empty() && messages[0].role == "system";
  options_.system = has_system ? messages[0].content : "";
  messages_ = std::move(messages);
  return {};
}

Result<bool> Conversation::fit(int64_t room, const Listener& listener) {
  std::vector<Message> kept = messages_;  // what is left out is forgotten only once the rest fits
  for (int64_t dropped = 0;; ++dropped) {
    ids_.clear();
    trained_.clear();
    CHECK_OK(encode_chat(format_, tokenizer_, kept, {.generation_prompt = true}, ids_, trained_));
    ids_.insert(ids_.end(), reply_.begin(), reply_.end());
    if (generator_.forgets() || static_cast<int64_t>(ids_.size()) + room <= generator_.context()) {
      if (dropped > 0)
        listener.note(fmt::format("the context of {} tokens is full: forgot the oldest {}", generator_.context(),
                                  dropped == 1 ? "turn" : counted(dropped, "turn")));
      messages_ = std::move(kept);
      return true;
    }
    if (!drop_oldest_turn(kept)) return false;
  }
}

Result<void> Conversation::feed() {
  if (options_.prompt_cache && prefilled_ == 0) {
    const int64_t read = TRY(options_.prompt_cache->begin(generator_, ids_));
    cache_.assign(ids_.begin(), ids_.end() - 1);
    prefilled_ += static_cast<int64_t>(cache_.size()) - read;
  }
  const auto differs = std::mismatch(cache_.begin(), cache_.end(), ids_.begin(), ids_.end()).first - cache_.begin();
  // The last token is fed in any case: its logits are what is wanted.
  const auto same = std::min<int64_t>(differs, static_cast<int64_t>(ids_.size()) - 1);
  // Where tokens are forgotten, what was fed is still there as a whole, or nothing of it is.
  const bool whole = generator_.forgets() && same == static_cast<int64_t>(cache_.size());
  const auto keep = static_cast<size_t>(whole ? same : generator_.truncate(0, generator_.forgets() ? 0 : same));
  cache_.resize(keep);
  const Generator::Prompt prompt{0, std::span(ids_).subspan(keep)};
  CHECK_OK(generator_.prefill({&prompt, 1}));
  prefilled_ += static_cast<int64_t>(prompt.ids.size());
  cache_ = ids_;
  return {};
}

Result<std::string> Conversation::speak(const Listener& listener) {
  std::string text;
  TokenStream stream(tokenizer_, ids_);
  const auto say = [&](std::string_view piece) {
    text += piece;
    if (!piece.empty()) listener.say(piece);
  };
  while (!listener.stop()) {
    const int32_t id = sampler_.pick(generator_.logits(0), turn_, reply_.size(), ids_);
    if (std::find(stops_.begin(), stops_.end(), id) != stops_.end()) break;
    reply_.push_back(id);
    ids_.push_back(id);
    say(stream.push(id));
    if (options_.max_tokens > 0 && static_cast<int64_t>(reply_.size()) >= options_.max_tokens) break;
    if (!generator_.full(0)) {
      const Generator::Token token{0, id};
      CHECK_OK(generator_.step({&token, 1}));
      cache_.push_back(id);
    } else if (TRY(fit(generator_.context() / 4, listener))) {
      CHECK_OK(feed());
    } else {
      listener.note(fmt::format("the context of {} tokens is full: the reply ends here; give a larger --context",
                                generator_.context()));
      break;
    }
  }
  say(stream.rest());
  return text;
}

Result<void> Conversation::reply(std::string message, const Listener& listener) {
  messages_.push_back({"user", std::move(message)});
  reply_.clear();
  // Some room for the reply, or at least a token.
  const int64_t room = std::min<int64_t>(generator_.context() / 4, options_.max_tokens > 0 ? options_.max_tokens : 256);
  auto fits = fit(room, listener);
  if (fits && !*fits) fits = fit(1, listener);
  if (!fits || !*fits) {
    const size_t tokens = ids_.size();
    messages_.pop_back();
    if (!fits) return Failure(fits.error());  // the template does not take the message
    return fail(ErrorCode::invalid_argument,
                "the message needs {} tokens, the context has {}: say it shorter, or give a larger --context", tokens,
                generator_.context());
  }
  CHECK_OK(feed());
  std::string text = TRY(speak(listener));
  messages_.push_back({"assistant", std::move(text)});
  ++turn_;
  return {};
}

}  // namespace thimble
