// @NAME@: one line that says how a block changes each token by itself.
//
//   Paper     Authors and year, title, arXiv number, equation
//   Equation  f(x W_gate^T) * (x W_up^T), with the f of the model
//
// As made from the template: the gated FFN.
#include "models/channel_mixer.h"

namespace thimble {
namespace {

std::vector<ChannelMixer::Module> modules(const FeedForward& ffn, int64_t width) {
  return {{"gate_proj", ffn.width, width}, {"up_proj", ffn.width, width}};
}

ValueId mix(const ChannelMixerContext& c) {
  const ValueId gate = c.linear(c.x, "gate_proj");
  return c.activation(gate, c.linear(c.x, "up_proj"));
}

}  // namespace

const ChannelMixer @SYMBOL@ = {.name = "@NAME@",
                               .summary = "one line for help and docs",
                               .paper = "Authors and year",
                               .modules = modules,
                               .mix = mix};

}  // namespace thimble
