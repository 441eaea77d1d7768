// What is guessed ahead.
#include "methods/decoder.h"

#include <gtest/gtest.h>

namespace thimble {
namespace {

std::vector<int32_t> looked_up(const std::vector<int32_t>& ids, int64_t most, double ngram = 3) {
  OptionValues options(kPromptLookup.options);
  EXPECT_TRUE(options.set("test", "ngram", ngram));
  std::vector<int32_t> out;
  kPromptLookup.guess(ids, most, options, out);
  return out;
}

using Ids = std::vector<int32_t>;

TEST(PromptLookup, takes_what_followed_the_longest_match) {
  EXPECT_EQ(looked_up({1, 2, 3, 9, 7, 3, 8, 1, 2, 3}, 2), (Ids{9, 7}));
  EXPECT_EQ(looked_up({1, 2, 3, 9, 7, 3, 8, 1, 2, 3}, 2, 1), (Ids{8, 1}))
      << "of the last token alone, the latest place";
  EXPECT_EQ(looked_up({5, 6, 5, 6, 5}, 4), (Ids{6, 5})) << "no further than the text goes, overlaps included";
}

TEST(PromptLookup, guesses_nothing_without_a_match) {
  EXPECT_EQ(looked_up({}, 3), Ids{});
  EXPECT_EQ(looked_up({4}, 3), Ids{});
  EXPECT_EQ(looked_up({1, 2, 3, 4}, 3), Ids{});
  EXPECT_EQ(looked_up({4, 4}, 0), Ids{});
}

TEST(LayerSkip, has_at_least_one_block_and_no_more_than_there_are) {
  OptionValues options(kLayerSkip.options);
  EXPECT_EQ(kLayerSkip.layers(30, options), 15);
  EXPECT_EQ(kLayerSkip.layers(1, options), 1);
  EXPECT_TRUE(options.set("test", "layers", 40));
  EXPECT_EQ(kLayerSkip.layers(30, options), 30);
}

}  // namespace
}  // namespace thimble
