// Choosing homes: what lives in memory, what waits on disk, what is made again, and how many rows go at once, to be
// fast within the budget. Every choice here is exact: the same bits come out.
//
// A plan is: rows a pass; a rung for each block's activations (the first blocks' live longest, so they are on the lower
// rung); and how many of the persistent values live on disk, from a list in order of what their traffic costs a byte
// saved. For each rung the fewest values on disk that fit are found by bisection, then the fewest blocks on the lower
// of two rungs; the candidates are played (simulate) and the fastest is taken.
#include <xxhash.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <optional>

#include "disk/scratch.h"
#include "ops/rows.h"
#include "plan/rungs.h"
#include "plan/training.h"

namespace thimble {
namespace {

// A plan that would do without the disk is given up only for one that is faster by this.
constexpr double kDiskGain = 0.85;
// What the process occupies beside the arena grows with a plan's steps and differs from start to start: the budget that
// a refusal names is larger than the leanest plan by this, so that it does.
constexpr int64_t kRuntimeVaries = 512 << 10;
constexpr double kRuntimeGrows = 0.02;
using Eagerness = ScheduleOptions::Eagerness;
constexpr Eagerness kLeanest{0, 0};
constexpr Eagerness kEagerness[] = {{32 << 20, 2}, {8 << 20, 1}, {1 << 20, 0}, kLeanest};
constexpr Rung kRungs[] = {Rung::keep, Rung::cheap, Rung::cheap_spill, Rung::bare, Rung::bare_spill};

constexpr bool spills(Rung rung) { return rung == Rung::cheap_spill || rung == Rung::bare_spill; }

struct Choice {
  Rung deep = Rung::keep, shallow = Rung::keep;
  int deep_blocks = 0;
  size_t on_disk = 0;  // of the list
  Eagerness eagerness = kEagerness[0];
};

struct Candidate {
  Choice choice;
  TrainingPlan plan;
};
using Found = std::optional<Candidate>;

// Plans with passes of so many rows.
class RowsPlanner {
 public:
  RowsPlanner(const TrainingSpec& spec, const Machine& machine, int64_t rows)
      : spec_(spec), machine_(machine), rows_(rows), passes_(spec.batch * spec.context / rows * spec.accumulate) {}

  Result<void> build() {
    const bool barrier = spec_.clip > 0 || passes_ > 1 || spec_.optimizer->totals;
    train_ = TRY(build_training(spec_, rows_, barrier));
    costs_ = node_costs(train_.graph, spec_.multiply, spec_.threads, machine_);
    if (spec_.evaluates) {
      evaluate_ = TRY(evaluation_graph());
      evaluate_costs_ = node_costs(evaluate_, spec_.multiply, spec_.threads, machine_);
    }
    droppable_ = find_droppable(train_.graph);
    for (const Variant& variant : spec_.optimizer->variants) {
      TrainingGraph train = TRY(build_training(spec_, rows_, barrier, &variant));
      const int64_t period = std::max<int64_t>(1, variant.period(spec_.optimizer_options));
      variants_.push_back({.period = period, .train = std::move(train), .pass = {}, .update = {}});
    }
    Layout layout;
    CHECK_OK(layout.add(train_.graph, train_.barrier));
    if (spec_.evaluates) CHECK_OK(layout.add(evaluate_));
    if (spec_.disk) list_for_disk(layout);
    return {};
  }

  // The fastest plan that fits, if any. Choices are weighed by the most bytes that are alive at once; only what is
  // chosen is placed, and where the placement needs more than that, the difference is set aside and the choice is made
  // again.
  std::optional<TrainingPlan> fastest(bool disk) {
    set_aside_ = 0;
    while (true) {
      Found found = disk ? with_disk() : without_disk();
      if (!found) return disk ? fastest_of_leanest() : std::nullopt;
      complete(found->plan, found->choice);
      if (fits(found->plan, 0)) return std::move(found->plan);
      set_aside_ += found->plan.bytes(spec_.runtime_bytes) - spec_.budget_bytes;
    }
  }

  // The plan that needs least, whatever the budget.
  TrainingPlan smallest() {
    std::vector<TrainingPlan> plans = leanest();
    return std::move(*std::min_element(plans.begin(), plans.end(), [&](const auto& a, const auto& b) {
      return a.bytes(spec_.runtime_bytes) < b.bytes(spec_.runtime_bytes);
    }));
  }

