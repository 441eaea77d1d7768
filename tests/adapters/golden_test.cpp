// PEFT's own numbers: for each of its methods an adapter on one tiny Llama, the logits with it and after merging, and
// five steps of AdamW from its initial values (../shared/data/peft, made with peft 0.21.2).
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "models/hf_writer.h"
#include "run/all_logits.h"
#include "run/merged.h"
#include "run/trainer.h"
#include "shared_data.h"
#include "temporary_folder.h"

namespace thimble {
namespace {

// By the technique that reads them; what they show is in the goldens' README.
constexpr const char* kFolders[] = {"lora",
                                    "lora_all",
                                    "lora_rslora",
                                    "lora_pattern",
                                    "lora_bias_all",
                                    "lora_bias_only",
                                    "lora_bias_b",
                                    "lora_embed",
                                    "lora_regex",
                                    "lora_tokens",
                                    "lora_layers",
                                    "lora_modules_to_save",
                                    "lora_orthogonal",
                                    "ia3",
                                    "loha",
                                    "lokr",
                                    "lokr_both",
                                    "vera",
                                    "vera_noproj",
                                    "ln_tuning",
                                    "dora",
                                    "oft",
                                    "oft_cayley",
                                    "boft",
                                    "boft_butterfly",
                                    "pissa",
                                    "olora",
                                    "vblora",
                                    "adalora",
                                    "trainable_tokens",
                                    "prompt_tuning",
                                    "prefix_tuning"};
// To be used and not trained: what PEFT converted from a changed base model, and what thimble does not train.
constexpr const char* kConverted[] = {"pissa_converted", "olora_converted", "p_tuning", "p_tuning_lstm",
                                      "prefix_projection"};

template <class T>
std::vector<T> read_tensor(const SafetensorsFile& file, const std::string& name) {
  const SafetensorsEntry* const entry = file.find(name);
  if (!entry) return {};
  std::vector<T> values(entry->bytes / sizeof(T));
  EXPECT_TRUE(file.file().read(entry->offset, std::as_writable_bytes(std::span(values))));
  return values;
}

class PeftGolden : public testing::TestWithParam<const char*> {
 protected:
  // Logits of every row of ids, the model being `model`.
  static std::vector<float> logits(const std::string& model, const std::string& adapter, std::span<const int32_t> ids,
                                   int64_t length) {
    InferenceOptions options{.model = model, .adapter = adapter, .precision = "f32", .multiply = "f32"};
    options.threads = 2;
    auto inference = Inference::open(options);
    EXPECT_TRUE(inference) << inference.error().message;
    if (!inference) return {};
    auto all = AllLogits::prepare(**inference, length);
    EXPECT_TRUE(all) << all.error().message;
    if (!all) return {};
    const auto loaded = (*all)->load();
    EXPECT_TRUE(loaded) << loaded.error().message;
    std::vector<float> out;
    for (size_t i = 0; loaded && i < ids.size(); i += static_cast<size_t>(length)) {
      const auto rows = (*all)->run(ids.subspan(i, static_cast<size_t>(length)));
      EXPECT_TRUE(rows) << rows.error().message;
      if (rows) out.insert(out.end(), rows->begin(), rows->end());
    }
    return out;
  }

  static void expect_near(const std::vector<float>& found, const std::vector<float>& expected, const char* what) {
    ASSERT_EQ(found.size(), expected.size()) << what;
    const auto [least, most] = std::minmax_element(expected.begin(), expected.end());
    const double spread = double{*most} - *least;
    double worst = 0;
    for (size_t i = 0; i < found.size(); ++i) worst = std::max(worst, std::abs(double{found[i]} - expected[i]));
    EXPECT_LT(worst, 1e-4 * spread) << what;
  }

