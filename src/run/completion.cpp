#include "run/completion.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <limits>
#include <memory>
#include <numeric>
#include <optional>
#include <utility>

#include "run/stop_strings.h"
#include "text/chat.h"
#include "text/token_stream.h"

namespace thimble {
namespace {

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

}  // namespace

Result<std::vector<int32_t>> encode_prompt(const Prompt& prompt, Inference& inference) {
  Tokenizer& tokenizer = inference.tokenizer();
  CHECK_OK(tokenizer.usable());
  std::vector<int32_t> ids;
  if (prompt.chat || !prompt.system.empty()) {
    std::vector<Message> messages;
    const std::string system = prompt.system.empty() ? inference.system_prompt() : prompt.system;
    if (!system.empty()) messages.push_back({"system", system});
    messages.push_back({"user", prompt.text});
    std::vector<uint8_t> trained;
    const std::shared_ptr<const ChatFormat> format = TRY(inference.chat_format());
    CHECK_OK(encode_chat(*format, tokenizer, messages, {.generation_prompt = true}, ids, trained));
  } else {
    CHECK_OK(tokenizer.encode(prompt.text, {.bos = tokenizer.begins_with_bos(prompt.bos, inference.no_bos())}, ids));
  }
  if (ids.empty())
    return fail(ErrorCode::invalid_argument,
                "the prompt is empty: give --prompt TEXT or --prompt-file FILE, or --bos to begin from nothing");
  return ids;
}

namespace {

// Log probabilities of the softmax of `logits`: of the token that was taken, and of the `count` likeliest.
TokenLogprobs logprobs_of(std::span<const float> logits, int32_t taken, int64_t count) {
  const auto of = [&](int32_t id) { return double{logits[static_cast<size_t>(id)]}; };
  const double largest = of(likeliest(logits));
  double sum = 0;
  for (const float logit : logits) sum += std::exp(double{logit} - largest);
  const double log_sum = largest + std::log(sum);
  TokenLogprobs made{static_cast<float>(of(taken) - log_sum), {}};
  std::vector<int32_t> order(logits.size());
  std::iota(order.begin(), order.end(), 0);
  const auto kept = static_cast<ptrdiff_t>(std::min<int64_t>(count, static_cast<int64_t>(order.size())));
  std::partial_sort(order.begin(), order.begin() + kept, order.end(),
                    [&](int32_t a, int32_t b) { return of(a) != of(b) ? of(a) > of(b) : a < b; });
  for (ptrdiff_t i = 0; i < kept; ++i)
    made.top.emplace_back(order[static_cast<size_t>(i)], of(order[static_cast<size_t>(i)]) - log_sum);
  return made;
}

// The tokens of a model that are text, sorted by it, for grammars to choose from.
struct TextTokens {
  std::vector<std::string_view> bytes;
  std::vector<int32_t> ids;

  TextTokens(const Tokenizer& tokenizer, int64_t rows) {
    for (int32_t id = 0; id < std::min<int64_t>(tokenizer.vocab_size(), rows); ++id)
      if (!tokenizer.is_special(id) && !tokenizer.bytes(id).empty()) ids.push_back(id);
    std::ranges::stable_sort(ids, {}, [&](int32_t id) { return tokenizer.bytes(id); });
    for (const int32_t id : ids) bytes.push_back(tokenizer.bytes(id));
  }
};

// Holds one sequence to a grammar.
class Held {
 public:
  Held(const Grammar& grammar, const TextTokens& tokens, const Inference& inference)
      : state_(grammar), tokens_(tokens), inference_(inference) {}

