#include "plan/transform.h"

#include <xxhash.h>

#include <algorithm>

#include "ops/pointwise.h"
#include "ops/rows.h"
#include "ops/table.h"
#include "ops/update.h"

namespace thimble {
namespace {

constexpr std::string_view kBlocks = "model.layers.";
constexpr int64_t kStagingBytes = 1 << 20;  // for rows on their way from a file

Graph stored_in(Graph graph, ValueId value, const Codec& codec, const std::string& name) {
  if (graph.value(value).type.codec != &codec) {
    PointwiseBuilder b;
    b.output(b.tensor(), &codec);
    value = graph.emit(kPointwise, b.attributes(), {value}, name);
  }
  graph.value(value).role = Role::result;
  graph.value(value).name = name;
  return graph;
}

class Planner {
 public:
  explicit Planner(const TransformSpec& spec) : spec_(spec), observer_(spec.transform->observer) {}

  Result<TransformPlan> plan() {
    if (spec_.observes())
      CHECK_OK(observed());
    else
      CHECK_OK(streamed());
    CHECK_OK(schedule());
    describe();
    if (spec_.budget_bytes == 0 || plan_.ledger.planned_bytes <= spec_.budget_bytes) return std::move(plan_);
    const std::string advice = spec_.observes()
                                   ? fmt::format("Lower --samples ({}) or --context ({})", spec_.samples, spec_.context)
                                   : std::string("The largest layer must fit");
    return does_not_fit(plan_.ledger, plan_.ledger.planned_bytes + kRuntimeVaries, advice);
  }

 private:
  // Every layer by itself: those of one shape are alike.
  Result<void> streamed() {
    for (const TensorSpec& layer : layer_weights(spec_.architecture)) {
      const std::string shape = layer.shape.text();
      if (spec_.written(layer.shape) && !plan_.layers.contains(shape))
        CHECK_OK(add_layer(shape, "layer." + shape, layer.shape, spec_.statistic ? "statistic." + shape : ""));
    }
    return {};
  }

  Result<void> observed() {
    if (spec_.architecture.coupled)
      return fail(ErrorCode::unsupported,
                  "{}: it passes the residual stream from block to block, and this model has two coupled ones",
                  spec_.transform->name);
    if (spec_.architecture.denoises)
      return fail(ErrorCode::unsupported,
                  "{}: it passes what a block makes on to the next, and blocks of this model all read the text",
                  spec_.transform->name);
    const int64_t windows = std::max<int64_t>(1, kGranule / spec_.context);  // of a pass: whole granules, if it can be
    plan_.pass_rows = windows * spec_.context;
    plan_.stream_rows = spec_.samples * spec_.context;
    CHECK_OK(check_blocks());
    plan_.embed = plan_.programs.size();
    plan_.programs.push_back(TRY(embedding()));
    std::vector<Block> kinds;
    for (const Block& block : spec_.architecture.blocks) {
      auto found = std::find(kinds.begin(), kinds.end(), block);
      if (found == kinds.end()) {
        found = kinds.insert(kinds.end(), block);
        CHECK_OK(add_kind(block));
      }
      plan_.kind_of.push_back(static_cast<size_t>(found - kinds.begin()));
    }
    add_store();
    return {};
  }

  // Blocks share the memory of their weights.
  Result<void> check_blocks() const {
    if (std::ranges::any_of(spec_.architecture.blocks, [](const Block& b) { return bool(b.ffn.routing); }))
      return fail(ErrorCode::unsupported,
                  "--method {}: what experts read is not gathered; take a method that reads no data (round, magnitude)",
                  spec_.transform->name);
    std::map<std::string, Shape> shapes;
    int64_t tensors = 0;
    for (const TensorSpec& tensor : tensor_specs(spec_.architecture)) {
      const std::string name = in_first_block(tensor.name);
      if (name.empty()) continue;
      ++tensors;
      const auto [found, fresh] = shapes.try_emplace(name, tensor.shape);
      if (!fresh && !(found->second == tensor.shape))
        return fail(ErrorCode::unsupported, "--method {}: '{}' is {}, in the first block {}; blocks must be alike",
                    spec_.transform->name, tensor.name, tensor.shape.text(), found->second.text());
    }
    if (tensors != static_cast<int64_t>(shapes.size()) * spec_.architecture.layers())
      return fail(ErrorCode::unsupported,
                  "--method {}: some blocks have tensors that others lack; blocks must be alike",
                  spec_.transform->name);
    return {};
  }

