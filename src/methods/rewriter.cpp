// How techniques change a graph: every node of a layer that one is for, one technique after another.
#include <algorithm>
#include <array>
#include <utility>

#include "methods/rewrite.h"
#include "methods/side.h"
#include "methods/stream.h"
#include "ops/experts.h"
#include "ops/matrix.h"
#include "ops/pointwise.h"
#include "ops/update.h"

namespace thimble {
namespace {

constexpr std::string_view kAdapted = ".weight.as_adapted";  // of a weight that a technique has computed

// Whether it is a loss with the head in it, whose first operands are as a linear layer's.
bool is_loss(const Node& node) { return node.op == &kLinearCrossEntropy || node.op == &kLinearDistillation; }

// The module of a weight; "" of other values.
std::string module_of(std::string_view weight) {
  for (const std::string_view end : {kAdapted, std::string_view(".weight")})
    if (weight.ends_with(end)) return std::string(weight.substr(0, weight.size() - end.size()));
  return "";
}

// The module whose weight a node multiplies with or looks up; "" of other nodes.
std::string module_of(const Graph& graph, const Node& node) {
  if (node.op != &kLinear && node.op != &kEmbedding && !is_loss(node)) return "";
  const std::string module = module_of(graph.value(node.in[1]).name);
  return node.op != &kEmbedding && module == "model.embed_tokens" ? "lm_head" : module;  // tied
}

class Rewriter {
 public:
  // losses, taps: those of the graph, which become those of the result.
  Rewriter(const RewriteSpec& spec, RewriteUse use, std::map<std::string, AdapterTensor>& tensors,
           std::vector<ValueId>& losses, ModelTaps& taps)
      : spec_(spec), technique_(*spec.rewrite), use_(use), tensors_(tensors), losses_(losses), taps_(taps) {}

  Result<Graph> apply(const Graph& graph) {
    layers_ = std::ranges::count_if(graph.nodes(), attends);
    if (technique_.attend && layers_ == 0)
      return fail(ErrorCode::unsupported,
                  "--method {}: it adds to the keys and values of attention, and no block of this model has attention",
                  technique_.name);
    GraphCopy copy = rewrite(graph, [&](GraphCopy& to, const Node& node) {
      if (technique_.attend) return attends(node) && attention(to, node);
      if (node.op == &kExpertLinear) return experts(to, node);
      const auto found = spec_.modules.find(module_of(graph, node));
      if (found == spec_.modules.end()) return false;
      seen_.insert(found->first);
      return node.op == &kEmbedding ? embedding(to, node, found->second) : linear(to, node, found->second);
    });
    if (!failure_.message.empty()) return Failure(failure_);
    for (const auto& [name, module] : spec_.modules)
      if (!seen_.contains(name) && !outside(name))
        return fail(ErrorCode::invalid_argument,
                    "the adapter is for {} linear layers, of which the model has {}: it belongs to another model",
                    spec_.modules.size(), seen_.size());
    const auto of_ffn = [](const Node& node) { return node.op == &kActivation || node.op == &kExpertLinear; };
    if (technique_.mixes_ffns && !mixed_ && std::ranges::any_of(graph.nodes(), of_ffn))
      return fail(
          ErrorCode::unsupported,
          "--method {}: no FFN that it adapts is one activation between plain linear layers (those of this model "
          "have experts or factors, another technique has changed them, or --target leaves them out), so that "
          "there would be no experts; take lora",
          technique_.name);
    for (ValueId& loss : losses_) loss = copy.map(loss);
    for (ValueId& stream : taps_.streams) stream = copy.map(stream);
    for (ValueId* const one : {&taps_.hidden, &taps_.positions, &taps_.starts}) *one = copy.map(*one);
    losses_.insert(losses_.end(), added_.begin(), added_.end());
    return std::move(copy.graph());
  }

 private:
  // Programs without a loss or logits have no head, and those without text no embedding.
  static bool outside(const std::string& name) { return name == "lm_head" || name == "model.embed_tokens"; }

  // In a block of the model: another one in the graph, a teacher, has none of its own.
  static bool attends(const Node& node) {
    return node.block >= 0 && (node.op == &kAttention || node.op == &kAttentionCached);
  }

  ModuleRewrite begin(GraphCopy& copy, const AdaptedModule& module) {
    ModuleRewrite m(copy.graph(), module, made_, tensors_, use_ == RewriteUse::infer ? Role::weight : Role::parameter,
                    &added_);
    m.training = use_ == RewriteUse::train;
    return m;
  }