  // Seconds of a step with everything in memory: recomputing and waiting only add to it.
  double least_seconds() {
    unbounded_ = true;
    const Found found = attempt({});
    unbounded_ = false;
    return found->plan.seconds;
  }

  // The graphs go with the plan that is taken.
  void give(TrainingPlan& plan) const {
    plan.train = train_;
    plan.evaluate = evaluate_;
    for (size_t i = 0; i < variants_.size(); ++i) plan.variants[i].train = variants_[i].train;
  }

 private:
  // On every rung, with all that can be on disk, and no more memory given to transfers than one needs.
  std::vector<TrainingPlan> leanest() {
    std::vector<TrainingPlan> plans;
    unbounded_ = true;
    for (Rung rung : kRungs) {
      if (spills(rung) && !spec_.disk) continue;
      Found found = attempt({.deep = rung, .shallow = rung, .on_disk = list_.size(), .eagerness = kLeanest});
      complete(found->plan, found->choice);
      plans.push_back(std::move(found->plan));
    }
    unbounded_ = false;
    return plans;
  }

  std::optional<TrainingPlan> fastest_of_leanest() {
    std::optional<TrainingPlan> best;
    for (TrainingPlan& plan : leanest())
      if (fits(plan, 0) && (!best || plan.seconds < best->seconds)) best = std::move(plan);
    return best;
  }

  // With the largest transfers that fit, and with the next smaller ones: they leave more memory to values.
  Found with_disk() {
    Found best;
    for (size_t level = 0, tried = 0; level < std::size(kEagerness) && tried < 2; ++level) {
      keep_faster(best, with_disk(kEagerness[level]));
      tried += best.has_value();
    }
    return best;
  }

  // Persistent values that may live on disk, those first whose traffic is least for the memory they free: states are
  // moved twice a step, gradients twice a pass, weights are read twice a pass too and stand in the way of the compute.
  void list_for_disk(const Layout& layout) {
    for (Role role : {Role::state, Role::gradient, Role::parameter, Role::weight})
      for (const Value& value : train_.graph.values())
        if (value.role == role && layout.find(value.name) && value.type.bytes() >= spec_.disk_least_bytes)
          list_.push_back(value.name);
  }

  Result<Graph> evaluation_graph() const {
    BuildOptions options{.purpose = Purpose::evaluate,
                         .prefix = "eval.",
                         .rows = rows_,
                         .positions = spec_.context,
                         .activation = spec_.activation};
    options.codec = [&](const std::string& name, const Shape&) {
      const Codec* codec = spec_.stored(name);
      return codec && spec_.method->trains_weights ? &kF32 : codec;
    };
    ModelGraph model = TRY(build_model(spec_.architecture, options));
    if (!spec_.method->rewrite) return std::move(model.graph);
    MethodOptions method = spec_.method_options;
    method.training = false;
    return std::move(TRY(spec_.method->rewrite(model.graph, method)).graph());
  }

  Found without_disk() {
    if (Found found = attempt({})) return found;
    constexpr Rung kPairs[][2] = {{Rung::cheap, Rung::keep}, {Rung::bare, Rung::cheap}};
    for (const auto& [deep, shallow] : kPairs)
      if (Found found = fewest_blocks({.deep = deep, .shallow = shallow})) return found;
    return {};
  }

  Found with_disk(const Eagerness& eagerness) {
    Found best;
    for (Rung rung : kRungs) keep_faster(best, fewest_on_disk({.deep = rung, .shallow = rung, .eagerness = eagerness}));
    if (!best) return best;
    // Some blocks may be on a faster rung, with as much on disk or with all that can be.
    const Choice choice = best->choice;
    for (Rung rung : kRungs)
      for (size_t on_disk : {choice.on_disk, list_.size()})
        if (rung != choice.deep)
          keep_faster(
              best, fewest_blocks({.deep = choice.deep, .shallow = rung, .on_disk = on_disk, .eagerness = eagerness}));
    return best;
  }

  static void keep_faster(Found& best, Found found) {
    if (found && (!best || found->plan.seconds < best->plan.seconds)) best = std::move(found);
  }

