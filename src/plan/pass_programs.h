// The graphs that a choice of homes is made for.
#pragma once

#include <compare>
#include <map>
#include <vector>

#include "plan/training.h"

namespace thimble {

// What the graph of a pass depends on.
struct Pass {
  int64_t rows = 0;          // tokens
  bool keep_logits = false;  // of the head, until its gradient is made
  auto operator<=>(const Pass&) const = default;
};

// Passes of so many rows in a step.
inline int64_t passes_a_step(const TrainingSpec& spec, int64_t rows) {
  return spec.batch * spec.context / rows * spec.accumulate;
}

// A pass with its update, and what runs beside them on as many rows; without schedules.
struct PassPrograms {
  TrainingGraph train;
  std::vector<Program> programs;
  std::vector<PlannedVariant> variants;
};

// Builds graphs once: passes of another number of rows are the same nodes with other shapes. They differ where
// gradients have to be held until all are known, and where logits are kept.
class PassBuilder {
 public:
  // The spec must outlive it.
  explicit PassBuilder(const TrainingSpec& spec) : spec_(spec) {}
  Result<PassPrograms> build(const Pass& pass);

 private:
  Result<PassPrograms> build_anew(const Pass& pass, bool barrier) const;
  Result<Program> evaluation(int64_t rows, const TrainingGraph& train) const;

  struct Kind {
    bool barrier, keep_logits;
    auto operator<=>(const Kind&) const = default;
  };
  struct Built {
    int64_t rows = 0;
    PassPrograms programs;
  };
  const TrainingSpec& spec_;
  std::map<Kind, Built> built_;
};

}  // namespace thimble
