#include "run/executor.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "core/trace.h"
#include "ops/table.h"

namespace thimble {
namespace {

// Addresses of what a schedule names.
class Binder {
 public:
  Binder(const Graph& graph, const Schedule& schedule, const Layout& layout, const Places& places)
      : graph_(graph), schedule_(schedule), layout_(layout), places_(places) {}

  std::span<std::byte> memory(int residence) const {
    const Residence& r = schedule_.residences[static_cast<size_t>(residence)];
    const Storage& storage = schedule_.storages[static_cast<size_t>(r.storage)];
    return {places_.base + places_.transient_offset + storage.offset, static_cast<size_t>(r.bytes)};
  }

  // All of what an operand names: a residence, or a persistent value in memory.
  std::span<std::byte> memory_of(int operand) const {
    if (operand >= 0) return memory(operand);
    const Layout::Entry& entry = *layout_.find(graph_.value(persistent_value(operand)).name);
    return {places_.base + entry.offset, static_cast<size_t>(entry.type.bytes())};
  }

  Operand operand(ValueId id, int place, const Step& step, const Shape& whole) const {
    if (id == kNone) return {};
    const Type& type = graph_.value(id).type;
    std::byte* const data = memory_of(place).data();
    if (step.count == 0 || !type.shape.same_count(whole)) return {data, type.shape, type.codec};
    const int64_t begin = place >= 0 ? schedule_.residences[static_cast<size_t>(place)].first : 0;
    return {data + type.codec->bytes(step.first - begin), type.shape, type.codec};
  }

  // Of what a step overwrites, the last value that a save reads.
  int saved(const Step& step) const {
    int last = 0;
    for (const int place : schedule_.of(step.out))
      if (places_.gate && place < -1)
        last = std::max(last, places_.gate->position(layout_.find(graph_.value(persistent_value(place)).name)->offset));
    return last;
  }

  int64_t file_offset(const Transfer& transfer) const {
    const int64_t spilled = schedule_.spill_offset[static_cast<size_t>(transfer.value)];
    const int64_t value =
        spilled >= 0 ? places_.spill_offset + spilled : layout_.find(graph_.value(transfer.value).name)->offset;
    return value + transfer.at;
  }

