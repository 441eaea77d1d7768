#include "run/stop_strings.h"

#include <gtest/gtest.h>

#include <random>

namespace thimble {
namespace {

// Text up to the stop, however it is cut into pieces; nothing that belongs to a stop is ever let out.
TEST(StopStrings, FindsWhatIsCutAnywhere) {
  const std::vector<std::string> stops = {"###", "\n\nUser:", "ab"};
  std::mt19937 random(3);
  for (int round = 0; round < 2000; ++round) {
    std::string text;
    for (size_t i = random() % 30; i > 0; --i) text += "#\nUser:abx"[random() % 10];
    size_t expected = text.size();
    for (const std::string& stop : stops) expected = std::min(expected, text.find(stop));
    StopStrings found(stops);
    std::string out;
    for (size_t at = 0; at < text.size() && !found.found();) {
      const size_t length = 1 + random() % 4;
      out += found.push(std::string_view(text).substr(at, length));
      at += length;
      EXPECT_TRUE(text.starts_with(out));
      EXPECT_LE(out.size(), expected);
    }
    if (!found.found()) out += found.rest();
    EXPECT_EQ(out, text.substr(0, expected)) << text;
    EXPECT_EQ(found.found().has_value(), expected < text.size());
    if (found.found()) EXPECT_TRUE(text.substr(expected).starts_with(stops[*found.found()]));
  }
}

TEST(StopStrings, OfTwoAtOnePlaceTheFirstListedCounts) {
  const std::vector<std::string> stops = {"abc", "ab"};
  StopStrings found(stops);
  EXPECT_EQ(found.push("xabc"), "x");
  EXPECT_EQ(found.found(), 0u);
}

}  // namespace
}  // namespace thimble