  ModuleRewrite begin(GraphCopy& copy, ValueId weight, const AdaptedModule& module) {
    ModuleRewrite m = begin(copy, module);
    const Shape& w = copy.from().value(weight).type.shape;
    m.out = w[0], m.in = w[1];
    m.w = copy.map(weight);
    return m;
  }

  // Experts share a product, so that the layers that are adapted are multiplied with by the weights they come to.
  bool experts(GraphCopy& copy, const Node& node) {
    std::vector<ValueId> in = copy.mapped(node.in);
    bool any = false;
    for (size_t i = 0; i < in.size(); ++i) {
      const auto found = spec_.modules.find(module_of(copy.from().value(node.in[i]).name));
      if (found == spec_.modules.end()) continue;
      seen_.insert(found->first);
      if (!has_weight(found->second)) return false;
      ModuleRewrite m = begin(copy, node.in[i], found->second);
      in[i] = effective(m), any = true;
    }
    if (any) copy.emit(node, in);
    return any;
  }

  bool linear(GraphCopy& copy, const Node& node, const AdaptedModule& module) {
    ModuleRewrite m = begin(copy, node.in[1], module);
    if (is_loss(node)) {
      if (!has_weight(module)) return false;
      const ValueId w = effective(m);
      std::vector<ValueId> in = {copy.map(node.in[0]), w};
      for (size_t i = 2; i < node.in.size(); ++i) in.push_back(copy.map(node.in[i]));
      return emit_head(copy, node, in);
    }
    m.attributes = node.as<LinearAttributes>();
    m.x = copy.map(node.in[0]);
    const size_t terms = m.attributes.terms.size();
    for (size_t i = 2; i < 2 * terms; ++i) m.terms.push_back(copy.map(node.in[i]));
    m.bias = copy.map(node.in[2 * terms]), m.addend = copy.map(node.in[2 * terms + 1]);
    const auto [scale, addend] = without_scale(m);
    if (technique_.mixes_ffns) mixed_ |= m.inner().has_value();
    if (technique_.adapt) {
      technique_.adapt(m);
    } else {
      const ValueId w = effective(m);
      const ValueId bias = m.bias != kNone && technique_.bias ? technique_.bias(m) : m.bias;
      m.y = m.linear(m.x, w, {}, bias, m.addend, module.name);
    }
    copy.bind(node.out[0], scale == 1 ? m.y : scaled_sum(m, scale, addend));
    return true;
  }

  // Whether some weight comes to the same as the technique: the head in a loss and experts are read as weights.
  bool has_weight(const AdaptedModule& module) {
    if (technique_.weight) return true;
    failure_ = {ErrorCode::unsupported,
                fmt::format("--method {}: it is for layers that stand alone, and '{}' is read as a weight here; leave "
                            "it out of --target",
                            technique_.name, module.owner)};
    return false;
  }

  // A technique sees the layer of the file. What the model multiplies the layer's result with (Granite's residual)
  // counts for all that a technique adds, so it is taken off the layer, with the addend, and comes behind it.
  static std::pair<float, ValueId> without_scale(ModuleRewrite& m) {
    const float scale = std::exchange(m.attributes.terms.front().scale, 1.0f);
    return {scale, scale == 1 ? kNone : std::exchange(m.addend, kNone)};
  }

  static ValueId scaled_sum(ModuleRewrite& m, float scale, ValueId addend) {
    PointwiseBuilder b;
    Expr sum = b.tensor() * double{scale};
    if (addend != kNone) sum = sum + b.tensor();
    b.output(sum, m.attributes.codec);
    return m.graph.emit(kPointwise, b.attributes(), addend == kNone ? std::vector{m.y} : std::vector{m.y, addend},
                        m.module.name + ".sum");
  }

  static bool emit_head(GraphCopy& copy, const Node& node, const std::vector<ValueId>& in) {
    std::array<bool, 4> wanted{};
    for (size_t i = 0; i < node.out.size(); ++i) wanted[i] = node.out[i] != kNone;
    const auto out = copy.graph().emit_all(*node.op, node.attributes, in, "head", {wanted.data(), node.out.size()});
    for (size_t i = 0; i < out.size(); ++i)
      if (out[i] != kNone) copy.bind(node.out[i], out[i]);
    return true;
  }

