#include "plan/inference.h"

#include <xxhash.h>

#include <algorithm>
#include <map>
#include <optional>
#include <set>

#include "codecs/interleaved.h"
#include "core/count.h"
#include "disk/scratch.h"
#include "kernels/dot/int8_dot.h"
#include "kernels/narrow.h"
#include "models/eviction.h"
#include "ops/table.h"
#include "ops/update.h"
#include "plan/taps.h"

namespace thimble {
namespace {

constexpr int64_t kMostFillRows = 512;
constexpr int64_t kLeastFillRows = 16;
const Machine kAnyMachine;  // where nothing hangs on times

std::string products(Multiply multiply) {
  return multiply == Multiply::int8 ? "int8 where the weights allow it" : multiply == Multiply::bf16 ? "bf16" : "f32";
}

// Matrices that meet int8 activations lie as these products read them, unless another operation reads them that takes
// elements as they are stored.
void interleave_weights(Graph& graph) {
  const Op* const by_rows[] = {&kLinear, &kEmbedding, &kLinearCrossEntropy};
  std::vector<char> as_stored(graph.values().size(), 0);
  for (const Node& node : graph.nodes())
    for (const ValueId id : node.in)
      if (id != kNone && std::ranges::find(by_rows, node.op) == std::end(by_rows))
        as_stored[static_cast<size_t>(id)] = 1;
  for (size_t i = 0; i < as_stored.size(); ++i) {
    Value& value = graph.value(static_cast<ValueId>(i));
    const Type& type = value.type;
    if (value.role == Role::weight && !as_stored[i] && type.shape.rank() == 2 &&
        int8_format(*type.codec, type.shape[1]))
      value.type.codec = interleaved(*type.codec);
  }
}

class Planner {
 public:
  explicit Planner(const InferenceSpec& spec) : spec_(spec) {}

  Result<std::string> prompt_numerics() const {
    Tensors tensors;
    const Program prompts = TRY(program(Part::prompts, "fill.", kLeastFillRows, tensors));
    return fmt::format("{:016x} multiply {}", prompts.graph.numerics_hash(), static_cast<int>(prompts.multiply));
  }

  Result<InferencePlan> plan() {
    CHECK_OK(check_cache());
    std::optional<InferencePlan> least;
    for (const int64_t rows : row_bounds()) {
      InferencePlan plan = TRY(build(rows));
      CHECK_OK(schedule(plan, {}));
      if (fits(plan)) return described(std::move(plan));
      if (!least || plan.bytes() < least->bytes()) least = std::move(plan);
    }
    if (!spec_.machine) return refuse(described(std::move(*least)).ledger);
    return with_disk();
  }

 private:
  bool generates() const { return spec_.task == Task::generate; }

  // What stays in the model's cache is chosen by its own places.
  Result<void> check_cache() const {
    for (const RewriteSpec& spec : spec_.rewrites)
      if (spec.rewrite->join && spec_.policy->keep)
        return fail(
            ErrorCode::unsupported,
            "--cache {}: the network of {} beside the model has a cache of its own, of which nothing is evicted; "
            "leave the flag out",
            spec_.policy->name, spec.rewrite->name);
    return {};
  }

  // Rows at once, most first. Results do not depend on it.
  std::vector<int64_t> row_bounds() const {
    std::vector<int64_t> out;
    if (generates()) {
      const int64_t most = std::clamp(spec_.slots * spec_.context, kLeastFillRows, kMostFillRows);
      for (int64_t rows = most; rows >= kLeastFillRows; rows /= 2) out.push_back(rows);
    } else {
      for (int64_t batch = spec_.batch; batch >= 1; batch /= 2) out.push_back(batch * spec_.context);
    }
    return out;
  }

  using Tensors = std::map<std::string, AdapterTensor>;  // by the names of their values

  // Weights that wait on disk, the first so many of the list, and how eagerly others give way to them.
  struct Homes {
    std::span<const std::string> on_disk = {};
    Eagerness eagerness = {};
  };

  bool fits(const InferencePlan& plan) const {
    return spec_.budget_bytes == 0 || plan.bytes() + spec_.runtime_bytes <= spec_.budget_bytes;
  }

