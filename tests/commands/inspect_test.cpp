// inspect, tokenize and methods, and what every command does with wrong flags.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "files/json.h"
#include "program.h"
#include "tiny_files.h"

namespace thimble {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

TEST(Program, exit_codes_and_suggestions) {
  EXPECT_EQ(run_thimble({"--version"}).status, 0);
  EXPECT_EQ(run_thimble({"--help"}).status, 0);
  EXPECT_EQ(run_thimble({}).status, 2);
  Ran ran = run_thimble({"convrt"});
  EXPECT_EQ(ran.status, 2);
  EXPECT_THAT(ran.err, HasSubstr("there is no command 'convrt'; the nearest are convert"));
  ran = run_thimble({"tokenize", "--tokeniser=x"});
  EXPECT_EQ(ran.status, 2);
  EXPECT_THAT(ran.err, HasSubstr("there is no --tokeniser; the nearest are --tokenizer"));
}

TEST(Inspect, a_gguf_model) {
  TinyFiles tiny;
  const Ran ran = run_thimble({"inspect", tiny.gguf, "--json", "--tensors"});
  ASSERT_EQ(ran.status, 0) << ran.err;
  const Json json = *parse_json(ran.out, "output");
  EXPECT_EQ(json["format"], "GGUF version 3");
  EXPECT_EQ(json["architecture"]["layers"], 2);
  EXPECT_EQ(json["architecture"]["parameters"], json["elements"]);
  EXPECT_EQ(json["codecs"]["f32"]["tensors"], json["tensors"]);
  EXPECT_EQ(json["tokenizer"]["kind"], "byte-level BPE");
  EXPECT_EQ(json["tokenizer"]["tokens"], 258);
  EXPECT_THAT(json["tokenizer"]["chat template"].get<std::string>(), HasSubstr(" bytes"));
  EXPECT_EQ(json["metadata"]["general.name"], "tiny");
  EXPECT_EQ(json["tensor list"].size(), json["tensors"]);
  const Ran plain = run_thimble({"inspect", tiny.gguf});
  EXPECT_THAT(plain.out, AllOf(HasSubstr("GGUF version 3"), HasSubstr("byte-level BPE")));
}

TEST(Inspect, an_adapter_a_folder_and_a_checkpoint) {
  TinyFiles tiny;
  Json json = *parse_json(run_thimble({"inspect", tiny.adapter, "--json"}).out, "output");
  EXPECT_EQ(json["r"], 2);
  EXPECT_EQ(json["modules"], 1);
  EXPECT_EQ(json["target_modules"][0], "q_proj");
  const std::string hf = tiny.folder.file("hf");
  ASSERT_TRUE(write_hf_model(hf, tiny.model.architecture, tiny.model.tensors, tiny.model.rows()));
  json = *parse_json(run_thimble({"inspect", hf, "--json"}).out, "output");
  EXPECT_EQ(json["format"], "Hugging Face folder");
  EXPECT_EQ(json["architecture"]["width"], 64);
  EXPECT_THAT(std::string(json["tokenizer"]["not supported"]), HasSubstr("holds none of tokenizer.json"));
  const std::vector<SafetensorsTensor> tensors = {{"m", "F32", {1}}};
  auto writer =
      SafetensorsWriter::create(tiny.folder.file("c.safetensors"), tensors, {{"step", "7"}, {"numerics", "x"}});
  ASSERT_TRUE(writer->write(std::vector<std::byte>(4)));
  ASSERT_TRUE(writer->finish());
  json = *parse_json(run_thimble({"inspect", tiny.folder.file("c.safetensors"), "--json"}).out, "output");
  EXPECT_THAT(std::string(json["format"]), HasSubstr("checkpoint"));
  EXPECT_EQ(json["metadata"]["step"], "7");
}

TEST(Inspect, broken_files) {
  TinyFiles tiny;
  const std::string good = file_bytes(tiny.gguf);
  const auto status = [&](const std::string& name, const std::string& bytes) {
    const Ran ran = run_thimble({"inspect", tiny.folder.write(name, bytes)});
    EXPECT_THAT(ran.err, HasSubstr(name));
    return ran.status;
  };
  EXPECT_EQ(status("cut.gguf", good.substr(0, good.size() / 2)), 2);
  EXPECT_EQ(status("header.gguf", good.substr(0, 20)), 2);
  EXPECT_EQ(status("empty.gguf", ""), 2);
  EXPECT_EQ(status("long.safetensors", std::string(8, '\xff') + "{}"), 2);
  EXPECT_EQ(status("words.json", "no JSON"), 2);
  EXPECT_EQ(run_thimble({"inspect", tiny.folder.file("none")}).status, 2);
  EXPECT_EQ(run_thimble({"inspect", TemporaryFolder().path()}).status, 2);
  EXPECT_EQ(run_thimble({"inspect"}).status, 2);
}

TEST(Inspect, the_cpu) {
  const Ran ran = run_thimble({"inspect", "--cpu", "--json"});
  ASSERT_EQ(ran.status, 0) << ran.err;
  const Json json = *parse_json(ran.out, "output");
  EXPECT_THAT(std::string(json["--isa"]["baseline"]), HasSubstr("x86-64"));
  EXPECT_GT(json["measured"]["f32 products, GFLOP/s"], 0);
  EXPECT_THAT(std::string(json["--multiply auto"]), HasSubstr("under --precision bf16"));
}

TEST(Inspect, a_lower_level_is_in_use_when_it_is_asked_for) {
  const Ran ran = run_thimble({"inspect", "--cpu", "--json", "--isa", "baseline"});
  ASSERT_EQ(ran.status, 0) << ran.err;
  EXPECT_THAT(std::string((*parse_json(ran.out, "output"))["--isa"]["baseline"]), HasSubstr("in use"));
}

TEST(Inspect, a_level_that_is_not_there_is_refused) {
  const Ran ran = run_thimble({"inspect", "--cpu", "--isa", "pentium"});
  EXPECT_EQ(ran.status, 2);
  EXPECT_THAT(ran.err, HasSubstr("--isa pentium: there is no such level; this CPU has baseline"));
}

TEST(Tokenize, there_and_back) {
  TinyFiles tiny;
  EXPECT_EQ(run_thimble({"tokenize", "--model", tiny.gguf, "--text", "ab<|end|>", "--json"}).out, "[257,0]\n");
  EXPECT_EQ(run_thimble({"tokenize", "--tokenizer", tiny.gguf, "--bos", "--json"}, "ab").out, "[0,257]\n");
  EXPECT_EQ(run_thimble({"tokenize", "--model", tiny.gguf, "--text", "", "--json"}).out, "[]\n");
  EXPECT_EQ(run_thimble({"tokenize", "--model", tiny.gguf, "--text", "ab", "--json", "--pieces"}).out,
            "[{\"id\":257,\"piece\":\"ab\"}]\n");
  const Json plain = *parse_json(
      run_thimble({"tokenize", "--model", tiny.gguf, "--text", "<|end|>", "--no-special", "--json"}).out, "output");
  EXPECT_EQ(plain.size(), 7u);
  EXPECT_EQ(run_thimble({"tokenize", "--model", tiny.gguf, "--decode", "[257, 257]"}).out, "abab\n");
  EXPECT_EQ(run_thimble({"tokenize", "--model", tiny.gguf, "--decode", "258"}).status, 2);
  EXPECT_EQ(run_thimble({"tokenize", "--text", "x"}).status, 2);
  EXPECT_EQ(run_thimble({"tokenize", "--model", tiny.gguf, "--file", tiny.folder.file("none")}).status, 2);
}

// Longer than the pieces that a file is read in.
TEST(Tokenize, a_long_file_as_a_whole_text) {
  TinyFiles tiny;
  std::string text;
  for (int i = 0; i < 40000; ++i) text += "ab c";
  const Ran ran =
      run_thimble({"tokenize", "--model", tiny.gguf, "--file", tiny.folder.write("long.txt", text), "--json"});
  ASSERT_EQ(ran.status, 0) << ran.err;
  EXPECT_EQ((*parse_json(ran.out, "output")).size(), 40000u * 3);
}

TEST(Methods, lists_and_finds) {
  const Ran all = run_thimble({"methods"});
  EXPECT_THAT(all.out, AllOf(HasSubstr("lora"), HasSubstr("adamw"), HasSubstr("q4_1"), HasSubstr("linear")));
  const Json json = *parse_json(run_thimble({"methods", "adamw", "--json"}).out, "output");
  EXPECT_EQ(json[0]["socket"], "optimizer");
  EXPECT_EQ(json[0]["options"][0]["name"], "beta1");
  EXPECT_EQ(json[0]["options"][0]["default"], 0.9);
  const Ran wrong = run_thimble({"methods", "adamx"});
  EXPECT_EQ(wrong.status, 2);
  EXPECT_THAT(wrong.err, HasSubstr("the nearest are adamw"));
}

}  // namespace
}  // namespace thimble
