// SHERL: what early blocks made is gathered into the input of the last ones, through which alone gradients pass.
//
//   Paper   Diao et al. 2024, arXiv:2407.07523, section 3; the authors' code (Paranioar/SHERL, MTSAdapter of its T5)
//   Early   of h_l, the residual stream behind block l, l = 0 (the embedding) .. m:  z = relu(F1 h + b1),
//           x_l = (F2 z + b2 + z) sigmoid(F3 z + b3);  g = x_m is the guide;  s = weigh_layers(w * g, x_0 .. x_(m-1)):
//           layers weighed by agreement with the guide over redundancy (ops/weigh_layers.h)
//   Late    block m + 1 reads h_m + U relu(s + g) + c, and the blocks behind it go on as they are
//   Adds    by l F1 [width / r, width], F2, F3 [width / r, width / r] with biases, uniform in +-1/sqrt(columns); w
//           [width / r] likewise; U [width, width / r] and c, zeros
//   Names   "sherl.<l>.fc1.weight" and so on, "sherl.attention", "sherl.out"; peft_type SHERL, which other tools do not
//           read
//   Choice  h_m is added to and U begins at zero, so that training begins at the model: the authors' blocks read U
//           relu(s + g) + c + tanh(a / 0.1) h_m with a = 0 at first. Their encoders have a route of their own, whose
//           result decoders read beside them. The agreement has no bias
#include <cmath>

#include "methods/stream.h"
#include "ops/pointwise.h"
#include "ops/table.h"
#include "ops/update.h"
#include "ops/weigh_layers.h"

namespace thimble {
namespace {

constexpr Option kOptions[] = {
    whole_number("reduction", 8, 1, 1024, "r: what is gathered is so many times as narrow as the model"),
    whole_number("every", 1, 1, 4096, "of the early blocks, one in so many is gathered"),
    whole_number("late", 1, 1, 4096, "blocks at the end that gradients pass through"),
};
using Kind = PeftField::Kind;
constexpr PeftField kFields[] = {{"reduction", "reduction", Kind::whole, {}, 8},
                                 {"every", "every", Kind::whole, {}, 1},
                                 {"late", "late", Kind::whole, {}, 1}};

int64_t whole(const StreamRewrite& s, std::string_view option) { return static_cast<int64_t>(s.option(option)); }

// x W^T + b, called so.
ValueId linear(StreamRewrite& s, ValueId x, const std::string& name, int64_t out) {
  const int64_t in = s.graph.value(x).type.shape.columns();
  const Initial initial = Initial::uniform(1 / std::sqrt(static_cast<float>(in)));
  const ValueId w = s.trained(name + ".weight", {out, in}, initial), b = s.trained(name + ".bias", {out}, initial);
  return s.graph.emit(kLinear, LinearAttributes{.codec = s.attributes.codec}, {x, w, b, kNone}, name);
}

// x_l.
ValueId narrow(StreamRewrite& s, int64_t l, ValueId h) {
  const std::string name = fmt::format("sherl.{}.", l);
  const int64_t width = s.graph.value(h).type.shape.columns() / whole(s, "reduction");
  const ValueId low = linear(s, h, name + "fc1", width);
  const ValueId z = s.graph.emit(kActivation, ActivationAttributes{Activation::relu}, {low, kNone}, name + "z");
  PointwiseBuilder b;
  const Expr moved = b.tensor(), gate = b.tensor(), own = b.tensor();
  b.output((moved + own) * sigmoid(gate), s.attributes.codec);
  const ValueId fc2 = linear(s, z, name + "fc2", width), fc3 = linear(s, z, name + "fc3", width);
  return s.graph.emit(kPointwise, b.attributes(), {fc2, fc3, z}, name + "x");
}

// What the first of the late blocks reads in place of h.
ValueId gathered(StreamRewrite& s, ValueId h) {
  const ValueId guide = s.rows.back();
  const int64_t width = s.graph.value(h).type.shape.columns(), columns = s.graph.value(guide).type.shape.columns();
  const Initial initial = Initial::uniform(1 / std::sqrt(static_cast<float>(columns)));
  PointwiseBuilder product, sum;
  const Expr rows = product.tensor(), by = product.row();
  product.output(rows * by, s.attributes.codec);
  const ValueId query = s.graph.emit(kPointwise, product.attributes(),
                                     {guide, s.trained("sherl.attention", {columns}, initial)}, "sherl.query");
  std::vector<ValueId> in{query};
  in.insert(in.end(), s.rows.begin(), s.rows.end() - 1);
  const ValueId weighed = s.graph.emit(kWeighLayers, {}, in, "sherl.weighed");
  sum.output(max(sum.tensor() + sum.tensor(), 0), s.attributes.codec);
  const ValueId both = s.graph.emit(kPointwise, sum.attributes(), {weighed, guide}, "sherl.gathered");
  const Initial zero = Initial::constant(0);
  const ValueId w = s.trained("sherl.out.weight", {width, columns}, zero),
                b = s.trained("sherl.out.bias", {width}, zero);
  return s.graph.emit(kLinear, LinearAttributes{.codec = s.attributes.codec}, {both, w, b, h}, "sherl.out");
}

Result<ValueId> stream(StreamRewrite& s, int64_t blocks, ValueId made) {
  const int64_t last = s.layers - whole(s, "late"), every = whole(s, "every");
  const int64_t columns = s.graph.value(made).type.shape.columns();
  if (last < every)
    return fail(
        ErrorCode::invalid_argument,
        "--set sherl.late={} with sherl.every={}: the model has {} blocks, so that nothing before its last ones "
        "is gathered; give fewer",
        whole(s, "late"), every, s.layers);
  if (columns < whole(s, "reduction"))
    return fail(ErrorCode::invalid_argument, "--set sherl.reduction={}: the model is {} wide", whole(s, "reduction"),
                columns);
  if (blocks <= last && (last - blocks) % every == 0) s.rows.push_back(narrow(s, blocks, made));
  return blocks == last ? gathered(s, made) : made;
}

}  // namespace

const Rewrite kSherl = {.name = "sherl",
                        .summary = "what early blocks made is gathered for the last ones, which gradients end at",
                        .paper = "arXiv:2407.07523",
                        .rate = 5,
                        .options = kOptions,
                        .stream = stream,
                        .targets = "embed_tokens",
                        .not_merged = "gathers what early blocks made, which no weights come to",
                        .form = {.type = "SHERL", .fields = kFields}};

}  // namespace thimble
