// Every decoder says what plain decoding says, token for token.
#include "methods/decoder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "core/isa.h"
#include "files/json.h"
#include "program.h"
#include "tiny_files.h"

namespace thimble {
namespace {

using ::testing::HasSubstr;

class Decoders : public testing::TestWithParam<const Decoder*> {
 protected:
  Json generate(const std::string& decoder, std::vector<std::string> more) {
    std::vector<std::string> all = {"generate", "--model", files_.gguf, "--decoder",
                                    decoder,    "--json",  "--prompt",  "abcabcabcabc bad abcabc"};
    all.insert(all.end(), more.begin(), more.end());
    const Ran ran = run_thimble(all);
    EXPECT_EQ(ran.status, 0) << ran.err;
    return parse_json(ran.out, "generate").value_or(Json());
  }

  TinyFiles files_;
};

TEST_P(Decoders, says_what_plain_decoding_says) {
  const std::vector<std::string> ways[] = {
      {"--max-tokens", "40"},
      {"--max-tokens", "40", "--precision", "f32"},
      {"--max-tokens", "40", "--temperature", "0.8", "--seed", "3"},
      {"--max-tokens", "30", "--temperature", "1", "--seed", "5", "--repetition-penalty", "1.2", "--stop", "x"},
      {"--max-tokens", "1"},
      {"--max-tokens", "200", "--context", "48"},
      {"--max-tokens", "20", "--json-schema", R"({"type":"array","items":{"type":"integer"}})"}};
  int64_t guessed = 0;
  for (const auto& way : ways) {
    const Json plain = generate("plain", way), ahead = generate(std::string(GetParam()->name), way);
    EXPECT_EQ(ahead["ids"], plain["ids"]) << way[1];
    EXPECT_EQ(ahead["text"], plain["text"]);
    EXPECT_EQ(ahead["stopped"], plain["stopped"]);
    if (!ahead.contains("guessed")) continue;
    guessed += ahead["guessed"].get<int64_t>();
    EXPECT_LE(ahead["guessed_right"], ahead["guessed"]);
  }
  EXPECT_EQ(guessed > 0, GetParam()->guesses());
}

// Sequences of a batch end at different times, and each has guesses of its own.
TEST_P(Decoders, says_the_same_in_batches) {
  const std::string prompts =
      files_.folder.write("prompts.txt", "abcabc abc\nbad dad bad\nab\nfade faded fad\na cab\n");
  const auto all = [&](const std::string& decoder, const char* batch) {
    const Ran ran = run_thimble({"generate", "--model", files_.gguf, "--decoder", decoder, "--prompts", prompts,
                                 "--max-tokens", "24", "--batch", batch, "--temperature", "0.7", "--seed", "4"});
    EXPECT_EQ(ran.status, 0) << ran.err;
    std::vector<Json> ids;
    std::istringstream lines(ran.out);
    for (std::string line; std::getline(lines, line);) ids.push_back(parse_json(line, "line").value_or(Json())["ids"]);
    return ids;
  };
  for (const char* batch : {"1", "3"})
    EXPECT_EQ(all(std::string(GetParam()->name), batch), all("plain", batch)) << batch;
}

INSTANTIATE_TEST_SUITE_P(Table, Decoders, testing::ValuesIn(decoders().begin(), decoders().end()),
                         [](const auto& info) { return std::string(info.param->name); });

TEST(Decoder, refuses_what_it_does_not_have) {
  TinyFiles files;
  const auto refused = [&](std::vector<std::string> more) {
    std::vector<std::string> all = {"generate", "--model", files.gguf, "--prompt", "ab"};
    all.insert(all.end(), more.begin(), more.end());
    const Ran ran = run_thimble(all);
    EXPECT_EQ(ran.status, 2);
    return ran.err;
  };
  EXPECT_THAT(refused({"--decoder", "lookup"}), HasSubstr("prompt_lookup"));
  EXPECT_THAT(refused({"--decoder", "prompt_lookup", "--set", "decoder.gram=2"}), HasSubstr("ngram"));
  EXPECT_THAT(refused({"--set", "optimizer.beta1=1"}), HasSubstr("'decoder'"));
}

// Reading the prompt is no part of it: 50 tokens of one take longer than making one token.
// Of several runs, as a busy machine may hold up the one token that is measured.
TEST(Generate, speed_is_of_new_tokens) {
  const TinyFiles files;
  std::string prompt;
  for (int i = 0; i < 50; ++i) prompt += "abcdef"[i % 6];
  bool faster = false;
  for (int i = 0; i < 10 && !faster; ++i) {
    const Ran ran = run_thimble(
        {"generate", "--model", files.gguf, "--prompt", prompt, "--max-tokens", "2", "--temperature", "0", "--json"});
    ASSERT_EQ(ran.status, 0) << ran.err;
    const Json said = parse_json(ran.out, "generate").value_or(Json());
    ASSERT_EQ(said["ids"].size(), 2u);
    const auto prompt_tokens = static_cast<double>(said["prompt_ids"].size());
    faster =
        1 / said["tokens_per_second"].get<double>() < prompt_tokens / said["prompt_tokens_per_second"].get<double>();
  }
  EXPECT_TRUE(faster);
}

// By themselves, prompts and new tokens of generate alone meet the weights in int8.
TEST(Generate, prompts_are_in_int8_where_there_are_no_bf16_products) {
  if (!(this_cpu_levels() & isa_bit(Isa::avx2))) GTEST_SKIP() << "this CPU has no level avx2";
  const TinyFiles files;
  const std::string q8 = files.folder.file("q8.gguf");
  ASSERT_EQ(run_thimble({"convert", "--model", files.gguf, "--codec", "q8_0", "--to", "gguf", "--out", q8}).status, 0);
  const auto products = [&](std::vector<std::string> arguments) {
    for (const std::string more : {"--model", q8.c_str(), "--plan", "--isa", "avx2"}) arguments.push_back(more);
    const Ran ran = run_thimble(arguments);
    EXPECT_EQ(ran.status, 0) << ran.err;
    return ran.out + ran.err;
  };
  EXPECT_THAT(products({"generate", "--prompt", "abc"}), HasSubstr("products in int8 where the weights allow it\n"));
  EXPECT_THAT(products({"generate", "--prompt", "abc", "--multiply", "f32"}), HasSubstr("products in f32\n"));
  const std::string data = files.folder.write("text.txt", std::string(200, 'a'));
  EXPECT_THAT(products({"eval", "--data", data, "--context", "16"}), HasSubstr("products in f32\n"));
  EXPECT_THAT(products({"eval", "--metric", "exact", "--data",
                        files.folder.write("pairs.jsonl", R"({"prompt":"a","completion":"b"})")}),
              HasSubstr("products in f32\n  of new tokens in int8"));
}

// A trace is written over a trace alone, and what cannot be written is refused before anything is done.
TEST(Generate, a_trace_replaces_nothing_else) {
  const TinyFiles files;
  const auto trace_into = [&](const std::string& path) {
    return run_thimble({"generate", "--model", files.gguf, "--prompt", "abc", "--max-tokens", "2", "--trace", path});
  };
  const std::string input = files.folder.write("input.txt", "mine");
  for (const std::string& path : {input, files.folder.path(), std::string("/nonexistent/trace.json")}) {
    const Ran refused = trace_into(path);
    EXPECT_EQ(refused.status, 2) << path;
    EXPECT_EQ(refused.out, "") << path;
    EXPECT_THAT(refused.err, HasSubstr("--trace " + path));
  }
  EXPECT_EQ(read_text_file(input).value_or(""), "mine");
  for (int i = 0; i < 2; ++i) EXPECT_EQ(trace_into(files.folder.file("trace.json")).status, 0);
  EXPECT_TRUE(parse_json(read_text_file(files.folder.file("trace.json")).value_or(""), "trace"));
}

}  // namespace
}  // namespace thimble