  BuildOptions options(std::string prefix, ModelPart part) const {
    BuildOptions o{.prefix = std::move(prefix),
                   .rows = plan_.pass_rows,
                   .positions = spec_.context,
                   .activation = spec_.activation};
    o.part = part;
    // Layers are read in f32, as transforms take them.
    o.codec = [](const std::string&, const Shape&) { return &kF32; };
    return o;
  }

  // A model of which the vocabulary is the tokens of one pass.
  Result<Program> embedding() const {
    Architecture a = spec_.architecture;
    a.vocab = plan_.pass_rows, a.tied = true, a.head_bias = false;
    a.blocks.clear();
    Program program{.prefix = "embed.", .multiply = spec_.multiply};
    const BuiltModel model = TRY(build_model(program.graph, a, options(program.prefix, ModelPart::embedding)));
    program.graph = stored_in(std::move(program.graph), model.hidden, *spec_.activation, "embed.hidden");
    CHECK_OK(program.graph.verify());
    return program;
  }

  Result<void> add_kind(const Block& block) {
    Architecture a = spec_.architecture;
    a.blocks = {block};
    TransformPlan::Kind kind;
    Program replay{.prefix = fmt::format("replay.{}.", plan_.kinds.size()), .multiply = spec_.multiply};
    const BuiltModel model = TRY(build_model(replay.graph, a, options(replay.prefix, ModelPart::block)));
    Program observe{.prefix = fmt::format("observe.{}.", plan_.kinds.size()), .multiply = spec_.multiply};
    TRY(build_model(observe.graph, a, options(observe.prefix, ModelPart::block)));
    CHECK_OK(add_statistics(observe.graph));
    replay.graph = stored_in(std::move(replay.graph), model.hidden, *spec_.activation, "replay.hidden");
    CHECK_OK(observe.graph.verify());
    CHECK_OK(replay.graph.verify());
    kind.observe = plan_.programs.size(), plan_.programs.push_back(std::move(observe));
    kind.replay = plan_.programs.size(), plan_.programs.push_back(std::move(replay));
    plan_.kinds.push_back(kind);
    return {};
  }

  // What adds to the statistics of a block's layers, each right behind the inputs that it reads; layers that read the
  // same ones share them.
  Result<void> add_statistics(Graph& graph) {
    const size_t block_nodes = graph.nodes().size();
    std::map<ValueId, std::string> statistics;  // by inputs
    std::map<size_t, std::vector<size_t>> behind;
    std::vector<std::pair<std::string, ValueId>> layers;
    for (size_t i = 0; i < block_nodes; ++i) {
      const Node& node = graph.nodes()[i];
      if (node.op == &kLinear) layers.emplace_back(graph.value(node.in[1]).name, node.in[0]);
    }
    std::vector<size_t> order;
    for (const auto& [weight, x] : layers) {
      const Shape shape = graph.value(graph.find(weight)).type.shape;
      if (!spec_.written(shape)) continue;
      const std::string name = statistics.try_emplace(x, "statistic." + weight).first->second;
      if (name == "statistic." + weight) {
        const ValueId statistic = graph.add_value(name, {observer_->shape(shape[1])}, Role::state);
        const size_t first = graph.nodes().size();
        observer_->add(graph, statistic, x, name);
        for (size_t node = first; node < graph.nodes().size(); ++node)
          if (graph.producer(x) < 0)
            order.push_back(node);
          else
            behind[static_cast<size_t>(graph.producer(x))].push_back(node);
      }
      if (!plan_.layers.contains(weight)) CHECK_OK(add_layer(weight, weight, shape, name));
    }
    for (size_t i = 0; i < block_nodes; ++i) {
      order.push_back(i);
      order.insert(order.end(), behind[i].begin(), behind[i].end());
    }
    graph.reorder(order);
    (void)graph.prune();
    return {};
  }

  Result<void> add_layer(const std::string& key, const std::string& weight, const Shape& shape,
                         const std::string& statistic) {
    const int64_t of = spec_.settings.of;
    if (of > 0 && shape[1] % of != 0)
      return fail(ErrorCode::invalid_argument, "--pattern {}:{}: rows of {} are no whole runs of {}",
                  spec_.settings.keep, of, shape[1], of);
    LayerProgram layer{weight, statistic, "", spec_.written(shape), plan_.programs.size()};
    layer.result = fmt::format("result.{}.{}", shape.text(), layer.codec->name);
    Program program{.prefix = "apply."};
    const ValueId w = program.graph.add_value(weight, {shape}, Role::weight);
    const ValueId s =
        statistic.empty() ? kNone : program.graph.add_value(statistic, {observer_->shape(shape[1])}, Role::state);
    const ValueId made = spec_.transform->apply({program.graph, w, s, *layer.codec, spec_.settings});
    program.graph = stored_in(std::move(program.graph), made, *layer.codec, layer.result);
    CHECK_OK(program.graph.verify());
    plan_.programs.push_back(std::move(program));
    plan_.layers[key] = std::move(layer);
    return {};
  }

