// HyperFormer: adapters whose weights are made by one network for all layers, from embeddings of the task, the layer
// and the place in the block.
//
//   Paper   Mahabadi et al. 2021, arXiv:2106.04489, section 2.3 (HyperFormer++); the authors' code
//           (rabeehk/hyperformer)
//   Graph   y = f + s (g * norm(U gelu(D f + b) + c) + h), f what the layer makes
//           e = norm(W2 relu(W1 [task, layer, place] + w1) + w2);  U, c, D, b, g, h are linear in e
//   Adds    task, layer.<i>, place.<k> [1, 64], normal 1; W1 [128, 192] in three parts, W2 [64, 128], the norm behind
//           it; for layers that make n numbers and m = n / reduction: generators [n m, 64] of U and D, [m, 64] of b,
//           all normal 0.01, and [n, 64] of c, g, h, with biases: zeros
//   Names   "hyperformer.task" and so on; peft_type HYPERFORMER, which other tools do not read
//   Choice  generators of g and h begin at zero, so that the model begins as it is; theirs are normal 0.01. One task:
//           the others' embeddings have nothing to learn from here. Norms of the model stay frozen (--method
//           hyperformer,ln_tuning trains them, as the authors do)
#include <algorithm>

#include "methods/rewrite.h"
#include "ops/pointwise.h"
#include "ops/table.h"
#include "ops/update.h"

namespace thimble {
namespace {

constexpr Option kOptions[] = {
    whole_number("reduction", 32, 1, 4096, "adapters are so many times as narrow as what they read"),
    whole_number("embedding", 64, 1, 4096, "numbers of an embedding, and of what weights are made from"),
    whole_number("hidden", 128, 1, 65536, "width of the network that combines embeddings"),
};
using Kind = PeftField::Kind;
constexpr PeftField kFields[] = {{"reduction_factor", "reduction", Kind::whole, {}, 32},
                                 {"task_embedding_dim", "embedding", Kind::whole, {}, 64},
                                 {"task_hidden_dim", "hidden", Kind::whole, {}, 128}};
constexpr float kDeviation = 0.01f;  // of a fresh weight

int64_t whole(const ModuleRewrite& m, std::string_view option) { return static_cast<int64_t>(m.option(option)); }

ValueId shared(ModuleRewrite& m, const std::string& name, const Shape& shape, const Initial& initial) {
  return m.add("hyperformer." + name, shape, initial, {.shared = true});
}

ValueId reshaped(ModuleRewrite& m, ValueId x, const std::string& name, const Shape& shape) {
  PointwiseBuilder b;
  b.shape(shape);
  b.output(b.tensor());
  return m.graph.emit(kPointwise, b.attributes(), {x}, m.name("hyperformer_" + name));
}

// e, [1, embedding].
ValueId embedded(ModuleRewrite& m) {
  const int64_t width = whole(m, "embedding"), hidden = whole(m, "hidden");
  LinearAttributes first;
  first.terms.resize(3);
  std::vector<ValueId> in;
  const std::string places[] = {"task", fmt::format("layer.{}", m.module.layer), m.inner() ? "place.1" : "place.0"};
  for (const std::string& place : places) {
    const std::string kind = place.substr(0, place.find('.'));
    in.push_back(shared(m, place, {1, width}, Initial::normal(1)));
    in.push_back(shared(m, "W1." + kind, {hidden, width}, Initial::normal(kDeviation)));
  }
  in.insert(in.end(), {shared(m, "w1", {hidden}, Initial::constant(0)), kNone});
  const ValueId low = m.graph.emit(kLinear, first, in, m.name("hyperformer_low"));
  const ValueId active =
      m.graph.emit(kActivation, ActivationAttributes{Activation::relu}, {low, kNone}, m.name("hyperformer_relu"));
  const ValueId w2 = shared(m, "W2", {width, hidden}, Initial::normal(kDeviation));
  const ValueId b2 = shared(m, "w2", {width}, Initial::constant(0));
  const ValueId e = m.graph.emit(kLinear, LinearAttributes{}, {active, w2, b2, kNone}, m.name("hyperformer_e"));
  const ValueId gain = shared(m, "norm.weight", {width}, Initial::constant(1));
  const ValueId bias = shared(m, "norm.bias", {width}, Initial::constant(0));
  return m.graph.emit(kLayerNorm, NormAttributes{.epsilon = 1e-6}, {e, gain, bias}, m.name("hyperformer_embedded"));
}

// A weight of the adapter, made of e.
ValueId generated(ModuleRewrite& m, ValueId e, const std::string& what, const Shape& shape, float deviation) {
  const std::string name = fmt::format("{}.{}", m.out, what);
  const ValueId w = shared(m, name + ".weight", {shape.count(), whole(m, "embedding")}, Initial::normal(deviation));
  const ValueId b = shared(m, name + ".bias", {shape.count()}, Initial::constant(0));
  const ValueId row = m.graph.emit(kLinear, LinearAttributes{}, {e, w, b, kNone}, m.name("hyperformer_row_" + what));
  return reshaped(m, row, what, shape);
}

void adapt(ModuleRewrite& m) {
  const int64_t n = m.out, narrow = std::max<int64_t>(1, n / whole(m, "reduction"));
  const ValueId e = embedded(m);
  const LinearAttributes product{.codec = m.attributes.codec, .narrow = m.attributes.narrow};
  const auto linear = [&](ValueId x, const std::string& what, int64_t out, float of_bias) {
    const int64_t in = m.graph.value(x).type.shape.columns();
    const ValueId w = generated(m, e, what, {out, in}, kDeviation);
    const ValueId b = generated(m, e, what + "_bias", {out}, of_bias);
    return m.graph.emit(kLinear, product, {x, w, b, kNone}, m.name("hyperformer_" + what + "_x"));
  };
  const ValueId f = m.linear(m.x, m.w, {}, m.bias, kNone, m.module.name + ".hyperformer_f");
  const ValueId low = linear(f, "down", narrow, kDeviation);
  const ValueId active =
      m.graph.emit(kActivation, ActivationAttributes{Activation::gelu_tanh}, {low, kNone}, m.name("hyperformer_act"));
  const ValueId up = linear(active, "up", n, 0);
  const ValueId normed = m.graph.emit(kLayerNorm, NormAttributes{}, {up, kNone, kNone}, m.name("hyperformer_norm"));
  PointwiseBuilder b;
  std::vector<ValueId> in{f, normed, generated(m, e, "gain", {n}, 0), generated(m, e, "shift", {n}, 0)};
  const Expr own = b.tensor(), beside = b.tensor(), gain = b.row(), shift = b.row();
  Expr y = own + m.module.scale * (gain * beside + shift);
  if (m.addend != kNone) {
    in.push_back(m.addend);
    y = y + b.tensor();
  }
  b.output(y, m.attributes.codec);
  m.y = m.graph.emit(kPointwise, b.attributes(), in, m.module.name);
}

}  // namespace

const Rewrite kHyperformer = {
    .name = "hyperformer",
    .summary = "adapters behind layers, whose weights one network makes for all of them",
    .paper = "arXiv:2106.04489",
    .rate = 5,
    .options = kOptions,
    .adapt = adapt,
    .targets = "o_proj,down_proj,fc2",
    .scales = true,
    .by_rows = false,
    .shared = true,
    .not_merged = "puts an adapter with an activation behind a layer, which no weights come to",
    .form = {.type = "HYPERFORMER", .fields = kFields}};

}  // namespace thimble
