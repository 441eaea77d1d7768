#include "run/executor.h"

#include <cstring>

namespace thimble {

Executor::Executor(const Graph& graph, const Schedule& schedule, const Layout& layout, std::byte* base,
                   int64_t transient_offset) {
  std::byte* const transient = base + transient_offset;
  const auto address = [&](int residence) {
    return transient +
           schedule.storages[static_cast<size_t>(schedule.residences[static_cast<size_t>(residence)].storage)].offset;
  };
  const auto bind = [&](ValueId id, int place) -> Operand {
    if (id == kNone) return {};
    const Type& type = graph.value(id).type;
    std::byte* const data =
        place <= -2 ? base + layout.find(graph.value(persistent_value(place)).name)->offset : address(place);
    return {data, type.shape, type.codec};
  };
  for (const Step& step : schedule.steps) {
    const Node& node = graph.nodes()[static_cast<size_t>(step.node)];
    Bound bound{.node = &node};
    for (size_t i = 0; i < node.in.size(); ++i) {
      bound.in.push_back(bind(node.in[i], step.in[i]));
      bound.in_extent.push_back(node.in[i] == kNone ? Extent::fixed : graph.value(node.in[i]).type.extent);
    }
    for (size_t i = 0; i < node.out.size(); ++i) {
      bound.out.push_back(bind(node.out[i], step.out[i]));
      bound.out_extent.push_back(node.out[i] == kNone ? Extent::fixed : graph.value(node.out[i]).type.extent);
    }
    if (step.workspace >= 0)
      bound.workspace = {address(step.workspace),
                         static_cast<size_t>(schedule.residences[static_cast<size_t>(step.workspace)].bytes)};
    for (int residence : step.zero)
      bound.zero.push_back(
          {address(residence), static_cast<size_t>(schedule.residences[static_cast<size_t>(residence)].bytes)});
    steps_.push_back(std::move(bound));
  }
}

void Executor::run(RunContext& context, int64_t tokens, int64_t selected) noexcept {
  const auto fit = [&](std::vector<Operand>& operands, const std::vector<Extent>& extents) {
    for (size_t i = 0; i < operands.size(); ++i) {
      const int64_t extent = extents[i] == Extent::tokens ? tokens : extents[i] == Extent::selected ? selected : -1;
      if (extent >= 0) operands[i].shape = operands[i].shape.with_first(extent);
    }
  };
  for (Bound& step : steps_) {
    if (tokens >= 0 || selected >= 0) {
      fit(step.in, step.in_extent);
      fit(step.out, step.out_extent);
    }
    for (std::span<std::byte> memory : step.zero) std::memset(memory.data(), 0, memory.size());
    step.node->op->run({step.node->attributes, step.in, step.out, step.workspace, context});
  }
}

}  // namespace thimble