  // Graphs, without schedules.
  Result<InferencePlan> build(int64_t rows) const {
    InferencePlan plan;
    plan.rows = rows;
    Tensors tensors;
    if (generates()) {
      plan.programs.push_back(TRY(program(Part::prompts, "fill.", rows, tensors)));
      if (spec_.guess_layers > 0) plan.programs.push_back(TRY(program(Part::guesses, "guess.", spec_.slots, tensors)));
      if (spec_.policy->keep) plan.programs.push_back(TRY(eviction()));
      plan.programs.push_back(TRY(program(Part::tokens, "step.", spec_.slots * (1 + spec_.guesses), tensors)));
    } else {
      plan.programs.push_back(TRY(program(Part::sequences, "eval.", rows, tensors)));
    }
    for (auto& [value, tensor] : tensors) plan.adapter.push_back(std::move(tensor));
    return plan;
  }

  Result<void> schedule(InferencePlan& plan, const Homes& homes) const {
    plan.layout = Layout({homes.on_disk.begin(), homes.on_disk.end()});
    const Machine& machine = homes.on_disk.empty() ? kAnyMachine : spec_.machine();
    std::vector<Schedule*> schedules;
    for (Program& p : plan.programs) {
      CHECK_OK(plan.layout.add(p.graph));
      const std::vector<NodeCost> costs = node_costs(p.graph, p.multiply, spec_.threads, machine);
      ScheduleOptions options{.disk_speed = machine.disk, .eagerness = homes.eagerness};
      if (!homes.on_disk.empty()) {
        options.disk.assign(p.graph.values().size(), 0);
        for (size_t i = 0; i < options.disk.size(); ++i)
          options.disk[i] = persistent(p.graph.values()[i].role) && plan.layout.on_disk(p.graph.values()[i].name);
      }
      p.schedule = make_schedule(p.graph, nodes_between(0, p.graph.nodes().size()), costs, options);
      schedules.push_back(&p.schedule);
    }
    plan.place(schedules, std::max(spec_.begin_bytes, staging_bytes(plan, homes)));
    return {};
  }

  // What loading needs of the transient part: rows as they are stored, and as they are put into groups.
  static int64_t staging_bytes(const InferencePlan& plan, const Homes& homes) {
    int64_t most = 0;
    for (const std::string& name : homes.on_disk)
      for (const Program& p : plan.programs)
        for (const Value& value : p.graph.values())
          if (value.name == name) most = std::max(most, value.type.codec->bytes(value.type.shape.columns()));
    return most > 0 ? 4 * kChecksumBlock + 2 * kInterleavedRows * most : 0;
  }

  // A value that is used in two places of a program is read twice, and costs as much memory in both: those come last.
  std::vector<std::string> list_for_disk(const InferencePlan& plan) const {
    const Graph& graph = plan.programs.back().graph;
    std::vector<int> uses(graph.values().size(), 0);
    for (const Node& node : graph.nodes())
      for (const ValueId id : node.in)
        if (id != kNone) ++uses[static_cast<size_t>(id)];
    std::vector<std::string> once, twice;
    for (size_t i = 0; i < uses.size(); ++i) {
      const Value& value = graph.values()[i];
      if (value.role != Role::weight || value.type.bytes() < spec_.disk_least_bytes) continue;
      (uses[i] > 1 ? twice : once).push_back(value.name);
    }
    once.insert(once.end(), twice.begin(), twice.end());
    return once;
  }

  // Seconds for a token that is made and one of a prompt, or for a row.
  double cost(const InferencePlan& plan) const {
    double seconds = 0;
    for (const Program& p : plan.programs)
      seconds += duration(p).seconds / static_cast<double>(&p == &plan.programs.front() ? plan.rows : spec_.slots);
    return seconds;
  }

  Duration duration(const Program& p) const {
    const std::vector<NodeCost> costs = node_costs(p.graph, p.multiply, spec_.threads, spec_.machine());
    return simulate(p.schedule, step_seconds(p.graph, p.schedule, costs), spec_.machine().disk, false);
  }

  Result<InferencePlan> with_disk() const {
    std::optional<InferencePlan> best, least;
    double best_cost = 0;
    for (const int64_t rows : row_bounds()) {
      InferencePlan plan = TRY(build(rows));
      const std::vector<std::string> list = list_for_disk(plan);
      for (const Eagerness& eagerness : kEagerness) {
        CHECK_OK(fewest_on_disk(plan, list, eagerness));
        if (!fits(plan)) {
          if (!least || plan.bytes() < least->bytes()) least = plan;
          continue;
        }
        const double seconds = cost(plan);
        if (!best || seconds < best_cost) best = plan, best_cost = seconds;
      }
    }
    if (!best) return refuse(described(std::move(*least)).ledger);
    const Duration last = duration(best->programs.back());
    best->seconds = last.seconds, best->read_bytes = last.read;
    return described(std::move(*best));
  }

