// low_rank: the gated FFN with each of its matrices a product of two of a small rank, trained so from the beginning.
//
//   Paper     Wei et al. 2024, "Building on Efficient Foundations: Effectively Training LLMs with Structured
//             Feedforward Layers", arXiv:2406.16450, section 2.1
//   Source    CLAIRE-Labo/StructuredFFN, modules/layer/lowrank.py
//   Equation  W x -> U (V x), for gate, up and down; f(gate) * up between them
//   Begins    U and V with normal numbers whose product has the deviation of the matrix that it stands for (Initial in
//             architecture.cpp). The authors begin with the singular vectors of such a matrix
//   Choice    no dense matrix beside the product guides its first steps (the paper's self-guided training)
#include "models/channel_mixer.h"

namespace thimble {
namespace {

std::vector<ChannelMixer::Module> modules(const FeedForward& ffn, int64_t width) {
  return {{"gate_proj_in", ffn.rank, width, false},
          {"gate_proj", ffn.width, ffn.rank},
          {"up_proj_in", ffn.rank, width, false},
          {"up_proj", ffn.width, ffn.rank},
          {"down_proj_in", ffn.rank, ffn.width, false}};
}

ValueId mix(const ChannelMixerContext& c) {
  const ValueId gate = c.linear(c.linear(c.x, "gate_proj_in"), "gate_proj");
  const ValueId up = c.linear(c.linear(c.x, "up_proj_in"), "up_proj");
  return c.linear(c.activation(gate, up), "down_proj_in");
}

}  // namespace

const ChannelMixer kLowRankFfn = {.name = "low_rank",
                                  .summary = "gated, of matrices that are products of two of a small rank",
                                  .paper = "arXiv:2406.16450",
                                  .factored = true,
                                  .modules = modules,
                                  .mix = mix};

}  // namespace thimble
