// Inference within a budget: the programs of one task, and the plan of their memory.
//
//   generate  `fill` writes the keys and values of prompts, many rows at a time; `step` makes one token a sequence.
//             Both share one cache. Only `step` makes logits, so those of a sequence never depend on how its prompt
//             was cut or with what it was batched. Several rows of it may be of one sequence: tokens that were
//             guessed ahead, by `guess`, which has the first blocks of the model, or otherwise.
//   losses    loss a row, over packed documents
//   logits    logits of all rows
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "methods/cache_policy.h"
#include "methods/rewrite.h"
#include "models/build.h"
#include "plan/plan.h"

namespace thimble {

enum class Task { generate, losses, logits };

struct InferenceSpec {
  Task task = Task::generate;
  Architecture architecture;
  // Codec in which a weight is stored; nullptr when there is none of that name.
  std::function<const Codec*(const std::string& name)> stored;
  std::vector<RewriteSpec> rewrites;  // of an adapter; none: there is none
  const Codec* activation = &kBf16;
  const Codec* cache = &kBf16;        // of keys and values
  Multiply multiply = Multiply::f32;  // of evaluation
  Multiply prompts = Multiply::f32;   // of programs that write prompts into the cache
  Multiply step = Multiply::f32;      // of programs that make one token a sequence
  int threads = 1;
  int64_t slots = 1;         // generate: sequences at once
  int64_t context = 512;     // tokens of the longest sequence
  int64_t guesses = 0;       // generate: tokens guessed ahead of each sequence, at most
  int64_t guess_layers = 0;  // generate: blocks of the program that guesses them; 0: there is none
  // generate: what stays in the cache when it is full. With one that forgets there is a program `evict` before `step`;
  // with one that looks at surprises, `fill` makes the loss of every row.
  const CachePolicy* policy = &kFullCache;
  int64_t batch = 1;          // evaluate, logits: windows of `context` rows at once, at most
  int64_t begin_bytes = 0;    // of memory in which values that begin with the weights are made (run/derived.h)
  int64_t budget_bytes = 0;   // of the whole process; 0: none
  int64_t runtime_bytes = 0;  // of the process without the arena
  // Of times and the disk; asked for only where weights must wait on disk. Empty: they may not.
  std::function<const Machine&()> machine;
  int64_t disk_least_bytes = 64 << 10;  // of a weight that waits on disk
};

// Programs: to generate, fill, guess and evict where there are such, and step. Times are known where weights wait on
// disk.
struct InferencePlan : Plan {
  std::vector<AdapterTensor> adapter;  // what of it an adapter's file holds
  int64_t rows = 0;                    // of the first program, at most
};

inline constexpr const char* kLogits = "logits";
inline constexpr const char* kGuessLogits = "guess.logits";
inline constexpr const char* kEvictSlot = "evict.slot";
inline constexpr const char* kEvictKept = "evict.kept";

// Takes as many rows at once as the budget allows. Weights that do not fit wait on disk: those that cost a token least,
// and no more of them than must. over_budget with the smallest budget that would do.
Result<InferencePlan> plan_inference(const InferenceSpec& spec);

// Hash of the program of prompts, of whatever budget and context: keys and values that it makes of the same tokens are
// the same where this, the weights and the tables of constants are.
Result<std::string> prompt_numerics(const InferenceSpec& spec);

}  // namespace thimble
