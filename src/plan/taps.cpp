#include "plan/taps.h"

#include <memory>

#include "methods/side.h"
#include "models/narrower.h"

namespace thimble {

ModelTaps taps_of(const BuiltModel& model, const Architecture& architecture, const BuildOptions& options) {
  ModelTaps taps{model.streams, model.hidden, model.positions, model.starts, options.positions, {}};
  if (architecture.coupled || architecture.denoises) return taps;
  taps.blocks = [architecture, options](Graph& graph, int64_t by, Role role) -> Result<NarrowBlocks> {
    Architecture narrow = TRY(narrower(architecture, by));
    BuildOptions beside = options;
    beside.scope = kSide, beside.role = role;
    const int64_t width = narrow.width;
    const auto builder = std::make_shared<BlockBuilder>(graph, std::move(narrow), std::move(beside));
    return NarrowBlocks{width, [builder](int64_t layer, ValueId rows) { return builder->block(layer, rows); },
                        [builder](ValueId rows) { return builder->final_norm(rows); }};
  };
  return taps;
}

}  // namespace thimble