  bool embedding(GraphCopy& copy, const Node& node, const AdaptedModule& module) {
    if (!technique_.embed) {
      failure_ = Error{
          ErrorCode::unsupported,
          fmt::format("--method {}: it is for linear layers, and {} is an embedding", technique_.name, module.owner)};
      return false;
    }
    ModuleRewrite m = begin(copy, node.in[1], module);
    m.attributes.codec = copy.from().value(node.out[0]).type.codec;
    m.embedding = true;
    m.positions = positions(copy.graph());
    copy.copy(node);
    const ValueId rows = copy.map(node.out[0]);
    const ValueId y = technique_.embed(m, copy.map(node.in[0]), rows);
    copy.bind(node.out[0], y);
    return true;
  }

  bool attention(GraphCopy& copy, const Node& node) {
    ModuleRewrite m = begin(copy, spec_.modules.begin()->second);
    m.positions = positions(copy.graph());
    std::vector<ValueId> in = copy.mapped(node.in);
    const int64_t width = copy.graph().value(in[1]).type.shape.columns();
    if (width_ > 0 && width != width_) {
      failure_ = {ErrorCode::unsupported, fmt::format("--method {}: the layers of this model have keys of {} and of {} "
                                                      "numbers, and the technique is for those of one width",
                                                      technique_.name, width_, width)};
      return false;
    }
    width_ = width;
    technique_.attend(m, layer_++, layers_, in[1], in[2]);
    copy.emit(node, in);
    return true;
  }

  // The input of that name, whatever the program's prefix.
  static ValueId positions(const Graph& graph) {
    for (size_t i = 0; i < graph.values().size(); ++i)
      if (graph.values()[i].role == Role::input && graph.values()[i].name.ends_with("positions"))
        return static_cast<ValueId>(i);
    return kNone;
  }

  ValueId effective(ModuleRewrite& m) {
    const ValueId w = technique_.weight(m);
    m.graph.value(w).name = m.module.name + std::string(kAdapted);
    return w;
  }

