// Several adapters at once, scaled, in use and merged.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>

#include "files/json.h"
#include "program.h"
#include "tiny_files.h"

namespace thimble {
namespace {

using ::testing::HasSubstr;

class SeveralAdapters : public testing::Test {
 protected:
  double loss(const std::vector<std::string>& more) const {
    std::vector<std::string> all = {"eval",      "--data", data_,         "--context", "32",         "--json",
                                    "--threads", "2",      "--precision", "f32",       "--multiply", "f32"};
    all.insert(all.end(), more.begin(), more.end());
    const Ran ran = run_thimble(all);
    EXPECT_EQ(ran.status, 0) << ran.err;
    const size_t at = ran.out.find("\"nll\":");
    return at == std::string::npos ? 0 : std::stod(ran.out.substr(at + 6));
  }
  double with(const std::string& adapters, const std::string& scales) const {
    std::vector<std::string> flags = {"--model", tiny_.gguf, "--adapter", adapters};
    if (!scales.empty()) flags.insert(flags.end(), {"--adapter-scale", scales});
    return loss(flags);
  }
  std::string file(const std::string& name) const { return tiny_.folder.file(name); }

  TinyFiles tiny_;
  std::string data_ = tiny_.folder.write("text.txt", "a cab at a bar, a crab at a cabaret; bad dads add a bead");
};

// What LoRA adds is a sum: parts of it in two adapters are the whole.
TEST_F(SeveralAdapters, add_up) {
  const double one = with(tiny_.adapter, ""), base = loss({"--model", tiny_.gguf});
  ASSERT_GT(std::abs(one - base), 1e-3);
  const std::string twice = tiny_.adapter + "," + tiny_.adapter;
  EXPECT_NEAR(with(twice, "0.25,0.75"), one, 1e-5 * one);
  EXPECT_NEAR(with(twice, "3,-3"), base, 1e-4 * base);
  EXPECT_NEAR(with(tiny_.adapter, "0"), base, 1e-5 * base);
  tiny_.write_lora(file("double"), 2);  // both factors
  EXPECT_NEAR(with(file("double"), "0.25"), one, 1e-5 * one);
  EXPECT_NEAR(with(file("double") + "," + tiny_.adapter, "0.5,-1"), one, 1e-4 * one);
}

TEST_F(SeveralAdapters, merge_as_they_are_used) {
  tiny_.write_lora(file("double"), 2);
  const std::string both = tiny_.adapter + "," + file("double");
  const Ran merged = run_thimble({"convert", "--model", tiny_.gguf, "--adapter", both, "--adapter-scale", "0.5,-0.1",
                                  "--to", "safetensors", "--codec", "f32", "--out", file("merged")});
  ASSERT_EQ(merged.status, 0) << merged.err;
  const double used = with(both, "0.5,-0.1");
  EXPECT_NEAR(loss({"--model", file("merged")}), used, 2e-5 * used);
}

TEST_F(SeveralAdapters, different_techniques_merge_too) {
  const std::string name = std::string("base_model.model.") + TinyFiles::kModule;
  write_folder(file("ia3"), R"({"peft_type":"IA3","target_modules":["q_proj"],"feedforward_modules":[]})",
               {{name + ".ia3_l", {64, 1}, [](int64_t i) { return 1 + 0.01f * static_cast<float>(i); }}});
  const std::string both = tiny_.adapter + "," + file("ia3");
  const Ran merged = run_thimble({"convert", "--model", tiny_.gguf, "--adapter", both, "--to", "safetensors", "--codec",
                                  "f32", "--out", file("merged")});
  ASSERT_EQ(merged.status, 0) << merged.err;
  const double used = with(both, "");
  EXPECT_NE(used, with(tiny_.adapter, ""));
  EXPECT_NEAR(loss({"--model", file("merged")}), used, 2e-5 * used);
  const Ran half =
      run_thimble({"eval", "--model", tiny_.gguf, "--data", data_, "--adapter", both, "--adapter-scale", "1,0.5"});
  EXPECT_EQ(half.status, 2);
  EXPECT_THAT(half.err, HasSubstr("is of ia3, which does not add to a layer"));
}

// Tensors of the base model in an adapter's file (an embedding that was saved beside it) are in the checkpoint: whether
// a run is resumed makes no difference.
TEST_F(SeveralAdapters, what_one_brings_of_the_base_model_outlives_a_resume) {
  const std::string name = std::string("base_model.model.") + TinyFiles::kModule;
  const auto run = [&](const std::string& out, const std::vector<std::string>& more) {
    std::vector<std::string> all = {"finetune", "--model",   tiny_.gguf, "--data",    data_, "--schedule",
                                    "constant", "--warmup",  "0",        "--context", "32",  "--batch",
                                    "1",        "--scratch", "none",     "--threads", "2",   "--precision",
                                    "f32",      "--out",     file(out)};
    all.insert(all.end(), more.begin(), more.end());
    const Ran ran = run_thimble(all);
    EXPECT_EQ(ran.status, 0) << ran.err;
    return ran.out;
  };
  for (const bool brings : {false, true}) {
    SCOPED_TRACE(brings);
    std::vector<WrittenTensor> tensors = {
        {name + ".lora_A.weight", {1, 64}, [](int64_t i) { return 0.01f * static_cast<float>(i); }},
        {name + ".lora_B.weight", {64, 1}}};
    if (brings)
      tensors.push_back({"base_model.model.model.embed_tokens.weight", tiny_.model.tensors.front().shape,
                         [](int64_t i) { return std::sin(static_cast<float>(i)); }});
    write_folder(file("a"), R"({"peft_type":"LORA","r":1,"target_modules":["layers.1.self_attn.q_proj"]})", tensors);
    const std::string whole = brings ? "whole_1" : "whole_0", parts = brings ? "parts_1" : "parts_0";
    run(whole, {"--adapter", file("a"), "--steps", "4"});
    run(parts, {"--adapter", file("a"), "--steps", "2"});
    std::filesystem::remove_all(file("a"));
    run(parts, {"--resume", "--steps", "4"});
    const std::string weights = "/adapter/adapter_model.safetensors";
    EXPECT_TRUE(file_bytes(file(parts + weights)) == file_bytes(file(whole + weights)));
  }
}

TEST_F(SeveralAdapters, scales_are_checked) {
  const auto refusal = [&](const std::vector<std::string>& more) {
    std::vector<std::string> all = {"generate", "--model", tiny_.gguf, "--prompt", "a"};
    all.insert(all.end(), more.begin(), more.end());
    const Ran ran = run_thimble(all);
    EXPECT_EQ(ran.status, 2);
    return ran.err;
  };
  EXPECT_THAT(refusal({"--adapter-scale", "2"}), HasSubstr("there is no --adapter"));
  EXPECT_THAT(refusal({"--adapter", tiny_.adapter, "--adapter-scale", "1,2"}), HasSubstr("expected 1, one for each"));
  EXPECT_THAT(refusal({"--adapter", tiny_.adapter, "--adapter-scale", "much"}), HasSubstr("found 'much'"));
  EXPECT_THAT(refusal({"--adapter", tiny_.adapter + "," + file("none")}), HasSubstr("none"));
  EXPECT_THAT(refusal({"--adapter", tiny_.adapter + ","}), HasSubstr("found an empty name"));
}

}  // namespace
}  // namespace thimble