  // Bisects for the least n in [low, high] of which `attempt_with` makes a plan; `high` is tried first.
  template <class Attempt>
  Found least(size_t low, size_t high, Attempt attempt_with) {
    Found best = attempt_with(high);
    if (!best) return best;
    while (low < high) {
      const size_t middle = (low + high) / 2;
      if (Found found = attempt_with(middle)) {
        best = std::move(found);
        high = middle;
      } else {
        low = middle + 1;
      }
    }
    return best;
  }

  Found fewest_blocks(Choice choice) {
    return least(0, static_cast<size_t>(droppable_.blocks), [&](size_t blocks) {
      choice.deep_blocks = static_cast<int>(blocks);
      return attempt(choice);
    });
  }

  Found fewest_on_disk(Choice choice) {
    return least(0, list_.size(), [&](size_t count) {
      choice.on_disk = count;
      return attempt(choice);
    });
  }

  ScheduleOptions options(const Choice& choice, const Graph& graph, const Layout& layout) const {
    ScheduleOptions out{.disk_bandwidth = machine_.disk, .eagerness = choice.eagerness};
    if (choice.on_disk == 0 && !spills(choice.deep) && !spills(choice.shallow)) return out;
    out.disk.assign(graph.values().size(), 0);
    for (size_t i = 0; i < out.disk.size(); ++i)
      out.disk[i] = persistent(graph.values()[i].role) && layout.on_disk(graph.values()[i].name);
    return out;
  }

  // The plan of a choice; nothing when it does not fit. Only what a step runs is made.
  Found attempt(const Choice& choice) {
    TrainingPlan plan;
    plan.rows = rows_;
    plan.passes = passes_;
    plan.deep = choice.deep, plan.shallow = choice.shallow, plan.deep_blocks = choice.deep_blocks;
    plan.layout = Layout({list_.begin(), list_.begin() + static_cast<std::ptrdiff_t>(choice.on_disk)});
    (void)plan.layout.add(train_.graph, train_.barrier);  // build() has seen that they agree
    if (spec_.evaluates) (void)plan.layout.add(evaluate_);
    if (defers(plan))
      plan.deferred = make_schedule(train_.graph, deferred_order(train_), costs_, pass_options(choice, plan.layout));
    else
      add_pass(choice, plan), add_update(choice, plan);
    measure(plan);
    if (!fits(plan, set_aside_)) return {};
    if (defers(plan) && passes_ > 1) add_pass(choice, plan);
    time(plan);
    return Candidate{choice, std::move(plan)};
  }

  // Everything else that the plan runs, and the places of all.
  void complete(TrainingPlan& plan, const Choice& choice) const {
    if (plan.pass.steps.empty()) add_pass(choice, plan);
    if (plan.update.steps.empty()) add_update(choice, plan);
    if (spec_.evaluates)
      plan.evaluation = make_schedule(evaluate_, nodes_between(0, evaluate_.nodes().size()), evaluate_costs_,
                                      options(choice, evaluate_, plan.layout));
    add_variants(choice, plan);
    measure(plan);
    std::vector<Schedule*> all{&plan.pass, &plan.update, &plan.deferred, &plan.evaluation};
    for (PlannedVariant& variant : plan.variants) all.insert(all.end(), {&variant.pass, &variant.update});
    for (Schedule* s : all) {
      place(*s);
      plan.transient_bytes = std::max(plan.transient_bytes, s->peak_bytes);
    }
    plan.arena_bytes = plan.layout.bytes() + plan.transient_bytes;
  }

  // Whether updates wait for the next forward pass: where it hides what the disk moves for them.
  bool defers(const TrainingPlan& plan) const {
    return train_.barrier && plan.layout.bytes(Role::state, Tier::disk) +
                                     plan.layout.bytes(Role::gradient, Tier::disk) +
                                     plan.layout.bytes(Role::parameter, Tier::disk) >
                                 0;
  }

  void add_pass(const Choice& choice, TrainingPlan& plan) const {
    const size_t end = train_.barrier ? train_.update_begin : train_.graph.nodes().size();
    plan.pass = make_schedule(train_.graph, nodes_between(0, end), costs_, pass_options(choice, plan.layout));
  }

  void add_update(const Choice& choice, TrainingPlan& plan) const {
    const Graph& graph = train_.graph;
    if (!train_.barrier) return;
    plan.update = make_schedule(graph, nodes_between(train_.update_begin, graph.nodes().size()), costs_,
                                options(choice, graph, plan.layout));
  }

