// LST: a narrow network beside the frozen model trains, without a backward pass through the model.
//
//   Paper   Sung et al. 2022 (ladder side-tuning), arXiv:2206.06522, section 3
//   Graph   s_0 = D_0 h_0 + b;  s_i = block_i(m s_(i-1) + (1 - m) (D_i h_i + b_i)), m = sigmoid(a_i / T); what the head
//           reads is h + U norm(s_L) + c. h_0 is the embedded text, h_i the residual stream behind block i
//   Adds    D_i [width / r, width] and b_i, uniform in +-1/sqrt(width); gates a_i, zeros; blocks with width, heads and
//           FFN r times as narrow; U [width, width / r] and c, zeros
//   Names   "side.down.<i>", "side.gate.<i>", "side.model.layers.<i>. ...", "side.model.norm", "side.up"; of peft_type
//           LST, which other tools do not read
//   Choice  h is added to and U begins at zero, so that training begins at the model: the authors' models are encoders
//           with decoders whose output is U norm(s_L) alone, or both mixed by one more gate. Blocks begin as rows and
//           columns of the model's by sums of magnitudes, where they take Fisher information
#include "methods/rewrites/ladder.h"

namespace thimble {
namespace {

constexpr Option kOptions[] = {
    whole_number("reduction", 8, 1, 1024, "r: the side network is so many times as narrow as the model"),
    whole_number("every", 1, 1, 4096, "the side network has a block for every so many of the model's"),
    zero_or_one("pruned", 1, "1: blocks begin as rows and columns of the model's, 0: at random"),
    {"temperature", 0.1, 1e-3, 1e3, "T of the gates"},
};
using Kind = PeftField::Kind;
constexpr PeftField kFields[] = {{"reduction", "reduction", Kind::whole, {}, 8},
                                 {"every", "every", Kind::whole, {}, 1},
                                 {"pruned", "pruned", Kind::flag},
                                 {"temperature", "temperature", Kind::number, {}, 0.1}};

int64_t narrower(const OptionValues& options) { return static_cast<int64_t>(options["reduction"]); }

ValueId down(SideRewrite& side, int64_t blocks, ValueId stream) {
  const int64_t columns = side.graph.value(stream).type.shape.columns();
  return side.project(stream, fmt::format("down.{}", blocks), SideRewrite::fresh_projection(columns, side.width));
}

SideRewrite::Begin begin_of(const SideRewrite& side) {
  return side.option("pruned") > 0 ? SideRewrite::Begin::of_model : SideRewrite::Begin::fresh;
}

void tap(SideRewrite& side, int64_t blocks, ValueId stream) {
  if (blocks % static_cast<int64_t>(side.option("every")) != 0) return;
  const ValueId tapped = down(side, blocks, stream);
  if (blocks == 0) {
    side.stream = tapped;
    return;
  }
  const std::string name = fmt::format("gate.{}", blocks);
  const ValueId gate = side.trained(name, {1}, Initial::constant(0));
  const double slope = 1 / side.option("temperature");
  const ValueId rows = ladder_mixed(side, tapped, gate, slope, "side." + name + ".mixed");
  side.stream = side.block(blocks - 1, rows, begin_of(side));
}

ValueId join(SideRewrite& side, ValueId hidden) {
  const Initial zero = Initial::constant(0);
  const int64_t columns = side.graph.value(hidden).type.shape.columns();
  return side.project(side.norm(side.stream, begin_of(side)), "up", {columns, zero, zero}, hidden);
}

}  // namespace

const Rewrite kLst = {.name = "lst",
                      .summary = "a narrow network beside the frozen model trains; no backward pass through the model",
                      .paper = "arXiv:2206.06522",
                      .rate = 5,
                      .options = kOptions,
                      .tap = tap,
                      .join = join,
                      .narrower = narrower,
                      .targets = "embed_tokens",
                      .not_merged = kBesideNotMerged,
                      .form = {.type = "LST", .fields = kFields}};

}  // namespace thimble
