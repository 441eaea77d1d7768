// QST: ladder side-tuning beside a quantised model, with taps of low rank.
//
//   Paper   Zhang et al. 2024 (quantised side tuning), arXiv:2401.07004, section 3
//   Graph   s_0 = d_0(h_0);  s_i = block_i(m_i s_(i-1) + (1 - m_i) d_i(h_i)), m_i = sigmoid(z_i);  the head reads
//           a h + (1 - a) (U norm(s_L) + c). d_i(x) = layer_norm(silu(x A^T) B^T), or with rank 0 the mean of every r
//           neighbours of x
//   Adds    A [rank, width], B [width / r, rank], uniform in +-1/sqrt(columns), with gain and bias of the norm; z_i
//           [width / r], 0.5; blocks as of a new model, with width, heads and FFN r times as narrow; U
//           [width, width / r] and c, uniform in +-1/sqrt(width / r); a [width], ones: training begins at the model
//   Names   "side.down.<i>.A", ".B", ".norm", "side.gate.<i>", "side.model.layers.<i>. ...", "side.model.norm",
//           "side.up", "side.mix"; peft_type QST, which other tools do not read
//   Choice  a is one, as the paper says; the authors' code has sigmoid(1). Every tap has a d of its own, where theirs
//           shares the first. r is 8, where theirs is 16 for models of 4096 columns. No dropout; of their ways to make
//           rows narrower maximum pooling is not here
#include "methods/rewrites/ladder.h"
#include "ops/pointwise.h"
#include "ops/table.h"
#include "ops/update.h"

namespace thimble {
namespace {

constexpr Option kOptions[] = {
    whole_number("reduction", 8, 1, 1024, "r: the side network is so many times as narrow as the model"),
    whole_number("rank", 16, 0, 65536, "of the matrices that make rows narrower; 0: means of neighbours"),
};
using Kind = PeftField::Kind;
constexpr PeftField kFields[] = {{"reduction", "reduction", Kind::whole, {}, 8}, {"r", "rank", Kind::whole, {}, 16}};

int64_t narrower(const OptionValues& options) { return static_cast<int64_t>(options["reduction"]); }

// Row i of the matrix is 1/r in columns i r .. (i + 1) r - 1.
ValueId pooled(SideRewrite& side, const std::string& name, ValueId x) {
  const int64_t columns = side.graph.value(x).type.shape.columns(), by = columns / side.width;
  const auto fill = [=](int64_t first, int64_t count, float* to) {
    for (int64_t e = first; e < first + count; ++e)
      to[e - first] = e % columns / by == e / columns ? 1 / static_cast<float>(by) : 0;
  };
  const ValueId means = side.constant("side.means", {side.width, columns},
                                      Initial::table(fill, fmt::format("means of {} of {}", by, columns)));
  return side.product(x, means, name);
}

ValueId down(SideRewrite& side, int64_t blocks, ValueId x) {
  const std::string name = fmt::format("down.{}", blocks);
  const auto rank = static_cast<int64_t>(side.option("rank"));
  if (rank == 0) return pooled(side, "side." + name, x);
  const auto matrix = [&](const char* which, int64_t out, int64_t in) {
    return side.trained(name + which, {out, in}, SideRewrite::fresh_projection(in, out).weight);
  };
  const int64_t columns = side.graph.value(x).type.shape.columns();
  const ValueId h = side.product(x, matrix(".A", rank, columns), "side." + name + ".h");
  const ValueId active =
      side.graph.emit(kActivation, ActivationAttributes{Activation::silu}, {h, kNone}, "side." + name + ".active");
  const ValueId y = side.product(active, matrix(".B", side.width, rank), "side." + name + ".y");
  const ValueId gain = side.trained(name + ".norm.weight", {side.width}, Initial::constant(1));
  const ValueId bias = side.trained(name + ".norm.bias", {side.width}, Initial::constant(0));
  return side.graph.emit(kLayerNorm, NormAttributes{}, {y, gain, bias}, "side." + name);
}

void tap(SideRewrite& side, int64_t blocks, ValueId stream) {
  const ValueId tapped = down(side, blocks, stream);
  if (blocks == 0) {
    side.stream = tapped;
    return;
  }
  const std::string name = fmt::format("gate.{}", blocks);
  const ValueId gate = side.trained(name, {side.width}, Initial::constant(0.5f));
  side.stream = side.block(blocks - 1, ladder_mixed(side, tapped, gate, 1, "side." + name + ".mixed"));
}

ValueId join(SideRewrite& side, ValueId hidden) {
  const int64_t columns = side.graph.value(hidden).type.shape.columns();
  const ValueId up = side.project(side.norm(side.stream), "up", SideRewrite::fresh_projection(side.width, columns));
  PointwiseBuilder b;
  const Expr own = b.tensor(), beside = b.tensor(), share = b.row();
  b.output(share * own + (1 - share) * beside, side.attributes.codec);
  const ValueId mix = side.trained("mix", {columns}, Initial::constant(1));
  return side.graph.emit(kPointwise, b.attributes(), {hidden, up, mix}, "side.joined");
}

}  // namespace

const Rewrite kQst = {.name = "qst",
                      .summary = "side tuning beside a quantised model, with taps of low rank",
                      .paper = "arXiv:2401.07004",
                      .rate = 25,
                      .options = kOptions,
                      .tap = tap,
                      .join = join,
                      .narrower = narrower,
                      .targets = "embed_tokens",
                      .not_merged = kBesideNotMerged,
                      .form = {.type = "QST", .fields = kFields}};

}  // namespace thimble
