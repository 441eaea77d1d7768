// What a training run is asked for. Every field is the flag of the same name.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace thimble {

struct Recipe {
  std::string model, tokenizer, adapter;
  std::string data, eval_data;  // files, patterns and folders, with a line feed or a comma between them
  std::string out;
  std::vector<std::string> columns;  // field=column of the data
  std::string truncate;              // of examples longer than the context: left, right, split; empty: left out
  double split = 0;                  // part of the data that is held out for evaluation
  std::string method;  // several with commas between; empty: the adapter's, else lora on a model, full from scratch
  std::string optimizer = "adamw", schedule = "cosine", precision = "bf16", multiply = "auto";
  std::string size, architecture;  // of a model from scratch: its parameters, or a config.json
  std::string objective = "next_token";
  std::string teacher;                 // a model, of an objective that has one
  std::string estimator = "backprop";  // of the gradients
  std::string keep;                    // how activations wait for their gradients; empty: as the method says
  std::string select = "all";          // which parameters of the method train
  std::string states = "f32";          // how states of the optimizer are stored: f32, bf16, int8_block, fp8
  std::string scratch;                 // folder of the disk tier; empty: beside `out`; "none": no disk
  std::string allow;                   // "near": moves with a documented error bound are allowed
  std::vector<std::string> target;     // layers to adapt; empty: as the method says
  std::vector<std::string> set;        // socket.option=value
  int64_t memory = 0;                  // bytes; 0: 80 % of what is free
  std::optional<int64_t> rank;         // of the method, where it has one; its own without it
  int64_t batch = 1, accumulate = 1, context = 512, steps = 0, save_every = 0, eval_every = 0, seed = 0, threads = 0;
  int64_t keep_checkpoints = 2;          // of the last in `out`; 1: the last alone
  std::optional<double> alpha, dropout;  // likewise
  double lr = 0, warmup = 0.03, weight_decay = 0, clip = 1, epochs = 1;
  bool lr_auto = false;       // a rate by a published law; `lr` is 0
  double min_lr = 0;          // part of the peak rate to which it falls
  double decay = 0.1;         // steps at the end in which warmup_stable_decay falls; below 1 a part of all
  std::string chat_template;  // a name or a file, instead of the model's own
  std::vector<std::string> template_variables;  // NAME=JSON
  std::string date;                             // that a template may ask for: 2026-01-02; empty: today
  std::string train_on = "assistant";           // of a chat: assistant (each reply), last, all
  std::string on_divergence = "stop";           // a loss or gradient that runs away: stop, skip, rollback
  bool no_bos = false;
  bool wait_for_saves = false;  // a step begins when the checkpoint before it is on disk
  bool no_shuffle = false, resume = false, strict = false, bos = false, json = false;
};

}  // namespace thimble
