// SmolLM2 through the library, for the golden tests.
#pragma once

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "files/json.h"
#include "run/evaluator.h"
#include "text/dataset.h"

namespace thimble {

inline std::unique_ptr<Inference> open_model(const std::string& model, const std::string& precision,
                                             const std::string& tokenizer = "") {
  auto inference = Inference::open({.model = model, .tokenizer = tokenizer, .precision = precision});
  EXPECT_TRUE(inference) << inference.error().message;
  return inference ? std::move(*inference) : nullptr;
}

// Mean loss of each of the first `limit` windows (0: all) of a text.
inline std::vector<double> window_losses(const std::string& model, const std::string& precision,
                                         const std::string& text, int64_t limit) {
  std::vector<double> losses;
  const auto inference = open_model(model, precision);
  if (!inference) return losses;
  auto data = Dataset::open(text, inference->tokenizer(), {.context = 512});
  auto evaluator = Evaluator::prepare(*inference, 512, 1, [&](const Score& score) { losses.push_back(score.mean()); });
  EXPECT_TRUE(data && evaluator && (*evaluator)->load());
  if (!data || !evaluator) return losses;
  Example example;
  for (int64_t i = 0; i < (limit ? limit : (*data)->size()); ++i) {
    EXPECT_TRUE((*data)->read(i, example) && (*evaluator)->add(example.ids, example.trained));
  }
  (*evaluator)->flush();
  return losses;
}

inline std::vector<double> golden_losses(const std::string& path) {
  const auto json = read_json_file(path);
  EXPECT_TRUE(json) << json.error().message;
  return json ? json->at("windows").get<std::vector<double>>() : std::vector<double>();
}

}  // namespace thimble
