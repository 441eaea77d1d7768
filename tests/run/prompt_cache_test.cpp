// Prompts that go on from what is kept in a file: the same logits, bit for bit, as without it, whatever was kept, for
// models of attention and of recurrent states; and a file that is not of this model, or is damaged, is not read.
#include "run/prompt_cache.h"

#include <gmock/gmock.h>

#include <fstream>

#include "core/warnings.h"
#include "models/hf_writer.h"
#include "models/memory_model.h"
#include "models/mixer.h"
#include "temporary_folder.h"

namespace thimble {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr int64_t kContext = 64;

class CachedPrompt : public testing::TestWithParam<bool> {  // recurrent
 protected:
  void SetUp() override {
    write_model("m");
    for (int32_t i = 0; i < 60; ++i) ids_.push_back(1 + i * i * 7 % 39);
    listen_for_warnings([this](const std::string& text) { warnings_.push_back(text); });
  }
  void TearDown() override { listen_for_warnings({}); }

  // added: to one number of the table of tokens.
  void write_model(const std::string& name, float added = 0) const {
    Architecture a = llama({.vocab = 40,
                            .width = 24,
                            .layers = 2,
                            .heads = 3,
                            .kv_heads = 1,
                            .head_dim = 8,
                            .ffn_width = 20,
                            .context = 512});
    a.family = "thimble";
    if (GetParam()) set_mixer(a.blocks[1], kDeltaNetMixer);
    MemoryModel model(a);
    model.values["model.embed_tokens.weight"][37 * 24] += added;
    const auto written = write_hf_model(folder_.file(name), model.architecture, model.tensors, model.rows());
    ASSERT_TRUE(written) << written.error().message;
  }

  struct Said {
    std::vector<float> logits;  // after the prompt, and after each token of the reply
    int64_t read = -1;          // from the file
  };
  // A prompt and a reply of the ids that follow it. No options: without a file.
  Said say(std::span<const int32_t> prompt, std::span<const int32_t> reply, const PromptCacheOptions& options,
           const std::string& model = "m", const std::string& precision = "bf16", int64_t context = kContext) {
    Said said;
    const auto inference = Inference::open({.model = folder_.file(model), .precision = precision});
    EXPECT_TRUE(inference) << inference.error().message;
    const auto cache = PromptCache::open(options, **inference);
    EXPECT_TRUE(cache) << cache.error().message;
    const auto generator = Generator::prepare(**inference, 1, context);
    EXPECT_TRUE(generator && (*generator)->load());
    size_t held = 0;
    if (*cache) {
      const auto read = (*cache)->begin(**generator, prompt);
      EXPECT_TRUE(read) << read.error().message;
      said.read = read.value_or(-1);
      held = prompt.size() - 1;
    }
    const Generator::Prompt rest{0, prompt.subspan(held)};
    EXPECT_TRUE((*generator)->prefill({&rest, 1}));
    const auto note = [&] {
      const auto now = (*generator)->logits(0);
      said.logits.insert(said.logits.end(), now.begin(), now.end());
    };
    note();
    for (const int32_t id : reply) {
      const Generator::Token token{0, id};
      EXPECT_TRUE((*generator)->step({&token, 1}));
      note();
    }
    if (*cache) {
      std::vector<int32_t> all(prompt.begin(), prompt.end());
      all.insert(all.end(), reply.begin(), reply.end());
      const auto kept = (*cache)->end(**generator, all, static_cast<int64_t>(prompt.size()));
      EXPECT_TRUE(kept) << kept.error().message;
    }
    return said;
  }
  PromptCacheOptions kept(bool all = false, bool read_only = false) const {
    return {.file = folder_.file("cache"), .all = all, .read_only = read_only};
  }
  std::span<const int32_t> first(size_t count) const { return std::span(ids_).first(count); }

