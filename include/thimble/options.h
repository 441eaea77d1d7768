// How a model is opened, what it goes on from, and how the next token is taken.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace thimble {

struct InferenceOptions {
  std::string model, tokenizer;
  std::string adapter;              // several with commas between, applied in that order
  std::string adapter_scale;        // what each is multiplied with, "0.5,2"; empty: 1
  std::string precision = "bf16";   // bf16, f32
  std::string multiply = "auto";    // auto, f32, bf16, int8
  bool int8_prompts = true;         // auto may take int8 for prompts, too
  std::string cache_type = "auto";  // of keys and values: auto (as precision), f32, bf16, q8_0
  int64_t memory = 0;               // bytes; 0: 80 % of what is free
  std::string scratch;              // folder where weights wait that do not fit; empty: the user's cache; "none": none
  int64_t threads = 0;              // 0: one a CPU
  // Of chats: a template's name or file instead of the model's own; its variables, NAME=JSON; the day it may ask for,
  // 2026-01-02, or today.
  std::string chat_template, date;
  std::vector<std::string> template_variables;
  std::string decoder = "plain";  // how tokens are guessed ahead; the text is the same
  std::string cache = "full";     // which tokens stay when all places of the cache are taken
  std::vector<std::string> set;   // socket.option=value
  bool no_bos = false;            // nothing begins with the beginning-of-sequence token that the tokenizer would add
};

// Which token comes next, given logits. In this order, which is transformers':
//
//   repetition_penalty  a logit of a token that is in the prompt or the reply is divided by it, or multiplied where the
//                       logit is negative (Keskar et al. 2019, arXiv:1909.05858; as transformers does); 1: off
//   presence_penalty    taken off the logit of every such token, once (as llama.cpp does)
//   frequency_penalty   taken off it as often as the token stands there (as llama.cpp does)
//   repeat_last         of how many of the last tokens penalties hold; -1: all of them
//   temperature         logits are divided by it; 0 takes the largest logit, the first of equals
//   top_k               only the k largest; 0: all
//   top_p               of these, the fewest that together have probability p (nucleus sampling, Holtzman et al. 2019,
//                       arXiv:1904.09751)
//   min_p               of these, those at least p times as likely as the likeliest (Nguyen et al. 2024,
//                       arXiv:2407.01082); 0: all
//   typical_p           of these, the fewest whose surprise is nearest to the entropy and that together have
//                       probability p (Meister et al. 2022, arXiv:2202.00666); 1: all
struct SamplingOptions {
  double temperature = 0;
  int64_t top_k = 0;
  double top_p = 1;
  double min_p = 0, typical_p = 1;
  double repetition_penalty = 1, presence_penalty = 0, frequency_penalty = 0;
  int64_t repeat_last = -1;
  uint64_t seed = 0;
};

struct Prompt {
  std::string text;
  std::string system;  // implies chat
  bool chat = false;   // text is a user's message, and is formatted as the model's chat is
  bool bos = false;    // begins with the beginning-of-sequence token
};

}  // namespace thimble
