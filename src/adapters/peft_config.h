// adapter_config.json: what each of its fields means to a technique.
#pragma once

#include <string>

#include "adapters/modules.h"
#include "files/json.h"
#include "methods/rewrite.h"

namespace thimble {

enum class PeftMeaning {
  honoured,
  harmless,  // changes nothing that is computed
  refused,   // unless it is off: null, false or empty
  unknown,   // likewise
};
// What a field of a technique's configuration means, and why where it is not honoured.
PeftMeaning peft_meaning(const Rewrite& rewrite, std::string_view field, std::string_view* why = nullptr);

// The technique of `peft_type`; refuses other kinds, and fields that cannot be honoured, by name.
Result<const Rewrite*> check_peft_config(const nlohmann::ordered_json& config, const std::string& source);

// Refuses fields by name that matter only where the adapter trains on.
Result<void> check_peft_training(const Rewrite& rewrite, const nlohmann::ordered_json& config,
                                 const std::string& source);

// Whether the adapter is one of a model that says labels of texts.
bool says_labels(const nlohmann::ordered_json& config);

// Options of the technique, without those of single modules.
Result<OptionValues> peft_options(const Rewrite& rewrite, const nlohmann::ordered_json& config,
                                  const std::string& source);
// The same with what patterns say of one module.
Result<OptionValues> peft_options_of(const Rewrite& rewrite, const nlohmann::ordered_json& config,
                                     const OptionValues& all, const ModelModule& module, const std::string& source);

// A configuration of a fresh adapter. `targets` and `named` (lists of modules) are as they are to be written.
nlohmann::ordered_json fresh_peft_config(const Rewrite& rewrite, const OptionValues& options,
                                         const std::string& base_model, const nlohmann::ordered_json& targets,
                                         bool transposed);
// The options of single layers, into the fields that say these by the names of layers.
void write_settled(const RewriteSpec& spec, nlohmann::ordered_json& config);
// The steps of the run, into the fields that leave them open.
void write_steps(const Rewrite& rewrite, int64_t steps, nlohmann::ordered_json& config);
// Makes it one of a model that says labels; `head`: whose head is saved with it.
void set_labelled(nlohmann::ordered_json& config, bool head);

}  // namespace thimble
