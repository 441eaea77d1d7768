// Choosing homes: which activations are kept and which are made again, and how many rows go at once, to be fast within
// the budget.
//
// Three rungs for each repeated block, all exact: keep everything; make again what costs no matrix product; keep only
// the block's input. Rungs are given out from the first block on, because the last blocks' activations live shortest.
// The number of blocks on a rung is the least that fits, found by bisection.
#include <xxhash.h>

#include <algorithm>
#include <numeric>

#include "ops/rows.h"
#include "plan/training.h"

namespace thimble {
namespace {

// How a graph's activations may be dropped.
struct Droppable {
  std::vector<char> cheap;  // by value: can be made again without a matrix product, from what is kept anyway
  std::vector<char> inner;  // by value: not the input of a block
  std::vector<int> block;
  int blocks = 0;
};

Droppable find_droppable(const Graph& graph) {
  const size_t count = graph.values().size();
  Droppable d{std::vector<char>(count, 0), std::vector<char>(count, 0), std::vector<int>(count, -1), 0};
  std::vector<char> backward_use(count, 0), boundary(count, 0);
  for (const Node& node : graph.nodes())
    for (ValueId id : node.in) {
      if (id == kNone) continue;
      const int producer = graph.producer(id);
      if (node.phase == Phase::backward) backward_use[static_cast<size_t>(id)] = 1;
      if (producer >= 0 && graph.nodes()[static_cast<size_t>(producer)].block != node.block &&
          node.phase == Phase::forward)
        boundary[static_cast<size_t>(id)] = 1;
    }
  for (const Node& node : graph.nodes()) {
    if (node.phase != Phase::forward || node.block < 0) continue;
    d.blocks = std::max(d.blocks, node.block + 1);
    const Cost cost = node.op->cost(node.attributes, graph.types(node.in), graph.types(node.out));
    bool cheap = cost.flops == 0;
    for (ValueId id : node.in) {
      if (id == kNone || graph.producer(id) < 0) continue;
      const auto i = static_cast<size_t>(id);
      cheap &= boundary[i] || d.cheap[i] || backward_use[i];
    }
    for (ValueId id : node.out) {
      if (id == kNone || graph.value(id).role != Role::activation) continue;
      const auto i = static_cast<size_t>(id);
      d.block[i] = node.block;
      d.inner[i] = !boundary[i];
      d.cheap[i] = cheap && !boundary[i];
    }
  }
  return d;
}

// `bare` blocks keep only their input, the next `cheap` make the cheap things again.
std::vector<char> recompute_set(const Droppable& d, int bare, int cheap) {
  std::vector<char> out(d.block.size(), 0);
  for (size_t i = 0; i < out.size(); ++i) {
    if (d.block[i] < 0) continue;
    out[i] = d.block[i] < bare ? d.inner[i] : d.block[i] < bare + cheap ? d.cheap[i] : 0;
  }
  return out;
}

double schedule_seconds(const Graph& graph, const Schedule& schedule, const Machine& machine, Multiply multiply) {
  double seconds = 0;
  for (const Step& step : schedule.steps) {
    const Node& node = graph.nodes()[static_cast<size_t>(step.node)];
    seconds += predicted_seconds(machine, multiply,
                                 node.op->cost(node.attributes, graph.types(node.in), graph.types(node.out)));
  }
  return seconds;
}

class Planner {
 public:
  Planner(const TrainingSpec& spec, const Machine& machine) : spec_(spec), machine_(machine) {}

  Result<TrainingPlan> plan() {
    TrainingPlan best;
    int64_t least = INT64_MAX;
    for (int64_t rows : pass_sizes()) {
      TrainingPlan candidate = TRY(candidate_for(rows));
      least = std::min(least, smallest_);
      if (!fits_ || (best.arena_bytes && best.seconds <= candidate.seconds)) continue;
      best = std::move(candidate);
    }
    if (!best.arena_bytes) return refuse(least);
    finish(best);
    return best;
  }

 private:
  // Tokens a pass, most first: whole windows and whole granules, so that sums over tokens are cut at the same places.
  std::vector<int64_t> pass_sizes() const {
    const int64_t whole = spec_.batch * spec_.context, unit = std::lcm(kGranule, spec_.context);
    std::vector<int64_t> out = {whole};
    for (int64_t parts = 2; parts <= whole / unit; ++parts)
      if (whole % parts == 0 && whole / parts % unit == 0) out.push_back(whole / parts);
    return out;
  }

