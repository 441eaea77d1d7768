// Heads that say labels of texts: against transformers, and from data to files and back.
#include <gmock/gmock.h>

#include <cmath>
#include <map>

#include "models/families.h"
#include "models/hf_config.h"
#include "run/evaluator.h"
#include "run/label_scores.h"
#include "run/small_training.h"

namespace thimble {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

struct Golden {
  std::string_view family;
  std::vector<std::vector<float>> scores;  // of the texts
  double loss;
};
const std::vector<Golden> kGoldens = {
#include "label_goldens.inc"
};
const std::vector<std::vector<int32_t>> kTexts = {{72, 5, 190, 33, 7}, {1, 2, 3}, {250, 9, 9, 101, 17, 64, 3}};
const std::vector<float> kClasses = {2, 0, 1}, kNumbers = {0.5f, -1.25f, 2};

// As tools/label_goldens.py makes it.
void write_sines(const std::string& folder, const Architecture& architecture) {
  const Family& family = *find_family(architecture.family);
  std::map<std::string, Shape> shapes;
  for (const TensorSpec& spec : tensor_specs(architecture)) {
    const FilePlace place = place_in_file(family, architecture, spec);
    const bool matrix = spec.shape.rank() == 2;
    shapes[place.name] = !matrix            ? Shape{place.rows}
                         : place.transposed ? Shape{spec.shape[1], place.rows}
                                            : Shape{place.rows, spec.shape[1]};
  }
  std::vector<SafetensorsTensor> tensors;
  std::vector<float> numbers;
  for (const auto& [name, shape] : shapes) {
    const auto k = static_cast<double>(tensors.size());
    tensors.push_back({name, "F32", shape});
    const bool one = shape.rank() == 1 && name.ends_with("weight");
    for (int64_t i = 0; i < shape.count(); ++i) {
      const double sine = std::sin(0.3 * static_cast<double>(i + 1) * (1 + 0.01 * k) + k);
      numbers.push_back(static_cast<float>(one ? 1 + 0.1 * sine : 0.3 * sine));
    }
  }
  auto writer = SafetensorsWriter::create(folder + "/model.safetensors", tensors);
  ASSERT_TRUE(writer);
  ASSERT_TRUE(writer->write(std::as_bytes(std::span(numbers))));
  ASSERT_TRUE(writer->finish());
}

std::string golden_config(const Golden& golden) {
  nlohmann::json json = {{"model_type", golden.family}, {"vocab_size", 272}};
  if (golden.family == "llama")
    json.update({{"hidden_size", 16},
                 {"intermediate_size", 24},
                 {"num_hidden_layers", 2},
                 {"num_attention_heads", 4},
                 {"num_key_value_heads", 2},
                 {"max_position_embeddings", 64}});
  else
    json.update({{"n_embd", 16}, {"n_layer", 2}, {"n_head", 4}, {"n_positions", 64}});
  json["architectures"] = {golden.family == "llama" ? "LlamaForSequenceClassification"
                                                    : "GPT2ForSequenceClassification"};
  json["id2label"] = nlohmann::json::object();
  for (size_t id = 0; id < golden.scores.front().size(); ++id)
    json["id2label"][std::to_string(id)] = "LABEL_" + std::to_string(id);
  return json.dump();
}

TEST(Labels, are_those_of_transformers) {
  for (const Golden& golden : kGoldens) {
    TemporaryFolder folder;
    small_byte_bpe(folder);
    const std::string config = golden_config(golden);
    folder.write("config.json", config);
    const auto architecture = parse_config(config, "config");
    ASSERT_TRUE(architecture) << architecture.error().message;
    write_sines(folder.path(), *architecture);
    const auto inference =
        Inference::open({.model = folder.path(), .precision = "f32", .multiply = "f32", .scratch = "none"});
    ASSERT_TRUE(inference) << inference.error().message;
    const bool classes = golden.scores.front().size() > 1;
    std::vector<std::vector<float>> found;
    LabelScores all(classes ? Labels::Kind::classes : Labels::Kind::number);
    auto evaluator = Evaluator::prepare_labels(**inference, 16, 1, [&](std::span<const float> scores) {
      all.add(scores, (classes ? kClasses : kNumbers)[found.size()]);
      found.emplace_back(scores.begin(), scores.end());
    });
    ASSERT_TRUE(evaluator) << evaluator.error().message;
    ASSERT_TRUE((*evaluator)->load());
    for (const auto& ids : kTexts) ASSERT_TRUE((*evaluator)->add(ids, std::vector<uint8_t>(ids.size(), 0)));
    ASSERT_TRUE((*evaluator)->flush());
    ASSERT_EQ(found.size(), golden.scores.size());
    for (size_t i = 0; i < found.size(); ++i)
      for (size_t j = 0; j < found[i].size(); ++j)
        EXPECT_NEAR(found[i][j], golden.scores[i][j], 1e-5) << golden.family << " " << i;
    EXPECT_NEAR(classes ? all.result().nll : all.result().squared_error, golden.loss, 1e-5) << golden.family;
  }
}

TEST(Labels, of_equals_the_first_is_said_and_what_does_not_vary_correlates_with_nothing) {
  LabelScores classes(Labels::Kind::classes), numbers(Labels::Kind::number), same(Labels::Kind::number);
  classes.add(std::vector<float>{1, 1}, 0), classes.add(std::vector<float>{1, 1}, 1);
  EXPECT_EQ(classes.result().accuracy, 0.5);
  EXPECT_NEAR(classes.result().nll, std::log(2.0), 1e-12);
  for (const float x : {1.0f, 2.0f, 4.0f}) numbers.add({&x, 1}, 3 - 2 * x), same.add({&x, 1}, 1);
  EXPECT_NEAR(numbers.result().pearson, -1, 1e-12);
  EXPECT_NEAR(numbers.result().squared_error, (0.0 + 9 + 81) / 3, 1e-12);
  EXPECT_EQ(same.result().pearson, 0);
}

std::string labelled_texts(int count) {
  std::string out;
  for (int i = 0; i < count; ++i) {
    const bool calm = i % 3 != 0;
    const std::string words(static_cast<size_t>(1 + i * 5 % 7), calm ? 'l' : '1');
    out += nlohmann::json{{"text", "he " + words}, {"label", calm ? "calm" : "alarmed"}, {"number", calm ? 1.5 : -1}}
               .dump() +
           "\n";
  }
  return out;
}

class LabelTraining : public SmallTraining {
 protected:
  void SetUp() override {
    SmallTraining::SetUp();
    recipe_.data = folder_.write("texts.jsonl", labelled_texts(48));
    recipe_.objective = "classification";
    recipe_.steps = 6;
  }

