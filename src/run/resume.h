// Whether a run may go on from a checkpoint: what the checkpoint tells of the run that it is of.
#pragma once

#include <map>
#include <nlohmann/json_fwd.hpp>
#include <string>

#include "files/safetensors.h"
#include "models/model_source.h"
#include "run/recipe.h"
#include "text/dataset.h"

namespace thimble {

// What a run trains on.
struct RunSources {
  const Dataset& data;
  std::string model;  // its fingerprint; "" when training from scratch
};

// Metadata of a checkpoint that tells settings, model and training data. `settled`: with the learning rate that is
// used.
std::map<std::string, std::string> run_identity(const Recipe& settled, const RunSources& sources);

// Refuses what would make another run of it: the message names the first flag that differs, what it was and what it is.
// Free to change are places of files, the number of steps, and what changes no bit (memory, threads, saving).
Result<void> check_same_run(const SafetensorsFile& checkpoint, const Recipe& settled, const RunSources& sources);

// Of a data set or a model; "" without one.
std::string fingerprint_text(const Dataset* data);
Result<std::string> fingerprint_text(const ModelSource* model);

// A number of the metadata, 0 or more.
Result<int64_t> metadata_number(const SafetensorsFile& checkpoint, const std::string& key);

// The text of it; "" when it is not there.
std::string metadata_text(const SafetensorsFile& checkpoint, const std::string& key);

// The settings that its run was made with, an object: those that are not at their defaults. Empty where it says none.
nlohmann::ordered_json settings_of(const SafetensorsFile& checkpoint);

}  // namespace thimble