  Result<TrainingPlan> candidate_for(int64_t rows) {
    TrainingPlan plan;
    plan.rows = rows;
    plan.passes = spec_.batch * spec_.context / rows * spec_.accumulate;
    plan.train = TRY(build_training(spec_, rows, spec_.clip > 0 || plan.passes > 1));
    const Graph& graph = plan.train.graph;
    if (spec_.evaluates) plan.evaluate = TRY(evaluation_graph(rows));
    CHECK_OK(plan.layout.add(graph, plan.train.barrier));
    if (spec_.evaluates) {
      CHECK_OK(plan.layout.add(plan.evaluate));
      plan.evaluation = scheduled(plan.evaluate, 0, plan.evaluate.nodes().size(), {});
    }
    if (plan.train.barrier) plan.update = scheduled(graph, plan.train.update_begin, graph.nodes().size(), {});
    choose_rungs(plan, find_droppable(graph));
    plan.seconds = static_cast<double>(plan.passes) * schedule_seconds(graph, plan.pass, machine_, spec_.multiply) +
                   schedule_seconds(graph, plan.update, machine_, spec_.multiply);
    return plan;
  }

  Result<Graph> evaluation_graph(int64_t rows) const {
    BuildOptions options{.purpose = Purpose::evaluate,
                         .prefix = "eval.",
                         .rows = rows,
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

  Schedule scheduled(const Graph& graph, size_t first, size_t last, std::vector<char> recompute,
                     bool transient = false) const {
    Schedule schedule = make_schedule(graph, first, last,
                                      {.multiply = spec_.multiply,
                                       .threads = spec_.threads,
                                       .recompute = std::move(recompute),
                                       .transient_gradients = transient});
    place(schedule);
    return schedule;
  }

  // Sets pass, transient_bytes and arena_bytes for a choice of rungs; returns whether it fits.
  bool attempt(TrainingPlan& plan, const Droppable& d, int bare, int cheap) {
    const size_t end = plan.train.barrier ? plan.train.update_begin : plan.train.graph.nodes().size();
    plan.pass = scheduled(plan.train.graph, 0, end, recompute_set(d, bare, cheap), !plan.train.barrier);
    plan.transient_bytes = std::max({plan.pass.peak_bytes, plan.update.peak_bytes, plan.evaluation.peak_bytes});
    plan.arena_bytes = plan.layout.bytes() + plan.transient_bytes;
    plan.recomputed_blocks = bare;
    plan.recomputes_cheap = cheap > 0;
    return spec_.budget_bytes == 0 || plan.arena_bytes + spec_.runtime_bytes <= spec_.budget_bytes;
  }

  void choose_rungs(TrainingPlan& plan, const Droppable& d) {
    fits_ = attempt(plan, d, 0, 0);
    smallest_ = plan.arena_bytes + spec_.runtime_bytes;
    if (fits_) return;
    if (attempt(plan, d, 0, d.blocks)) {
      fits_ = true;
      least(d.blocks, [&](int n) { return attempt(plan, d, 0, n); });
      return;
    }
    fits_ = attempt(plan, d, d.blocks, 0);
    smallest_ = std::min(smallest_, plan.arena_bytes + spec_.runtime_bytes);
    if (fits_) least(d.blocks, [&](int n) { return attempt(plan, d, n, d.blocks - n); });
  }

  // Leaves the plan at the least n in (0, most] that fits; `most` does.
  template <class Attempt>
  static void least(int most, Attempt attempt) {
    int low = 0, high = most;
    while (high - low > 1) {
      const int middle = (low + high) / 2;
      (attempt(middle) ? high : low) = middle;
    }
    attempt(high);
  }

  Failure refuse(int64_t least) const {
    return fail(
        ErrorCode::over_budget,
        "the plan does not fit: --memory {} was given, the smallest budget that would do is {}. "
        "Lower --context ({}) or --batch ({}), train less (--method lora, a smaller --rank), or give --memory {}M",
        megabytes(spec_.budget_bytes), megabytes(least), spec_.context, spec_.batch, (least + 999'999) / 1'000'000);
  }

  void finish(TrainingPlan& plan) const {
    plan.numerics_hash = numerics_hash();
    Ledger& l = plan.ledger;
    const Layout& layout = plan.layout;
    std::string codecs;
    for (const auto& [name, entry] : layout.entries())
      if (entry.role == Role::weight && codecs.find(entry.type.codec->name) == std::string::npos)
        codecs += (codecs.empty() ? "" : ", ") + std::string(entry.type.codec->name);
    const auto item = [&](const char* name, int64_t bytes, std::string home) {
      if (bytes > 0) l.items.push_back({name, bytes, std::move(home)});
    };
    item("frozen weights", layout.bytes(Role::weight), "as stored: " + codecs);
    item("trained weights", layout.bytes(Role::parameter), "f32 masters");
    item("gradients", layout.bytes(Role::gradient), "f32, held for clipping and accumulation");
    item("optimizer states", layout.bytes(Role::state), std::string(spec_.optimizer->name));
    item("inputs, tables", layout.bytes(Role::input) + layout.bytes(Role::result) + layout.bytes(Role::constant), "");
    const int64_t kept = kept_bytes(plan);
    item("kept activations", kept, fmt::format("{}, {} rows at once", spec_.activation->name, plan.rows));
    const int64_t needed = std::max({plan.pass.lower_bound, plan.update.lower_bound, plan.evaluation.lower_bound});
    item("workspace", needed - kept, "shared by all steps");
    item("placement waste", plan.transient_bytes - needed, "between values that lie in one arena");
    item("runtime", spec_.runtime_bytes, "program, libraries, tokenizer, data index");
    l.budget_bytes = spec_.budget_bytes;
    l.planned_bytes = plan.arena_bytes + spec_.runtime_bytes;
    l.step_seconds = plan.seconds;
    l.numerics_hash = plan.numerics_hash;
    l.choices.push_back(fmt::format("{} {} of {} tokens a step; {}", plan.passes, plan.passes == 1 ? "pass" : "passes",
                                    plan.rows, rung_text(plan)));
    l.choices.push_back(fmt::format("products in {} (measured: f32 {:.0f}, bf16 {:.0f} GFLOP/s)",
                                    spec_.multiply == Multiply::bf16 ? "bf16" : "f32", machine_.f32_flops * 1e-9,
                                    machine_.bf16_flops * 1e-9));
  }

  std::string rung_text(const TrainingPlan& plan) const {
    if (plan.recomputed_blocks == 0 && !plan.recomputes_cheap) return "every activation is kept";
    if (plan.recomputed_blocks == 0) return "what costs no product is made again";
    return fmt::format("{} of {} blocks keep only their input{}", plan.recomputed_blocks, spec_.architecture.layers,
                       plan.recomputes_cheap ? ", the others make again what costs no product" : "");
  }

  // Activations of the forward pass that wait for the backward pass, where most do.
  static int64_t kept_bytes(const TrainingPlan& plan) {
    const Schedule& s = plan.pass;
    int turn = 0;
    while (turn < static_cast<int>(s.steps.size()) &&
           plan.train.graph.nodes()[static_cast<size_t>(s.steps[static_cast<size_t>(turn)].node)].phase ==
               Phase::forward)
      ++turn;
    int64_t bytes = 0;
    for (const Storage& storage : s.storages)
      if (storage.begin < turn && storage.end >= turn) bytes += storage.bytes;
    return bytes;
  }

  // Over the graph of the whole micro-batch, and all that fixes bits: the same at every budget.
  std::string numerics_hash() const {
    const auto canonical = build_training(spec_, spec_.batch * spec_.context, true);
    std::string text = canonical ? canonical->graph.text() : "";
    text += fmt::format("multiply {} granule {} accumulate {} clip {}", static_cast<int>(spec_.multiply), kGranule,
                        spec_.accumulate, spec_.clip);
    return fmt::format("{:016x}", XXH3_64bits(text.data(), text.size()));
  }

  const TrainingSpec& spec_;
  const Machine& machine_;
  bool fits_ = false;
  int64_t smallest_ = INT64_MAX;
};

}  // namespace

Result<TrainingPlan> plan_training(const TrainingSpec& spec, const Machine& machine) {
  return Planner(spec, machine).plan();
}

}  // namespace thimble