  // The least number of the list with which the plan fits, or all of it.
  Result<void> fewest_on_disk(InferencePlan& plan, std::span<const std::string> list,
                              const Eagerness& eagerness) const {
    size_t low = 1, high = list.size();
    while (low < high) {
      const size_t middle = (low + high) / 2;
      CHECK_OK(schedule(plan, {list.first(middle), eagerness}));
      if (fits(plan))
        high = middle;
      else
        low = middle + 1;
    }
    return schedule(plan, {list.first(high), eagerness});
  }

  // Prompts write keys and values into the cache alone; tokens are one of each sequence, and those guessed to follow;
  // guesses are one of each sequence, by the model's first blocks; sequences are whole.
  enum class Part { prompts, guesses, tokens, sequences };
  Result<Program> program(Part part, std::string prefix, int64_t rows, Tensors& tensors) const {
    const bool makes_tokens = part == Part::tokens || part == Part::guesses;
    const Multiply multiply = makes_tokens ? spec_.step : part == Part::prompts ? spec_.prompts : spec_.multiply;
    BuildOptions options{.prefix = prefix,
                         .rows = rows,
                         .positions = spec_.context,
                         .activation = spec_.activation,
                         .cache = part == Part::sequences ? nullptr : spec_.cache,
                         .slots = spec_.slots,
                         .follow_on = part == Part::prompts};
    options.codec = [&](const std::string& name, const Shape&) { return spec_.stored(name); };
    Program out{.prefix = std::move(prefix), .multiply = multiply};
    Architecture architecture = spec_.architecture;
    if (part == Part::guesses) architecture.blocks.resize(static_cast<size_t>(spec_.guess_layers));
    PassLog& passes = out.passes;
    const BuiltModel model = TRY(build_model(out.graph, architecture, options));
    CHECK_OK(passes.end("model", out.graph));
    if (makes_tokens)
      add_logits(out.graph, model, part == Part::tokens ? kLogits : kGuessLogits,
                 out.graph.add_value(out.prefix + "select", {{rows}, &kI32, Extent::selected}, Role::input));
    if (spec_.task == Task::logits) add_logits(out.graph, model, kLogits);
    const bool surprises = part == Part::prompts && spec_.policy->surprises;
    if (spec_.task == Task::losses || surprises) add_token_loss(out.graph, model, {.prefix = out.prefix});
    CHECK_OK(passes.end("results", out.graph));
    Rewritten rewritten = TRY(rewrite_model(std::move(out.graph), spec_.rewrites, RewriteUse::infer, passes,
                                            taps_of(model, architecture, options)));
    out.graph = std::move(rewritten.graph);
    for (AdapterTensor& tensor : rewritten.tensors) tensors.try_emplace(tensor.value, std::move(tensor));
    if (spec_.multiply == Multiply::int8 || spec_.step == Multiply::int8) interleave_weights(out.graph);
    if (part == Part::prompts) (void)out.graph.prune();
    const bool few_rows = makes_tokens && rows <= kNarrowRows;
    const NarrowLinears narrow{few_rows, multiply == Multiply::int8};
    CHECK_OK(passes.optional(kNarrowProducts, out.graph, [&](Graph& graph) { graph = narrow_linears(graph, narrow); }));
    CHECK_OK(passes.optional(kGroupedProducts, out.graph, [](Graph& graph) { graph = group_linears(graph); }));
    if (!verify_every_pass) CHECK_OK(out.graph.verify());
    return out;
  }

  Result<Program> eviction() const {
    Program out{.prefix = "evict.", .multiply = spec_.step};
    CHECK_OK(
        add_eviction(out.graph, spec_.architecture,
                     {.prefix = out.prefix, .positions = spec_.context, .cache = spec_.cache, .slots = spec_.slots}));
    CHECK_OK(out.graph.verify());
    return out;
  }

  // "lora, f32"
  std::string adapter_text() const {
    std::string names;
    for (const RewriteSpec& spec : spec_.rewrites) names += std::string(spec.rewrite->name) + ", ";
    return names + "f32";
  }

  InferencePlan described(InferencePlan plan) const {
    describe(plan);
    return plan;
  }