  bool over() const { return state_.must_end(); }
  // Whether the token may come next; it is read then.
  bool accept(int32_t id) {
    if (is_end(id)) return state_.may_end();
    const Tokenizer& tokenizer = inference_.tokenizer();
    return !tokenizer.is_special(id) && !tokenizer.bytes(id).empty() && state_.accept(tokenizer.bytes(id));
  }
  // The logits with -infinity for what may not come next; an error where nothing may.
  Result<std::span<const float>> masked(std::span<const float> logits) {
    masked_.assign(logits.size(), -std::numeric_limits<float>::infinity());
    bool any = false;
    const auto allow = [&](int32_t id) {
      masked_[static_cast<size_t>(id)] = logits[static_cast<size_t>(id)];
      any = true;
    };
    state_.allowed(tokens_.bytes, [&](size_t i) { allow(tokens_.ids[i]); });
    if (state_.may_end())
      for (const int32_t id : inference_.ends())
        if (static_cast<size_t>(id) < logits.size()) allow(id);
    if (any) return std::span<const float>(masked_);
    return fail(ErrorCode::invalid_argument, "the grammar allows nothing here that the vocabulary can express");
  }

 private:
  bool is_end(int32_t id) const { return std::ranges::find(inference_.ends(), id) != inference_.ends().end(); }

  GrammarState state_;
  const TextTokens& tokens_;
  const Inference& inference_;
  std::vector<float> masked_;
};

// One sequence: takes a token after another until there is a reason to stop.
class Writer {
 public:
  using Say = std::function<void(std::string_view)>;
  Writer(Completion& completion, uint64_t number, const Inference& inference, const CompletionOptions& options,
         const TextTokens* tokens, const Say& say)
      : completion_(completion),
        number_(number),
        inference_(inference),
        options_(options),
        say_(say),
        stream_(inference.tokenizer(), completion.prompt_ids),
        stops_(options.stops),
        most_(options.most_after(static_cast<int64_t>(completion.prompt_ids.size()))) {
    completion_.ids.reserve(static_cast<size_t>(most_));
    earlier_.reserve(completion.prompt_ids.size() + static_cast<size_t>(most_));
    earlier_ = completion.prompt_ids;
    if (tokens) held_.emplace(*options.grammar, *tokens, inference);
  }

  // The prompt has been read.
  void begin() { start_ = std::chrono::steady_clock::now(); }

  // Tokens so far, of the prompt too.
  std::span<const int32_t> ids() const { return earlier_; }
  // More that may be taken, after the one that comes next.
  int64_t left() const { return most_ - static_cast<int64_t>(completion_.ids.size()) - 1; }
  void count_guesses(int64_t guessed) { completion_.guessed += guessed; }
  void count_right() { ++completion_.right; }

  // The next token, to be fed, or nothing when the reply is over. `full`: the context has no room for one more.
  Result<std::optional<int32_t>> take(Sampler& sampler, std::span<const float> logits, bool full) {
    const int32_t id = TRY(pick(sampler, logits));
    completion_.ids.push_back(id);
    earlier_.push_back(id);
    if (options_.logprobs >= 0) completion_.logprobs.push_back(logprobs_of(logits, id, options_.logprobs));
    const std::vector<int32_t>& ends = inference_.ends();
    const bool end = std::ranges::find(ends, id) != ends.end();
    if (!end) tell(stops_.push(stream_.push(id)));
    if (end) {
      completion_.stopped = "end";
      completion_.end = id;
    } else if (stops_.found()) {
      completion_.stopped = "stop";
      completion_.stop = options_.stops[*stops_.found()];
    } else if (held_ && held_->over()) {
      completion_.stopped = "grammar";
    } else if (static_cast<int64_t>(completion_.ids.size()) >= most_) {
      completion_.stopped = "max-tokens";
    } else if (full) {
      completion_.stopped = "context";
    } else {
      return std::optional(id);
    }
    finish();
    return std::optional<int32_t>();
  }

 private:
  // Greedily the likeliest token is tried first: where the grammar has it, no other need be looked at.
  Result<int32_t> pick(Sampler& sampler, std::span<const float> logits) {
    const size_t number = completion_.ids.size();
    if (!held_) return sampler.pick(logits, number_, number, earlier_);
    if (sampler.greedy())
      if (const int32_t id = sampler.pick(logits, number_, number, earlier_); held_->accept(id)) return id;
    const int32_t id = sampler.pick(TRY(held_->masked(logits)), number_, number, earlier_);
    held_->accept(id);
    return id;
  }
  void tell(std::string_view text) {
    completion_.text += text;
    if (say_ && !text.empty()) say_(text);
  }
  void finish() {
    if (!stops_.found()) {
      tell(stops_.push(stream_.rest()));
      if (!stops_.found()) tell(stops_.rest());
    }
    completion_.seconds = seconds_since(start_);
  }

