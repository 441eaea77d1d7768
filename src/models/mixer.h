// The mixer socket: how a block lets a token know of the tokens before it. A mixer is one file in mixers/ and one row
// of the table in mixer.cpp. Attention is what the builder of graphs makes itself (build.cpp); the others are here.
//
// A mixer reads [tokens, width] and makes [tokens, heads * head_dim], which "self_attn.o_proj" takes back to the
// residual stream. Over whole sequences it has `starts`; where sequences go on over several runs it keeps a state for
// each slot, a value of role state, which a token at position 0 begins anew.
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "graph/graph.h"
#include "models/architecture.h"

namespace thimble {

struct MixerContext {
  Graph& graph;
  const Attention& attention;  // heads and their width
  std::string name;            // of the mixer: "model.layers.3.self_attn."
  ValueId x = kNone;           // what it reads, [tokens, width]
  // i32 [tokens]: where a token's sequence begins, of whole sequences; else the slot that it is in, and its position.
  ValueId starts = kNone, slots = kNone, positions = kNone;
  int64_t slot_count = 0;  // 0: rows are whole sequences
  int64_t longest = 0;     // sequence
  double epsilon = 1e-5;   // of norms
  std::function<ValueId(const std::string& name)> weight;

  bool whole() const { return slot_count == 0; }
  ValueId linear(const std::string& module, const Codec& codec) const;  // x times "<module>.weight"
};

struct Mixer {
  std::string_view name;
  std::string_view summary;  // one line
  std::string_view paper;
  // The state of a slot cannot go back to an earlier token: it is as it is, or begins anew.
  bool recurrent = false;
  // Tensors beside o_proj, by their names within "self_attn."; matrices begin with `matrix`.
  std::vector<TensorSpec> (*tensors)(const Attention& attention, int64_t width, const Initial& matrix) = nullptr;
  ValueId (*mix)(const MixerContext& context) = nullptr;  // nullptr: attention
};

std::span<const Mixer* const> mixers();
const Mixer* find_mixer(std::string_view name);  // nullptr: there is none

extern const Mixer kAttentionMixer, kDeltaNetMixer;

// Makes a block one of another mixer than attention.
void set_mixer(Block& block, const Mixer& mixer);
// Whether sequences of the model cannot be taken back to an earlier token.
bool recurrent(const Architecture& architecture);

}  // namespace thimble
