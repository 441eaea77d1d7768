// What a person is told of a training plan.
#include <algorithm>

#include "core/count.h"
#include "core/round.h"
#include "plan/training.h"

namespace thimble {
namespace {

class Describer {
 public:
  Describer(const TrainingSpec& spec, const Machine& machine) : spec_(spec), machine_(machine) {}

  void describe(TrainingPlan& plan) const {
    Ledger& l = plan.ledger;
    items(plan, l);
    l.budget_bytes = spec_.budget_bytes;
    l.planned_bytes = plan.bytes() + spec_.runtime_bytes;
    l.scratch_bytes = plan.scratch_bytes;
    l.read_bytes = plan.read_bytes, l.written_bytes = plan.written_bytes;
    l.step_seconds = plan.seconds, l.least_step_seconds = plan.least_seconds;
    l.planning_seconds = plan.planning_seconds;
    l.numerics_hash = plan.numerics_hash;
    l.choices.push_back(fmt::format("{} of {} tokens a step; {}{}", counted(plan.passes, "pass", "passes"), plan.rows,
                                    homes(plan.choice.blocks), plan.keep_logits ? ", the head its logits" : ""));
    if (spec_.selector->select) l.choices.push_back(selected(plan));
    if (plan.scratch_bytes > 0)
      l.choices.push_back(fmt::format(
          "scratch file of {}; a step reads {} and writes {}{}{}", megabytes(plan.scratch_bytes),
          megabytes(plan.read_bytes), megabytes(plan.written_bytes),
          spec_.steps
              ? fmt::format(", {} in {}", megabytes(spec_.steps * plan.written_bytes), counted(spec_.steps, "step"))
              : "",
          plan.deferred.steps.empty() ? "" : "; updates run in the next forward pass"));
    for (const NearMove& move : near_move_table())
      if (plan.moves.*move.taken)
        l.choices.push_back(
            fmt::format("near: {} (--allow near); the losses are not those of an exact run", move.what));
    l.choices.push_back(
        fmt::format("planned in {:.2f} s; none within this budget is predicted to take less than {:.2f} s a step",
                    plan.planning_seconds, plan.least_seconds));
    l.choices.push_back(fmt::format(
        "products in {} (measured: f32 {:.0f}, bf16 {:.0f} GFLOP/s)", spec_.multiply == Multiply::bf16 ? "bf16" : "f32",
        machine_.product_flops(Multiply::f32) * 1e-9, machine_.product_flops(Multiply::bf16) * 1e-9));
  }

 private:
  void items(const TrainingPlan& plan, Ledger& l) const {
    const Layout& layout = plan.layout;
    std::string codecs;
    for (const auto& [name, entry] : layout.entries())
      if (entry.role == Role::weight && codecs.find(entry.type.codec->name) == std::string::npos)
        codecs += (codecs.empty() ? "" : ", ") + std::string(entry.type.codec->name);
    const auto item = [&](const char* name, int64_t bytes, std::string home) {
      if (bytes > 0) l.items.push_back({name, bytes, std::move(home)});
    };
    const auto values = [&](const char* name, Role role, const std::string& home, int64_t others = 0) {
      const int64_t disk = layout.bytes(role, Tier::disk);
      item(name, layout.bytes(role) - others,
           disk > 0 ? fmt::format("{}; {} more on disk", home, megabytes(disk)) : home);
      if (disk > 0 && layout.bytes(role) == 0) l.items.push_back({name, 0, home + "; all on disk"});
    };
    values("frozen weights", Role::weight,
           (spec_.teacher ? "the teacher's among them, as stored: " : "as stored: ") + codecs);
    values("trained weights", Role::parameter, "f32 masters");
    values("gradients", Role::gradient, "f32, held for clipping and accumulation");
    const int64_t keepers = state_bytes(plan, plan.train.keeper_states);
    const int64_t averages = state_bytes(plan, plan.train.averages);
    values("optimizer states", Role::state, fmt::format("{}, in {}", spec_.optimizer->name, state_codecs(layout)),
           keepers + averages);
    item("keeper states", keepers, "f32");
    item("averages", averages, fmt::format("of blocks, {}", spec_.estimator->name));
    item("inputs, tables", layout.other_bytes(), "");
    const int64_t kept = kept_bytes(plan);
    item("kept activations", kept, fmt::format("{}, {} rows at once", spec_.activation->name, plan.rows));
    int64_t needed = spec_.begin_bytes;
    for (const Schedule* s : plan.schedules()) needed = std::max(needed, s->lower_bound);
    item("workspace", needed - kept, "shared by all steps");
    item("placement waste", plan.transient_bytes - needed, "between values that lie in one arena");
    item("disk tables", plan.scratch_memory, "checksums of the scratch file, its queue");
    item("runtime", spec_.runtime_bytes, "program, libraries, tokenizer, data index");
  }

