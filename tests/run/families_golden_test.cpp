// Tiny models of every family against transformers (../shared/data/families, whose README names the script): logits,
// greedy text over a cache, eight steps of training; and the same logits after the model went through each writer.
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "files/safetensors.h"
#include "models/families.h"
#include "models/gguf_writer.h"
#include "models/hf_config.h"
#include "models/hf_writer.h"
#include "models/model_source.h"
#include "run/all_logits.h"
#include "run/generator.h"
#include "run/sampler.h"
#include "run/trainer.h"
#include "shared_data.h"
#include "temporary_folder.h"

namespace thimble {
namespace {

std::string families_folder() { return shared_data("families").value_or(""); }

// Folders whose model_type is in the table.
std::vector<std::string> goldens() {
  std::vector<std::string> out;
  if (families_folder().empty()) return out;
  for (const auto& entry : std::filesystem::directory_iterator(families_folder())) {
    const auto config = read_json_file((entry.path() / "model/config.json").string());
    if (config && find_family(config->value("model_type", ""))) out.push_back(entry.path().filename().string());
  }
  std::sort(out.begin(), out.end());
  return out;
}

// transformers 5.24's eager attention, which made this golden, adds Falcon's ALiBi to the scores and, once more, to the
// mask; its default (sdpa), older versions and the model's own code add it once.
constexpr std::string_view kBiasTwice = "falcon_alibi";

class FamilyGolden : public ::testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    if (GetParam() == kBiasTwice) GTEST_SKIP() << "the golden adds ALiBi twice";
    auto opened = SafetensorsFile::open(folder_ + "/golden.safetensors");
    ASSERT_TRUE(opened) << opened.error().message;
    golden_.emplace(std::move(*opened));
    const auto ids = read<int32_t>("ids");
    rows_ = golden_->find("ids")->shape[0], length_ = golden_->find("ids")->shape[1];
    for (int64_t r = 0; r < rows_; ++r) ids_.emplace_back(ids.begin() + r * length_, ids.begin() + (r + 1) * length_);
  }

  template <class T>
  std::vector<T> read(std::string_view name) const {
    const SafetensorsEntry* const entry = golden_->find(name);
    EXPECT_TRUE(entry) << name;
    std::vector<T> out(entry ? static_cast<size_t>(entry->shape.count()) : 0);
    if (entry) EXPECT_TRUE(golden_->file().read(entry->offset, std::as_writable_bytes(std::span(out))));
    return out;
  }

  // Largest difference of a logit, relative to their spread.
  double logits_apart(const std::string& model) const {
    const auto inference = Inference::open({.model = model, .precision = "f32", .multiply = "f32"});
    if (!inference) return ADD_FAILURE() << inference.error().message, 1;
    const auto logits = AllLogits::prepare(**inference, length_);
    if (!logits || !(*logits)->load()) return ADD_FAILURE() << model, 1;
    const auto expected = read<float>("logits");
    double mean = 0, squares = 0, apart = 0;
    size_t at = 0;
    for (const auto& ids : ids_) {
      const auto found = (*logits)->run(ids);
      if (!found) return ADD_FAILURE() << found.error().message, 1;
      for (const float logit : *found) {
        const double want = static_cast<double>(expected[at++]);
        mean += want, squares += want * want;
        apart = std::max(apart, std::abs(static_cast<double>(logit) - want));
      }
    }
    mean /= static_cast<double>(at);
    return apart / std::sqrt(squares / static_cast<double>(at) - mean * mean);
  }

  const std::string folder_ = families_folder() + "/" + GetParam(), model_ = folder_ + "/model";
  std::optional<SafetensorsFile> golden_;
  int64_t rows_ = 0, length_ = 0;
  std::vector<std::vector<int32_t>> ids_;
};
GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(FamilyGolden);
INSTANTIATE_TEST_SUITE_P(Transformers, FamilyGolden, ::testing::ValuesIn(goldens()),
                         [](const auto& info) { return info.param; });

TEST_P(FamilyGolden, logits) { EXPECT_LT(logits_apart(model_), 1e-4); }

TEST_P(FamilyGolden, logits_from_an_older_config) {
  if (!is_file(folder_ + "/config_v4.json")) GTEST_SKIP() << "there is none";
  const TemporaryFolder folder;
  std::filesystem::create_symlink(model_ + "/model.safetensors", folder.file("model.safetensors"));
  std::filesystem::copy(folder_ + "/config_v4.json", folder.file("config.json"));
  EXPECT_LT(logits_apart(folder.path()), 1e-4);
}

