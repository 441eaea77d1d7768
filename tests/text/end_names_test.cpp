// Which tokens of a GGUF file end a text, as llama.cpp has it.
#include "text/end_names.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "files/gguf_writer.h"
#include "small_tokenizer.h"

namespace thimble {
namespace {

using testing::ElementsAre;
using testing::UnorderedElementsAre;
using Names = std::vector<std::string>;

std::vector<std::string_view> ends_of(const Names& there) {
  return end_names([&](std::string_view name) { return std::ranges::find(there, name) != there.end(); });
}

TEST(EndNames, AreThoseOfLlamaCppWithItsExceptions) {
  EXPECT_THAT(ends_of({"<s>", "</s>", "x"}), ElementsAre("</s>"));
  EXPECT_THAT(ends_of({"<|end|>", "<|call|>"}), UnorderedElementsAre("<|end|>", "<|call|>"));
  EXPECT_THAT(ends_of({"<|end|>", "<|call|>", "<|return|>"}), UnorderedElementsAre("<|call|>", "<|return|>"));
  EXPECT_THAT(ends_of({"<|end|>", "<|calls|>", "<|flush|>"}), UnorderedElementsAre("<|calls|>", "<|flush|>"));
  EXPECT_THAT(ends_of({"<|end|>", "<|return|>", "<|flush|>"}),
              UnorderedElementsAre("<|end|>", "<|return|>", "<|flush|>"));
  EXPECT_THAT(ends_of({"</s>", "<|tool_response>", "<turn|>"}), UnorderedElementsAre("<|tool_response>", "<turn|>"));
  EXPECT_THAT(ends_of({"</s>", "<|plamo:eos|>"}), ElementsAre());
}

// A byte-level vocabulary of these tokens alone, with keys that say ids.
std::vector<int32_t> ends_of_file(const Names& tokens, const std::vector<std::pair<std::string, uint32_t>>& ids) {
  GgufWriter writer;
  writer.add_string("tokenizer.ggml.model", "gpt2");
  writer.add_string("tokenizer.ggml.pre", "qwen2");
  StringList list;
  for (const std::string& token : tokens) list.push_back(token);
  writer.add_strings("tokenizer.ggml.tokens", list);
  writer.add_integers("tokenizer.ggml.token_type", std::vector<int32_t>(tokens.size(), 3));
  for (const auto& [key, id] : ids) writer.add_integer("tokenizer.ggml." + key, id);
  TemporaryFolder folder;
  EXPECT_TRUE(writer.start(folder.file("m.gguf")));
  EXPECT_TRUE(writer.finish());
  const auto tokenizer = must_open(folder.file("m.gguf"));
  return tokenizer ? tokenizer->ends() : std::vector<int32_t>();
}

TEST(EndNames, OfFilesThatSayIdsOrNamesOfInfilling) {
  const Names qwen = {"<|endoftext|>", "<|im_start|>", "<|im_end|>",    "<|fim_prefix|>", "<|fim_pad|>",
                      "<|repo_name|>", "<|file_sep|>", "<|box_start|>", "</tool>"};
  EXPECT_THAT(ends_of_file(qwen, {{"eos_token_id", 2}}), UnorderedElementsAre(2, 0, 4, 5, 6));
  EXPECT_THAT(ends_of_file(qwen, {{"eos_token_id", 2}, {"fim_pad_token_id", 7}, {"eot_token_id", 8}}),
              UnorderedElementsAre(2, 0, 7, 5, 6, 8));
}

}  // namespace
}  // namespace thimble
