// Training on a small model made on the spot: accumulation, resuming, early updates, bits.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <fstream>
#include <functional>
#include <map>

#include "files/json.h"
#include "files/safetensors.h"
#include "report/run_log.h"
#include "run/merged.h"
#include "run/sealed_checkpoint.h"
#include "run/small_training.h"
#include "whole.h"

namespace thimble {
namespace {

using testing::HasSubstr;

std::string file_text(const std::string& path) {
  auto text = read_text_file(path);
  EXPECT_TRUE(text) << text.error().message;
  return text ? *text : "";
}

// One step of SGD moves the weights by the gradient: it must not depend on how the batch is cut.
TEST_F(SmallTraining, accumulation_is_exact_in_tokens) {
  recipe_.optimizer = "sgd";
  recipe_.clip = 0;
  recipe_.lr = 1;
  recipe_.no_shuffle = true;
  std::vector<float> whole;
  for (int64_t parts : {1, 2, 4, 8}) {
    recipe_.batch = 8 / parts, recipe_.accumulate = parts;
    losses(recipe_, "parts" + std::to_string(parts));
    const std::vector<float> now = parameters("parts" + std::to_string(parts));
    if (whole.empty()) whole = now;
    ASSERT_EQ(now.size(), whole.size());
    double difference = 0, size = 0;
    for (size_t i = 0; i < now.size(); ++i) difference += std::pow(now[i] - whole[i], 2), size += std::pow(whole[i], 2);
    EXPECT_LE(std::sqrt(difference), 1e-5 * std::sqrt(size)) << parts << " micro-batches";
  }
}

// A run that was stopped and resumed gives the bits of one that was not, with shuffling and states.
TEST_F(SmallTraining, resume_is_exact) {
  recipe_.steps = 6;
  recipe_.batch = 2;
  const std::vector<double> straight = losses(recipe_, "straight");
  Recipe early = recipe_;
  early.steps = 3;
  losses(early, "early");
  Recipe resumed = recipe_;
  resumed.resume = true;
  const std::vector<double> rest = losses(resumed, "early");
  ASSERT_EQ(rest.size(), 3u);
  for (size_t i = 0; i < 3; ++i) EXPECT_EQ(rest[i], straight[3 + i]) << "step " << 4 + i;
}

// One bit of a checkpoint's data is noticed before anything is trained with it.
TEST_F(SmallTraining, a_damaged_checkpoint_is_refused) {
  recipe_.steps = 2;
  losses(recipe_, "run");
  recipe_.out = folder_.path() + "/run";
  recipe_.steps = 4;
  recipe_.resume = true;
  std::fstream file(recipe_.out + kCheckpointFile, std::ios::in | std::ios::out | std::ios::binary);
  file.seekg(-1000, std::ios::end);
  const auto byte = static_cast<char>(file.get() ^ 1);
  file.seekp(-1000, std::ios::end);
  file.put(byte);
  file.close();
  Events events(true);
  const auto trainer = Trainer::prepare(recipe_, events);
  ASSERT_FALSE(trainer);
  EXPECT_EQ(trainer.error().code, ErrorCode::corrupt);
  EXPECT_THAT(trainer.error().message, HasSubstr("damaged"));
}

// A run that took near moves goes on with them, also where a larger budget would do without.
TEST_F(SmallTraining, resume_goes_on_with_near_moves) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  GTEST_SKIP() << "a sanitizer's memory varies by more than near moves save";
#endif
  recipe_.size = "4M";
  recipe_.scratch = "none";
  recipe_.memory = 1'000'000;
  recipe_.out = folder_.path() + "/refused";
  Events events(true);
  const auto refused = Trainer::prepare(recipe_, events);
  ASSERT_FALSE(refused);
  const size_t named = refused.error().message.rfind("--memory ");
  ASSERT_NE(named, std::string::npos) << refused.error().message;
  // Exact states of four million parameters take 32 MB, in 8 bits 8 MB.
  const int64_t budget = (std::stoll(refused.error().message.substr(named + 9)) - 12) * 1'000'000;
  recipe_.allow = "near";
  recipe_.steps = 4;
  recipe_.memory = budget;
  const std::vector<double> straight = losses(recipe_, "straight");
  Recipe early = recipe_;
  early.steps = 2;
  losses(early, "early");
  Recipe resumed = recipe_;
  resumed.resume = true;
  resumed.memory = 0;
  const std::vector<double> rest = losses(resumed, "early");
  ASSERT_EQ(rest.size(), 2u);
  for (size_t i = 0; i < 2; ++i) EXPECT_EQ(rest[i], straight[2 + i]) << "step " << 3 + i;
  recipe_.memory = 0;
  EXPECT_NE(losses(recipe_, "plenty"), straight) << "the budget did not ask for near moves";
}

// What decides the outcome must be as it was; the first flag that is not is named, with what it was and is.
TEST_F(SmallTraining, resume_refuses_other_settings_and_data) {
  recipe_.steps = 2;
  recipe_.no_shuffle = true;
  losses(recipe_, "run");
  const auto refusal = [&](const std::function<void(Recipe&)>& change) -> std::string {
    Recipe other = recipe_;
    other.out = folder_.path() + "/run";
    other.resume = true;
    change(other);
    Events events(true);
    const auto trainer = Trainer::prepare(other, events);
    return trainer ? "" : trainer.error().message;
  };
  const std::vector<std::pair<std::string, std::function<void(Recipe&)>>> changes = {
      {"--lr: .* begun with 0.01, now it is 0.02", [](Recipe& r) { r.lr = 2e-2; }},
      {"--schedule: .* begun with constant, now it is linear", [](Recipe& r) { r.schedule = "linear"; }},
      {"--warmup: ", [](Recipe& r) { r.warmup = 1; }},
      {"--weight-decay: ", [](Recipe& r) { r.weight_decay = 0.1; }},
      {"--clip: ", [](Recipe& r) { r.clip = 0.5; }},
      {"--no-shuffle: .* begun with on, now it is off", [](Recipe& r) { r.no_shuffle = false; }},
      {"--optimizer: .* begun with adamw, now it is sgd", [](Recipe& r) { r.optimizer = "sgd"; }},
      {"--set: .* begun with none, now it is optimizer.beta2=0.9", [](Recipe& r) { r.set = {"optimizer.beta2=0.9"}; }},
      {"--batch: .* begun with 1, now it is 2", [](Recipe& r) { r.batch = 2; }},
      {"--accumulate: ", [](Recipe& r) { r.accumulate = 2; }},
      {"--context: .* begun with 96, now it is 80", [](Recipe& r) { r.context = 80; }},
      {"--seed: ", [](Recipe& r) { r.seed = 1; }},
      {"--precision: ", [](Recipe& r) { r.precision = "bf16"; }},
      {"--data .* other data .19 examples then, 18 now",
       [&](Recipe& r) { r.data = folder_.write("short.jsonl", small_chats().substr(small_chats().find('\n') + 1)); }},
      {"--data .* of another content",
       [&](Recipe& r) {
         std::string text = small_chats();
         r.data = folder_.write("other.jsonl", text.replace(text.find("aaa"), 3, "zzz"));
       }},
  };
  for (const auto& [expected, change] : changes) EXPECT_THAT(refusal(change), testing::ContainsRegex(expected));
  for (const std::function<void(Recipe&)>& free : std::vector<std::function<void(Recipe&)>>{
           [](Recipe& r) { r.steps = 5; },
           [](Recipe& r) { r.threads = 1; },
           [](Recipe& r) { r.memory = 4'000'000'000; },
           [](Recipe& r) { r.save_every = 1; },
           [&](Recipe& r) { r.data = folder_.write("moved.jsonl", small_chats()); },
       })
    EXPECT_EQ(refusal(free), "");
}

// A checkpoint that names a place beyond the data, or no number, is refused; nothing outside the data is read.
TEST_F(SmallTraining, resume_checks_the_place_in_the_data) {
  recipe_.steps = 10;
  losses(recipe_, "run");
  const std::string path = folder_.path() + "/run/checkpoint.safetensors";
  const std::string whole = file_text(path);
  const size_t at = whole.find("\"next\":\"") + 8;
  ASSERT_NE(at, std::string::npos + 8);
  ASSERT_EQ(whole.find('"', at), at + 2) << "expected a place of two digits, as the wrong ones have";
  for (const char* wrong : {"19", "99", "-1", "x1", "1 "}) {
    std::string text = whole;
    write_sealed(path, text.replace(at, 2, wrong));
    Recipe resumed = recipe_;
    resumed.out = folder_.path() + "/run";
    resumed.resume = true;
    Events events(true);
    auto trainer = Trainer::prepare(resumed, events);
    ASSERT_TRUE(trainer) << trainer.error().message;
    const auto done = (*trainer)->run();
    ASSERT_FALSE(done) << wrong;
    EXPECT_EQ(done.error().code, ErrorCode::corrupt) << done.error().message;
  }
}

// Nothing is left to do: the results are written again, and no loss is told that was not measured.
TEST_F(SmallTraining, resuming_a_finished_run_writes_its_results_again) {
  recipe_.steps = 2;
  losses(recipe_, "run");
  const std::string checkpoint = file_text(folder_.path() + "/run/checkpoint.safetensors");
  const std::string model = folder_.path() + "/run/model/model.safetensors", weights = file_text(model);
  ASSERT_TRUE(write_text_file(model, "lost"));
  recipe_.resume = true;
  testing::internal::CaptureStdout();
  EXPECT_TRUE(losses(recipe_, "run").empty());
  EXPECT_THAT(testing::internal::GetCapturedStdout(),
              HasSubstr(R"("event":"done","steps":2,"skipped_steps":0,"tokens":192,"loss":null)"));
  EXPECT_EQ(file_text(model), weights);
  EXPECT_EQ(file_text(folder_.path() + "/run/checkpoint.safetensors"), checkpoint);
}

// Killed at step 4 with a line half written, and resumed from the checkpoint of step 2.
TEST_F(SmallTraining, a_resumed_run_tells_every_step_once) {
  recipe_.steps = 2;
  losses(recipe_, "run");
  const std::string log = folder_.path() + "/run/events.jsonl";
  std::string text = file_text(log);
  for (int step : {3, 4})
    text +=
        fmt::format("{{\"event\":\"step\",\"step\":{},\"loss\":99}}\n{{\"event\":\"eval\",\"step\":{}}}\n", step, step);
  text += "{\"event\":\"stopped\"}\n{\"event\":\"error\"}\n";
  ASSERT_TRUE(write_text_file(log, text + "{\"event\":\"step\",\"ste"));
  recipe_.steps = 6;
  recipe_.resume = true;
  losses(recipe_, "run");
  std::vector<int64_t> steps;
  int64_t ends = 0;
  ASSERT_TRUE(for_each_line(log, 1 << 20, [&](std::string_view line) {
    if (line.empty()) return;
    const Json json = Json::parse(line, nullptr, false);
    ASSERT_TRUE(json.is_object()) << line;
    EXPECT_NE(json.at("event"), "eval");
    if (json.at("event") == "step") steps.push_back(json.at("step").get<int64_t>());
    ends += json.at("event") == "done" || json.at("event") == "stopped" || json.at("event") == "error";
  }));
  EXPECT_EQ(steps, (std::vector<int64_t>{1, 2, 3, 4, 5, 6}));
  EXPECT_EQ(ends, 1);
  const RunLog read = *read_run_log(log);
  ASSERT_EQ(read.points.size(), 6u);
  for (const RunPoint& point : read.points) EXPECT_LT(point.loss, 50) << "step " << point.step;
}

// Without clipping a gradient is consumed as soon as it exists; the bits are those of the run that holds all of them.
TEST_F(SmallTraining, early_update_gives_the_same_bits) {
  recipe_.steps = 4;
  recipe_.batch = 2;
  recipe_.clip = 0;
  const std::vector<double> early = losses(recipe_, "early_update");
  recipe_.clip = 1e9;  // a barrier that never clips
  const std::vector<double> held = losses(recipe_, "held");
  EXPECT_EQ(early, held);
}

TEST_F(SmallTraining, threads_do_not_change_bits) {
  recipe_.steps = 3;
  recipe_.batch = 2;
  recipe_.precision = "bf16";
  recipe_.multiply = "f32";
  recipe_.threads = 2;
  const std::vector<double> two = losses(recipe_, "two");
  recipe_.threads = 1;
  EXPECT_EQ(losses(recipe_, "one"), two);
  recipe_.threads = 3;
  EXPECT_EQ(losses(recipe_, "three"), two);
}

// At one of a few multiples of the rate that it declares.
// A step of Lion moves every number by the rate: gains of blocks by a part of it where the model has more blocks than
// the rate is for, others by all of it. Steps of SGD are as large as gradients, and keep their rate.
TEST_F(SmallTraining, tuned_layers_scale_the_rate_of_blocks) {
  const auto gain = [&](const std::string& out, const std::string& name) {
    const auto file = SafetensorsFile::open(folder_.path() + "/" + out + "/checkpoint.safetensors");
    const SafetensorsEntry* const entry = file ? file->find(name) : nullptr;
    float number = 0;
    EXPECT_TRUE(entry && file->file().read(entry->offset, std::as_writable_bytes(std::span(&number, 1)))) << name;
    return double{number};
  };
  const std::string in_block = "model.layers.0.input_layernorm.weight", last = "model.norm.weight";
  recipe_.optimizer = "lion", recipe_.set = {"block.tuned_layers=1"};
  losses(recipe_, "lion");
  const auto config = read_json_file(folder_.path() + "/lion/model/config.json");
  ASSERT_TRUE(config) << config.error().message;
  const auto layers = (*config)["num_hidden_layers"].get<double>();
  ASSERT_GT(layers, 1);
  EXPECT_NEAR(std::abs(gain("lion", in_block) - 1), recipe_.lr / std::sqrt(layers), 1e-6);
  EXPECT_NEAR(std::abs(gain("lion", last) - 1), recipe_.lr, 1e-6);
  // The user's own factor wins.
  recipe_.set.emplace_back("optimizer.rate_of=input_layernorm:0.5");
  losses(recipe_, "own");
  EXPECT_NEAR(std::abs(gain("own", in_block) - 1), recipe_.lr / 2, 1e-6);
  Events events(true);
  recipe_.optimizer = "sgd", recipe_.set = {"block.tuned_layers=1"}, recipe_.out = folder_.path() + "/sgd";
  const auto trainer = Trainer::prepare(recipe_, events);
  ASSERT_TRUE(trainer) << trainer.error().message;
  EXPECT_TRUE((*trainer)->spec().rate_of.empty());
}

TEST_F(SmallTraining, every_optimizer_lowers_the_loss) {
  recipe_.batch = 4;
  for (const Optimizer* optimizer : optimizers()) {
    recipe_.optimizer = optimizer->name;
    recipe_.steps = optimizer->finds_rate ? 60 : 12;  // to find it takes steps too
    double least = 1e9, first = 0;
    for (double times : {50.0, 10.0, 200.0, 2.0}) {
      recipe_.lr = (optimizer->finds_rate ? 1 : times) * optimizer->learning_rate;
      const std::vector<double> l = losses(recipe_, std::string(optimizer->name));
      ASSERT_EQ(std::ssize(l), recipe_.steps);
      first = l.front(), least = std::min(least, l.back());
      if (least < 0.9 * first) break;
    }
    EXPECT_LT(least, 0.9 * first) << optimizer->name;
  }
}

// What comes every so many steps comes every second, so that five steps see it.
std::vector<std::string> short_periods(const Optimizer& optimizer) {
  std::vector<std::string> out;
  for (const Option& option : optimizer.options)
    if (option.name == "interval") out.push_back("optimizer.interval=2");
  return out;
}

TEST_F(SmallTraining, factors_by_names_are_checked) {
  Events events(true);
  recipe_.out = folder_.path() + "/factors";
  const auto refusal = [&](const std::string& set) {
    recipe_.set = {set};
    const auto trainer = Trainer::prepare(recipe_, events);
    return trainer ? std::string() : trainer.error().message;
  };
  EXPECT_EQ(refusal("optimizer.rate_of=norm:0.5|embed:2"), "");
  EXPECT_THAT(refusal("optimizer.rate_of=nrom:0.5"), HasSubstr("no trained parameter has that in its name"));
  EXPECT_THAT(refusal("optimizer.decay_of=norm"), HasSubstr("expected PART:FACTOR"));
  EXPECT_THAT(refusal("optimizer.rate_of=norm:-1"), HasSubstr("expected PART:FACTOR"));
  EXPECT_THAT(refusal("optimizer.rate_of=:2"), HasSubstr("expected PART:FACTOR"));
}

// In the middle of its schedule: what is projected anew, reset or due every few steps goes on where it was.
TEST_F(SmallTraining, every_optimizer_resumes_exactly) {
  recipe_.batch = 2, recipe_.accumulate = 2;
  for (const Optimizer* optimizer : optimizers())
    for (const char* states : {"f32", "bf16"}) {
      // States in bf16 are rounded by chance, which one optimizer of each kind shows; with whole_tests() all do.
      const bool kind = optimizer == &kAdamw || optimizer == &kSpam || optimizer == &kGalore || optimizer == &kSoap;
      if (states == std::string_view("bf16") && !kind && !whole_tests()) continue;
      SCOPED_TRACE(fmt::format("{} {}", optimizer->name, states));
      Recipe straight = recipe_;
      straight.optimizer = optimizer->name, straight.states = states;
      straight.set = short_periods(*optimizer);
      expect_resumes_exactly(straight, fmt::format("{}-{}", optimizer->name, states), 3, 5);
    }
}

// Running bounds are saved, and what is drawn is drawn again.
TEST_F(SmallTraining, keepers_resume_exactly) {
  recipe_.batch = 2, recipe_.accumulate = 2;
  recipe_.keep = "few_bit,ms_norm,wta_crs,mesa";
  expect_resumes_exactly(recipe_, "kept", 2, 4);
}

// A model whose streams are coupled brings its keeper, which is part of the run.
TEST_F(SmallTraining, coupled_streams_resume_exactly) {
  recipe_.batch = 2, recipe_.accumulate = 2;
  recipe_.set = {"block.coupled=1"};
  expect_resumes_exactly(recipe_, "coupled", 2, 4, [&](Recipe other) {
    other.keep = "exact", other.out = folder_.path() + "/coupled-part";
    Events events(true);
    const auto refused = Trainer::prepare(other, events);
    ASSERT_FALSE(refused);
    EXPECT_THAT(refused.error().message, HasSubstr("--keep: the run in"));
  });
}

TEST_F(SmallTraining, an_estimator_resumes_exactly) {
  recipe_.batch = 2, recipe_.accumulate = 2;
  recipe_.optimizer = "adamw", recipe_.lr = 1e-3;
  for (const char* estimator : {"mezo", "forward_gradient", "local", "man", "forward_forward"}) {
    SCOPED_TRACE(estimator);
    recipe_.estimator = estimator, recipe_.method = "full";
    recipe_.set.clear();
    if (recipe_.estimator == "local" || recipe_.estimator == "man" || recipe_.estimator == "forward_forward")
      recipe_.set = {fmt::format("{}.modules=2", estimator)};
    expect_resumes_exactly(recipe_, estimator, 3, 5);
  }
}

TEST_F(SmallTraining, a_budget_that_is_too_small_is_refused) {
  recipe_.memory = 1'000'000;
  recipe_.out = folder_.path() + "/refused";
  Events events(true);
  const auto trainer = Trainer::prepare(recipe_, events);
  ASSERT_FALSE(trainer);
  EXPECT_EQ(trainer.error().code, ErrorCode::over_budget);
  EXPECT_THAT(trainer.error().message, HasSubstr("give --memory"));
  recipe_.memory = trainer.error().least_bytes;
  const auto fits = Trainer::prepare(recipe_, events);
  EXPECT_TRUE(fits) << fits.error().message;
}

// Its adapter is trained on and is not merged.
TEST_F(SmallTraining, meft_resumes_exactly) {
  losses(recipe_, "base");
  recipe_.size = "", recipe_.tokenizer = "", recipe_.model = folder_.path() + "/base/model", recipe_.method = "meft";
  const std::vector<double> expected = expect_resumes_exactly(recipe_, "meft", 2, 4);
  Recipe on = recipe_;
  on.method = "", on.adapter = folder_.path() + "/meft/adapter";
  EXPECT_NE(losses(on, "on"), std::vector{expected[0]}) << "the adapter is not what a new one is";
  const auto source = ModelSource::open(recipe_.model);
  auto adapters = open_adapters(on.adapter);
  ASSERT_TRUE(source && adapters);
  const auto merged = MergedModel::make(**source, *adapters);
  ASSERT_FALSE(merged);
  EXPECT_THAT(merged.error().message, HasSubstr("two streams"));
}

std::string events_of(const std::string& out) {
  std::ifstream file(out + "/events.jsonl");
  return {std::istreambuf_iterator(file), {}};
}

// Before the first step, while initial values are computed or replies are compared, nothing of an earlier run is lost.
TEST_F(SmallTraining, stopping_before_the_first_step_leaves_an_earlier_run) {
  recipe_.steps = 2, recipe_.memory = 0;
  losses(recipe_, "base");
  recipe_.size = "", recipe_.tokenizer = "", recipe_.model = folder_.path() + "/base/model", recipe_.method = "lora";
  losses(recipe_, "run");
  recipe_.out = folder_.path() + "/run", recipe_.method = "pissa";
  const std::string before = events_of(recipe_.out);
  Events events(true);
  auto trainer = Trainer::prepare(recipe_, events);
  ASSERT_TRUE(trainer) << trainer.error().message;
  int asked = 0;
  (*trainer)->stop_when([&] { return ++asked == 2; });
  const auto stopped = (*trainer)->run();
  ASSERT_FALSE(stopped);
  EXPECT_FALSE(before.empty());
  EXPECT_EQ(stopped.error().code, ErrorCode::cancelled);
  EXPECT_NE(stopped.error().message.find("initial values"), std::string::npos) << stopped.error().message;
  EXPECT_EQ(events_of(recipe_.out), before);
}

}  // namespace
}  // namespace thimble
