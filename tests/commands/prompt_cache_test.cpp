// --prompt-cache as a user gives it: the same text with and without, within any budget, and flags that go together.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "files/json.h"
#include "program.h"
#include "tiny_files.h"

namespace thimble {
namespace {

using ::testing::HasSubstr;

// Of weights large enough to wait on disk.
std::string write_larger(const TemporaryFolder& folder) {
  const MemoryModel model(llama({.vocab = 258,
                                 .width = 256,
                                 .layers = 4,
                                 .heads = 4,
                                 .kv_heads = 2,
                                 .head_dim = 64,
                                 .ffn_width = 768,
                                 .context = 256}));
  const TokenizerTables tokenizer = tiny_tokenizer();
  const std::string path = folder.file("larger.gguf");
  EXPECT_TRUE(write_gguf_model(path, model.architecture, model.tensors, model.rows(),
                               {.name = "larger", .tokenizer = &tokenizer}));
  return path;
}

TEST(PromptCacheFlag, is_the_same_within_every_budget) {
  const TemporaryFolder folder;
  const std::string model = write_larger(folder), cache = folder.file("cache");
  const auto generate = [&](std::vector<std::string> more) {
    std::vector<std::string> all = {"generate", "--model",      model, "--prompt",  "abc bad cab dab abcabc",
                                    "--json",   "--max-tokens", "8",   "--scratch", folder.path()};
    all.insert(all.end(), more.begin(), more.end());
    return run_thimble(all);
  };
  const Ran small = generate({"--memory", "1M"});
  const std::string named = "the smallest budget that would do is ";
  const size_t at = small.err.find(named);
  ASSERT_NE(at, std::string::npos) << small.err;
  const std::string least = fmt::format("{}M", std::atoi(small.err.c_str() + at + named.size()) + 2);
  const Json alone = parse_json(generate({}).out, "alone").value_or(Json());
  for (const auto& [first, second] : {std::pair{least, std::string("1G")}, {std::string("1G"), least}}) {
    std::remove(cache.c_str());
    const Json one = parse_json(generate({"--memory", first, "--prompt-cache", cache}).out, "one").value_or(Json());
    const Ran ran = generate({"--memory", second, "--prompt-cache", cache});
    const Json two = parse_json(ran.out, "two").value_or(Json());
    EXPECT_EQ(one["ids"], alone["ids"]);
    EXPECT_EQ(two["ids"], alone["ids"]);
    EXPECT_EQ(one["prompt_tokens_from_cache"], 0);
    EXPECT_EQ(two["prompt_tokens_from_cache"], alone["prompt_ids"].size() - 1) << ran.err;
    EXPECT_LE(two["peak_rss_bytes"], two["planned_peak_bytes"]);
  }
}

TEST(PromptCacheFlag, a_chat_begins_with_it) {
  const TinyFiles tiny;
  const std::string cache = tiny.folder.file("cache");
  const auto chat = [&](std::vector<std::string> more) {
    std::vector<std::string> all = {"chat",
                                    "--model",
                                    tiny.gguf,
                                    "--temperature",
                                    "0",
                                    "--max-tokens",
                                    "4",
                                    "--chat-template",
                                    "{% for m in messages %}{{ m.content }};{% endfor %}"};
    all.back() = tiny.folder.write("template.jinja", all.back());
    all.insert(all.end(), more.begin(), more.end());
    return run_thimble(all, "abc\nbad\n");
  };
  const Ran alone = chat({});
  ASSERT_EQ(alone.status, 0) << alone.err;
  for (int i = 0; i < 2; ++i) EXPECT_EQ(chat({"--prompt-cache", cache}).out, alone.out);
  EXPECT_TRUE(is_file(cache));
}

TEST(PromptCacheFlag, flags_that_do_not_go_together_are_refused) {
  const TinyFiles tiny;
  const auto refused = [&](std::vector<std::string> more) {
    std::vector<std::string> all = {"generate", "--model", tiny.gguf};
    all.insert(all.end(), more.begin(), more.end());
    const Ran ran = run_thimble(all);
    EXPECT_EQ(ran.status, 2) << ran.out;
    return ran.err;
  };
  const std::string cache = tiny.folder.file("cache"), prompts = tiny.folder.write("prompts", "a\nb\n");
  EXPECT_THAT(refused({"--prompt", "a", "--prompt-cache-all"}), HasSubstr("names no file"));
  EXPECT_THAT(refused({"--prompt", "a", "--prompt-cache", cache, "--prompt-cache-all", "--prompt-cache-ro"}),
              HasSubstr("--prompt-cache-ro writes nothing"));
  EXPECT_THAT(refused({"--prompts", prompts, "--prompt-cache", cache}), HasSubstr("keeps one prompt"));
  EXPECT_THAT(refused({"--prompt", "a", "--prompt-cache", cache, "--prompt-cache-ro"}), HasSubstr("no such file"));
  EXPECT_THAT(refused({"--prompt", "abc", "--prompt-cache", cache, "--cache", "sink"}), HasSubstr("--cache sink"));
  EXPECT_THAT(refused({"--prompt", "a", "--prompt-cache", tiny.gguf}), HasSubstr("it would be written over"));
  EXPECT_THAT(refused({"--prompt", "a", "--prompt-cache", prompts}), HasSubstr("no prompt cache"));
}

}  // namespace
}  // namespace thimble