  TemporaryFolder folder_;
};

TEST_P(PeftGolden, logits_are_pefts) {
  NEED_SHARED_DATA(base, "peft/base");
  NEED_SHARED_DATA(own, std::string("peft/") + GetParam());
  if (const auto model = ModelSource::open(base); !model) GTEST_SKIP() << model.error().message;
  const auto golden = SafetensorsFile::open(own + "/golden.safetensors");
  ASSERT_TRUE(golden);
  const auto ids = read_tensor<int32_t>(*golden, "ids");
  const int64_t length = golden->find("ids")->shape[1];
  // PEFT gives logits of virtual tokens too.
  const Shape shape = golden->find("logits")->shape;
  std::vector<float> expected = read_tensor<float>(*golden, "logits");
  if (const int64_t lead = shape[1] - length; lead > 0) {
    std::vector<float> text;
    for (int64_t i = 0; i < shape[0]; ++i) {
      const auto end = expected.begin() + (i + 1) * shape[1] * shape[2];
      text.insert(text.end(), end - length * shape[2], end);
    }
    expected = std::move(text);
  }
  expect_near(logits(base, own + "/adapter", ids, length), expected, "with the adapter");
  const auto merged = read_tensor<float>(*golden, "logits_merged");
  if (merged.empty()) return;
  const auto source = ModelSource::open(base);
  ASSERT_TRUE(source) << source.error().message;
  auto adapters = open_adapters(own + "/adapter");
  ASSERT_TRUE(adapters) << adapters.error().message;
  auto model = MergedModel::make(**source, *adapters);
  ASSERT_TRUE(model) << model.error().message;
  const auto written = write_hf_model(folder_.file("merged"), model->architecture(), model->tensors(), model->rows());
  ASSERT_TRUE(written) << written.error().message;
  expect_near(logits(folder_.file("merged"), "", ids, length), merged, "merged");
}

class PeftSteps : public PeftGolden {};

TEST_P(PeftSteps, steps_are_pefts) {
  NEED_SHARED_DATA(base, "peft/base");
  NEED_SHARED_DATA(own, std::string("peft/") + GetParam());
  if (const auto model = ModelSource::open(base); !model) GTEST_SKIP() << model.error().message;
  const auto expected = nlohmann::json::parse(std::ifstream(own + "/train.json"));
  // The adapter as it began, and the batch as data.
  const std::string begin = folder_.file("begin");
  ASSERT_TRUE(make_directories(begin));
  std::filesystem::copy_file(own + "/adapter/adapter_config.json", begin + "/adapter_config.json");
  std::filesystem::copy_file(own + "/init.safetensors", begin + "/adapter_model.safetensors");
  const auto golden = SafetensorsFile::open(own + "/golden.safetensors");
  ASSERT_TRUE(golden);
  const auto ids = read_tensor<int32_t>(*golden, "ids");
  const Shape shape = golden->find("ids")->shape;
  const SafetensorsTensor tensor{"ids", "I32", shape};
  auto writer = SafetensorsWriter::create(folder_.file("ids.safetensors"), {&tensor, 1});
  ASSERT_TRUE(writer && writer->write(std::as_bytes(std::span(ids))) && writer->finish());

  auto config = nlohmann::json::parse(std::ifstream(begin + "/adapter_config.json"));
  if (config.contains("rank_pattern") && GetParam() == std::string_view("adalora")) {
    config["rank_pattern"] = nullptr;  // of the end of the run
    std::ofstream(begin + "/adapter_config.json") << config;
  }
  const int64_t virtual_tokens = config.value("num_virtual_tokens", 0);
  Recipe recipe{.model = base,
                .adapter = begin,
                .data = folder_.file("ids.safetensors"),
                .out = folder_.file("run"),
                .schedule = "constant",
                .precision = "f32",
                .multiply = "f32",
                .scratch = "none",
                .batch = shape[0],
                .context = shape[1] + virtual_tokens,
                .steps = 6,
                .threads = 2,
                .lr = expected.at("lr"),
                .warmup = 0,
                .weight_decay = expected.at("weight_decay"),
                .clip = expected.at("clip"),
                .no_shuffle = true};
  // PEFT's run has one rate for all.
  if (GetParam() == std::string_view("vblora")) recipe.set.emplace_back("optimizer.rate_of=vector_bank:10");
  Events events(true);
  std::vector<double> losses;
  events.on_step([&](const StepEvent& step) { losses.push_back(step.loss); });
  auto trainer = Trainer::prepare(recipe, events);
  ASSERT_TRUE(trainer) << trainer.error().message;
  const auto done = (*trainer)->run();
  ASSERT_TRUE(done) << done.error().message;
  // Of a technique with a loss of its own beside it, thimble tells the next token's alone.
  const bool beside = expected.contains("losses_without_orthogonality");
  std::vector<double> golden_losses = expected.at(beside ? "losses_without_orthogonality" : "losses");
  if (!beside) golden_losses.push_back(expected.at("loss_after"));
  if (beside) losses.pop_back();
  ASSERT_EQ(losses.size(), golden_losses.size());
  // AdamW moves every number as far, those of keys too whose gradient is nearly nothing: there rounding counts. PEFT's
  // AdaLoRA measures importance by the parameters after a step, so that other ranks of equal worth may be taken.
  const std::string_view name = GetParam();
  const double tolerance = name == "prefix_tuning" ? 3e-5 : name == "adalora" ? 4e-5 : 1e-5;
  for (size_t i = 0; i < losses.size(); ++i)
    EXPECT_NEAR(losses[i], golden_losses[i], tolerance * golden_losses[i]) << "step " << i;
}

std::string name_of(const testing::TestParamInfo<const char*>& info) { return info.param; }

INSTANTIATE_TEST_SUITE_P(Folders, PeftGolden, testing::ValuesIn(kFolders), name_of);
INSTANTIATE_TEST_SUITE_P(Converted, PeftGolden, testing::ValuesIn(kConverted), name_of);
INSTANTIATE_TEST_SUITE_P(Folders, PeftSteps, testing::ValuesIn(kFolders), name_of);

}  // namespace
}  // namespace thimble
