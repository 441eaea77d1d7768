// What the user asked for: flags and file, checked, defaults filled in, printable.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/result.h"

namespace thimble {

struct Recipe {
  std::string model, tokenizer, adapter, data, eval_data, out;
  std::string method = "lora", optimizer = "adamw", schedule = "cosine", precision = "bf16", multiply = "auto", size;
  std::string scratch;              // folder of the disk tier; empty: beside `out`; "none": no disk
  std::string allow;                // "near": moves with a documented error bound are allowed
  std::vector<std::string> target;  // of LoRA; empty: every linear of the blocks
  std::vector<std::string> set;     // socket.option=value
  int64_t memory = 0;               // bytes; 0: 80 % of what is free
  int64_t rank = 8, batch = 1, accumulate = 1, context = 512, steps = 0, save_every = 0, eval_every = 0, seed = 0,
          threads = 0;
  double alpha = 16, dropout = 0, lr = 0, warmup = 0.03, weight_decay = 0, clip = 1, epochs = 1;
  bool no_shuffle = false, resume = false, strict = false, bos = false, json = false;
};

// "300M", "1.5G", "300000000"; M = 10^6.
Result<int64_t> parse_bytes(const std::string& text);

// The recipe as a JSON object with the flags' names as keys, for the log.
std::string recipe_json(const Recipe& recipe);

// Ranges of all numbers, names of enumerations; what is missing. The message names the flag.
Result<void> check(const Recipe& recipe);

// Learning rate of step `step` (from 0) of `steps`: warm-up, then constant, linear to 0, or a cosine to 0.
//   warmup: steps when >= 1, a part of all steps when < 1
double learning_rate(const Recipe& recipe, double base, int64_t step, int64_t steps);

}  // namespace thimble
