// What `thimble compare` is asked for and what it found: a recipe with variants, and the runs of each.
//
// A recipe is a YAML file:
//
//   name: pretrain-small
//   command: train                     # or finetune
//   flags: {size: 300K, steps: 200}    # of all variants, as in --config
//   rates: [0.3, 1, 3]                 # multiples of the variant's own learning rate that are tried; default [1].
//                                      # Optimizers that find their rate (prodigy) run at their own
//   part: 0.34                         # of the steps, for trying rates
//   seeds: [1, 2, 3]                   # of the runs at the best rate; rates are tried with the first
//   variants:                          # flags of each, which win; `set` is added to. The first is the baseline
//     adamw: {}
//     lion: {optimizer: lion}
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "core/result.h"

namespace thimble {

using Flags = std::map<std::string, std::vector<std::string>>;  // values by name; of a switch "true" or "false"

struct Variant {
  std::string name;
  Flags flags;  // with those of all variants
};

struct Comparison {
  std::string name, path;
  std::string command;  // train or finetune
  std::vector<double> rates = {1};
  double part = 1.0 / 3;
  std::vector<int64_t> seeds = {1};
  std::vector<Variant> variants;
};

// Errors name file and line. `overrides`: flags for every variant, which win.
Result<Comparison> read_comparison(const std::string& path, const Flags& overrides);

// A run that is complete.
struct RunResult {
  double loss = 0;                 // held out, at the end; without evaluation the mean of the last tenth of the steps
  double learning_rate = 0;        // the highest of any step
  double seconds = 0;              // a step, the median
  std::optional<double> accuracy;  // held out, of a run that learns classes
  int64_t peak_bytes = 0, planned_bytes = 0, states_bytes = 0, kept_bytes = 0;
};

// What a variant came to.
struct Outcome {
  std::string variant;
  std::string failed;  // why it did not run; empty: it did
  double learning_rate = 0;
  std::vector<RunResult> tries;  // by rate
  std::vector<RunResult> runs;   // by seed
  double mean_loss() const;
  std::optional<double> mean_accuracy() const;
  double deviation() const;  // of a sample of seeds; 0 of one
};

struct Outcomes {
  const Comparison* comparison;
  std::vector<Outcome> variants;
};

// Runs what is missing, each as a process of its own in a folder of its own below `folder`, called by the hash of the
// run's flags, of the files that these name and of this version: a run that is there is not made again, one that was
// cut off goes on. `tell` gets a line for every run. Cancelled when it was interrupted.
Result<Outcomes> run_comparison(const Comparison& comparison, const std::string& folder,
                                const std::function<void(const std::string& line)>& tell);

std::string comparison_table(const Outcomes& outcomes);  // Markdown
std::string comparison_json(const std::vector<Outcomes>& all);
Result<void> write_comparison_page(const std::vector<Outcomes>& all, const std::string& path);  // HTML

}  // namespace thimble