  Completion& completion_;
  uint64_t number_;
  const Inference& inference_;
  const CompletionOptions& options_;
  const Say& say_;
  TokenStream stream_;
  StopStrings stops_;
  int64_t most_;  // tokens of the reply
  std::optional<Held> held_;
  std::vector<int32_t> earlier_;
  std::chrono::steady_clock::time_point start_;
};

// Sequences in slots, new ones where others have ended.
class Batch {
 public:
  Batch(Generator& generator, Sampler& sampler, const Inference& inference, const CompletionOptions& options,
        const Writer::Say& say, std::span<Completion> completions)
      : generator_(generator),
        sampler_(sampler),
        inference_(inference),
        options_(options),
        say_(say),
        completions_(completions),
        at_(static_cast<size_t>(generator.slots())) {}

  Result<void> run() {
    while (next_ < completions_.size() || !tokens_.empty()) {
      if (next_ < completions_.size() && 2 * static_cast<int64_t>(tokens_.size()) <= generator_.slots())
        CHECK_OK(fill());
      CHECK_OK(step());
    }
    return {};
  }

 private:
  // Prompts into every free slot; takes their first tokens.
  Result<void> fill() {
    const auto start = std::chrono::steady_clock::now();
    prompts_.clear();
    const size_t first = next_;
    for (size_t slot = 0; slot < at_.size() && next_ < completions_.size(); ++slot) {
      if (at_[slot]) continue;
      Completion& completion = completions_[next_];
      at_[slot] = std::make_unique<Writer>(completion, next_++, inference_, options_, tokens_of_text(), say_);
      const int64_t held = generator_.truncate(static_cast<int64_t>(slot), completion.held);
      prompts_.push_back(
          {static_cast<int64_t>(slot), std::span(completion.prompt_ids).subspan(static_cast<size_t>(held))});
    }
    CHECK_OK(generator_.prefill(prompts_));
    for (size_t i = first; i < next_; ++i) completions_[i].prompt_seconds = seconds_since(start);
    for (const Generator::Prompt& prompt : prompts_) at_[static_cast<size_t>(prompt.slot)]->begin();
    for (size_t i = 0; i < prompts_.size(); ++i) CHECK_OK(take(prompts_[i].slot, static_cast<int64_t>(i)));
    return {};
  }

  Result<void> step() {
    if (tokens_.empty()) return {};
    CHECK_OK(guess());
    CHECK_OK(generator_.step(fed_));
    tokens_.clear();
    for (size_t first = 0, end = 0; first < fed_.size(); first = end) {
      while (end < fed_.size() && fed_[end].slot == fed_[first].slot) ++end;
      CHECK_OK(take_right(first, end));
    }
    return {};
  }

  // What is fed: each sequence's token, and the ones that are guessed to follow.
  Result<void> guess() {
    const Decoder& decoder = inference_.decoder();
    fed_.clear();
    if (generator_.guesses() > 0 && decoder.layers) return guess_by_layers();
    for (const Generator::Token& token : tokens_) {
      fed_.push_back(token);
      if (generator_.guesses() == 0 || !decoder.guess) continue;
      guesses_.clear();
      decoder.guess(at_[static_cast<size_t>(token.slot)]->ids(), most_guesses(token.slot), inference_.decoder_options(),
                    guesses_);
      feed(token.slot, guesses_);
    }
    return {};
  }

