#include "run/earlier_run.h"

#include <fnmatch.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "files/json.h"
#include "files/safetensors.h"
#include "report/report.h"
#include "run/resume.h"
#include "run/trainer.h"
#include "text/data_files.h"
#include "text/keep_files.h"

namespace thimble {
namespace {

namespace fs = std::filesystem;

// As write_adapter, write_hf_model and Tokenizer::save name them.
constexpr std::array kAdapterFiles = {"adapter_config.json", "adapter_model.safetensors", "adapter_stack.json",
                                      "system_prompt.txt", "chat_template.jinja"};
constexpr std::array kModelFiles = {
    "config.json",     "model.safetensors", "model.safetensors.index.json", "model-[0-9]*-of-[0-9]*.safetensors",
    kGenerationConfig,
};

bool lies_in(const std::string& folder, const std::string& path) {
  std::error_code none;
  const fs::path from = fs::weakly_canonical(path, none).lexically_relative(fs::weakly_canonical(folder, none));
  return !path.empty() && !from.empty() && *from.begin() != "..";
}

bool reads(const Recipe& recipe, const std::string& folder) {
  std::vector<std::string> inputs = {recipe.model, recipe.adapter, recipe.teacher, recipe.tokenizer};
  for (const std::string* data : {&recipe.data, &recipe.eval_data})
    for (const DataPart part : {DataPart::train, DataPart::evaluate})
      if (const auto files = data_files(*data, part))
        inputs.insert(inputs.end(), files->paths.begin(), files->paths.end());
  return std::ranges::any_of(inputs, [&](const std::string& path) { return lies_in(folder, path); });
}

void add_files(const std::string& folder, std::span<const char* const> names, std::vector<std::string>& to) {
  std::error_code none;
  for (const auto& entry : fs::directory_iterator(folder, none)) {
    const std::string name = entry.path().filename().string();
    const auto matches = [&](const char* pattern) { return ::fnmatch(pattern, name.c_str(), 0) == 0; };
    if (entry.is_regular_file(none) && std::ranges::any_of(names, matches)) to.push_back(entry.path().string());
  }
}

}  // namespace

Result<void> check_inputs_stay(const Recipe& recipe, bool trains_weights) {
  const std::string results = recipe.out + (trains_weights ? "/model" : "/adapter");
  for (const auto& [flag, path] : {std::pair("--model", recipe.model), std::pair("--adapter", recipe.adapter),
                                   std::pair("--teacher", recipe.teacher)})
    if (!recipe.out.empty() && lies_in(results, path))
      return fail(ErrorCode::invalid_argument,
                  "{} {}: what this run makes would take its place, and it could not be resumed; give another --out{}",
                  flag, path, recipe.resume ? "" : ", or --resume to go on with the run in it");
  return {};
}

std::vector<std::string> earlier_results(const Recipe& recipe) {
  std::vector<std::string> files;
  const std::vector<std::string> checkpoints = checkpoints_in(recipe.out);
  if (checkpoints.empty()) return files;
  const auto checkpoint = SafetensorsFile::open(checkpoints.front());
  if (!checkpoint) return files;
  const Json settings = parse_json(metadata_text(*checkpoint, "recipe"), checkpoint->path()).value_or(Json());
  const Json method = settings.is_object() ? settings.value("method", Json()) : Json();
  const std::string name = method.is_string() ? method.get<std::string>() : "";
  const auto stack = rewrites_named(name);
  const bool model = stack && stack->front()->trains_weights, adapter = stack && !model;
  for (const std::string& folder : {recipe.out, recipe.out + "/best"}) {
    if (adapter && !reads(recipe, folder + "/adapter")) {
      for (const Rewrite* rewrite : *stack)
        add_files(fmt::format("{}/adapter/{}", folder, rewrite->name), kAdapterFiles, files);
      add_files(folder + "/adapter", kAdapterFiles, files);
    }
    if (model && !reads(recipe, folder + "/model"))
      for (const std::span<const char* const> names :
           {std::span<const char* const>(kModelFiles), std::span<const char* const>(kTokenizerFiles)})
        add_files(folder + "/model", names, files);
  }
  if (is_file(recipe.out + kReportFile)) files.push_back(recipe.out + kReportFile);
  return files;
}

void remove_results(std::span<const std::string> files) {
  for (const std::string& file : files) {
    (void)remove_file(file);
    // An adapter/ of best/ first, then best/; a folder that holds anything stays, as --out does with its log.
    for (fs::path folder = fs::path(file).parent_path(); file_system().remove_folder(folder.string()) == 0;)
      folder = folder.parent_path();
  }
}

}  // namespace thimble
