#include "models/channel_mixer.h"

#include <algorithm>

#include "ops/table.h"

namespace thimble {

std::span<const ChannelMixer* const> channel_mixers() {
  static constexpr const ChannelMixer* kTable[] = {&kGatedFfn, &kPlainFfn, &kLowRankFfn};
  return kTable;
}

const ChannelMixer* find_channel_mixer(std::string_view name) {
  const auto all = channel_mixers();
  const auto found = std::ranges::find(all, name, &ChannelMixer::name);
  return found == all.end() ? nullptr : *found;
}

void set_channel_mixer(FeedForward& ffn, const ChannelMixer& mixer, int64_t rank) {
  ffn.mixer = &mixer, ffn.rank = mixer.factored ? rank : 0;
}

int64_t usual_rank(int64_t width) { return std::max<int64_t>(width / 4, 1); }

ValueId ChannelMixerContext::activation(ValueId gate, ValueId up) const {
  return graph.emit(kActivation, ActivationAttributes{ffn.activation}, {gate, up}, name + "act");
}

}  // namespace thimble