  // What waits between blocks.
  void add_store() {
    store_.add_value(kStream, {{plan_.stream_rows, spec_.architecture.width}, spec_.activation}, Role::input);
    store_.add_value(kPositions, {{plan_.stream_rows}, &kI32}, Role::input);
    store_.add_value(kStarts, {{plan_.stream_rows}, &kI32}, Role::input);
  }

  Result<void> schedule() {
    int64_t staging = 0;
    for (const TensorSpec& tensor : tensor_specs(spec_.architecture)) {
      const Codec* const codec = spec_.stored(tensor.name);
      const int64_t columns = tensor.shape.columns();
      staging = std::max(staging, kStagingBytes + 4 * columns + (codec ? codec->bytes(columns) : 0));
    }
    std::vector<Schedule*> schedules;
    for (Program& p : plan_.programs) {
      CHECK_OK(plan_.layout.add(p.graph));
      p.schedule = make_schedule(p.graph, nodes_between(0, p.graph.nodes().size()),
                                 node_costs(p.graph, p.multiply, spec_.threads, {}));
      schedules.push_back(&p.schedule);
    }
    CHECK_OK(plan_.layout.add(store_));
    plan_.place(schedules, staging);
    return {};
  }

  void describe() {
    Ledger& l = plan_.ledger;
    const auto item = [&](const char* name, int64_t bytes, std::string home) {
      if (bytes > 0) l.items.push_back({name, bytes, std::move(home)});
    };
    const Layout::Entry* const stream = plan_.layout.find(kStream);
    const int64_t stream_bytes = stream ? stream->type.bytes() : 0;
    item("weights", plan_.layout.bytes(Role::weight),
         spec_.observes() ? "f32, one block at a time" : "f32, one layer at a time");
    item("statistics", plan_.layout.bytes(Role::state),
         observer_ ? fmt::format("f32, {}, one {} at a time", observer_->name, spec_.observes() ? "block" : "layer")
                   : "");
    item("calibration", stream_bytes,
         fmt::format("{}, {} x {} tokens between two blocks", spec_.activation->name, spec_.samples, spec_.context));
    item("new weights", plan_.layout.bytes(Role::result), "");
    item("inputs, tables", plan_.layout.other_bytes() - plan_.layout.bytes(Role::result) - stream_bytes, "");
    item("workspace", plan_.transient_bytes,
         spec_.observes() ? fmt::format("{}, {} rows at once", spec_.activation->name, plan_.pass_rows) : "");
    item("runtime", spec_.runtime_bytes, "program, libraries, tokenizer, data index, rows on their way");
    l.budget_bytes = spec_.budget_bytes;
    l.planned_bytes = plan_.bytes() + spec_.runtime_bytes;
    std::string text =
        fmt::format("multiply {} {} x {}", static_cast<int>(spec_.multiply), spec_.samples, spec_.context);
    for (const Program& p : plan_.programs) text += fmt::format(" {:016x}", p.graph.numerics_hash());
    l.numerics_hash = fmt::format("{:016x}", XXH3_64bits(text.data(), text.size()));
  }

  const TransformSpec& spec_;
  const Observer* const observer_;
  TransformPlan plan_;
  Graph store_;
};

}  // namespace

std::string in_first_block(const std::string& tensor) {
  if (!tensor.starts_with(kBlocks)) return "";
  const size_t after = tensor.find('.', kBlocks.size());
  return after == std::string::npos ? "" : fmt::format("{}0{}", kBlocks, tensor.substr(after));
}

std::vector<TensorSpec> layer_weights(const Architecture& architecture) {
  std::vector<TensorSpec> layers;
  for (TensorSpec& tensor : tensor_specs(architecture))
    if (tensor.name.starts_with(kBlocks) && tensor.shape.rank() == 2) layers.push_back(std::move(tensor));
  return layers;
}

Result<TransformPlan> plan_transform(const TransformSpec& spec) { return Planner(spec).plan(); }

}  // namespace thimble