 private:
  const Graph& graph_;
  const Schedule& schedule_;
  const Layout& layout_;
  const Places& places_;
};

// How much an executor holds.
struct Sizes {
  size_t operands = 0, cleared = 0;
  explicit Sizes(const Schedule& schedule) {
    for (const Step& step : schedule.steps) {
      operands += schedule.operands_of(step).size();
      cleared += step.zero.size() + step.fresh.size();
    }
  }
};

void clear(Threads& threads, std::span<std::byte> memory) noexcept {
  constexpr int64_t kPage = 4096;
  threads.split(static_cast<int64_t>(memory.size()), kPage, [&](int64_t begin, int64_t end, int) {
    std::memset(memory.data() + begin, 0, static_cast<size_t>(end - begin));
  });
}

}  // namespace

Executor::Executor(const Graph& graph, const Schedule& schedule, const Layout& layout, const Places& places)
    : scratch_(places.scratch), gate_(places.gate), events_(transfer_events(schedule)) {
  const Binder binder(graph, schedule, layout, places);
  const Sizes sizes(schedule);
  steps_.reserve(schedule.steps.size());
  operands_.reserve(sizes.operands);
  extents_.reserve(sizes.operands);
  cleared_.reserve(sizes.cleared);
  movements_.reserve(schedule.transfers.size());
  for (const Step& step : schedule.steps) {
    const Node& node = graph.nodes()[static_cast<size_t>(step.node)];
    const Shape whole = step.count ? graph.value(node.out[0]).type.shape : Shape{};
    const size_t first_extent = extents_.size();
    const auto bind = [&](const std::vector<ValueId>& ids, std::span<const int> places_of) {
      const size_t first = operands_.size();
      for (size_t i = 0; i < ids.size(); ++i) {
        operands_.push_back(binder.operand(ids[i], places_of[i], step, whole));
        extents_.push_back(ids[i] == kNone ? Extent::fixed : graph.value(ids[i]).type.extent);
      }
      return std::span(operands_).subspan(first);
    };
    const auto cleared = [&](const std::vector<int>& operands) {
      const size_t first = cleared_.size();
      for (int operand : operands) cleared_.push_back(binder.memory_of(operand));
      return std::span<const std::span<std::byte>>(cleared_).subspan(first);
    };
    Bound bound{.node = &node};
    if (step.count > 0) bound.part = {step.first, step.count};
    bound.saved = binder.saved(step);
    bound.in = bind(node.in, schedule.of(step.in));
    bound.out = bind(node.out, schedule.of(step.out));
    bound.extents = std::span(extents_).subspan(first_extent);
    if (step.workspace >= 0) bound.workspace = binder.memory(step.workspace);
    bound.zero = cleared(step.zero);
    bound.fresh = cleared(step.fresh);
    steps_.push_back(bound);
  }
  together_ = schedule.transfers.empty() &&
              std::none_of(steps_.begin(), steps_.end(), [](const Bound& step) { return step.node->op->alone; });
  for (const Transfer& t : schedule.transfers)
    movements_.push_back({binder.file_offset(t), binder.memory(t.residence), t.write, t.fresh});
}

int64_t Executor::memory_bytes(const Schedule& schedule) {
  const Sizes sizes(schedule);
  constexpr int64_t kAllocations = 6 * 32;
  return kAllocations +
         static_cast<int64_t>(schedule.steps.size() * sizeof(Bound) +
                              sizes.operands * (sizeof(Operand) + sizeof(Extent)) +
                              sizes.cleared * sizeof(std::span<std::byte>) +
                              schedule.transfers.size() * (sizeof(Movement) + 2 * sizeof(TransferEvent)));
}

void Executor::run_step(Bound& step, RunContext& context, PassPlace place) noexcept {
  if (step.node->last_pass && !place.last) return;
  if (step.saved > 0) gate_->wait_for(step.saved);
  const TracedOperation traced(step.node->op->name);
  for (std::span<std::byte> memory : step.zero) clear(context.threads, memory);
  if (place.first)
    for (std::span<std::byte> memory : step.fresh) clear(context.threads, memory);
  if (step.node->phase == Phase::update) {
    RunContext update = context;
    update.step = context.update_step, update.first_row = 0, update.multiply = Multiply::f32;
    step.node->op->run({step.node->attributes, step.in, step.out, step.workspace, update, step.part});
    return;
  }
  step.node->op->run({step.node->attributes, step.in, step.out, step.workspace, context, step.part});
}

Result<void> Executor::run(RunContext& context, int64_t tokens, int64_t selected) {
  const auto fit = [&](std::span<Operand> operands, std::span<const Extent> extents) {
    for (size_t i = 0; i < operands.size(); ++i) {
      const int64_t extent = extents[i] == Extent::tokens ? tokens : extents[i] == Extent::selected ? selected : -1;
      if (extent >= 0) operands[i].shape = operands[i].shape.with_first(extent);
    }
  };
  if (tokens >= 0 || selected >= 0)
    for (Bound& step : steps_) {
      fit(step.in, step.extents);
      fit(step.out, step.extents.subspan(step.in.size()));
    }
  if (!together_) return run_pass(context, {});
  context.threads.together([&] {
    for (Bound& step : steps_) run_step(step, context, {});
  });
  return {};
}

Result<void> Executor::move(const TransferEvent& event, bool first) {
  Movement& m = movements_[static_cast<size_t>(event.transfer)];
  if (m.fresh && first) return {};
  if (event.begin) {
    m.ticket = m.write ? scratch_->begin_write(m.offset, m.memory) : scratch_->begin_read(m.offset, m.memory);
    return {};
  }
  return scratch_->finish(std::exchange(m.ticket, -1));
}

// Nothing may move any more when a pass has failed.
Result<void> Executor::abandon(Failure failure) {
  for (Movement& m : movements_)
    if (m.ticket >= 0) (void)scratch_->finish(std::exchange(m.ticket, -1));
  return failure;
}

Result<void> Executor::run_pass(RunContext& context, PassPlace place) {
  size_t next = 0;
  for (size_t at = 0; at <= steps_.size(); ++at) {
    for (; next < events_.size() && events_[next].at == static_cast<int>(at); ++next)
      if (auto moved = move(events_[next], place.first); !moved) return abandon(Failure(std::move(moved.error())));
    if (scratch_) scratch_->poke();
    if (at < steps_.size()) run_step(steps_[at], context, place);
  }
  return {};
}

}  // namespace thimble
