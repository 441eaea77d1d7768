#include "core/printable.h"

#include <gtest/gtest.h>

#include <random>

namespace thimble {
namespace {

TEST(Printable, leaves_text_as_it_is) {
  for (const char* text : {"", "plain", "two\nlines\tand a tab", "grün, 漢字, \U0001f600", "a\u00a0b"})
    EXPECT_EQ(printable(text), text);
}

TEST(Printable, shows_what_a_terminal_would_act_on) {
  EXPECT_EQ(printable("\x1b]0;title\a\x1b[2J"), "\\x1b]0;title\\x07\\x1b[2J");
  EXPECT_EQ(printable("\r\b\x7f"), "\\x0d\\x08\\x7f");
  EXPECT_EQ(printable("\u009b31m"), "\\u009b31m") << "CSI in eight bits";
  EXPECT_EQ(printable("\x9b"
                      "31m"),
            "\\x9b"
            "31m")
      << "the same as a bare byte";
  EXPECT_EQ(printable("exe\u202etxt.\u2066"), "exe\\u202etxt.\\u2066");
  EXPECT_EQ(printable(std::string_view("a\0b", 3)), "a\\x00b");
  EXPECT_EQ(printable("\xe6\xbc"), "\\xe6\\xbc") << "cut off";
  EXPECT_EQ(printable("\xc0\xaf\xed\xa0\x80"), "\\xc0\\xaf\\xed\\xa0\\x80") << "overlong; a surrogate";
}

// Whatever comes in, nothing that a terminal acts on comes out.
TEST(Printable, of_any_bytes) {
  std::mt19937 random(5);
  for (int round = 0; round < 2000; ++round) {
    std::string bytes(random() % 40, '\0');
    for (char& byte : bytes) byte = static_cast<char>(random() % 3 == 0 ? 0xc2 : random());
    const std::string out = printable(bytes);
    EXPECT_EQ(printable(out), out);
    for (const char c : out) EXPECT_TRUE(static_cast<unsigned char>(c) >= 32 || c == '\n' || c == '\t');
  }
}

}  // namespace
}  // namespace thimble
