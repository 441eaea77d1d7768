#include "plan/candidates.h"

#include <fmt/ranges.h>
#include <xxhash.h>

#include <algorithm>
#include <utility>

#include "core/round.h"
#include "disk/scratch.h"
#include "ops/rows.h"
#include "ops/table.h"

namespace thimble {
namespace {

constexpr size_t kNever = static_cast<size_t>(-1);  // a value that stays in memory

// A choice has one name where the split between two homes is none.
Choice canonical(Choice choice, int blocks) {
  BlockHomes& homes = choice.blocks;
  if (homes.deep_blocks == 0) homes.deep = homes.shallow;
  if (homes.deep_blocks >= blocks) homes.shallow = homes.deep;
  if (homes.deep == homes.shallow) homes.deep_blocks = blocks;
  if (choice.on_disk == 0 && !homes.on_disk()) choice.eagerness = 0;
  return choice;
}

}  // namespace

Result<void> Candidates::build(PassBuilder& builder) {
  PassPrograms built = TRY(builder.build(shape_));
  train_ = std::move(built.train), programs_ = std::move(built.programs), variants_ = std::move(built.variants);
  tables_.emplace(train_.graph);
  costs_ = node_costs(train_.graph, spec_.multiply, spec_.threads, machine_);
  if (train_.barrier) deferred_order_ = thimble::deferred_order(train_);
  for (const Program& program : programs_)
    program_costs_.push_back(node_costs(program.graph, spec_.multiply, spec_.threads, machine_));
  droppable_ = find_droppable(train_.graph);
  home_costs_ = block_home_costs(train_.graph, costs_, droppable_, spec_.disk_least_bytes);
  Layout layout;
  CHECK_OK(layout.add(train_.graph, train_.barrier));
  for (const Program& program : programs_) CHECK_OK(layout.add(program.graph));
  for (const PlannedVariant& variant : variants_) CHECK_OK(layout.add(variant.train.graph, variant.train.barrier));
  list_for_disk(layout);
  relax();
  return {};
}

// Conservative steps look at three places more, and move to two of them and back.
int64_t Candidates::more_probes() const {
  const Estimator& estimator = *spec_.estimator;
  return estimator.conservative && estimator.conservative(spec_.estimator_options) ? kConservativeProbes : 0;
}

int64_t Candidates::sweeps() const {
  if (spec_.estimator->differentiates()) return 1;
  const auto sweeps = static_cast<int64_t>(spec_.estimator->sweeps(spec_.estimator_options));
  return sweeps * directions_of(spec_).count() + more_probes();
}

int64_t Candidates::moves() const {
  if (!spec_.estimator->moves_in_place(spec_.estimator_options)) return 0;
  int64_t moves = 0;
  double at = 0;
  for (const Probe& probe : spec_.estimator->probes(spec_.estimator_options))
    moves += probe.position != std::exchange(at, probe.position);
  return (moves + (at != 0)) * directions_of(spec_).count() + more_probes();
}

bool Candidates::trains_head() const {
  const auto& nodes = train_.graph.nodes();
  return std::any_of(nodes.begin(), nodes.end(), [](const Node& node) { return node.op == &kLinearCrossEntropyDw; });
}

std::string Candidates::numerics_hash() const {
  std::string text = fmt::format("{:016x} multiply {} granule {} accumulate {} rates {}", train_.graph.numerics_hash(),
                                 static_cast<int>(spec_.multiply), kGranule, spec_.accumulate, spec_.rates);
  for (const PlannedVariant& v : variants_)
    text += fmt::format(" every {} {:016x}", fmt::join(v.due, " "), v.train.graph.numerics_hash());
  if (draw_period(spec_) > 0)
    text += fmt::format(" {} {} seed {}", spec_.selector->name, spec_.selector_options.text(), spec_.seed);
  if (!spec_.estimator->differentiates())
    text += fmt::format(" {} {}", spec_.estimator->name, spec_.estimator_options.text());
  return fmt::format("{:016x}", XXH3_64bits(text.data(), text.size()));
}

// What its transfers take in a step at least: states are read and written once, gradients both in every pass, weights
// are read in every pass, and written once where they are trained.
double Candidates::traffic_seconds(Role role, int64_t bytes) const {
  const double read = machine_.disk.seconds(bytes, false), write = machine_.disk.seconds(bytes, true);
  const auto passes = static_cast<double>(sweeps() * passes_);
  switch (role) {
    case Role::state:
      return read + write;
    case Role::gradient:
      return passes * (read + write);
    case Role::parameter:
      return passes * read + write;
    default:
      return passes * read;
  }
}

// States are moved twice a step, gradients twice a pass, weights are read twice a pass too and stand in the way of the
// compute.
void Candidates::list_for_disk(const Layout& layout) {
  int64_t used = 0, stored = 0;
  for (const auto& [name, entry] : layout.entries()) used += round_up(entry.type.bytes(), 64);
  resident_ = {round_up(used, kDiskAlignment)}, stored_ = {0}, traffic_ = {0};
  rank_.assign(train_.graph.values().size(), kNever);
  if (!spec_.disk) return;
  for (Role role : {Role::state, Role::gradient, Role::parameter, Role::weight})
    for (size_t i = 0; i < rank_.size(); ++i) {
      const Value& value = train_.graph.values()[i];
      const int64_t bytes = value.type.bytes();
      if (value.role != role || bytes < spec_.disk_least_bytes || !layout.find(value.name)) continue;
      updates_listed_ |= role != Role::weight;
      rank_[i] = list_.size();
      list_.push_back(value.name);
      used -= round_up(bytes, 64), stored += round_up(bytes, kChecksumBlock);
      resident_.push_back(round_up(used, kDiskAlignment)), stored_.push_back(stored);
      traffic_.push_back(traffic_.back() + traffic_seconds(role, bytes));
    }
}

void Candidates::relax() {
  const size_t end = train_.barrier ? train_.update_begin : train_.graph.nodes().size();
  const auto passes = static_cast<double>(sweeps() * passes_);
  relaxation_ = {};
  for (size_t i = 0; i < costs_.size(); ++i) relaxation_.compute_seconds += (i < end ? passes : 1) * costs_[i].seconds;
  relaxation_.bytes = resident_.back();
  for (size_t i = 0; i + 1 < resident_.size(); ++i)
    relaxation_.items.push_back(
        {{.bytes = resident_[i] - resident_[i + 1]}, {.disk_seconds = traffic_[i + 1] - traffic_[i]}});
  for (const auto& block : home_costs_) {
    std::vector<Way> ways;
    for (size_t h = 0; h < kHomes.size(); ++h) {
      if (kHomes[h].on_disk() && !spec_.disk) continue;
      ways.push_back({.compute_seconds = passes * block[h].recompute_seconds,
                      .disk_seconds = passes * machine_.disk.seconds_both(block[h].spilled_bytes),
                      .bytes = block[h].kept_bytes - block[h].spilled_bytes});
    }
    relaxation_.items.push_back(std::move(ways));
  }
}

int64_t Candidates::least_bytes(const Choice& choice) const {
  int64_t bytes = resident_[choice.on_disk];
  for (size_t b = 0; b < home_costs_.size(); ++b) bytes += cost(b, choice).kept_bytes - cost(b, choice).spilled_bytes;
  return bytes;
}

double Candidates::least_seconds(const Choice& choice) const {
  double compute = relaxation_.compute_seconds;
  for (size_t b = 0; b < home_costs_.size(); ++b)
    compute += static_cast<double>(sweeps() * passes_) * cost(b, choice).recompute_seconds;
  return std::max(compute, traffic_[choice.on_disk]);
}

ScheduleOptions Candidates::options(const Choice& choice, const Graph& graph) const {
  ScheduleOptions out{.disk_speed = machine_.disk, .eagerness = kEagerness[choice.eagerness]};
  if (choice.on_disk == 0 && !choice.blocks.on_disk()) return out;
  out.disk.assign(graph.values().size(), 0);
  if (&graph == &train_.graph) {
    for (size_t i = 0; i < out.disk.size(); ++i) out.disk[i] = rank_[i] < choice.on_disk;
    return out;
  }
  const std::set<std::string_view> on_disk(list_.begin(), list_.begin() + static_cast<std::ptrdiff_t>(choice.on_disk));
  for (size_t i = 0; i < out.disk.size(); ++i)
    out.disk[i] = persistent(graph.values()[i].role) && on_disk.contains(graph.values()[i].name);
  return out;
}

ScheduleOptions Candidates::pass_options(const Choice& choice, const Graph& graph, const Droppable& droppable) const {
  ScheduleOptions out = options(choice, graph);
  out.recompute = recomputed_values(droppable, choice.blocks);
  if (!out.disk.empty()) {
    const std::vector<char> spilled = spilled_values(graph, droppable, choice.blocks, spec_.disk_least_bytes);
    for (size_t i = 0; i < spilled.size(); ++i) out.disk[i] = static_cast<char>(out.disk[i] | spilled[i]);
  }
  out.transient_gradients = !train_.barrier;
  out.accumulates = passes_ > 1;
  return out;
}

Schedule Candidates::pass(const Choice& choice) const {
  const size_t end = train_.barrier ? train_.update_begin : train_.graph.nodes().size();
  return make_schedule(train_.graph, *tables_, nodes_between(0, end), costs_,
                       pass_options(choice, train_.graph, droppable_));
}

Schedule Candidates::update(const Choice& choice) const {
  if (!train_.barrier) return {};
  return make_schedule(train_.graph, *tables_, nodes_between(train_.update_begin, train_.graph.nodes().size()), costs_,
                       options(choice, train_.graph));
}

// Where updates wait for the next forward pass, which hides what the disk moves for them.
Schedule Candidates::deferred(const Choice& choice) const {
  return make_schedule(train_.graph, *tables_, deferred_order_, costs_, pass_options(choice, train_.graph, droppable_));
}

PlanEstimate Candidates::estimate(Choice choice, int64_t limit_bytes) {
  choice = canonical(choice, droppable_.blocks);
  PlanEstimate& known = estimates_[{shape_, choice}];
  if (known.bytes > 0 && (known.seconds >= 0 || known.bytes > limit_bytes)) return known;
  TrainingPlan plan;
  if (defers(choice.on_disk))
    plan.deferred = deferred(choice);
  else
    plan.pass = pass(choice), plan.update = update(choice);
  measure(choice, plan);
  known.bytes = plan.bytes();
  if (known.bytes > limit_bytes) return known;
  if (plan.pass.steps.empty() && passes_ > 1) plan.pass = pass(choice);
  time(plan);
  known.seconds = plan.seconds;
  return known;
}

std::optional<Found> Candidates::fastest_known(const Limits& limits, double beat_seconds) const {
  std::optional<Found> best;
  for (const auto& [key, known] : estimates_) {
    const int64_t limit = limits[key.second.eagerness];
    if (key.first != shape_ || known.seconds < 0 || known.bytes > limit || known.seconds >= beat_seconds) continue;
    best = {key.second, known};
    beat_seconds = known.seconds;
  }
  return best;
}

TrainingPlan Candidates::complete(const Choice& asked) const {
  const Choice choice = canonical(asked, droppable_.blocks);
  TrainingPlan plan;
  static_cast<PlanHomes&>(plan) = {spec_.moves, shape_.keep_logits, shape_.rows, choice};
  plan.passes = passes_;
  plan.layout = Layout({list_.begin(), list_.begin() + static_cast<std::ptrdiff_t>(choice.on_disk)});
  (void)plan.layout.add(train_.graph, train_.barrier);  // build() has seen that they agree
  for (const Program& program : programs_) (void)plan.layout.add(program.graph);
  for (const PlannedVariant& variant : variants_) (void)plan.layout.add(variant.train.graph, variant.train.barrier);
  if (defers(choice.on_disk)) plan.deferred = deferred(choice);
  plan.pass = pass(choice), plan.update = update(choice);
  plan.programs = programs_;
  for (size_t i = 0; i < programs_.size(); ++i) {
    const Graph& graph = programs_[i].graph;
    plan.programs[i].schedule =
        make_schedule(graph, nodes_between(0, graph.nodes().size()), program_costs_[i], options(choice, graph));
  }
  add_variants(choice, plan);
  time(plan);
  plan.place(plan.schedules(), spec_.begin_bytes);
  plan.train = train_;
  plan.estimator = spec_.estimator, plan.estimator_options = spec_.estimator_options;
  plan.layers = spec_.architecture.layers();
  return plan;
}

// Other kinds of steps, in the homes that were chosen for the ordinary one.
void Candidates::add_variants(const Choice& choice, TrainingPlan& plan) const {
  for (const PlannedVariant& v : variants_) {
    const Graph& graph = v.train.graph;
    const std::vector<NodeCost> costs = node_costs(graph, spec_.multiply, spec_.threads, machine_);
    const size_t end = v.train.barrier ? v.train.update_begin : graph.nodes().size();
    const auto schedule = [&](size_t first, size_t last, const ScheduleOptions& options) {
      return make_schedule(graph, nodes_between(first, last), costs, options);
    };
    plan.variants.push_back(v);
    plan.variants.back().pass = schedule(0, end, pass_options(choice, graph, find_droppable(graph)));
    plan.variants.back().update = schedule(end, graph.nodes().size(), options(choice, graph));
    // What such a step takes more than an ordinary one.
    const auto seconds = [&](const Graph& of, const Schedule& s, const std::vector<NodeCost>& cost) {
      return simulate(s, step_seconds(of, s, cost), machine_.disk, true).seconds;
    };
    const double pass = seconds(graph, plan.variants.back().pass, costs),
                 update = seconds(graph, plan.variants.back().update, costs);
    const double more =
        v.after ? static_cast<double>(passes_) * pass + update
                : pass + update - seconds(train_.graph, plan.pass, costs_) - seconds(train_.graph, plan.update, costs_);
    plan.variant_seconds += v.share() * std::max(0.0, more);
  }
}

// Bytes, before placement.
void Candidates::measure(const Choice& choice, TrainingPlan& plan) const {
  int64_t needed = spec_.begin_bytes, spilled = 0;
  for (const Schedule* s : plan.schedules()) {
    needed = std::max(needed, s->lower_bound);
    spilled = std::max(spilled, s->spill_bytes);
  }
  plan.scratch_bytes = stored_[choice.on_disk] + spilled;
  if (plan.scratch_bytes > 0) plan.scratch_memory = Scratch::memory_bytes(plan.scratch_bytes);
  plan.arena_bytes = resident_[choice.on_disk] + needed;
}

// A step: its first pass, with the updates where they are deferred; the other passes; the update otherwise.
void Candidates::time(TrainingPlan& plan) const {
  plan.seconds = plan.variant_seconds, plan.read_bytes = plan.written_bytes = 0;
  const auto add = [&](const Schedule& schedule, bool first, int64_t times) {
    if (times == 0) return;
    const Duration d = simulate(schedule, step_seconds(train_.graph, schedule, costs_), machine_.disk, first);
    plan.seconds += static_cast<double>(times) * d.seconds;
    plan.read_bytes += times * d.read;
    plan.written_bytes += times * d.written;
  };
  const bool defers = !plan.deferred.steps.empty();
  add(defers ? plan.deferred : plan.pass, true, 1);
  add(plan.pass, false, sweeps() * passes_ - 1);
  if (!defers) add(plan.update, true, 1);
  for (size_t i = 0; i < plan.programs.size(); ++i) {
    const Program& program = plan.programs[i];
    if (program.prefix != kPerturbation) continue;
    const Duration d = simulate(program.schedule, step_seconds(program.graph, program.schedule, program_costs_[i]),
                                machine_.disk, true);
    plan.seconds += static_cast<double>(moves()) * d.seconds;
    plan.read_bytes += moves() * d.read, plan.written_bytes += moves() * d.written;
  }
}

}  // namespace thimble
