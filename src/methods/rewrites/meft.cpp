// MEFT: the frozen model with two coupled streams in place of its residual stream, so that no activation of a block has
// to wait for the backward pass: each is recomputed from what came out of the last block.
//
//   Paper   Liao et al. 2023, arXiv:2306.00477, section 3.2 and 3.3 (MEFT1); the authors' code (BaohaoLiao/mefts)
//   Graph   y1 = -lambda x1 + F(x2);  y2 = x2 + G(y1);  the next block has x1 = y2, x2 = y1. At first x1 = x2 = the
//           embedded text. G is an adapter; F(x) = (1 - lambda) block(x) + 2 lambda x, the block with an adapter beside
//           its FFN; the head reads (x2 - lambda x1) / (1 - lambda). With weighted=0 as the authors have it:
//           y1 = lambda x1 + block(x2), and the head reads (x1 + x2) / 2
//   Adds    adapters W_up gelu(W_down x + b) + c, W_down normal 0.02, W_up, b and c zeros; G's behind a norm
//   Names   "<down_proj>.meft_down.weight" and so on for F, "meft.<block>.down.weight" for G; peft_type MEFT, which
//           other tools do not read
//   Choice  the weights of F and of what the head reads: that is the embedded text and all that blocks added, once
//           each, as in the model. A block reads the last block's addition (1 - lambda) times, that before it
//           (1 - lambda^2) times and so on: x2 moves on with momentum (Sander et al. 2021, arXiv:2102.07870). The
//           authors' F adds lambda times the whole stream in every block. W_up begins at zero, so that lambda alone
//           moves the beginning; theirs is normal 0.02. lambda is a power of two: products with it lose no digit
#include <cmath>

#include "methods/stream.h"

namespace thimble {
namespace {

constexpr Option kOptions[] = {
    whole_number("rank", 32, 1, 4096, "width of the adapters"),
    {"lambda", 0.25, 1.0 / 1024, 0.5, "of the older stream, what goes on: a power of two; a block loses its digits"},
    zero_or_one("weighted", 1, "1: F and the head weighted so that training begins near the model; 0: as in the paper"),
};
using Kind = PeftField::Kind;
constexpr PeftField kFields[] = {{"r", "rank", Kind::whole, {}, 32},
                                 {"lambda", "lambda", Kind::number, {}, 0.25},
                                 {"weighted", "weighted", Kind::flag}};

// W_up gelu(W_down x + b) without c: what `up` multiplies.
ValueId narrow_rows(ModuleRewrite& m, ValueId x, ValueId down, ValueId bias, const std::string& name) {
  const LinearAttributes product{.codec = m.attributes.codec};
  const ValueId low = m.graph.emit(kLinear, product, {x, down, bias, kNone}, name + "low");
  return m.graph.emit(kActivation, ActivationAttributes{Activation::gelu}, {low, kNone}, name + "act");
}

// F's, beside the layer and those before it in an FFN.
void adapt(ModuleRewrite& m) {
  const auto inner = m.inner();
  const ValueId x = inner ? inner->x : m.x;
  const int64_t columns = m.graph.value(x).type.shape.columns(), rank = static_cast<int64_t>(m.option("rank"));
  const ValueId down = m.add("meft_down.weight", {rank, columns}, Initial::normal(0.02f));
  const ValueId down_bias = m.add("meft_down.bias", {rank}, Initial::constant(0));
  const ValueId up = m.add("meft_up.weight", {m.out, rank}, Initial::constant(0), {.by_rows = true});
  const ValueId up_bias = m.add("meft_up.bias", {m.out}, Initial::constant(0), {.by_rows = true});
  const ModuleRewrite::Term term{narrow_rows(m, x, down, down_bias, m.name("meft_")), up, 1};
  ValueId bias = up_bias;
  if (m.bias != kNone) bias = m.graph.emit(kAdd, {}, {up_bias, m.bias}, m.name("meft_bias"));
  m.y = m.linear(m.x, m.w, {&term, 1}, bias, m.addend, m.module.name);
}

// G, of the stream behind block `layer`.
ValueId beside(StreamRewrite& s, int64_t layer, ValueId y) {
  const std::string name = fmt::format("meft.{}.", layer);
  const int64_t columns = s.graph.value(y).type.shape.columns(), rank = static_cast<int64_t>(s.option("rank"));
  const ValueId down = s.trained(name + "down.weight", {rank, columns}, Initial::normal(0.02f));
  const ValueId down_bias = s.trained(name + "down.bias", {rank}, Initial::constant(0));
  const ValueId up = s.trained(name + "up.weight", {columns, rank}, Initial::constant(0));
  const ValueId up_bias = s.trained(name + "up.bias", {columns}, Initial::constant(0));
  const ValueId n = s.graph.emit(kLayerNorm, NormAttributes{}, {y, kNone, kNone}, name + "norm");
  const ValueId act = narrow_rows(s, n, down, down_bias, name);
  return s.graph.emit(kLinear, LinearAttributes{.codec = s.attributes.codec}, {act, up, up_bias, kNone}, name + "up");
}

// Digits of 96 that the inverse may lose, so that what is had back is what was there but for f32's last bits.
constexpr double kDigits = 72;

Result<void> check(const OptionValues& options, int64_t, int64_t) {
  int exponent = 0;
  if (std::frexp(options["lambda"], &exponent) == 0.5) return {};
  return fail(ErrorCode::invalid_argument, "--set meft.lambda={}: expected a power of two, 0.125, 0.25 or 0.5 say",
              options["lambda"]);
}

Result<ValueId> stream(StreamRewrite& s, int64_t blocks, ValueId made) {
  const double lambda = s.option("lambda");
  const bool weighted = s.option("weighted") > 0, last = blocks == s.layers;
  if (blocks == 0) {
    if (const double lost = -std::log2(lambda) * static_cast<double>(s.layers); lost > kDigits)
      return fail(ErrorCode::unsupported,
                  "--set meft.lambda={}: {} blocks would lose {} binary digits on the way back, of which {} may be "
                  "lost; give a lambda of {}",
                  lambda, s.layers, lost, kDigits, std::exp2(-std::floor(kDigits / static_cast<double>(s.layers))));
    s.first = s.second = {in_codec(s.graph, made, kF32, "meft.x"), kNone};
  } else {
    const std::string name = fmt::format("meft.{}.", blocks - 1);
    const CoupleAttributes f = weighted ? CoupleAttributes{-lambda, 1 - lambda, 2 * lambda} : CoupleAttributes{lambda};
    const Wide y1 = couple(s.graph, f, s.first, made, weighted ? s.second : Wide{}, name + "y1");
    s.first = couple(s.graph, {}, s.second, beside(s, blocks - 1, y1.high), {}, name + "y2"), s.second = y1;
  }
  s.graph.set_block(last ? -1 : static_cast<int>(blocks));
  return last ? joined(s.graph, s.second, s.first, weighted ? -lambda : 1, *s.attributes.codec, "meft.joined")
              : in_codec(s.graph, s.second.high, *s.attributes.codec, fmt::format("meft.{}.x", blocks));
}

}  // namespace

const Rewrite kMeft = {
    .name = "meft",
    .summary = "two coupled streams: activations are recomputed from what came out of the last block",
    .paper = "arXiv:2306.00477",
    .rate = 20,
    .options = kOptions,
    .adapt = adapt,
    .stream = stream,
    .keeper = "reversible",
    .targets = "mlp.down_proj",
    .not_merged = "has two streams in place of the residual stream, which no weights come to",
    .check = check,
    .form = {.type = "MEFT", .fields = kFields}};

}  // namespace thimble
