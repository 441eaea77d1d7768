#include "files/gguf.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>

#include "binary_files.h"
#include "codecs/codec.h"
#include "files/gguf_writer.h"
#include "temporary_folder.h"

namespace thimble {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::vector<std::string> strings(const GgufFile& file, std::string_view key) {
  std::vector<std::string> out;
  const auto done = file.for_each_string(key, [&](std::string_view text) -> Result<void> {
    out.emplace_back(text);
    return {};
  });
  EXPECT_TRUE(done) << done.error().message;
  return out;
}

TEST(Gguf, reads_a_file_made_by_hand) {
  TemporaryFolder folder;
  const auto file = GgufFile::open(folder.write("a.gguf", good_gguf()));
  ASSERT_TRUE(file) << file.error().message;
  EXPECT_EQ(*file->get<std::string>("general.architecture"), "llama");
  EXPECT_EQ(*file->get<int64_t>("llama.block_count"), 2);
  EXPECT_EQ(*file->get<double>("llama.block_count"), 2.0);
  EXPECT_EQ(*file->find<bool>("absent"), std::nullopt);
  EXPECT_EQ(*file->get_or<int64_t>("absent", 5), 5);
  EXPECT_THAT(file->get<bool>("llama.block_count").error().message, HasSubstr("should be true or false, found u32"));
  EXPECT_THAT(file->get<int64_t>("absent").error().message, HasSubstr("'absent' is missing"));
  EXPECT_THAT(strings(*file, "tokens"), ElementsAre("a", "bc"));
  EXPECT_FALSE(file->integers("tokens"));
  const GgufTensor* first = file->find_tensor("first");
  ASSERT_TRUE(first);
  EXPECT_EQ(first->shape, (Shape{2, 4}));
  EXPECT_EQ(first->bytes, 32u);
  EXPECT_EQ(first->offset % 32, 0u);
  EXPECT_EQ(file->find_tensor("second")->offset, first->offset + 32);
}

TEST(Gguf, passes_on_the_error_of_a_visitor) {
  TemporaryFolder folder;
  const auto file = GgufFile::open(folder.write("a.gguf", good_gguf()));
  int visits = 0;
  const auto done = file->for_each_string("tokens", [&](std::string_view) -> Result<void> {
    ++visits;
    return fail(ErrorCode::cancelled, "enough");
  });
  EXPECT_EQ(done.error().message, "enough");
  EXPECT_EQ(visits, 1);
}

TEST(Gguf, what_is_written_is_read) {
  TemporaryFolder folder;
  const auto source = GgufFile::open(folder.write("source.gguf", good_gguf()));
  GgufWriter writer;
  writer.add_string("general.architecture", "qwen3");
  writer.add_integer("n", 7);
  writer.add_float("f", 0.5f);
  writer.add_bool("b", true);
  StringList words;
  for (const std::string& word : {std::string(), std::string("x"), std::string(100000, 'y')}) words.push_back(word);
  writer.add_strings("words", words);
  const std::array<int32_t, 2> ids = {-1, 5};
  writer.add_integers("ids", ids);
  const std::array<float, 2> scores = {0.25f, -3};
  writer.add_floats("scores", scores);
  writer.copy(*source, *source->find_value("tokens"));
  ASSERT_TRUE(writer.add_tensor("t", 0, {3, 3}));
  ASSERT_TRUE(writer.add_tensor("u", 1, {2}));
  EXPECT_THAT(writer.add_tensor("v", 3, {2, 33}).error().message, HasSubstr("no multiple of q4_1's 32"));
  EXPECT_FALSE(writer.add_tensor("v", -1, {1}));
  const std::string path = folder.file("a.gguf");
  ASSERT_TRUE(writer.start(path));
  const std::string data(9 * 4 + 2 * 2, '\x11');
  ASSERT_TRUE(writer.write(std::as_bytes(std::span(data)).first(37)));
  EXPECT_THAT(writer.finish().error().message, HasSubstr("'u' is not complete"));
  ASSERT_TRUE(writer.write(std::as_bytes(std::span(data)).subspan(37)));
  EXPECT_FALSE(writer.write(std::as_bytes(std::span(data)).first(1)));
  ASSERT_TRUE(writer.finish());

  const auto file = GgufFile::open(path);
  ASSERT_TRUE(file) << file.error().message;
  EXPECT_EQ(file->version(), 3u);
  EXPECT_EQ(*file->get<int64_t>("n"), 7);
  EXPECT_EQ(*file->get<double>("f"), 0.5);
  EXPECT_TRUE(*file->get<bool>("b"));
  EXPECT_THAT(strings(*file, "words"), ElementsAre("", "x", words[2]));
  EXPECT_THAT(*file->integers("ids"), ElementsAre(-1, 5));
  EXPECT_THAT(*file->floats("scores"), ElementsAre(0.25f, -3.0f));
  EXPECT_THAT(strings(*file, "tokens"), ElementsAre("a", "bc"));
  EXPECT_EQ(file->find_tensor("u")->shape, Shape{2});
  EXPECT_EQ(file->find_tensor("u")->offset - file->find_tensor("t")->offset, 64u);
}

TEST(GgufTypes, agree_with_the_codecs) {
  for (const Codec* codec : codecs()) {
    if (codec->gguf_type < 0) continue;
    const GgufTensorType* type = find_gguf_tensor_type(codec->gguf_type);
    ASSERT_TRUE(type) << codec->name;
    EXPECT_EQ(type->name, codec->name);
    EXPECT_EQ(type->block, codec->block);
    EXPECT_EQ(type->block_bytes, codec->block_bytes);
  }
}

}  // namespace
}  // namespace thimble