  struct Run {
    std::vector<double> losses;
    std::vector<EvalEvent> evaluations;
  };
  Run run(Recipe recipe, const std::string& out) {
    recipe.out = folder_.path() + "/" + out;
    Events events(true);
    Run run;
    events.on_step([&](const StepEvent& step) { run.losses.push_back(step.loss); });
    events.on_eval([&](const EvalEvent& eval) { run.evaluations.push_back(eval); });
    auto trainer = Trainer::prepare(recipe, events);
    EXPECT_TRUE(trainer) << trainer.error().message;
    if (!trainer) return {};
    const auto done = (*trainer)->run();
    EXPECT_TRUE(done) << done.error().message;
    return run;
  }

  std::string refusal(const Recipe& recipe) {
    Events events(true);
    const auto trainer = Trainer::prepare(recipe, events);
    return trainer ? "" : trainer.error().message;
  }

  // What the result of a run says of its own data.
  LabelledTexts measured(InferenceOptions options) {
    options.precision = options.multiply = "f32", options.scratch = "none";
    const auto inference = Inference::open(options);
    EXPECT_TRUE(inference) << inference.error().message;
    const Labels labels = *(*inference)->architecture().labels;
    DatasetOptions wanted{.context = 96, .term = LossTerm::text, .labels = labels};
    for (const std::string& column : recipe_.columns)
      wanted.columns.push_back({column.substr(0, column.find('=')), column.substr(column.find('=') + 1)});
    const auto data = Dataset::open(recipe_.data, (*inference)->tokenizer(), wanted);
    EXPECT_TRUE(data) << data.error().message;
    LabelScores all(labels.kind);
    int64_t next = 0;
    auto evaluator = Evaluator::prepare_labels(**inference, 96, 1, [&](std::span<const float> scores) {
      Example example;
      EXPECT_TRUE((*data)->read(next++, example));
      all.add(scores, example.label);
    });
    EXPECT_TRUE(evaluator) << evaluator.error().message;
    EXPECT_TRUE((*evaluator)->load());
    EXPECT_TRUE((*evaluator)->add_all(**data, (*data)->size()));
    return all.result();
  }

