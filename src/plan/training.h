// The training program: model, method, backward pass and updates in one graph; and the plan of its memory.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "methods/method.h"
#include "methods/optimizer.h"
#include "models/build.h"
#include "plan/layout.h"
#include "plan/ledger.h"
#include "plan/machine.h"
#include "plan/schedule.h"

namespace thimble {

struct TrainingSpec {
  Architecture architecture;
  // Codec in which a weight is stored; nullptr when there is none of that name.
  std::function<const Codec*(const std::string& name)> stored;
  const Method* method = &kFull;
  MethodOptions method_options;
  const Optimizer* optimizer = &kAdamw;
  OptionValues optimizer_options;
  double weight_decay = 0;
  std::vector<std::string> no_decay;  // parts of the names of parameters that do not decay
  double clip = 1;
  int64_t batch = 1, accumulate = 1, context = 512;
  const Codec* activation = &kBf16;
  Multiply multiply = Multiply::f32;
  int threads = 1;
  bool evaluates = false;     // an evaluation program is planned too
  int64_t budget_bytes = 0;   // of the whole process; 0: none
  int64_t runtime_bytes = 0;  // of the process without the arena
};

struct TrainedParameter {
  std::string name;
  Shape shape;
  std::vector<std::pair<std::string, StateSpec>> states;  // name of the value
};

struct TrainingGraph {
  Graph graph;
  size_t update_begin = 0;  // first node of the update, when there is a barrier
  bool barrier = true;      // gradients are held until all are known
  std::vector<TrainedParameter> parameters;
  std::string prefix = "train.";
};

// `rows` tokens a pass.
Result<TrainingGraph> build_training(const TrainingSpec& spec, int64_t rows, bool barrier);

struct TrainingPlan {
  TrainingGraph train;
  Graph evaluate;
  Layout layout;
  Schedule pass, update, evaluation;  // update is empty without a barrier
  int64_t rows = 0;                   // tokens a pass
  int64_t passes = 1;                 // passes a step
  int64_t recomputed_blocks = 0;      // of which only the input is kept
  bool recomputes_cheap = false;      // what costs no product is made again
  int64_t transient_bytes = 0;
  int64_t arena_bytes = 0;
  double seconds = 0;  // a step
  Ledger ledger;
  std::string numerics_hash;
};

// The fastest plan within the budget; over_budget with the smallest budget that would do.
Result<TrainingPlan> plan_training(const TrainingSpec& spec, const Machine& machine);

}  // namespace thimble
