#include "run/generator.h"

#include <algorithm>
#include <cassert>
#include <cmath>

#include "models/mixer.h"
#include "run/sampler.h"

namespace thimble {
namespace {

enum : size_t { kFill, kGuess };  // as plan_inference() orders them; the last one makes tokens

}  // namespace

Generator::Generator(Inference& inference, int64_t slots, int64_t context)
    : inference_(inference),
      context_(context),
      lead_(inference.lead().rows),
      lengths_(static_cast<size_t>(slots), 0),
      policy_(inference.cache_policy()) {
  last_.reserve(static_cast<size_t>(slots));
  if (!forgets()) return;
  surprise_.assign(static_cast<size_t>(context), 0);
  kept_.reserve(static_cast<size_t>(context));
}

Result<std::unique_ptr<Generator>> Generator::prepare(Inference& inference, int64_t slots, int64_t context) {
  if (slots < 1 || slots > 1024)
    return fail(ErrorCode::invalid_argument, "--batch: expected 1 to 1024 sequences at once, found {}", slots);
  if (inference.cache_policy().keep && (slots > 1 || inference.lead().rows > 0))
    return fail(ErrorCode::unsupported,
                "--cache {}: it is for one sequence at a time, without virtual tokens before it",
                inference.cache_policy().name);
  std::unique_ptr<Generator> generator(new Generator(inference, slots, context));
  CHECK_OK(inference.plan(Task::generate, context, slots));
  return generator;
}

Result<void> Generator::fits(int64_t slot, int64_t count) const {
  if (slot < 0 || slot >= slots())
    return fail(ErrorCode::invalid_argument, "generating: there are {} sequences, {} is none of them", slots(), slot);
  if (forgets() || length(slot) + count <= context_) return {};
  return fail(ErrorCode::invalid_argument,
              "generating: {} tokens do not fit after {} in a context of {}; give a larger --context", count,
              length(slot), context_);
}

int64_t Generator::truncate(int64_t slot, int64_t length) {
  int64_t& rows = lengths_[static_cast<size_t>(slot)];
  // Of a sequence that was cut nobody knows which of its tokens lie where.
  if (length + lead_ < rows) rows = recurrent(inference_.architecture()) || forgets() ? 0 : length + lead_;
  return this->length(slot);
}

void Generator::put(size_t program, int64_t row, Token token) {
  const std::string& prefix = inference_.plan().programs[program].prefix;
  int64_t& length = lengths_[static_cast<size_t>(token.slot)];
  inference_.value<int32_t>(prefix + "ids")[row] = token.id;
  inference_.value<int32_t>(prefix + "slots")[row] = static_cast<int32_t>(token.slot);
  if (forgets()) surprise_[static_cast<size_t>(length)] = next_surprise_;
  inference_.value<int32_t>(prefix + "positions")[row] = static_cast<int32_t>(length++);
}

Result<void> Generator::make_room(int64_t slot) {
  int64_t& count = lengths_[static_cast<size_t>(slot)];
  kept_.clear();
  policy_.keep(std::span(surprise_).first(static_cast<size_t>(count)), places_kept(context_),
               inference_.cache_options(), kept_);
  for (size_t i = 0; i < kept_.size(); ++i) surprise_[i] = surprise_[static_cast<size_t>(kept_[i])];
  count = static_cast<int64_t>(kept_.size());
  int32_t* const kept = inference_.value<int32_t>(kEvictKept);
  std::copy(kept_.begin(), kept_.end(), kept);
  std::fill(kept + kept_.size(), kept + context_, -1);
  *inference_.value<int32_t>(kEvictSlot) = static_cast<int32_t>(slot);
  return inference_.run(step_program() - 1, -1, -1);
}

// Row i says how unlikely the token of the place after its own was: the next token's, where that has no place yet.
void Generator::note_surprises(int64_t filled) {
  if (!policy_.surprises) return;
  const std::string& prefix = inference_.plan().programs[kFill].prefix;
  const float* const nll = inference_.value<const float>(prefix + "nll");
  for (int64_t row = 0; row < filled; ++row) {
    const auto place = static_cast<size_t>(inference_.value<const int32_t>(prefix + "positions")[row]) + 1;
    (static_cast<int64_t>(place) < lengths_[0] ? surprise_[place] : next_surprise_) = nll[row];
  }
}

void Generator::note_surprise(const Token& token) {
  if (!policy_.surprises || lengths_[0] == 0) return;
  const std::span<const float> all = logits(0);
  const double most = *std::ranges::max_element(all);
  double sum = 0;
  for (const float logit : all) sum += std::exp(static_cast<double>(logit) - most);
  next_surprise_ = static_cast<float>(most + std::log(sum) - static_cast<double>(all[static_cast<size_t>(token.id)]));
}

Result<void> Generator::run_fill(int64_t& filled) {
  if (filled == 0) return {};
  CHECK_OK(inference_.run(kFill, filled, 0));
  note_surprises(filled);
  filled = 0;
  return {};
}

Result<void> Generator::fill(int64_t& filled, Token token, int32_t next) {
  if (forgets() && length(token.slot) == context_) {
    CHECK_OK(run_fill(filled));
    CHECK_OK(make_room(token.slot));
  }
  if (policy_.surprises) inference_.value<int32_t>(inference_.plan().programs[kFill].prefix + "targets")[filled] = next;
  put(kFill, filled++, token);
  return filled < inference_.plan().rows ? Result<void>() : run_fill(filled);
}

Result<void> Generator::check(std::span<const Prompt> prompts) const {
  for (const Prompt& prompt : prompts) {
    if (prompt.ids.empty()) return fail(ErrorCode::invalid_argument, "generating: a prompt has no tokens");
    CHECK_OK(fits(prompt.slot, static_cast<int64_t>(prompt.ids.size())));
    CHECK_OK(check_rows(inference_.tokenizer(), prompt.ids, inference_.architecture().vocab));
  }
  return {};
}

Result<void> Generator::append(std::span<const Prompt> prompts) {
  assert(!forgets());
  CHECK_OK(check(prompts));
  int64_t row = 0;
  for (const Prompt& prompt : prompts) {
    while (lengths_[static_cast<size_t>(prompt.slot)] < lead_) CHECK_OK(fill(row, {prompt.slot, 0}, 0));
    for (const int32_t id : prompt.ids) CHECK_OK(fill(row, {prompt.slot, id}, 0));
  }
  return run_fill(row);
}

Result<void> Generator::prefill(std::span<const Prompt> prompts) {
  CHECK_OK(check(prompts));
  last_.clear();
  int64_t row = 0;
  for (const Prompt& prompt : prompts) {
    while (lengths_[static_cast<size_t>(prompt.slot)] < lead_) CHECK_OK(fill(row, {prompt.slot, 0}, 0));
    if (forgets()) note_surprise({prompt.slot, prompt.ids.front()});
    for (size_t i = 0; i + 1 < prompt.ids.size(); ++i)
      CHECK_OK(fill(row, {prompt.slot, prompt.ids[i]}, prompt.ids[i + 1]));
    last_.push_back({prompt.slot, prompt.ids.back()});
  }
  CHECK_OK(run_fill(row));
  return run_step(last_);
}

Result<void> Generator::run(size_t program, std::span<const Token> tokens) {
  int64_t same = 0;
  for (size_t i = 0; i < tokens.size(); ++i) {
    same = i > 0 && tokens[i].slot == tokens[i - 1].slot ? same + 1 : 1;
    CHECK_OK(fits(tokens[i].slot, same));
  }
  const auto count = static_cast<int64_t>(tokens.size());
  int32_t* const select = inference_.value<int32_t>(inference_.plan().programs[program].prefix + "select");
  for (int64_t i = 0; i < count; ++i) {
    put(program, i, tokens[static_cast<size_t>(i)]);
    select[i] = static_cast<int32_t>(i);
  }
  return inference_.run(program, count, count);
}

Result<void> Generator::step(std::span<const Token> tokens) {
  if (forgets() && !tokens.empty()) note_surprise(tokens.front());
  return run_step(tokens);
}

Result<void> Generator::run_step(std::span<const Token> tokens) {
  const int64_t most = slots() * (1 + guesses());
  if (static_cast<int64_t>(tokens.size()) > most)
    return fail(ErrorCode::invalid_argument, "generating: {} tokens at once were planned, {} came", most,
                tokens.size());
  if (tokens.empty()) return {};
  if (forgets() && length(tokens.front().slot) == context_) CHECK_OK(make_room(tokens.front().slot));
  CHECK_OK(run(step_program(), tokens));
  CHECK_OK(inference_.logits(static_cast<int64_t>(tokens.size())));
  return {};
}

Result<std::span<const int32_t>> Generator::guess(std::span<const Token> tokens) {
  CHECK_OK(run(kGuess, tokens));
  const auto vocab = static_cast<size_t>(inference_.architecture().vocab);
  const float* const logits = inference_.value<const float>(kGuessLogits);
  guessed_.clear();
  for (size_t i = 0; i < tokens.size(); ++i) guessed_.push_back(likeliest({logits + i * vocab, vocab}));
  return std::span<const int32_t>(guessed_);
}

std::span<const float> Generator::logits(int64_t i) {
  const auto vocab = static_cast<size_t>(inference_.architecture().vocab);
  return {inference_.value<const float>(kLogits) + static_cast<size_t>(i) * vocab, vocab};
}

}  // namespace thimble
