// Saving of a training run, beside the steps that follow.

#include <algorithm>
#include <chrono>
#include <limits>
#include <memory>
#include <nlohmann/json.hpp>
#include <system_error>

#include "core/isa.h"
#include "files/json.h"
#include "run/resume.h"
#include "run/trainer.h"

namespace thimble {
namespace {

// What a save has still to write when steps go on: memory, and what the checkpoint ends with.
struct RestOfSave {
  struct Part {
    std::span<const std::byte> bytes;
    int position;  // of the gate; 0: nothing overwrites it
  };
  CheckpointWriter writer;
  std::vector<Part> parts;
  int64_t keep;
  std::vector<std::string> damaged;

  // Whatever happens, no step waits any longer.
  Result<void> write(SaveGate& gate) {
    const std::unique_ptr<SaveGate, void (*)(SaveGate*)> opened(&gate, [](SaveGate* g) { g->open(); });
    for (const Part& part : parts) {
      CHECK_OK(writer.write(part.bytes));
      if (part.position > 0) gate.has_read(part.position);
    }
    gate.open();
    return writer.finish({keep, damaged});
  }
};

}  // namespace

// Configurations of the adapter that the run began with, or that was settled as it began; "" where there is neither.
std::string Trainer::began_with() const {
  if (configs_->empty() || !(spec_.rewrites.front().given || settled_layers_)) return "";
  return configs_->dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
}

std::map<std::string, std::string> Trainer::checkpoint_metadata() const {
  const Packer::State& data = packer_->state();
  auto metadata = run_identity(settled(), {*data_, model_fingerprint_});
  metadata.insert({{"step", std::to_string(done_)},
                   {"epoch", std::to_string(data.epoch)},
                   {"next", std::to_string(data.next)},
                   {"tokens", std::to_string(tokens_)},
                   {"multiply", std::to_string(static_cast<int>(spec_.multiply))},
                   {"near", near_names(plan_.moves)},
                   {"steps", std::to_string(steps_)},
                   {"scheduled_steps", std::to_string(spec_.scheduled_steps)},
                   {"evaluated", std::to_string(evaluated_)},
                   {"numerics", plan_.numerics_hash},
                   {"adapter", began_with()},
                   {"isa", std::string(isa_name())},
                   {"eval_data", fingerprint_text(eval_data_.get())},
                   {"watch", watch_.text()},
                   {"passed_over", std::to_string(passed_over_)},
                   {"scores", nlohmann::json(spec_.scores).dump()},
                   {"best_nll", fmt::format("{:.17g}", best_nll_)}});
  if (const std::string importance = importance_text(); !importance.empty()) metadata["importance"] = importance;
  return metadata;
}

// Those on disk first, which are read before steps go on; then those in memory, in the order in which steps overwrite
// them.
std::vector<Trainer::SavedValue> Trainer::saved_values() {
  std::vector<SavedValue> values;
  for (const auto& [name, entry] : plan_.layout.entries())
    if (in_checkpoint(name, entry))
      values.push_back({&name, &entry, entry.tier == Tier::disk ? 0 : passes_->gate().position(entry.offset)});
  std::ranges::stable_sort(values, {}, [](const SavedValue& value) {
    if (value.entry->tier == Tier::disk) return 0;
    return value.position > 0 ? value.position : std::numeric_limits<int>::max();
  });
  return values;
}

// `how` the rest is written, which is in memory: by a thread of its own (async), or in settle_save() (deferred).
Result<void> Trainer::begin_save(std::launch how) {
  CHECK_OK(settle_save());
  CHECK_OK(flush());
  const std::vector<SavedValue> values = saved_values();
  std::vector<SafetensorsTensor> tensors;
  for (const SavedValue& value : values) {
    const Type& type = value.entry->type;
    const bool plain = !type.codec->safetensors.empty();
    tensors.push_back({*value.name, plain ? type.codec->safetensors : "U8", plain ? type.shape : Shape{type.bytes()}});
  }
  std::vector<RestOfSave::Part> references;
  for (auto& [prefix, of] : {std::pair{"", &references_}, {kEvalReferences, &eval_references_}})
    for (const auto& [name, numbers] : of->tensors()) {
      if (numbers->empty()) continue;
      tensors.push_back({std::string(prefix) + name, "F32", {static_cast<int64_t>(numbers->size())}});
      references.push_back({std::as_bytes(std::span(*numbers)), 0});
    }
  auto writer = TRY(CheckpointWriter::create(recipe_.out, std::move(tensors), checkpoint_metadata()));
  // The first of a run stands alone: what is there is of another.
  RestOfSave rest{.writer = std::move(writer), .keep = saved_ < 0 ? 1 : recipe_.keep_checkpoints, .damaged = damaged_};
  Values all = this->values();
  for (const auto& [name, entry, position] : values) {
    if (entry->tier == Tier::disk) {
      CHECK_OK(all.visit(*entry, [&](std::span<const std::byte> part) { return rest.writer.write(part); }));
    } else {
      rest.parts.push_back({{all.memory(*entry), static_cast<size_t>(entry->type.bytes())}, position});
    }
  }
  rest.parts.insert(rest.parts.end(), references.begin(), references.end());
  SaveGate& gate = passes_->gate();
  gate.close();
  being_saved_ = {done_, evaluated_};
  const auto write = [rest = std::make_shared<RestOfSave>(std::move(rest)), &gate] { return rest->write(gate); };
  try {
    save_ = std::async(how, write);
    return {};
  } catch (const std::system_error&) {  // the system gives no thread: the step waits
    save_ = std::async(std::launch::deferred, write);
    return settle_save();
  }
}

Result<void> Trainer::settle_save() {
  if (!save_.valid()) return {};
  CHECK_OK(save_.get());
  damaged_.clear();
  forget_earlier();
  saved_ = being_saved_.step;
  saved_evaluation_ = being_saved_.evaluation;
  return {};
}

Result<void> Trainer::settle_save_if_done() {
  if (!save_.valid() || save_.wait_for(std::chrono::seconds(0)) != std::future_status::ready) return {};
  return settle_save();
}

Result<void> Trainer::save_checkpoint() {
  CHECK_OK(begin_save(std::launch::deferred));
  return settle_save();
}

}  // namespace thimble