  const TemporaryFolder folder_;
  std::vector<int32_t> ids_;
  std::vector<std::string> warnings_;
};

TEST_P(CachedPrompt, says_the_same_whatever_the_file_holds) {
  const auto reply = std::span(ids_).subspan(40, 6);
  for (const char* precision : {"f32", "bf16"}) {
    const Said alone = say(first(40), reply, {}, "m", precision);
    for (const size_t before : {1u, 2u, 17u, 39u, 40u, 41u, 55u}) {
      SCOPED_TRACE(before);
      std::remove(folder_.file("cache").c_str());
      say(first(before), {}, kept(), "m", precision, 58);
      const Said again = say(first(40), reply, kept(), "m", precision);
      EXPECT_EQ(again.logits, alone.logits);
      const auto held = static_cast<int64_t>(before) - 1;
      EXPECT_EQ(again.read, GetParam() && held > 39 ? 0 : std::min<int64_t>(held, 39));
      EXPECT_EQ(say(first(40), reply, kept(), "m", precision).read, 39);  // it was written
    }
  }
  EXPECT_THAT(warnings_, IsEmpty());
}

TEST_P(CachedPrompt, keeps_the_reply_as_a_prompt_would_have_it) {
  const auto reply = std::span(ids_).subspan(20, 10);
  say(first(20), reply, kept(true));
  const Said again = say(first(40), {}, kept(true));
  EXPECT_EQ(again.read, 29);
  EXPECT_EQ(again.logits, say(first(40), {}, {}).logits);
}

TEST_P(CachedPrompt, differs_after_another_beginning) {
  say(first(30), {}, kept());
  std::vector<int32_t> other = ids_;
  other[10] = 39;
  const Said said = say(std::span(other).first(30), {}, kept());
  EXPECT_EQ(said.read, GetParam() ? 0 : 10);
  EXPECT_EQ(said.logits, say(std::span(other).first(30), {}, {}).logits);
}

TEST_P(CachedPrompt, is_left_alone_when_it_may_only_be_read) {
  say(first(20), {}, kept());
  const std::string before = file_bytes(folder_.file("cache"));
  EXPECT_EQ(say(first(40), {}, kept(false, true)).read, 19);
  EXPECT_EQ(file_bytes(folder_.file("cache")), before);
}

TEST_P(CachedPrompt, is_not_read_where_numbers_would_be_others) {
  write_model("other", 1);
  const auto refuses = [&](const std::string& why, const std::function<Said()>& again) {
    SCOPED_TRACE(why);
    std::remove(folder_.file("cache").c_str());
    say(first(30), {}, kept());
    warnings_.clear();
    EXPECT_EQ(again().read, 0);
    ASSERT_EQ(warnings_.size(), 1u);
    EXPECT_THAT(warnings_[0], HasSubstr("made anew"));
    EXPECT_THAT(warnings_[0], HasSubstr(why));
  };
  refuses("other weights", [&] { return say(first(40), {}, kept(), "other"); });
  refuses("other operations", [&] { return say(first(40), {}, kept(), "m", "f32"); });
}

TEST_P(CachedPrompt, every_damage_is_noticed) {
  say(first(30), {}, kept());
  const std::string path = folder_.file("cache"), whole = file_bytes(path);
  const Said alone = say(first(40), {}, {});
  const size_t data = 8 + static_cast<uint8_t>(whole[0]) + 256 * static_cast<uint8_t>(whole[1]);
  for (size_t at = data; at < whole.size(); at += 97) {
    SCOPED_TRACE(at);
    std::string bytes = whole;
    bytes[at] = static_cast<char>(bytes[at] ^ 16);
    std::ofstream(path, std::ios::binary) << bytes;
    const Said said = say(first(40), {}, kept(false, true));
    EXPECT_EQ(said.read, 0);
    EXPECT_EQ(said.logits, alone.logits);
  }
}

TEST_P(CachedPrompt, no_other_file_is_written_over) {
  const auto inference = Inference::open({.model = folder_.file("m")});
  for (const std::string& text :
       {std::string("notes of mine"), std::string(), std::string("\x10\0\0\0\0\0\0\0{}      ", 16)}) {
    folder_.write("cache", text);
    const auto refused = PromptCache::open(kept(), **inference);
    ASSERT_FALSE(refused);
    EXPECT_THAT(refused.error().message, HasSubstr("no prompt cache"));
    EXPECT_EQ(file_bytes(folder_.file("cache")), text);
  }
  PromptCacheOptions absent{.file = folder_.file("absent"), .read_only = true};
  EXPECT_FALSE(PromptCache::open(absent, **inference));
  const auto forgets = Inference::open({.model = folder_.file("m"), .cache = "sink"});
  const auto refused = PromptCache::open({.file = folder_.file("new")}, **forgets);
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().message, HasSubstr("--cache sink"));
}

INSTANTIATE_TEST_SUITE_P(Kinds, CachedPrompt, testing::Bool(),
                         [](const auto& info) { return info.param ? "recurrent" : "attention"; });

}  // namespace
}  // namespace thimble