TEST_P(FamilyGolden, logits_after_the_writers) {
  const TemporaryFolder folder;
  const auto source = ModelSource::open(model_);
  ASSERT_TRUE(source) << source.error().message;
  const ModelSource& from = **source;
  const auto written = write_hf_model(folder.file("hf"), from.architecture(), from.tensors(), rows_of(from));
  ASSERT_TRUE(written) << written.error().message;
  EXPECT_LT(logits_apart(folder.file("hf")), 1e-4);
  const auto gguf = write_gguf_model(folder.file("m.gguf"), from.architecture(), from.tensors(), rows_of(from));
  if (gguf) {
    EXPECT_LT(logits_apart(folder.file("m.gguf")), 1e-4);
  } else {
    EXPECT_EQ(gguf.error().code, ErrorCode::unsupported) << gguf.error().message;
    EXPECT_FALSE(is_file(folder.file("m.gguf")));
    RecordProperty("gguf", gguf.error().message);
  }
}

// Over a cache. A rope that depends on the length takes the context of the run for it, and not what was seen so far.
TEST_P(FamilyGolden, greedy) {
  if (GetParam() == "llama_dynamic" || GetParam() == "phi3_longrope")
    GTEST_SKIP() << "its rope changes while the sequence grows";
  const auto inference = Inference::open({.model = model_, .precision = "f32", .multiply = "f32", .cache_type = "f32"});
  ASSERT_TRUE(inference) << inference.error().message;
  const auto generator = Generator::prepare(**inference, 1, 64);
  ASSERT_TRUE(generator) << generator.error().message;
  ASSERT_TRUE((*generator)->load());
  const Generator::Prompt prompt{0, std::span(ids_[0]).first(16)};
  ASSERT_TRUE((*generator)->prefill({&prompt, 1}));
  const auto expected = read<int32_t>("greedy");
  std::vector<int32_t> found;
  while (found.size() < expected.size()) {
    const auto logits = (*generator)->logits(0);
    found.push_back(static_cast<int32_t>(std::max_element(logits.begin(), logits.end()) - logits.begin()));
    const Generator::Token token{0, found.back()};
    ASSERT_TRUE((*generator)->step({&token, 1}));
  }
  EXPECT_EQ(found, expected);
}

TEST_P(FamilyGolden, eight_steps_of_training) {
  const TemporaryFolder folder;
  const SafetensorsTensor tensor{"ids", "I32", {rows_, length_}};
  auto data = SafetensorsWriter::create(folder.file("ids.safetensors"), {&tensor, 1});
  ASSERT_TRUE(data);
  for (const auto& ids : ids_) ASSERT_TRUE(data->write(std::as_bytes(std::span(ids))));
  ASSERT_TRUE(data->finish());
  Recipe recipe{.model = model_,
                .data = folder.file("ids.safetensors"),
                .out = folder.file("out"),
                .method = "full",
                .schedule = "constant",
                .precision = "f32",
                .multiply = "f32",
                .batch = rows_,
                .context = length_,
                .steps = 8,
                .lr = 1e-3,
                .warmup = 0,
                .weight_decay = 0.01,
                .clip = 1,
                .no_shuffle = true};
  recipe.set = {"optimizer.beta2=0.999"};
  Events events(true);
  std::vector<StepEvent> steps;
  events.on_step([&](const StepEvent& step) { steps.push_back(step); });
  auto trainer = Trainer::prepare(recipe, events);
  ASSERT_TRUE(trainer) << trainer.error().message;
  const auto done = (*trainer)->run();
  ASSERT_TRUE(done) << done.error().message;
  const auto golden = nlohmann::json::parse(std::ifstream(folder_ + "/train.json"));
  ASSERT_EQ(steps.size(), golden.at("losses").size());
  for (size_t i = 0; i < steps.size(); ++i) {
    const double loss = golden["losses"][i], norm = golden["grad_norms"][i];
    EXPECT_NEAR(steps[i].loss, loss, 1e-5 * loss) << "step " << i;
    EXPECT_NEAR(steps[i].grad_norm, norm, 1e-4 * norm) << "step " << i;
  }
}

}  // namespace
}  // namespace thimble