  // Other kinds of steps, in the homes that were chosen for the ordinary one.
  void add_variants(const Choice& choice, TrainingPlan& plan) const {
    for (const PlannedVariant& v : variants_) {
      const Graph& graph = v.train.graph;
      const std::vector<NodeCost> costs = node_costs(graph, spec_.multiply, spec_.threads, machine_);
      const size_t end = v.train.barrier ? v.train.update_begin : graph.nodes().size();
      PlannedVariant planned{.period = v.period, .train = {}, .pass = {}, .update = {}};
      planned.pass = make_schedule(graph, nodes_between(0, end), costs,
                                   pass_options(choice, plan.layout, graph, find_droppable(graph)));
      planned.update =
          make_schedule(graph, nodes_between(end, graph.nodes().size()), costs, options(choice, graph, plan.layout));
      plan.variants.push_back(std::move(planned));
    }
  }

  // Bytes, before placement.
  static void measure(TrainingPlan& plan) {
    int64_t needed = 0;
    for (const Schedule* s : plan.schedules()) {
      needed = std::max(needed, s->lower_bound);
      plan.scratch_bytes = std::max(plan.scratch_bytes, plan.layout.disk_bytes() + s->spill_bytes);
    }
    if (plan.scratch_bytes > 0) plan.scratch_memory = Scratch::memory_bytes(plan.scratch_bytes);
    plan.arena_bytes = plan.layout.bytes() + needed;
  }

  bool fits(const TrainingPlan& plan, int64_t set_aside) const {
    return unbounded_ || spec_.budget_bytes == 0 || plan.bytes(spec_.runtime_bytes) + set_aside <= spec_.budget_bytes;
  }

  ScheduleOptions pass_options(const Choice& choice, const Layout& layout) const {
    return pass_options(choice, layout, train_.graph, droppable_);
  }

  ScheduleOptions pass_options(const Choice& choice, const Layout& layout, const Graph& graph,
                               const Droppable& droppable) const {
    ScheduleOptions out = options(choice, graph, layout);
    out.recompute = remade_values(droppable, choice.deep, choice.shallow, choice.deep_blocks);
    if (!out.disk.empty()) {
      const std::vector<char> spilled =
          spilled_values(graph, droppable, choice.deep, choice.shallow, choice.deep_blocks, spec_.disk_least_bytes);
      for (size_t i = 0; i < spilled.size(); ++i) out.disk[i] = static_cast<char>(out.disk[i] | spilled[i]);
    }
    out.transient_gradients = !train_.barrier;
    out.accumulates = passes_ > 1;
    return out;
  }

  // A step: its first pass, with the updates where they are deferred; the other passes; the update otherwise.
  void time(TrainingPlan& plan) const {
    plan.seconds = 0, plan.read_bytes = plan.written_bytes = 0;
    const auto add = [&](const Schedule& schedule, bool first, int64_t times) {
      if (times == 0) return;
      const Duration d = simulate(schedule, step_seconds(train_.graph, schedule, costs_), machine_.disk, first);
      plan.seconds += static_cast<double>(times) * d.seconds;
      plan.read_bytes += times * d.read;
      plan.written_bytes += times * d.written;
    };
    add(defers(plan) ? plan.deferred : plan.pass, true, 1);
    add(plan.pass, false, passes_ - 1);
    if (!defers(plan)) add(plan.update, true, 1);
  }

  const TrainingSpec& spec_;
  const Machine& machine_;
  const int64_t rows_, passes_;
  TrainingGraph train_;
  Graph evaluate_;
  std::vector<PlannedVariant> variants_;  // without schedules
  std::vector<NodeCost> costs_, evaluate_costs_;
  Droppable droppable_;
  std::vector<std::string> list_;  // what may live on disk, in the order in which it goes there
  bool unbounded_ = false;
  int64_t set_aside_ = 0;  // for what placement wastes
};

class Planner {
 public:
  Planner(const TrainingSpec& spec, const Machine& machine) : spec_(spec), machine_(machine) {}

