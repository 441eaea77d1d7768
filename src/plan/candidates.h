// What can be chosen for passes of a given number of rows, and what each choice costs. Every choice is exact: the same
// bits come out.
#pragma once

#include <array>
#include <compare>
#include <map>
#include <optional>
#include <tuple>

#include "plan/homes.h"
#include "plan/pass_programs.h"
#include "plan/relaxation.h"

namespace thimble {

using Limits = std::array<int64_t, std::size(kEagerness)>;  // bytes that a choice of each may take

struct PlanEstimate {
  int64_t bytes = 0;    // before placement, without the runtime
  double seconds = -1;  // of a step; below 0: not asked for
};
struct Found {
  Choice choice;
  PlanEstimate estimate;
};
// What was estimated before: it holds for every budget.
using Estimates = std::map<std::pair<Pass, Choice>, PlanEstimate>;
// What the periods of a selector need beside what outlives a step, by pass, choice and number: likewise.
struct PeriodNeeds {
  int64_t transient_bytes = 0, scratch_bytes = 0;
  bool fit(const PeriodNeeds& room) const {
    return transient_bytes <= room.transient_bytes && scratch_bytes <= room.scratch_bytes;
  }
};
using Periods = std::map<std::tuple<Pass, Choice, int64_t>, PeriodNeeds>;

class Candidates {
 public:
  // spec, machine and estimates must outlive it.
  Candidates(const TrainingSpec& spec, const Machine& machine, const Pass& pass, Estimates& estimates)
      : spec_(spec), machine_(machine), shape_(pass), passes_(passes_a_step(spec, pass.rows)), estimates_(estimates) {}
  // With a builder of the same spec.
  Result<void> build(PassBuilder& builder);

  // Whether the head trains: its logits may then be kept.
  bool trains_head() const;
  // Of all that fixes bits: the same for every number of rows and every choice.
  std::string numerics_hash() const;
  bool whole_passes() const { return train_.whole_passes; }
  int blocks() const { return droppable_.blocks; }
  // Persistent values that may live on disk, those first whose traffic is least for the memory they free.
  size_t list_size() const { return list_.size(); }
  // Of persistent values in memory, with so many of the list on disk.
  int64_t resident_bytes(size_t on_disk) const { return resident_[on_disk]; }
  // Bytes that the choice takes at least, without the runtime: what waits between the passes.
  int64_t least_bytes(const Choice& choice) const;
  // Seconds that the choice takes at least: its compute, and the transfers that it cannot do without.
  double least_seconds(const Choice& choice) const;
  // Seconds that no choice beats within so many bytes, without the runtime; 0: without a limit.
  double bound(int64_t limit_bytes) const { return relaxation_.bound(limit_bytes); }

  // Timed only where it needs no more than `limit_bytes`.
  PlanEstimate estimate(Choice choice, int64_t limit_bytes);
  // Of what was estimated, the fastest that fits and takes less than `beat_seconds`.
  std::optional<Found> fastest_known(const Limits& limits, double beat_seconds) const;
  // With everything that a run needs, placed; of the period that the spec names.
  TrainingPlan complete(const Choice& choice) const;
  // The same, with room for what every other period of the run needs in these homes.
  Result<TrainingPlan> complete_all(const Choice& choice, Periods& known) const;

 private:
  int64_t more_probes() const;
  int64_t sweeps() const;  // over all passes of a step
  int64_t moves() const;   // of the parameters in a step, where its estimator probes the loss
  void list_for_disk(const Layout& layout);
  double traffic_seconds(Role role, int64_t bytes) const;
  void relax();
  bool defers(size_t on_disk) const {
    return train_.barrier && on_disk > 0 && updates_listed_ && spec_.estimator->differentiates();
  }
  ScheduleOptions options(const Choice& choice, const Graph& graph) const;
  ScheduleOptions pass_options(const Choice& choice, const Graph& graph, const Droppable& droppable) const;
  Schedule pass(const Choice& choice) const;
  Schedule update(const Choice& choice) const;
  Schedule deferred(const Choice& choice) const;
  Result<PeriodNeeds> needs_of(const TrainingSpec& spec, const Choice& choice, const Layout& first,
                               std::map<std::map<std::string, std::string>, PeriodNeeds>& seen) const;
  void add_variants(const Choice& choice, TrainingPlan& plan) const;
  void measure(const Choice& choice, TrainingPlan& plan) const;
  void time(TrainingPlan& plan) const;

  const HomeCost& cost(size_t block, const Choice& choice) const {
    return home_costs_[block][choice.blocks.of(static_cast<int>(block))];
  }

  const TrainingSpec& spec_;
  const Machine& machine_;
  const Pass shape_;
  const int64_t passes_;
  Estimates& estimates_;
  TrainingGraph train_;
  std::vector<Program> programs_;         // without schedules
  std::vector<PlannedVariant> variants_;  // likewise
  std::optional<GraphTables> tables_;     // of the training graph
  std::vector<NodeCost> costs_;
  std::vector<std::vector<NodeCost>> program_costs_;
  std::vector<int> deferred_order_;
  Droppable droppable_;
  std::vector<std::array<HomeCost, kHomes.size()>> home_costs_;  // by block
  Relaxation relaxation_;
  std::vector<std::string> list_;
  std::vector<size_t> rank_;       // by value of the training graph: its place in the list
  std::vector<int64_t> resident_;  // by number on disk: bytes in memory
  std::vector<int64_t> stored_;    // by number on disk: bytes there
  std::vector<double> traffic_;    // by number on disk: seconds of transfers a step, at least
  bool updates_listed_ = false;    // whether the list holds what an update reads
};

}  // namespace thimble
