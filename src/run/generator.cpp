#include "run/generator.h"

#include "models/mixer.h"
#include "run/sampler.h"

namespace thimble {
namespace {

enum Program : size_t { kFill, kGuess };  // as plan_inference() orders them; the last one makes tokens

}  // namespace

Generator::Generator(Inference& inference, int64_t slots, int64_t context)
    : inference_(inference), context_(context), lead_(inference.lead().rows), lengths_(static_cast<size_t>(slots), 0) {
  last_.reserve(static_cast<size_t>(slots));
}

Result<std::unique_ptr<Generator>> Generator::prepare(Inference& inference, int64_t slots, int64_t context) {
  if (slots < 1 || slots > 1024)
    return fail(ErrorCode::invalid_argument, "--batch: expected 1 to 1024 sequences at once, found {}", slots);
  std::unique_ptr<Generator> generator(new Generator(inference, slots, context));
  CHECK_OK(inference.plan(Task::generate, context, slots));
  return generator;
}

Result<void> Generator::fits(int64_t slot, int64_t count) const {
  if (slot < 0 || slot >= slots())
    return fail(ErrorCode::invalid_argument, "generating: there are {} sequences, {} is none of them", slots(), slot);
  if (length(slot) + count <= context_) return {};
  return fail(ErrorCode::invalid_argument,
              "generating: {} tokens do not fit after {} in a context of {}; give a larger --context", count,
              length(slot), context_);
}

int64_t Generator::truncate(int64_t slot, int64_t length) {
  int64_t& rows = lengths_[static_cast<size_t>(slot)];
  if (length + lead_ < rows) rows = recurrent(inference_.architecture()) ? 0 : length + lead_;
  return this->length(slot);
}

void Generator::put(size_t program, int64_t row, Token token) {
  const std::string& prefix = inference_.plan().programs[program].prefix;
  int64_t& length = lengths_[static_cast<size_t>(token.slot)];
  inference_.value<int32_t>(prefix + "ids")[row] = token.id;
  inference_.value<int32_t>(prefix + "slots")[row] = static_cast<int32_t>(token.slot);
  inference_.value<int32_t>(prefix + "positions")[row] = static_cast<int32_t>(length++);
}

Result<void> Generator::fill(int64_t& filled, Token token) {
  put(kFill, filled++, token);
  if (filled < inference_.plan().rows) return {};
  CHECK_OK(inference_.run(kFill, filled, 0));
  filled = 0;
  return {};
}

Result<void> Generator::prefill(std::span<const Prompt> prompts) {
  for (const Prompt& prompt : prompts) {
    if (prompt.ids.empty()) return fail(ErrorCode::invalid_argument, "generating: a prompt has no tokens");
    CHECK_OK(fits(prompt.slot, static_cast<int64_t>(prompt.ids.size())));
    CHECK_OK(check_rows(inference_.tokenizer(), prompt.ids, inference_.architecture().vocab));
  }
  last_.clear();
  int64_t row = 0;
  for (const Prompt& prompt : prompts) {
    while (lengths_[static_cast<size_t>(prompt.slot)] < lead_) CHECK_OK(fill(row, {prompt.slot, 0}));
    for (int32_t id : prompt.ids.first(prompt.ids.size() - 1)) CHECK_OK(fill(row, {prompt.slot, id}));
    last_.push_back({prompt.slot, prompt.ids.back()});
  }
  if (row > 0) CHECK_OK(inference_.run(kFill, row, 0));
  return step(last_);
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
  const int64_t most = slots() * (1 + guesses());
  if (static_cast<int64_t>(tokens.size()) > most)
    return fail(ErrorCode::invalid_argument, "generating: {} tokens at once were planned, {} came", most,
                tokens.size());
  if (tokens.empty()) return {};
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
