// Every method as a user meets it: trained, stopped, resumed, used, merged. A new row of the table is walked through as
// soon as it is listed.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>

#include "files/json.h"
#include "files/safetensors.h"
#include "methods/rewrite.h"
#include "program.h"
#include "tiny_files.h"

namespace thimble {
namespace {

// What a method needs to be given for this small model.
std::vector<std::string> flags_of(std::string_view method) {
  if (method == "vblora") return {"--set", "vblora.vector_length=32", "--set", "vblora.vectors=16"};
  if (method == "trainable_tokens") return {"--set", "trainable_tokens.tokens=98|66|101"};
  if (method == "prompt_tuning") return {"--set", "prompt_tuning.tokens=5"};
  if (method == "prefix_tuning")  // a few steps have to be long ones: what it begins with is no help
    return {"--set", "prefix_tuning.tokens=5", "--set", "optimizer.rate_of=prompt_embeddings:50"};
  if (method == "adalora")  // so that ranks are allotted before and after the run is resumed
    return {"--set", "adalora.total=4", "--set", "adalora.tfinal=1", "--rank", "6"};
  if (method == "lamda")  // so that columns are frozen before and after the run is resumed, of ranks by layer
    return {"--set", "lamda.frozen_by=3", "--set", "lamda.adaptive=1", "--rank", "4"};
  if (method == "neuron_specialization") return {"--set", "neuron_specialization.threshold=0.5"};
  if (method == "elalora")  // so that ranks move before and after the run is resumed
    return {"--set", "elalora.total=4", "--set", "elalora.init_rank=6", "--rank", "3", "--set", "elalora.moves=3"};
  if (method == "earlybird")  // all blocks, so that it begins as the model, and long steps: a norm follows the sum
    return {"--set", "earlybird.blocks=2", "--set", "optimizer.rate_of=earlybird:50"};
  if (method == "lemo") return {"--set", "lemo.keep=0.5", "--set", "lemo.windows=2"};
  if (method == "sara") return {"--set", "sara.adjust_at=2"};
  if (method == "taps")  // a score below its threshold is a layer that learns nothing
    return {"--set", "taps.penalty=0.001"};
  if (method == "lora_plus" || method == "lora") return {"--rank", "4", "--dropout", "0.1"};
  return {};
}

class Methods : public testing::TestWithParam<const Rewrite*> {
 protected:
  static void SetUpTestSuite() {
    files_ = new TinyFiles;
    model_ = files_->folder.file("hf");
    ASSERT_EQ(run_thimble({"convert", "--model", files_->gguf, "--to", "safetensors", "--out", model_}).status, 0);
    data_ = files_->folder.write("text.jsonl",
                                 "{\"text\":\"a cab at a bar, a crab at a cabaret\"}\n"
                                 "{\"text\":\"bad dads add a bead, abbeys fade\"}\n");
  }
  static void TearDownTestSuite() { delete files_; }

  static std::string file(const std::string& name) { return files_->folder.file(std::string(GetParam()->name) + name); }

  // What trains nothing of its own goes with what does.
  static std::string method() { return (GetParam()->training_only ? "lora," : "") + std::string(GetParam()->name); }

  static Ran train(const std::string& out, const std::string& steps, bool resume) {
    return train_with(method(), out, steps, resume);
  }
  static Ran train_with(const std::string& how, const std::string& out, const std::string& steps, bool resume) {
    std::vector<std::string> all = {"finetune", "--model",    model_, "--data",    data_,  "--out",
                                    out,        "--method",   how,    "--steps",   steps,  "--context",
                                    "64",       "--batch",    "1",    "--threads", "2",    "--schedule",
                                    "constant", "--warmup",   "0",    "--lr",      "0.01", "--precision",
                                    "f32",      "--multiply", "f32",  "--scratch", "none"};
    for (const std::string& flag : flags_of(GetParam()->name)) all.push_back(flag);
    if (resume) all.emplace_back("--resume");
    return run_thimble(all);
  }

  // Mean loss over the data.
  static double loss(const std::vector<std::string>& model) {
    std::vector<std::string> all = {"eval",        "--data", data_,        "--context", "64",        "--json",
                                    "--precision", "f32",    "--multiply", "f32",       "--threads", "2"};
    all.insert(all.end(), model.begin(), model.end());
    const Ran ran = run_thimble(all);
    EXPECT_EQ(ran.status, 0) << ran.err;
    for (size_t at = 0; at < ran.out.size();) {
      const size_t end = ran.out.find('\n', at);
      const Json event = Json::parse(ran.out.substr(at, end - at), nullptr, false);
      if (event.is_object() && event.contains("nll")) return event["nll"].get<double>();
      at = end + 1;
    }
    ADD_FAILURE() << "no nll in " << ran.out;
    return 0;
  }