  // Of what is in memory.
  static int64_t state_bytes(const TrainingPlan& plan, std::span<const std::string> names) {
    int64_t bytes = 0;
    for (const std::string& name : names)
      if (const Layout::Entry* entry = plan.layout.find(name); entry && entry->tier == Tier::ram)
        bytes += round_up(entry->type.bytes(), 64);
    return bytes;
  }

  // "select last_layers: 21 of 272 parameters train, with 7.1 of 134.5 million numbers"
  std::string selected(const TrainingPlan& plan) const {
    const auto millions = [](int64_t numbers) { return static_cast<double>(numbers) * 1e-6; };
    int64_t numbers = 0, all = 0;
    for (const TrainedParameter& parameter : plan.train.parameters) numbers += parameter.shape.count();
    for (const Value& value : plan.train.graph.values())
      if (value.role == Role::parameter || plan.train.frozen.contains(value.name)) all += value.type.shape.count();
    const auto trained = static_cast<int64_t>(plan.train.parameters.size());
    return fmt::format("select {}: {} of {} parameters train{}, with {:.3g} of {:.3g} million numbers",
                       spec_.selector->name, trained,
                       trained + plan.train.resting + static_cast<int64_t>(plan.train.frozen.size()),
                       plan.train.resting > 0 ? " at a time" : "", millions(numbers), millions(all));
  }

  // "f32, int8_block"
  static std::string state_codecs(const Layout& layout) {
    std::string codecs;
    for (const auto& [name, entry] : layout.entries())
      if (entry.role == Role::state && codecs.find(entry.type.codec->name) == std::string::npos)
        codecs += (codecs.empty() ? "" : ", ") + std::string(entry.type.codec->name);
    return codecs;
  }

  std::string homes(const BlockHomes& of) const {
    const int64_t layers = spec_.architecture.layers();
    const std::string blocks = counted(layers, "block");
    if (of.deep_blocks == 0 || of.deep == of.shallow) return fmt::format("all {} {}", blocks, kHomes[of.shallow].text);
    if (of.deep_blocks == layers) return fmt::format("all {} {}", blocks, kHomes[of.deep].text);
    return fmt::format("{} of {} {}, the others {}", of.deep_blocks, blocks, kHomes[of.deep].text,
                       kHomes[of.shallow].text);
  }

  // Activations of the forward pass that wait for the backward pass, where most do: where a backward pass begins. There
  // is one, or one for every module of the model.
  static int64_t kept_bytes(const TrainingPlan& plan) {
    const Schedule& s = plan.pass;
    int64_t most = 0;
    for (const int turn : turns(plan.train.graph, s)) {
      int64_t bytes = 0;
      for (const Storage& storage : s.storages)
        if (storage.begin < turn && storage.end >= turn && !storage.direct) bytes += storage.bytes;
      most = std::max(most, bytes);
    }
    return most;
  }

  const TrainingSpec& spec_;
  const Machine& machine_;
};

}  // namespace

void describe(const TrainingSpec& spec, const Machine& machine, TrainingPlan& plan) {
  Describer(spec, machine).describe(plan);
}

}  // namespace thimble
