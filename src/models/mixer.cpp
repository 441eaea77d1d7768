#include "models/mixer.h"

#include <algorithm>

#include "ops/table.h"

namespace thimble {

const Mixer kAttentionMixer = {
    .name = "attention", .summary = "softmax attention over all tokens before, or a window of them", .paper = ""};

std::span<const Mixer* const> mixers() {
  static constexpr const Mixer* kTable[] = {&kAttentionMixer, &kDeltaNetMixer};
  return kTable;
}

const Mixer* find_mixer(std::string_view name) {
  const auto all = mixers();
  const auto found = std::ranges::find(all, name, &Mixer::name);
  return found == all.end() ? nullptr : *found;
}

void set_mixer(Block& block, const Mixer& mixer) {
  block.mixer = &mixer;
  block.attention.kv_heads = block.attention.heads;
  block.attention.rope = -1, block.attention.window = 0;
}

bool recurrent(const Architecture& a) {
  return std::ranges::any_of(a.blocks, [](const Block& b) { return b.mixer && b.mixer->recurrent; });
}

ValueId MixerContext::linear(const std::string& module, const Codec& codec) const {
  return graph.emit(kLinear, LinearAttributes{.codec = &codec}, {x, weight(name + module + ".weight"), kNone, kNone},
                    name + module);
}

}  // namespace thimble