  // A number that is none, in any tensor, is no loss that anyone takes for one.
  static void expect_damage_shows(const std::string& adapter) {
    const std::string weights = adapter + "/adapter_model.safetensors", good = file_bytes(weights);
    const auto file = SafetensorsFile::open(weights);
    ASSERT_TRUE(file) << file.error().message;
    const float none = std::nanf("");
    for (const SafetensorsEntry& entry : file->entries()) {
      std::string bad = good;
      std::memcpy(bad.data() + entry.offset, &none, sizeof none);
      std::ofstream(weights, std::ios::binary) << bad;
      const Ran ran =
          run_thimble({"eval", "--model", model_, "--adapter", adapter, "--data", data_, "--context", "64"});
      EXPECT_NE(ran.status, 0) << entry.name;
      EXPECT_THAT(ran.err, testing::HasSubstr("not finite")) << entry.name;
    }
    std::ofstream(weights, std::ios::binary) << good;
  }

  static TinyFiles* files_;
  static std::string model_, data_;
};
TinyFiles* Methods::files_ = nullptr;
std::string Methods::model_, Methods::data_;

TEST_P(Methods, trains_resumes_and_merges) {
  if (GetParam()->name == "bitfit") GTEST_SKIP() << "this model has no biases";
  if (GetParam()->training_only) {
    const Ran refused = train_with(std::string(GetParam()->name), file("-alone"), "4", false);
    EXPECT_EQ(refused.status, 2);
    EXPECT_THAT(refused.err, testing::HasSubstr("--method lora," + std::string(GetParam()->name)));
  }
  const bool full = GetParam()->trains_weights;
  const Ran whole = train(file("-whole"), "4", false);
  ASSERT_EQ(whole.status, 0) << whole.err;
  ASSERT_EQ(train(file("-parts"), "2", false).status, 0);
  EXPECT_EQ(train_with(GetParam()->name == "lora" ? "ia3" : "lora", file("-parts"), "4", true).status, 2);
  const Ran rest = train(file("-parts"), "4", true);
  ASSERT_EQ(rest.status, 0) << rest.err;
  const std::string weights = full ? "/model/model.safetensors" : "/adapter/adapter_model.safetensors";
  EXPECT_EQ(file_bytes(file("-whole") + weights), file_bytes(file("-parts") + weights)) << "resumed otherwise";

  const double before = loss({"--model", model_});
  if (full) {
    EXPECT_LT(loss({"--model", file("-whole") + "/model"}), before);
    return;
  }
  const std::string adapter = file("-whole") + "/adapter";
  const double adapted = loss({"--model", model_, "--adapter", adapter});
  EXPECT_LT(adapted, before) << "nothing was learnt";
  if (!GetParam()->not_continued.empty()) {
    const Ran refused = run_thimble({"finetune", "--model", model_, "--adapter", adapter, "--data", data_, "--steps",
                                     "1", "--context", "64", "--out", file("-continued")});
    EXPECT_EQ(refused.status, 2);
    EXPECT_THAT(refused.err, testing::HasSubstr(std::string(GetParam()->not_continued)));
  }
  const Ran merged = run_thimble(
      {"convert", "--model", model_, "--adapter", adapter, "--to", "safetensors", "--out", file("-merged")});
  if (GetParam()->merges()) {
    ASSERT_EQ(merged.status, 0) << merged.err;
    EXPECT_NEAR(loss({"--model", file("-merged")}), adapted, 2e-5 * adapted);
  } else {
    EXPECT_EQ(merged.status, 2);
    EXPECT_THAT(merged.err, testing::HasSubstr(std::string(GetParam()->not_merged)));
    // The model's own file has elements of heads in another order.
    EXPECT_NEAR(loss({"--model", files_->gguf, "--adapter", adapter}), adapted, 2e-5 * adapted);
  }
  const Ran reply = run_thimble({"generate", "--model", model_, "--adapter", adapter, "--prompt", "a cab",
                                 "--max-tokens", "4", "--context", "64"});
  EXPECT_EQ(reply.status, 0) << reply.err;
  if (GetParam()->join || GetParam()->stream) expect_damage_shows(adapter);
}

// A flag that another one leaves without effect is refused by name.
TEST(MethodOptions, void_ones_are_refused) {
  const TinyFiles tiny;
  const std::string data = tiny.folder.write("text.jsonl", "{\"text\":\"a cab at a bar, a crab at a cabaret\"}\n");
  const auto plan = [&](const std::string& method, const std::vector<std::string>& set) {
    std::vector<std::string> all = {"plan",      "--model", tiny.gguf, "--data", data,        "--method", method,
                                    "--context", "64",      "--batch", "1",      "--scratch", "none"};
    for (const std::string& one : set) all.insert(all.end(), {"--set", method + "." + one});
    return run_thimble(all);
  };
  for (const auto& [method, given, by] : {std::tuple{"s2ft", "numbers=200", "channels=1|3"},
                                          {"s2ft", "ratio=0.5", "numbers=200"},
                                          {"neuron_specialization", "threshold=0.5", "neurons=1|3"},
                                          {"neuron_specialization", "batches=2", "neurons=1|3"}}) {
    const Ran refused = plan(method, {given, by});
    EXPECT_EQ(refused.status, 2) << method << " " << given;
    EXPECT_THAT(refused.err, testing::HasSubstr("it would have no effect"));
    EXPECT_EQ(plan(method, {by}).status, 0) << method << " " << by;
  }
}

// What looks at data or weights before the run is planned: the budget that its refusal names is enough for the run too.
TEST(MethodOptions, the_budget_that_is_named_is_enough) {
  const TinyFiles tiny;
  const std::string data = tiny.folder.write("text.jsonl", "{\"text\":\"a cab at a bar, a crab at a cabaret\"}\n");
  for (const auto& [method, set] : {std::pair{"neuron_specialization", "neuron_specialization.batches=1"},
                                    {"lamda", "lamda.adaptive=1"},
                                    {"s2ft", "s2ft.numbers=200"}}) {
    SCOPED_TRACE(method);
    const auto plan = [&, method = method, set = set](const std::string& memory) {
      return run_thimble({"plan", "--model", tiny.gguf, "--data", data, "--method", method, "--set", set, "--context",
                          "256", "--batch", "4", "--scratch", "none", "--memory", memory});
    };
    const Ran refused = plan("1M");
    EXPECT_EQ(refused.status, 3) << refused.err;
    const size_t at = refused.err.rfind("M");
    ASSERT_NE(at, std::string::npos) << refused.err;
    size_t begin = at;
    while (begin > 0 && std::isdigit(static_cast<unsigned char>(refused.err[begin - 1]))) --begin;
    ASSERT_LT(begin, at) << refused.err;
    const Ran enough = plan(refused.err.substr(begin, at - begin + 1));
    EXPECT_EQ(enough.status, 0) << refused.err << enough.err;
  }
}

// What evaluation takes is what the file holds, and resuming is exact, whatever is around the optimizer.
TEST(Optimizers, average_resume_and_are_saved) {
  const TinyFiles tiny;
  const std::string data = tiny.folder.write("text.jsonl", "{\"text\":\"a cab at a bar, a crab at a cabaret\"}\n");
  std::string method;
  const auto train = [&](const std::string& out, const std::string& optimizer, const std::string& steps, bool resume) {
    std::vector<std::string> all = {"finetune", "--model",   tiny.gguf, "--data",      data,       "--eval-data",
                                    data,       "--out",     out,       "--method",    method,     "--optimizer",
                                    optimizer,  "--steps",   steps,     "--context",   "64",       "--batch",
                                    "1",        "--threads", "2",       "--schedule",  "constant", "--warmup",
                                    "0",        "--lr",      "0.02",    "--precision", "f32",      "--multiply",
                                    "f32",      "--scratch", "none",    "--json"};
    if (resume) all.emplace_back("--resume");
    const Ran ran = run_thimble(all);
    EXPECT_EQ(ran.status, 0) << ran.err;
    return ran.out;
  };
  for (const auto& [trains, optimizer] :
       std::vector<std::pair<std::string, std::string>>{{"lora", "schedule_free"},
                                                        {"full", "schedule_free"},
                                                        {"full", "adamw,keep_zeros"},
                                                        {"lora", "schedule_free,lookahead"},
                                                        {"lora", "adamw,gradient_noise,lookahead"}}) {
    SCOPED_TRACE(trains + " " + optimizer);
    method = trains;
    const std::string whole = tiny.folder.file(method + optimizer + "-whole"),
                      parts = tiny.folder.file(method + optimizer + "-parts");
    const std::string out = train(whole, optimizer, "7", false);
    train(parts, optimizer, "3", false), train(parts, optimizer, "7", true);
    const std::string weights = method == "full" ? "/model/model.safetensors" : "/adapter/adapter_model.safetensors";
    EXPECT_EQ(file_bytes(whole + weights), file_bytes(parts + weights)) << "resumed otherwise";
    const auto nll = [](const std::string& text) {
      const size_t at = text.rfind("\"nll\":");
      return at == std::string::npos ? 0 : std::stod(text.substr(at + 6));
    };
    std::vector<std::string> evaluate = {"eval",   "--data",      data,  "--context",  "64",
                                         "--json", "--precision", "f32", "--multiply", "f32"};
    if (method == "full")
      evaluate.insert(evaluate.end(), {"--model", whole + "/model"});
    else
      evaluate.insert(evaluate.end(), {"--model", tiny.gguf, "--adapter", whole + "/adapter"});
    const Ran eval = run_thimble(evaluate);
    ASSERT_EQ(eval.status, 0) << eval.err;
    EXPECT_GT(nll(out), 0);
    EXPECT_NEAR(nll(eval.out), nll(out), 1e-5 * nll(out));
  }
}

INSTANTIATE_TEST_SUITE_P(Table, Methods, testing::ValuesIn(rewrites().begin(), rewrites().end()),
                         [](const auto& info) { return std::string(info.param->name); });

}  // namespace
}  // namespace thimble
