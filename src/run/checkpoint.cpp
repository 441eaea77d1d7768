// Resuming and exporting of a training run.

#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "core/count.h"
#include "core/isa.h"
#include "files/safetensors.h"
#include "models/hf_writer.h"
#include "run/resume.h"
#include "run/setup.h"
#include "run/trainer.h"
#include "text/json_output.h"
#include "text/keep_files.h"

namespace thimble {

// What trains, and what an adapter has beside that.
bool Trainer::in_checkpoint(const std::string& name, const Layout::Entry& entry) const {
  const auto own = [&](const AdapterTensor& tensor) { return tensor.value == name; };
  return entry.role == Role::parameter || entry.role == Role::state ||
         (entry.role == Role::weight && std::any_of(plan_.train.adapter.begin(), plan_.train.adapter.end(), own));
}

// What is written beside what is there, a checkpoint and the result, must fit at the end: better now than then.
Result<void> Trainer::check_space() const {
  const Result<int64_t> free = free_bytes_(recipe_.out);
  if (!free) {
    events_.note(
        fmt::format("warning: {}: whether the checkpoints and the result will fit is not known", free.error().message));
    return {};
  }
  int64_t checkpoint = 0, result = 0;
  for (const auto& [name, entry] : plan_.layout.entries()) {
    if (in_checkpoint(name, entry)) checkpoint += entry.type.bytes();
    if (entry.role == Role::parameter) result += entry.type.bytes();
  }
  int64_t there = 0;
  for (const std::string& path : checkpoints_in(recipe_.out))
    if (const auto file = InputFile::open(path)) there += static_cast<int64_t>(file->size());
  // One more than is kept while it is written; no more than the run writes.
  const int64_t saves = 1 + (recipe_.save_every > 0 ? (steps_ - done_ - 1) / recipe_.save_every : 0);
  const int64_t beside = std::min(saves + (recipe_.resume ? 1 : 0), recipe_.keep_checkpoints + 1);
  const int64_t needed = std::max(checkpoint, beside * checkpoint + result - there);
  if (needed <= *free) return {};
  return fail(
      ErrorCode::io,
      "--out {}: {} of {} and the result of {} are to be written there, {} is free; free some space, give an --out on "
      "another disk, or --keep-checkpoints 1",
      recipe_.out, counted(beside, "checkpoint"), megabytes(checkpoint), megabytes(result), megabytes(*free));
}

Result<void> Trainer::read_position() {
  const SafetensorsFile& file = *checkpoint_;
  const std::string& path = file.path();
  if (const std::string numerics = metadata_text(file, "numerics"); numerics != plan_.numerics_hash)
    return fail(ErrorCode::invalid_argument,
                "{}: this checkpoint was made with another model or method (numerics {}, now {}); resume with those of "
                "the first run",
                path, numerics.empty() ? "none" : numerics, plan_.numerics_hash);
  if (const std::string isa = metadata_text(file, "isa"); !isa.empty() && isa != isa_name())
    events_.note(
        fmt::format("note: {} was written on instruction set level {}, this run is on {}: from here on it is not "
                    "bit-exact with the run before (--isa chooses the level)",
                    path, isa, isa_name()));
  done_ = TRY(metadata_number(file, "step"));
  tokens_ = TRY(metadata_number(file, "tokens"));
  if (const auto place = packer_->restore({TRY(metadata_number(file, "epoch")), TRY(metadata_number(file, "next"))});
      !place)
    return fail(ErrorCode::corrupt, "{}: {}", path, place.error().message);
  const int64_t steps = TRY(metadata_number(file, "steps"));
  if (steps != steps_)
    events_.note(
        fmt::format("warning: {} was to be {}, now {}: the schedule of the learning rate changes{}", path,
                    counted(steps, "step"), steps_,
                    std::ranges::any_of(spec_.wrappers, [](const WrapperUse& use) { return use.wrapper->scheduled; })
                        ? fmt::format("; what --method does by its own schedule stays as for {}",
                                      counted(spec_.scheduled_steps, "step"))
                        : ""));
  if (!metadata_text(file, "passed_over").empty())
    passed_over_ = static_cast<int>(std::clamp<int64_t>(TRY(metadata_number(file, "passed_over")), 0, 1000));
  if (!watch_.restore(metadata_text(file, "watch")))
    return fail(ErrorCode::corrupt, "{}: the checkpoint does not say which losses came before; begin a new run", path);
  CHECK_OK(restore_importance(file));
  evaluated_ = TRY(metadata_number(file, "evaluated"));
  if (metadata_text(file, "eval_data") == fingerprint_text(eval_data_.get())) {
    best_nll_ = std::strtod(metadata_text(file, "best_nll").c_str(), nullptr);
  } else if (eval_data_) {
    events_.note("note: --eval-data is not what it was; the best of the evaluations is looked for anew");
    evaluated_ = std::min(evaluated_, done_ - 1);
  }
  saved_evaluation_ = evaluated_;
  return {};
}

Result<void> Trainer::load_checkpoint() {
  const SafetensorsFile& file = *checkpoint_;
  Values all = values();
  for (const auto& [name, entry] : plan_.layout.entries()) {
    if (!in_checkpoint(name, entry)) continue;
    const SafetensorsEntry* const tensor = file.find(name);
    if (!tensor || tensor->bytes != static_cast<uint64_t>(entry.type.bytes()))
      return fail(ErrorCode::corrupt, "{}: '{}' is missing or of another size", file.path(), name);
    const Codec& codec = *entry.type.codec;
    CHECK_OK(all.fill(entry, codec.block, [&](int64_t first, int64_t count, std::byte* to, auto) {
      const uint64_t at = tensor->offset + static_cast<uint64_t>(codec.bytes(first));
      return file.file().read(at, {to, static_cast<size_t>(codec.bytes(count))});
    }));
  }
  checkpoint_.reset();
  return {};
}

Result<void> Trainer::restore_checkpoint() {
  CHECK_OK(load_checkpoint());
  saved_ = done_;
  events_.note(fmt::format("resumed at step {} of {}", done_, steps_));
  return {};
}

namespace {

// Whole rows where the value is not f32, as what its selector has frozen.
Result<void> read_decoded(Values& all, const Layout::Entry& entry, int64_t first, std::span<float> to) {
  const Codec& codec = *entry.type.codec;
  if (&codec == &kF32) return all.read(entry, first * 4, std::as_writable_bytes(to));
  const int64_t columns = entry.type.shape.columns();
  std::vector<std::byte> row(static_cast<size_t>(codec.bytes(columns)));
  for (size_t at = 0; at < to.size(); at += static_cast<size_t>(columns)) {
    const int64_t number = (first + static_cast<int64_t>(at)) / columns;
    CHECK_OK(all.read(entry, number * codec.bytes(columns), row));
    codec.decode(row.data(), to.data() + at, columns);
  }
  return {};
}

}  // namespace

// Elements of a value as files have it: of a trained one, what the optimizer says that evaluation takes.
Result<void> Trainer::read_result(Values& all, const std::string& name, int64_t first, std::span<float> to) const {
  const ReadElements read = [&](const std::string& value, int64_t at, std::span<float> part) {
    return read_decoded(all, *plan_.layout.find(value), at, part);
  };
  const auto& parameters = plan_.train.parameters;
  const auto trained = std::ranges::find(parameters, name, &TrainedParameter::name);
  return trained == parameters.end() ? read(name, first, to) : read_evaluated(spec_, *trained, first, to, read);
}

// The trained model, or the adapter alone.
Result<void> Trainer::export_model(const std::string& folder) {
  CHECK_OK(flush());
  forget_earlier();
  Values all = values();
  if (!spec_.trains_weights()) return export_adapter(folder);
  std::vector<ModelTensor> tensors;
  for (const TensorSpec& weight : tensor_specs(spec_.architecture))
    if (plan_.layout.find(weight.name)) tensors.push_back({weight.name, &kF32, weight.shape});
  const std::string& like = recipe_.architecture.empty() ? recipe_.model : recipe_.architecture;
  HfWriteOptions options{.ids = TRY(special_ids(tokenizer_.get(), like))};
  // transformers pads labelled texts, and looks before that.
  if (spec_.architecture.labels && !options.ids.eos.empty()) options.ids.pad = options.ids.eos.front();
  CHECK_OK(write_hf_model(
      folder + "/model", spec_.architecture, tensors,
      [&](const ModelTensor& tensor, int64_t row, int64_t rows, std::span<std::byte> to) -> Result<void> {
        const int64_t columns = tensor.shape.columns();
        const std::span numbers(reinterpret_cast<float*>(to.data()), static_cast<size_t>(rows * columns));
        return read_result(all, tensor.name, row * columns, numbers);
      },
      options));
  const std::string& from = recipe_.tokenizer.empty() ? like : recipe_.tokenizer;
  return keep_tokenizer(*tokenizer_, from, recipe_.model, folder + "/model");
}

Result<void> Trainer::finish() {
  CHECK_OK(settle_save());
  const bool trained = events_.last_step().step > 0;  // false: a finished run was resumed
  if (saved_ < done_ || saved_evaluation_ < evaluated_) CHECK_OK(save_checkpoint());
  CHECK_OK(export_model(recipe_.out));
  report();
  const int64_t peak = peak_resident_bytes(), planned = plan_.ledger.planned_bytes;
  const double loss = events_.last_step().loss;
  const std::string result = recipe_.out + (spec_.trains_weights() ? "/model" : "/adapter");
  const std::string summary =
      trained ? fmt::format("{}{}, {} tokens, loss {:.4f}", counted(done_, "step"),
                            skipped_ > 0 ? fmt::format(" ({} passed over)", skipped_) : "", tokens_, loss)
              : fmt::format("{} ({} tokens) done before, none is left to do", counted(done_, "step"), tokens_);
  events_.done(
      fmt::format(
          "\"steps\":{},\"skipped_steps\":{},\"tokens\":{},\"loss\":{},\"peak_rss_bytes\":{},\"planned_peak_bytes\":{},"
          "\"output\":{}",
          done_, skipped_, tokens_, trained ? fmt::format("{:.9g}", loss) : "null", peak, planned, json_string(result)),
      fmt::format("{}; peak memory {} = {:.1f} % of the plan; written to {}, report.html beside it", summary,
                  megabytes(peak), 100.0 * static_cast<double>(peak) / static_cast<double>(planned), result));
  return {};
}

}  // namespace thimble