  Result<void> guess_by_layers() {
    std::vector<std::vector<int32_t>> of(tokens_.size());
    std::vector<Generator::Token> last;
    std::vector<int64_t> lengths;
    for (const Generator::Token& token : tokens_) lengths.push_back(generator_.length(token.slot));
    for (int64_t round = 0; round < generator_.guesses(); ++round) {
      last.clear();
      std::vector<size_t> whose;
      for (size_t i = 0; i < tokens_.size(); ++i) {
        if (most_guesses(tokens_[i].slot, lengths[i]) <= round) continue;
        last.push_back({tokens_[i].slot, round == 0 ? tokens_[i].id : of[i].back()});
        whose.push_back(i);
      }
      if (last.empty()) break;
      const auto guessed = TRY(generator_.guess(last));
      for (size_t i = 0; i < whose.size(); ++i) of[whose[i]].push_back(guessed[i]);
    }
    for (size_t i = 0; i < tokens_.size(); ++i) {
      generator_.truncate(tokens_[i].slot, lengths[i]);
      fed_.push_back(tokens_[i]);
      feed(tokens_[i].slot, of[i]);
    }
    return {};
  }

  void feed(int64_t slot, std::span<const int32_t> guesses) {
    for (const int32_t id : guesses) fed_.push_back({slot, id});
    at_[static_cast<size_t>(slot)]->count_guesses(static_cast<int64_t>(guesses.size()));
  }

  // The context and the reply have room for so many beside the token that is fed.
  int64_t most_guesses(int64_t slot) const { return most_guesses(slot, generator_.length(slot)); }
  int64_t most_guesses(int64_t slot, int64_t length) const {
    return std::clamp<int64_t>(std::min(generator_.context() - length - 1, at_[static_cast<size_t>(slot)]->left()), 0,
                               generator_.guesses());
  }

  // Rows [first, end) of one sequence: the token after each is taken, as long as the row after it was guessed right.
  Result<void> take_right(size_t first, size_t end) {
    const int64_t slot = fed_[first].slot, whole = generator_.length(slot);
    auto& writer = at_[static_cast<size_t>(slot)];
    for (size_t row = first;; ++row) {
      const int64_t length = whole - static_cast<int64_t>(end - row - 1);
      const auto id = TRY(writer->take(sampler_, generator_.logits(static_cast<int64_t>(row)),
                                       !generator_.forgets() && length == generator_.context()));
      const bool right = id && row + 1 < end && fed_[row + 1].id == *id;
      if (right) {
        writer->count_right();
        continue;
      }
      generator_.truncate(slot, length);
      if (id)
        tokens_.push_back({slot, *id});
      else
        writer.reset();
      return {};
    }
  }

  const TextTokens* tokens_of_text() {
    if (options_.grammar && !text_tokens_)
      text_tokens_.emplace(inference_.tokenizer(), inference_.architecture().vocab);
    return text_tokens_ ? &*text_tokens_ : nullptr;
  }

  Result<void> take(int64_t slot, int64_t row) {
    auto& writer = at_[static_cast<size_t>(slot)];
    const bool full = generator_.full(slot);
    const auto id = TRY(writer->take(sampler_, generator_.logits(row), full));
    if (id)
      tokens_.push_back({slot, *id});
    else
      writer.reset();
    return {};
  }

  Generator& generator_;
  Sampler& sampler_;
  const Inference& inference_;
  const CompletionOptions& options_;
  const Writer::Say& say_;
  std::optional<TextTokens> text_tokens_;
  std::span<Completion> completions_;
  std::vector<std::unique_ptr<Writer>> at_;  // by slot; nullptr: free
  std::vector<Generator::Prompt> prompts_;
  std::vector<Generator::Token> tokens_;  // to be fed next
  std::vector<Generator::Token> fed_;     // with guesses
  std::vector<int32_t> guesses_;
  size_t next_ = 0;
};

}  // namespace

Result<void> complete(Generator& generator, Sampler& sampler, const Inference& inference,
                      const CompletionOptions& options, const std::function<void(std::string_view)>& say,
                      Completion& completion) {
  return Batch(generator, sampler, inference, options, say, {&completion, 1}).run();
}

Result<void> complete_all(Generator& generator, Sampler& sampler, const Inference& inference,
                          const CompletionOptions& options, std::span<Completion> completions) {
  const Writer::Say nobody;
  return Batch(generator, sampler, inference, options, nobody, completions).run();
}

}  // namespace thimble
