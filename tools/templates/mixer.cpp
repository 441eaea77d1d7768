// @NAME@: one line that says how a token knows of those before it.
//
//   Paper   Authors and year, title, arXiv number, section
//   Source  where its authors' code is
//   Rows    y = conv(x W_v^T), a causal convolution of 4 rows for every column
//   State   the last 3 rows of x W_v^T
//
// As made from the template: a token sees itself and the three before it.
#include "models/mixer.h"
#include "ops/recurrent.h"
#include "ops/table.h"

namespace thimble {
namespace {

constexpr int64_t kTaps = 4;

std::vector<TensorSpec> tensors(const Attention& a, int64_t width, const Initial& matrix) {
  const Initial taps = Initial::uniform(0.5f);  // 1 / sqrt(kTaps), as PyTorch begins a convolution of one column
  return {{"v_proj.weight", {a.q_width(), width}, matrix}, {"v_conv1d.weight", {a.q_width() * kTaps}, taps}};
}

ValueId mix(const MixerContext& c) {
  Graph& g = c.graph;
  const std::string name = c.name + "v_conv1d";
  const ValueId v = c.linear("v_proj", *g.value(c.x).type.codec), w = c.weight(name + ".weight");
  if (c.whole()) return g.emit(kShortConv, {}, {v, w, c.starts}, name);
  const Type rows{{c.slot_count, (kTaps - 1) * c.attention.q_width()}};
  const ValueId state = g.add_value(name + ".state", rows, Role::state);
  return g.emit(kShortConvCached, {}, {v, w, state, c.slots, c.positions}, name);
}

}  // namespace

const Mixer @SYMBOL@ = {.name = "@NAME@",
                        .summary = "one line for help and docs",
                        .paper = "Authors and year",
                        .recurrent = true,
                        .tensors = tensors,
                        .mix = mix};

}  // namespace thimble
