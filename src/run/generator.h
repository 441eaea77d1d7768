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
  // Tokens in the cache.
  int64_t length(int64_t slot) const { return std::max<int64_t>(0, lengths_[static_cast<size_t>(slot)] - lead_); }
  // Forgets all but the first `length` tokens.
  void truncate(int64_t slot, int64_t length) {
    int64_t& rows = lengths_[static_cast<size_t>(slot)];
    rows = std::min(rows, length + lead_);
  }

  // Appends all ids of each prompt, several prompts together; afterwards logits(i) are those after prompts[i]. A slot
  // and an id appear as they are in the model and the plan, every prompt has an id, no slot twice; a prompt longer than
  // the context is an error.
  Result<void> prefill(std::span<const Prompt> prompts);
  // Appends one token to each sequence, in one pass.
  Result<void> step(std::span<const Token> tokens);
  std::span<const float> logits(int64_t i);

 private:
  Generator(Inference& inference, int64_t slots, int64_t context);
  Result<void> fits(int64_t slot, int64_t count) const;
  // Puts a token into the inputs of a program, at row `row`.
  void put(size_t program, int64_t row, Token token);
  // The same into the program of prompts, after the `filled` rows there; runs it when it is full.
  Result<void> fill(int64_t& filled, Token token);

  Inference& inference_;
  int64_t context_, lead_;
  std::vector<int64_t> lengths_;  // rows in the cache, those of virtual tokens included
  std::vector<Token> last_;       // of the prompts
};

}  // namespace thimble