  nlohmann::json json_of(const std::string& path) {
    return nlohmann::json::parse(*read_text_file(folder_.path() + "/" + path, 1 << 20));
  }
};

TEST_F(LabelTraining, learns_classes_that_files_keep) {
  recipe_.eval_data = recipe_.data, recipe_.no_shuffle = true, recipe_.batch = 8;
  const Run done = run(recipe_, "classes");
  ASSERT_EQ(done.evaluations.size(), 2u);
  const LabelledTexts &before = done.evaluations.front().labels, &after = done.evaluations.back().labels;
  EXPECT_NEAR(done.losses.front(), done.evaluations.front().nll, 1e-5) << "one batch has all texts";
  EXPECT_NEAR(before.nll, done.evaluations.front().nll, 1e-5);
  EXPECT_EQ(after.texts, 48);
  EXPECT_GT(after.accuracy, 0.9);
  const LabelledTexts read = measured({.model = folder_.path() + "/classes/model"});
  EXPECT_EQ(read.accuracy, after.accuracy);
  EXPECT_NEAR(read.nll, after.nll, 1e-6);
  const nlohmann::json config = json_of("classes/model/config.json");
  EXPECT_EQ(config["architectures"][0], "LlamaForSequenceClassification");
  EXPECT_EQ(config["id2label"], (nlohmann::json{{"0", "alarmed"}, {"1", "calm"}}));
  EXPECT_EQ(config["label2id"]["calm"], 1);
  EXPECT_TRUE(config.contains("pad_token_id"));
}

TEST_F(LabelTraining, adapters_bring_their_head) {
  Recipe base = recipe_;
  base.objective = "next_token", base.data = folder_.write("data.jsonl", small_chats()), base.steps = 1;
  run(base, "base");
  const std::string model = folder_.path() + "/base/model";
  recipe_.size = recipe_.tokenizer = "", recipe_.model = model, recipe_.method = "lora,ia3";
  recipe_.eval_data = recipe_.data;
  const Run done = run(recipe_, "adapted");
  const auto config = json_of("adapted/adapter/lora/adapter_config.json");
  EXPECT_EQ(config["task_type"], "SEQ_CLS");
  EXPECT_EQ(config["modules_to_save"], nlohmann::json{"score"});
  EXPECT_EQ(json_of("adapted/adapter/lora/labels.json")["id2label"]["1"], "calm");
  const LabelledTexts read = measured({.model = model, .adapter = folder_.path() + "/adapted/adapter"});
  EXPECT_NEAR(read.nll, done.evaluations.back().nll, 1e-5);
  // Goes on from the adapter, its head too.
  recipe_.method = "", recipe_.adapter = folder_.path() + "/adapted/adapter", recipe_.steps = 1;
  EXPECT_NEAR(run(recipe_, "on").evaluations.front().nll, read.nll, 1e-5);
}

// What looks at the data before the first step finds a head there that is none of its layers.
TEST_F(LabelTraining, layers_are_settled_beside_a_head) {
  Recipe base = recipe_;
  base.objective = "next_token", base.data = folder_.write("data.jsonl", small_chats()), base.steps = 1;
  run(base, "base");
  recipe_.size = recipe_.tokenizer = "", recipe_.model = folder_.path() + "/base/model", recipe_.steps = 2;
  for (const char* method : {"neuron_specialization", "s2ft"}) {
    recipe_.method = method;
    recipe_.set = recipe_.method == "s2ft" ? std::vector<std::string>{"s2ft.numbers=2000"} : std::vector<std::string>();
    EXPECT_EQ(run(recipe_, method).losses.size(), 2u) << method;
  }
}

TEST_F(LabelTraining, learns_numbers) {
  recipe_.objective = "regression", recipe_.columns = {"label=number"}, recipe_.eval_data = recipe_.data;
  recipe_.no_shuffle = true, recipe_.batch = 8, recipe_.steps = 12;
  const Run done = run(recipe_, "numbers");
  EXPECT_NEAR(done.losses.front(), done.evaluations.front().nll, 1e-5);
  const LabelledTexts& after = done.evaluations.back().labels;
  EXPECT_NEAR(after.squared_error, done.evaluations.back().nll, 1e-5);
  EXPECT_LT(after.squared_error, 0.25 * done.evaluations.front().nll);
  EXPECT_GT(after.pearson, 0.9);
  const LabelledTexts read = measured({.model = folder_.path() + "/numbers/model"});
  EXPECT_NEAR(read.squared_error, after.squared_error, 1e-6);
  EXPECT_NEAR(read.pearson, after.pearson, 1e-6);
  EXPECT_EQ(json_of("numbers/model/config.json")["problem_type"], "regression");
}

TEST_F(LabelTraining, resumes_exactly) {
  for (const char* objective : {"classification", "regression"}) {
    recipe_.objective = objective;
    recipe_.columns =
        recipe_.objective == "regression" ? std::vector<std::string>{"label=number"} : std::vector<std::string>();
    expect_resumes_exactly(recipe_, recipe_.objective, 2, 6);
  }
  recipe_.objective = "classification", recipe_.columns = {};
  recipe_.estimator = "noprop", recipe_.set = {"block.denoises=1"};
  expect_resumes_exactly(recipe_, "noprop", 2, 6);
}

// A model whose blocks denoise says in a file of its own what it said in training.
TEST_F(LabelTraining, models_that_denoise_are_read_back) {
  recipe_.estimator = "noprop", recipe_.set = {"block.denoises=1"};
  recipe_.eval_data = recipe_.data;
  const Run trained = run(recipe_, "denoises");
  ASSERT_FALSE(trained.evaluations.empty());
  const LabelledTexts read = measured({.model = folder_.path() + "/denoises/model"});
  EXPECT_NEAR(read.nll, trained.evaluations.back().labels.nll, 1e-5);
  EXPECT_EQ(json_of("denoises/model/config.json")["denoises"], true);
}

TEST_F(LabelTraining, are_the_same_at_every_budget) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  GTEST_SKIP() << "a sanitizer's own memory grows from run to run, so that no budget of the process is tight";
#endif
  recipe_.objective = "regression", recipe_.columns = {"label=number"}, recipe_.context = 256, recipe_.batch = 32;
  recipe_.data = folder_.write("many.jsonl", labelled_texts(1600)), recipe_.steps = 2;
  const std::vector<double> plenty = run(recipe_, "plenty").losses;
  recipe_.memory = smallest_memory();
  EXPECT_LT(rows_within(recipe_.memory), rows_within(500'000'000))
      << "both cut the batch alike: the test shows nothing";
  forget_peak();
  EXPECT_EQ(run(recipe_, "little").losses, plenty);
  EXPECT_EQ(parameters("little"), parameters("plenty"));
}

