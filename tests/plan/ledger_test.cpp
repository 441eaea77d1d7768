// The ledger on a terminal: it fits, and its rows fill the budget.
#include "plan/ledger.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <sstream>

namespace thimble {
namespace {

// Columns that a line of UTF-8 takes: every character here is one wide.
int columns_of(const std::string& line) {
  return static_cast<int>(
      std::count_if(line.begin(), line.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; }));
}

Ledger example() {
  Ledger l;
  l.items = {{"frozen weights", 96'600'000, "as stored: q8_0, f32, q4_1"},
             {"gradients", 9'800'000, "f32, held for clipping and accumulation"},
             {"inputs, tables", 1, ""},
             {"kept activations", 118'600'000, "bf16, 2048 rows at once"},
             {"runtime", 22'000'000, "program, libraries, tokenizer, data index"}};
  l.budget_bytes = 300'000'000, l.planned_bytes = 247'000'001, l.step_seconds = 16.95,
  l.numerics_hash = "0548e556640cb8d8";
  l.choices = {"1 passes of 2048 tokens a step; 28 of 30 blocks keep only their input; cheap values are made again"};
  return l;
}

TEST(Ledger, fits_the_terminal) {
  for (int columns : {40, 45, 60, 71, 72, 80, 100, 120, 200}) {
    std::istringstream lines(example().text(columns));
    for (std::string line; std::getline(lines, line);) EXPECT_LT(columns_of(line), columns) << line;
  }
}

TEST(Ledger, says_every_item_and_the_budget) {
  for (int64_t budget : {int64_t{0}, int64_t{300'000'000}, int64_t{20'000'000'000}}) {
    Ledger l = example();
    l.budget_bytes = budget;
    const std::string text = l.text(80);
    for (const LedgerItem& item : l.items) EXPECT_NE(text.find(item.name), std::string::npos);
    EXPECT_NE(text.find(budget ? "% of" : "no budget given"), std::string::npos) << text;
    EXPECT_NE(text.find(l.numerics_hash), std::string::npos);
  }
}

TEST(Ledger, bars_fill_to_the_eighth) {
  EXPECT_EQ(bar_text(0, 4), "    ");
  EXPECT_EQ(bar_text(1, 4), "████");
  EXPECT_EQ(bar_text(0.5, 3), "█▌ ");
  EXPECT_EQ(columns_of(bar_text(0.33, 20)), 20);
  EXPECT_EQ(bar_text(7, 2), "██");
}

}  // namespace
}  // namespace thimble