  const RewriteSpec& spec_;
  const Rewrite& technique_;
  RewriteUse use_;
  std::map<std::string, AdapterTensor>& tensors_;
  std::vector<ValueId>& losses_;
  ModelTaps& taps_;
  std::vector<ValueId> added_;  // losses of this technique
  std::map<std::string, ValueId> made_;
  std::set<std::string> seen_;
  bool mixed_ = false;              // an FFN as mixtures want it was met
  int64_t layer_ = 0, layers_ = 0;  // attentions that were met, and all
  int64_t width_ = 0;               // of their keys
  Error failure_{};
};

// Values of the model that a technique trains as they are: f32 masters, whatever they are stored in.
Result<void> train_values(Graph& graph, const RewriteSpec& spec, RewriteUse use,
                          std::map<std::string, AdapterTensor>& tensors) {
  for (const AdapterTensor& tensor : spec.trained) {
    const ValueId id = graph.find(tensor.value);
    if (id == kNone) continue;  // of another program
    if (!tensors.try_emplace(tensor.value, tensor).second)
      return fail(ErrorCode::invalid_argument, "'{}' is trained by two techniques at once; leave one of them out",
                  tensor.value);
    Value& value = graph.value(id);
    value.type.codec = &kF32;
    value.role = use == RewriteUse::infer || !tensor.trained ? Role::weight : Role::parameter;
  }
  return {};
}

}  // namespace

ValueId ModuleRewrite::add(std::string_view suffix, const Shape& shape, const Initial& initial) {
  return add(suffix, shape, initial, How{});
}

ValueId ModuleRewrite::add(std::string_view suffix, const Shape& shape, const Initial& initial, How how) {
  const std::string stored = how.shared ? std::string(suffix) : module.owner + "." + std::string(suffix);
  const bool part = how.by_rows && module.whole > out;
  const std::string value = module.scope + (part ? fmt::format("{}.rows_{}", stored, module.rows.first) : stored);
  const auto found = made_.find(value);
  if (found != made_.end()) return found->second;
  const ValueId id =
      how.computed ? kNone : graph.add_value(value, {shape}, how.trained ? role_ : Role::weight, initial);
  made_[value] = id;
  AdapterTensor tensor{.value = value, .stored = how.shared ? stored : "model." + stored};
  tensor.whole = how.stored.rank() > 0 ? how.stored : shape;
  if (part) tensor.whole = tensor.whole.with_first(module.whole), tensor.rows = module.rows;
  if (how.transposed) tensor.whole = {shape[1], shape[0]}, tensor.transposed = true;
  if (how.by_rows) tensor.head_dim = module.head_dim, tensor.interleaved = module.interleaved;
  tensor.trained = how.trained, tensor.optional = how.optional, tensor.saved = how.saved, tensor.derived = how.derived,
  tensor.rate = how.rate, tensor.alone = how.alone;
  tensors_[value] = tensor;
  return id;
}

ValueId ModuleRewrite::constant(const std::string& name_, const Shape& shape, const Initial& initial,
                                const Codec* codec) {
  ValueId& id = made_.try_emplace(name_, kNone).first->second;
  if (id == kNone) id = graph.constant(module.scope + name_, {shape, codec}, initial);
  return id;
}

ValueId ModuleRewrite::rows(ValueId value) {
  if (merged < 0 || (first == 0 && merged == out)) return value;
  const std::string part = graph.value(value).name + ".part";
  if (graph.value(value).type.shape.rank() == 1) {
    // A row of a matrix while it is cut.
    PointwiseBuilder b;
    b.shape({1, out});
    b.output(b.tensor());
    const ValueId row = graph.emit(kPointwise, b.attributes(), {value}, part + ".row");
    const SliceAttributes columns{SliceAttributes::Axis::columns, first, merged};
    const ValueId cut = graph.emit(kSlice, columns, {row}, part + ".cut");
    return graph.emit(kReduce, ReduceAttributes{Reduce::sum, ReduceOver::rows}, {cut}, part);
  }
  return graph.emit(kSlice, SliceAttributes{SliceAttributes::Axis::rows, first, merged}, {value}, part);
}

ValueId ModuleRewrite::rows_of_owner(ValueId value) {
  const std::string own = fmt::format("{}.rows_{}", graph.value(value).name, module.rows.first);
  if (graph.value(value).type.shape[0] == out && module.is_in_file_order(out)) return value;
  const bool contiguous = module.rows.run == 0 && (module.head_dim == 0 || !module.interleaved);
  if (contiguous)
    return graph.emit(kSlice, SliceAttributes{SliceAttributes::Axis::rows, module.rows.first, out}, {value}, own);
  const auto fill = [of = module](int64_t first_row, int64_t count, float* to) {
    for (int64_t i = 0; i < count; ++i) to[i] = static_cast<float>(of.row_of_owner(first_row + i));
  };
  const std::string table = "rows of " + rows_name();
  const ValueId at = constant(table, {out}, Initial::table(fill, table), &kI32);
  return graph.emit(kGather, GatherAttributes{GatherAttributes::Axis::rows}, {value, at}, own);
}

std::string ModuleRewrite::rows_name() const {
  const RowsInFile& r = module.rows;
  return fmt::format("{} from {}, {} of {}, heads of {}", out, r.first, r.run, r.period,
                     module.interleaved ? module.head_dim : 0);
}

ValueId ModuleRewrite::decoded() {
  if (graph.value(w).type.codec == &kF32) return w;
  PointwiseBuilder b;
  b.output(b.tensor());
  return graph.emit(kPointwise, b.attributes(), {w}, module.name + ".weight.decoded");
}

ValueId ModuleRewrite::linear(ValueId left, ValueId right, std::span<const Term> more, ValueId bias_, ValueId addend_,
                              std::string name_) {
  LinearAttributes all = attributes;
  std::vector<ValueId> operands = {left, right};
  operands.insert(operands.end(), terms.begin(), terms.end());
  for (const Term& term : more) {
    all.terms.push_back({true, static_cast<float>(term.scale)});
    operands.insert(operands.end(), {term.x, term.w});
  }
  operands.insert(operands.end(), {bias_, addend_});
  // A weight that was computed is still that of the layer to techniques behind this one.
  if (graph.producer(right) >= 0) graph.value(right).name = module.name + std::string(kAdapted);
  return graph.emit(kLinear, all, operands, std::move(name_));
}

std::optional<ModuleRewrite::Inner> ModuleRewrite::inner() const {
  const auto made_by = [&](ValueId value) {
    const int64_t node = value == kNone ? -1 : graph.producer(value);
    return node < 0 ? nullptr : &graph.nodes()[static_cast<size_t>(node)];
  };
  const Node* const activation = made_by(x);
  if (!activation || activation->op != &kActivation) return std::nullopt;
  Inner found{.x = kNone,
              .gate = activation->in[0],
              .up = activation->in[1],
              .activation = activation->as<ActivationAttributes>()};
  const Node *const gate = made_by(found.gate), *const up = made_by(found.up);
  if (!gate || gate->op != &kLinear) return std::nullopt;
  if (found.up != kNone && (!up || up->op != &kLinear || up->in[0] != gate->in[0])) return std::nullopt;
  found.x = gate->in[0];
  return found;
}

void ModuleRewrite::probe(ValueId rows, std::string_view part) {
  const int64_t n = graph.value(rows).type.shape.columns();
  const std::string suffix = std::string(part) + std::string(kProbe);
  const ValueId by =
      add(part.empty() ? kProbe.substr(1) : std::string_view(suffix), {1, n}, Initial::constant(0), {.saved = false});
  const LinearAttributes plain{.codec = &kF32};
  const ValueId one = graph.emit(kLinear, plain, {rows, by, kNone, kNone}, name("probe_row"));
  add_loss(graph.emit(kReduce, ReduceAttributes{}, {one}, name("probe_loss")));
}

ValueId ModuleRewrite::product(ValueId left, ValueId right, std::string name_, double scale, ValueId addend_) {
  const LinearAttributes one{
      .terms = {{true, static_cast<float>(scale)}}, .codec = attributes.codec, .narrow = attributes.narrow};
  return graph.emit(kLinear, one, {left, right, kNone, addend_}, std::move(name_));
}

namespace {

// What is adapted behind it would be looked for in blocks that it has left out, or meet rows that are fewer.
Result<void> check_last(std::span<const RewriteSpec> stack) {
  for (size_t i = 0; i + 1 < stack.size(); ++i)
    if (const Rewrite& here = *stack[i].rewrite; here.blocks || here.training_only)
      return fail(ErrorCode::invalid_argument, "--method: {} leaves {} of the model out, which {} adapts; give {} last",
                  here.name, here.blocks ? "blocks" : "rows", stack[i + 1].rewrite->name, here.name);
  return {};
}

// A network beside the model is trained without a backward pass through the model, and another technique would need
// one; used together, each would meet a model that it was not trained with.
Result<void> check_alone(std::span<const RewriteSpec> stack) {
  const auto beside =
      std::ranges::find_if(stack, [](const RewriteSpec& spec) { return spec.rewrite->join != nullptr; });
  if (beside == stack.end() || stack.size() == 1) return {};
  return fail(ErrorCode::unsupported,
              "{} is a network beside the model as it is, which other techniques would change; give it alone, or merge "
              "the others into the model first (convert --adapter)",
              beside->rewrite->name);
}

}  // namespace

Result<Rewritten> rewrite_model(Graph graph, std::span<const RewriteSpec> stack, RewriteUse use, PassLog& log,
                                ModelTaps taps) {
  std::map<std::string, AdapterTensor> tensors;
  std::vector<ValueId> losses;
  CHECK_OK(check_alone(stack));
  CHECK_OK(check_last(stack));
  const auto leads = [](const RewriteSpec& spec) { return spec.rewrite->virtual_tokens != nullptr; };
  if (std::ranges::count_if(stack, leads) > 1)
    return fail(ErrorCode::unsupported,
                "{} and another technique both put virtual tokens at the first positions; leave one of them out",
                std::ranges::find_if(stack, leads)->rewrite->name);
  for (size_t i = 0; i < stack.size(); ++i) {
    const RewriteSpec& spec = stack[i];
    CHECK_OK(train_values(graph, spec, use, tensors));
    const std::map<std::string, AdapterTensor> before = tensors;
    if (spec.rewrite->join)
      graph = TRY(rewrite_beside(graph, spec, use, taps, tensors));
    else if (!spec.modules.empty() && spec.rewrite->changes_layers())
      graph = TRY(Rewriter(spec, use, tensors, losses, taps).apply(graph));
    if (spec.rewrite->stream && (use == RewriteUse::train || !spec.rewrite->training_only))
      graph = TRY(rewrite_stream(graph, spec, use, std::exchange(taps, {}), tensors, losses));
    for (const auto& [value, tensor] : before)
      if (const auto now = tensors.find(value);
          now != tensors.end() && !tensor.technique.empty() && now->second.technique.empty())
        return fail(ErrorCode::unsupported,
                    "{} and {} both make '{}': they change a layer in the same way; leave one of "
                    "them out",
                    tensor.technique, spec.rewrite->name, value);
    for (auto& [value, tensor] : tensors)
      if (tensor.technique.empty()) tensor.technique = spec.rewrite->name, tensor.place = i;
    CHECK_OK(log.end(fmt::format("method {}", spec.rewrite->name), graph));
  }
  Rewritten out{std::move(graph), {}, std::move(losses)};
  for (auto& [value, tensor] : tensors) out.tensors.push_back(std::move(tensor));
  return out;
}

}  // namespace thimble
