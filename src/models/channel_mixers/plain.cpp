// plain: the FFN of the first transformer.
//
//   Paper     Vaswani et al. 2017, arXiv:1706.03762, equation 2
//   Equation  f(x W_up^T + b), with ReLU, GELU or another f
#include "models/channel_mixer.h"

namespace thimble {
namespace {

std::vector<ChannelMixer::Module> modules(const FeedForward& ffn, int64_t width) {
  return {{"up_proj", ffn.width, width}};
}

ValueId mix(const ChannelMixerContext& c) { return c.activation(c.linear(c.x, "up_proj")); }

}  // namespace

const ChannelMixer kPlainFfn = {.name = "plain",
                                .summary = "an activation between two matrices",
                                .paper = "Vaswani et al. 2017",
                                .modules = modules,
                                .mix = mix};

}  // namespace thimble
