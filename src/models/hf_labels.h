// Labels in config.json, as transformers keeps them: id2label, label2id, num_labels and problem_type.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "core/labels.h"
#include "files/json.h"

namespace thimble {

// Those of a model of the class ...ForSequenceClassification; nothing for other classes. unsupported: texts with
// several labels at once.
Result<std::optional<Labels>> labels_from_config(const JsonFields& config);
// From an object with id2label, num_labels and problem_type, of which all may be missing.
Result<Labels> labels_from(const JsonFields& config);
void labels_to_config(const Labels& labels, nlohmann::ordered_json& config);

// "LlamaForSequenceClassification" for "LlamaForCausalLM".
std::string classifier_class(std::string_view causal_class);

}  // namespace thimble