  // Only eval has a --batch; where it is 1, there is none to be lowered.
  Failure refuse(const Ledger& least) const {
    const int64_t batch = generates() ? spec_.slots : spec_.batch;
    return does_not_fit(
        least, least.planned_bytes + kRuntimeVaries,
        fmt::format("Lower --context ({}){}{}", spec_.context, batch > 1 ? fmt::format(" or --batch ({})", batch) : "",
                    spec_.machine ? "" : ", leave out --scratch none"));
  }

  void describe(InferencePlan& plan) const {
    Ledger& l = plan.ledger;
    std::string codecs;
    int64_t adapter = 0;
    std::set<std::string_view> added;
    for (const AdapterTensor& tensor : plan.adapter) added.insert(tensor.value);
    for (const auto& [name, entry] : plan.layout.entries()) {
      if (entry.role != Role::weight) continue;
      const bool adapted = added.contains(name);
      if (adapted && entry.tier == Tier::ram) adapter += (entry.type.bytes() + 63) / 64 * 64;
      const Codec& codec = entry.type.codec->rows_of ? *entry.type.codec->rows_of : *entry.type.codec;
      if (!adapted && codecs.find(codec.name) == std::string::npos)
        codecs += (codecs.empty() ? "" : ", ") + std::string(codec.name);
    }
    const auto item = [&](const char* name, int64_t bytes, std::string home) {
      if (bytes > 0) l.items.push_back({name, bytes, std::move(home)});
    };
    const int64_t disk = plan.layout.bytes(Role::weight, Tier::disk);
    const int64_t kept = plan.layout.bytes(Role::weight) - adapter;
    const std::string more = disk > 0 ? fmt::format("; {} more on disk", megabytes(disk)) : "";
    item("weights", kept, "as stored: " + codecs + more);
    if (kept <= 0 && disk > 0) l.items.push_back({"weights", 0, "as stored: " + codecs + "; all on disk"});
    item("adapter", adapter, adapter_text());
    item("key/value cache", plan.layout.bytes(Role::state),
         fmt::format("{}, {} x {} tokens", spec_.cache->name, spec_.slots, spec_.context));
    item("logits, losses", plan.layout.bytes(Role::result), "f32");
    item("inputs, tables", plan.layout.bytes(Role::input) + plan.layout.bytes(Role::constant), "");
    item("workspace", plan.transient_bytes, fmt::format("{}, {} rows at once", spec_.activation->name, plan.rows));
    item("disk tables", plan.scratch_memory, "checksums of the scratch file, its queue");
    item("runtime", spec_.runtime_bytes, "program, libraries, tokenizer, data index");
    l.budget_bytes = spec_.budget_bytes;
    l.planned_bytes = plan.bytes() + spec_.runtime_bytes;
    l.scratch_bytes = plan.scratch_bytes, l.read_bytes = plan.read_bytes;
    if (plan.scratch_bytes > 0)
      l.choices.push_back(fmt::format("scratch file of {}; {} reads {} of it and takes {:.2f} s (predicted)",
                                      megabytes(plan.scratch_bytes), generates() ? "a token" : "a pass",
                                      megabytes(plan.read_bytes), plan.seconds));
    const Multiply first = generates() ? spec_.prompts : spec_.multiply;
    l.choices.push_back("products in " + products(first));
    if (spec_.guesses > 0)
      l.choices.push_back(fmt::format(
          "{} guessed ahead{}", counted(spec_.guesses, "token"),
          spec_.guess_layers > 0 ? fmt::format(" by the first {} of the model", counted(spec_.guess_layers, "block"))
                                 : ""));
    if (generates() && spec_.step != first) l.choices.push_back("of new tokens in " + products(spec_.step));
    // Of the programs that make results: the number of rows at once changes none.
    const Program& last = plan.programs.back();
    const std::string text =
        fmt::format("{:016x} multiply {}", last.graph.numerics_hash(), static_cast<int>(last.multiply));
    l.numerics_hash = fmt::format("{:016x}", XXH3_64bits(text.data(), text.size()));
  }

  const InferenceSpec& spec_;
};

}  // namespace

Result<InferencePlan> plan_inference(const InferenceSpec& spec) { return Planner(spec).plan(); }

Result<std::string> prompt_numerics(const InferenceSpec& spec) {
  InferenceSpec any = spec;
  any.task = Task::generate, any.slots = 1, any.guesses = any.guess_layers = 0;
  any.context = lead_of(spec.rewrites).rows + kLeastFillRows;
  return Planner(any).prompt_numerics();
}

}  // namespace thimble
