// How a model is opened, what it goes on from, and how the next token is taken.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace thimble {

struct InferenceOptions {
  std::string model, adapter, tokenizer;
  std::string precision = "bf16";   // bf16, f32
  std::string multiply = "auto";    // auto, f32, bf16, int8
  std::string cache_type = "auto";  // of keys and values: auto (as precision), f32, bf16, q8_0
  int64_t memory = 0;               // bytes; 0: 80 % of what is free
  int64_t threads = 0;              // 0: one a CPU
  // Of chats: a template's name or file instead of the model's own; its variables, NAME=JSON; the day it may ask for,
  // 2026-01-02, or today.
  std::string chat_template, date;
  std::vector<std::string> template_variables;
  bool no_bos = false;  // nothing begins with the beginning-of-sequence token that the tokenizer would add
};

// Which token comes next, given logits.
//
//   temperature  logits are divided by it; 0 takes the largest logit, the first of equals
//   top_k        only the k largest; 0: all
//   top_p        of these, the fewest that together have probability p (nucleus sampling, Holtzman et al. 2019,
//                arXiv:1904.09751)
struct SamplingOptions {
  double temperature = 0;
  int64_t top_k = 0;
  double top_p = 1;
  uint64_t seed = 0;
};

struct Prompt {
  std::string text;
  std::string system;  // implies chat
  bool chat = false;   // text is a user's message, and is formatted as the model's chat is
  bool bos = false;    // begins with the beginning-of-sequence token
};

}  // namespace thimble
