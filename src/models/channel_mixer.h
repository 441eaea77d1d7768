// The channel-mixer socket: how a block changes each token by itself (the FFN). A channel mixer is one file in
// channel_mixers/ and one row of the table in channel_mixer.cpp.
//
// A channel mixer reads [rows, width] and makes [rows, columns()], which "mlp.down_proj" takes back to the residual
// stream. It multiplies through `linear` alone, so that the same function makes the FFN of a block, whose rows are
// tokens, and the experts of a routed one, whose rows are tokens sorted by expert.
#pragma once

#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "graph/graph.h"
#include "models/architecture.h"

namespace thimble {

struct ChannelMixerContext {
  Graph& graph;
  const FeedForward& ffn;
  std::string name;  // of the FFN: "model.layers.3.mlp."
  ValueId x = kNone;
  // x times the weight of a module ("up_proj") with its bias, where there is one.
  std::function<ValueId(ValueId x, const std::string& module)> linear;

  // f(gate) * up; f(gate) without `up`.
  ValueId activation(ValueId gate, ValueId up = kNone) const;
};

struct ChannelMixer {
  std::string_view name;
  std::string_view summary;  // one line
  std::string_view paper;
  bool factored = false;  // matrices are products of two of FeedForward::rank
  // Matrices beside down_proj, as {module, out, in}.
  struct Module {
    std::string_view name;
    int64_t out = 0, in = 0;
    bool biased = true;  // where the FFN has biases
  };
  std::vector<Module> (*modules)(const FeedForward& ffn, int64_t width) = nullptr;
  ValueId (*mix)(const ChannelMixerContext& context) = nullptr;

  int64_t columns(const FeedForward& ffn) const { return factored ? ffn.rank : ffn.width; }
};

std::span<const ChannelMixer* const> channel_mixers();
const ChannelMixer* find_channel_mixer(std::string_view name);  // nullptr: there is none

extern const ChannelMixer kLowRankFfn;

// Makes an FFN one of another mixer; `rank` counts where that has factors.
void set_channel_mixer(FeedForward& ffn, const ChannelMixer& mixer, int64_t rank);
// The rank of a new FFN of low rank in a model of this width: about a third of the numbers of a gated one.
int64_t usual_rank(int64_t width);

}  // namespace thimble
