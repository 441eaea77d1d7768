// Generating: sequences in slots over a planned cache of keys and values.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "run/inference.h"

namespace thimble {

class Generator {
 public:
  struct Prompt {
    int64_t slot;
    std::span<const int32_t> ids;  // to be appended to what the slot holds
  };
  struct Token {
    int64_t slot;
    int32_t id;
  };

  // Plans `slots` sequences of at most `context` tokens. The ledger is in inference.plan(); nothing large exists yet.
  static Result<std::unique_ptr<Generator>> prepare(Inference& inference, int64_t slots, int64_t context);
  Result<void> load() { return inference_.load(); }

  int64_t slots() const { return static_cast<int64_t>(lengths_.size()); }
  int64_t context() const { return context_; }
  // Whether a sequence has no room for another token: where the cache's policy forgets, it always has.
  bool full(int64_t slot) const { return !forgets() && length(slot) == context_; }
  bool forgets() const { return policy_.keep != nullptr; }
  // Tokens in the cache.
  int64_t length(int64_t slot) const { return std::max<int64_t>(0, lengths_[static_cast<size_t>(slot)] - lead_); }
  // Forgets all but the first `length` tokens, and returns how many are left: none, where states of recurrent mixers
  // would have to go back.
  int64_t truncate(int64_t slot, int64_t length);

  // The first `length` tokens of a sequence are in the cache: whoever calls has put them there.
  void resume(int64_t slot, int64_t length) { lengths_[static_cast<size_t>(slot)] = lead_ + length; }

  // Appends all ids of each prompt, without logits; not where the cache's policy forgets.
  Result<void> append(std::span<const Prompt> prompts);
  // Appends all ids of each prompt, several prompts together; afterwards logits(i) are those after prompts[i]. A slot
  // and an id appear as they are in the model and the plan, every prompt has an id, no slot twice; a prompt longer than
  // the context is an error.
  Result<void> prefill(std::span<const Prompt> prompts);
  // Appends tokens to sequences in one pass: one of each, or as many of one, one after the other, as may be guessed.
  Result<void> step(std::span<const Token> tokens);
  std::span<const float> logits(int64_t i);
  // Tokens that may be guessed ahead of each sequence, at most.
  int64_t guesses() const { return inference_.spec().guesses; }
  // Guesses what follows `tokens`, which are appended, by the model's first blocks: one of each sequence. The cache
  // then holds no more than a guess of them: truncate() has to take them back.
  Result<std::span<const int32_t>> guess(std::span<const Token> tokens);

 private:
  Generator(Inference& inference, int64_t slots, int64_t context);
  Result<void> fits(int64_t slot, int64_t count) const;
  Result<void> check(std::span<const Prompt> prompts) const;
  // Forgets tokens of a sequence whose places are all taken.
  Result<void> make_room(int64_t slot);
  // How unlikely the tokens of prompts were that have run, `filled` rows; and the next one, given the last logits.
  void note_surprises(int64_t filled);
  void note_surprise(const Token& token);
  Result<void> run_fill(int64_t& filled);
  Result<void> run_step(std::span<const Token> tokens);
  size_t step_program() const { return inference_.plan().programs.size() - 1; }
  // Runs a program that makes logits on `tokens`.
  Result<void> run(size_t program, std::span<const Token> tokens);
  // Puts a token into the inputs of a program, at row `row`.
  void put(size_t program, int64_t row, Token token);
  // The same into the program of prompts, after the `filled` rows there; runs it when it is full. next: the id after
  // it.
  Result<void> fill(int64_t& filled, Token token, int32_t next);

  Inference& inference_;
  int64_t context_, lead_;
  std::vector<int64_t> lengths_;  // rows in the cache, those of virtual tokens included
  std::vector<Token> last_;       // of the prompts
  std::vector<int32_t> guessed_;
  const CachePolicy& policy_;
  // Of a cache that forgets, which is of one sequence: by place, and of the token that comes next; and what stays.
  std::vector<float> surprise_;
  float next_surprise_ = 0;
  std::vector<int32_t> kept_;
};

}  // namespace thimble