TEST_F(LabelTraining, refuse_what_does_not_fit) {
  recipe_.data = folder_.write("one.jsonl", R"({"text": "a", "label": "b"})"
                                            "\n");
  EXPECT_THAT(refusal(recipe_), HasSubstr("two labels or more"));
  recipe_.data = folder_.write("mixed.jsonl", R"({"text": "a", "label": "b"})"
                                              "\n"
                                              R"({"text": "a", "label": 3})"
                                              "\n");
  EXPECT_THAT(refusal(recipe_), HasSubstr("others names"));
  recipe_.data = folder_.write("plain.txt", "nothing but a text");
  EXPECT_THAT(refusal(recipe_), HasSubstr("texts with labels"));
  recipe_.data = folder_.path() + "/texts.jsonl";
  run(recipe_, "classes");
  Recipe other = recipe_;
  other.size = other.tokenizer = "", other.model = folder_.path() + "/classes/model";
  other.objective = "regression", other.columns = {"label=number"};
  EXPECT_THAT(refusal(other), HasSubstr("--objective classification"));
  other.objective = "next_token";
  EXPECT_THAT(refusal(other), HasSubstr("--objective classification"));
  const auto inference = Inference::open({.model = other.model});
  ASSERT_TRUE(inference);
  const auto planned = (*inference)->plan(Task::generate, 32, 1);
  ASSERT_FALSE(planned);
  EXPECT_THAT(planned.error().message, HasSubstr("eval --metric label"));
}

}  // namespace
}  // namespace thimble
