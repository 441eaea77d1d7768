#include "run/resume.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <nlohmann/json.hpp>

#include "core/count.h"
#include "files/json.h"

namespace thimble {
namespace {

// All other flags decide the outcome. `multiply` is settled by the checkpoint; model and data are known by their
// fingerprints, an architecture by the numerics of its graph.
constexpr auto kFree = std::to_array<std::string_view>(
    {"model", "architecture", "teacher", "tokenizer", "data", "eval-data", "out", "steps", "epochs", "eval-every",
     "save-every", "keep-checkpoints", "on-divergence", "memory", "scratch", "multiply", "threads", "strict"});

std::string shown(const nlohmann::ordered_json& value) {
  if (value.is_null()) return "none";
  if (value.is_boolean()) return value.get<bool>() ? "on" : "off";
  if (value.is_string()) return value.get<std::string>().empty() ? "none" : value.get<std::string>();
  if (!value.is_array()) return value.dump();
  std::string list;
  for (const auto& one : value) list += fmt::format("{}{}", list.empty() ? "" : ",", shown(one));
  return list.empty() ? "none" : list;
}

Result<void> check_settings(const SafetensorsFile& checkpoint, const Recipe& settled) {
  const auto then = settings_of(checkpoint);
  if (then.empty())
    return fail(ErrorCode::corrupt, "{}: the checkpoint does not say with which settings it was made; begin a new run",
                checkpoint.path());
  auto now = nlohmann::ordered_json::parse(recipe_json(settled));
  // A setting at its default is in neither.
  for (const auto& [key, value] : then.items())
    if (!now.contains(key)) now[key] = nullptr;
  for (const auto& [key, value] : now.items()) {
    if (std::find(kFree.begin(), kFree.end(), key) != kFree.end()) continue;
    const auto before = then.find(key);
    if (before != then.end() && *before == value) continue;
    return fail(
        ErrorCode::invalid_argument,
        "--{}: the run in {} was begun with {}, now it is {}; go on with what it was begun with, or begin a new "
        "run with another --out",
        key, settled.out, before == then.end() ? "none" : shown(*before), shown(value));
  }
  return {};
}

Result<void> check_model(const SafetensorsFile& checkpoint, const Recipe& settled, const std::string& model) {
  const std::string then = metadata_text(checkpoint, "model");
  if (then == model) return {};
  if (then.empty())
    return fail(ErrorCode::corrupt, "{}: the checkpoint does not say of which model it is; begin a new run",
                checkpoint.path());
  std::string flags = settled.model.empty() ? "" : "--model " + settled.model;
  if (!settled.teacher.empty()) flags += (flags.empty() ? "--teacher " : " or --teacher ") + settled.teacher;
  return fail(ErrorCode::invalid_argument,
              "{}: the run in {} was begun with a model of other weights; go on with that one, or begin a new run with "
              "another --out",
              flags, settled.out);
}

Result<void> check_data(const SafetensorsFile& checkpoint, const Recipe& settled, const Dataset& data) {
  if (metadata_text(checkpoint, "data") == fingerprint_text(&data)) return {};
  const int64_t examples = TRY(metadata_number(checkpoint, "examples"));
  return fail(ErrorCode::invalid_argument,
              "--data {}: the run in {} was begun with other data ({} then, {}); go on with that data and its "
              "tokenizer, or begin a new run with another --out",
              settled.data, settled.out, counted(examples, data.windows() ? "window" : "example"),
              examples == data.size() ? "as many now, of another content or in other files"
                                      : fmt::format("{} now", data.size()));
}

}  // namespace

std::map<std::string, std::string> run_identity(const Recipe& settled, const RunSources& sources) {
  return {{"recipe", recipe_json(settled)},
          {"model", sources.model},
          {"examples", std::to_string(sources.data.size())},
          {"data", fingerprint_text(&sources.data)}};
}

Result<void> check_same_run(const SafetensorsFile& checkpoint, const Recipe& settled, const RunSources& sources) {
  CHECK_OK(check_settings(checkpoint, settled));
  CHECK_OK(check_model(checkpoint, settled, sources.model));
  return check_data(checkpoint, settled, sources.data);
}

std::string fingerprint_text(const Dataset* data) { return data ? fmt::format("{:016x}", data->fingerprint()) : ""; }

Result<std::string> fingerprint_text(const ModelSource* model) {
  return model ? fmt::format("{:016x}", TRY(model->fingerprint())) : "";
}

Result<int64_t> metadata_number(const SafetensorsFile& checkpoint, const std::string& key) {
  const std::string text = metadata_text(checkpoint, key);
  constexpr int64_t kMost = int64_t{1} << 53;
  int64_t value = -1;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error == std::errc{} && end == text.data() + text.size() && value >= 0 && value <= kMost) return value;
  return fail(ErrorCode::corrupt, "{}: expected a number from 0 on as the checkpoint's '{}', found '{}'",
              checkpoint.path(), key, text);
}

nlohmann::ordered_json settings_of(const SafetensorsFile& checkpoint) {
  auto settings = parse_ordered_json(metadata_text(checkpoint, "recipe"), checkpoint.path());
  return settings && settings->is_object() ? *std::move(settings) : nlohmann::ordered_json::object();
}

std::string metadata_text(const SafetensorsFile& checkpoint, const std::string& key) {
  const auto found = checkpoint.metadata().find(key);
  return found == checkpoint.metadata().end() ? "" : found->second;
}

}  // namespace thimble
