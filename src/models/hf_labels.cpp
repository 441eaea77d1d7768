#include "models/hf_labels.h"

#include <algorithm>
#include <charconv>
#include <nlohmann/json.hpp>

namespace thimble {
namespace {

constexpr std::string_view kClassifier = "ForSequenceClassification";
constexpr std::string_view kNumberProblem = "regression", kClassProblem = "single_label_classification";
constexpr int64_t kDefaultLabels = 2;  // transformers'
constexpr size_t kLongestName = 1024;

// {"0": "negative", "1": "positive"}: every id once.
Result<std::vector<std::string>> names_of(const JsonFields& names) {
  const auto count = static_cast<int64_t>(names.json().size());
  if (count < 1 || count > kMostLabels)
    return fail(ErrorCode::corrupt, "reading {}: id2label should name 1 to {} labels, found {}", names.source(),
                kMostLabels, count);
  std::vector<std::string> out(static_cast<size_t>(count));
  std::vector<char> seen(out.size(), 0);
  for (const auto& [key, value] : names.json().items()) {
    int64_t id = -1;
    const auto [end, error] = std::from_chars(key.data(), key.data() + key.size(), id);
    const bool whole = error == std::errc{} && end == key.data() + key.size() && id >= 0 && id < count;
    if (!whole || seen[static_cast<size_t>(id)] || !value.is_string())
      return fail(ErrorCode::corrupt, "reading {}: id2label should have a text for every id from 0 to {}, found '{}'",
                  names.source(), count - 1, key);
    std::string name = value.get<std::string>();
    if (name.size() > kLongestName)
      return fail(ErrorCode::corrupt, "reading {}: the name of label {} has {} bytes, more than {}", names.source(), id,
                  name.size(), kLongestName);
    out[static_cast<size_t>(id)] = std::move(name), seen[static_cast<size_t>(id)] = 1;
  }
  return out;
}

}  // namespace

Result<Labels> labels_from(const JsonFields& config) {
  Labels labels;
  if (config.has("id2label")) {
    labels.names = TRY(names_of(TRY(config.object("id2label"))));
  } else {
    const int64_t count = TRY(config.get_or<int64_t>("num_labels", kDefaultLabels));
    if (count < 1 || count > kMostLabels)
      return fail(ErrorCode::corrupt, "reading {}: num_labels should be 1 to {}, found {}", config.source(),
                  kMostLabels, count);
    for (int64_t id = 0; id < count; ++id) labels.names.push_back(plain_label(id));
  }
  const std::string problem = TRY(
      config.get_or<std::string>("problem_type", std::string(labels.count() == 1 ? kNumberProblem : kClassProblem)));
  if (problem != kNumberProblem && problem != kClassProblem)
    return fail(ErrorCode::unsupported, "reading {}: problem_type is '{}'; thimble has {} and {}", config.source(),
                problem, kClassProblem, kNumberProblem);
  labels.kind = problem == kNumberProblem ? Labels::Kind::number : Labels::Kind::classes;
  if (labels.kind == Labels::Kind::number && labels.count() != 1)
    return fail(ErrorCode::unsupported, "reading {}: a regression of {} numbers; thimble has those of one",
                config.source(), labels.count());
  return labels;
}

Result<std::optional<Labels>> labels_from_config(const JsonFields& config) {
  const Json* const classes = config.find("architectures");
  const bool classifies = classes && classes->is_array() && std::ranges::any_of(*classes, [](const Json& name) {
                            return name.is_string() && name.get_ref<const std::string&>().ends_with(kClassifier);
                          });
  if (!classifies) return std::optional<Labels>();
  return std::optional(TRY(labels_from(config)));
}

void labels_to_config(const Labels& labels, nlohmann::ordered_json& config) {
  nlohmann::ordered_json names = nlohmann::ordered_json::object(), ids = names;
  for (int64_t id = 0; id < labels.count(); ++id) {
    names[std::to_string(id)] = labels.names[static_cast<size_t>(id)];
    ids[labels.names[static_cast<size_t>(id)]] = id;
  }
  config["id2label"] = names, config["label2id"] = ids;
  config["problem_type"] = labels.kind == Labels::Kind::number ? kNumberProblem : kClassProblem;
}

std::string classifier_class(std::string_view causal_class) {
  for (const std::string_view end : {"ForCausalLM", "LMHeadModel"})
    if (causal_class.ends_with(end)) causal_class.remove_suffix(end.size());
  return std::string(causal_class) + std::string(kClassifier);
}

}  // namespace thimble