  Result<TrainingPlan> plan() {
    std::optional<TrainingPlan> memory, disk;
    double least = HUGE_VAL;
    for (int64_t rows : pass_sizes()) {
      RowsPlanner planner(spec_, machine_, rows);
      CHECK_OK(planner.build());
      least = std::min(least, planner.least_seconds());
      keep_faster(memory, planner, false);
      if (spec_.disk && !(memory && keeps_all(*memory))) keep_faster(disk, planner, true);
    }
    const bool on_disk = disk && (!memory || disk->seconds < kDiskGain * memory->seconds);
    std::optional<TrainingPlan>& best = on_disk ? disk : memory;
    if (!best) return refuse();
    best->numerics_hash = numerics_hash();
    best->least_seconds = least;
    describe(spec_, machine_, *best);
    return std::move(*best);
  }

 private:
  static bool keeps_all(const TrainingPlan& plan) { return plan.shallow == Rung::keep && plan.deep_blocks == 0; }

  static void keep_faster(std::optional<TrainingPlan>& best, RowsPlanner& planner, bool disk) {
    auto found = planner.fastest(disk);
    // Fewer passes where that costs nothing worth speaking of.
    if (!found || (best && best->seconds <= 1.01 * found->seconds)) return;
    planner.give(*found);
    best = std::move(found);
  }

  // Tokens a pass, most first: whole windows and whole granules, so that sums over tokens are cut at the same places.
  std::vector<int64_t> pass_sizes() const {
    const int64_t whole = spec_.batch * spec_.context, unit = std::lcm(kGranule, spec_.context);
    std::vector<int64_t> out = {whole};
    if (spec_.optimizer->accumulator) return out;
    for (int64_t parts = 2; parts <= whole / unit; ++parts)
      if (whole % parts == 0 && whole / parts % unit == 0) out.push_back(whole / parts);
    return out;
  }

  Result<TrainingPlan> refuse() const {
    std::optional<TrainingPlan> leanest;
    for (int64_t rows : pass_sizes()) {
      RowsPlanner planner(spec_, machine_, rows);
      CHECK_OK(planner.build());
      TrainingPlan plan = planner.smallest();
      if (leanest && leanest->bytes(0) <= plan.bytes(0)) continue;
      planner.give(plan);
      leanest = std::move(plan);
    }
    describe(spec_, machine_, *leanest);
    int64_t least = leanest->bytes(spec_.runtime_bytes);
    least += kRuntimeVaries + static_cast<int64_t>(kRuntimeGrows * static_cast<double>(least));
    return fail(ErrorCode::over_budget,
                "the plan does not fit: --memory {} was given, the smallest budget that would do is {}{}; the largest "
                "parts of that are {}. Lower --context ({}) or --batch ({}), train less (--method lora, a smaller "
                "--rank), or give --memory {}M",
                megabytes(spec_.budget_bytes), megabytes(least), spec_.disk ? "" : " (without a disk: --scratch none)",
                largest_items(leanest->ledger), spec_.context, spec_.batch, (least + 999'999) / 1'000'000);
  }

  static std::string largest_items(const Ledger& ledger) {
    std::vector<LedgerItem> items = ledger.items;
    std::stable_sort(items.begin(), items.end(), [](const auto& a, const auto& b) { return a.bytes > b.bytes; });
    std::string out;
    for (size_t i = 0; i < std::min<size_t>(3, items.size()); ++i)
      out += fmt::format("{}{} {}", i ? ", " : "", items[i].name, megabytes(items[i].bytes));
    return out;
  }

  // Over the graph of the whole micro-batch, and all that fixes bits: the same at every budget.
  std::string numerics_hash() const {
    const auto canonical = build_training(spec_, spec_.batch * spec_.context, true);
    std::string text = canonical ? canonical->graph.text() : "";
    for (const Variant& variant : spec_.optimizer->variants)
      if (const auto kind = build_training(spec_, spec_.batch * spec_.context, true, &variant))
        text += fmt::format("every {}\n{}", variant.period(spec_.optimizer_options), kind->graph.text());
    text += fmt::format("multiply {} granule {} accumulate {} clip {}", static_cast<int>(spec_.multiply), kGranule,
                        spec_.accumulate, spec_.clip);
    return fmt::format("{:016x}", XXH3_64bits(text.data(), text.size()));
  }

  const TrainingSpec& spec_;
  const Machine& machine_;
};

}  // namespace

Result<TrainingPlan> plan_training(const TrainingSpec& spec, const Machine& machine) {
  return Planner(spec, machine).plan();
}

}  // namespace thimble
