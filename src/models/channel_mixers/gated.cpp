// gated: one matrix says how much of what another makes goes on.
//
//   Paper     Shazeer 2020, "GLU Variants Improve Transformer", arXiv:2002.05202, equation 6
//   Equation  f(x W_gate^T) * (x W_up^T), with SiLU or another f; SwiGLU and GeGLU are these
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

const ChannelMixer kGatedFfn = {.name = "gated",
                                .summary = "an activation of one matrix times what another makes",
                                .paper = "Shazeer 2020",
                                .modules = modules,
                                .mix = mix};

}  // namespace thimble
