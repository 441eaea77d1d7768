// compare: what a recipe becomes, that nothing is run twice, and what is refused.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "files/json.h"
#include "program.h"
#include "tiny_files.h"

namespace thimble {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

class Compare : public testing::Test {
 protected:
  void SetUp() override {
    data_ = files_.folder.write("text.jsonl",
                                "{\"text\":\"a cab at a bar, a crab at a cabaret\"}\n"
                                "{\"text\":\"bad dads add a bead, abbeys fade\"}\n");
  }

  std::string recipe(const std::string& rest) {
    return files_.folder.write("recipe.yaml",
                               fmt::format("name: tiny\ncommand: finetune\nflags:\n  model: {}\n  data: {}\n  method: "
                                           "full\n  context: 64\n  steps: 3\n  threads: 2\n{}",
                                           files_.gguf, data_, rest));
  }
  Ran compare(const std::string& rest, std::vector<std::string> more = {}) {
    std::vector<std::string> all = {"compare", recipe(rest), "--out", files_.folder.file("out")};
    all.insert(all.end(), more.begin(), more.end());
    return run_thimble(all);
  }
  int64_t runs() const {
    int64_t count = 0;
    for (const auto& entry : std::filesystem::directory_iterator(files_.folder.file("out")))
      count += entry.is_directory();
    return count;
  }

  TinyFiles files_;
  std::string data_;
};

TEST_F(Compare, tries_rates_and_then_every_seed) {
  const std::string rest =
      "rates: [1, 3]\npart: 0.5\nseeds: [1, 2]\nvariants:\n  adamw: {}\n  lion: {optimizer: lion}\n";
  const Ran ran = compare(rest);
  ASSERT_EQ(ran.status, 0) << ran.err;
  EXPECT_THAT(ran.out, HasSubstr("| adamw | "));
  EXPECT_THAT(ran.out, HasSubstr("| lion | "));
  EXPECT_EQ(runs(), 8) << "two rates and two seeds of two variants";
  const auto found = parse_json(file_bytes(files_.folder.file("out") + "/compare.json"), "compare.json");
  ASSERT_TRUE(found);
  ASSERT_EQ(found->size(), 2u);
  for (const Json& row : *found) {
    ASSERT_EQ(row["tries"].size(), 2u);
    EXPECT_EQ(row["losses"].size(), 2u);
    EXPECT_NEAR(row["tries"][1]["learning_rate"].get<double>(), 3 * row["tries"][0]["learning_rate"].get<double>(),
                1e-9);
    const size_t better = row["tries"][0]["loss"] <= row["tries"][1]["loss"] ? 0 : 1;
    EXPECT_NEAR(row["learning_rate"].get<double>(), row["tries"][better]["learning_rate"].get<double>(), 1e-9);
    EXPECT_GT(row["peak_rss_bytes"].get<int64_t>(), 0);
  }
  EXPECT_GT((*found)[0]["states_bytes"], (*found)[1]["states_bytes"]) << "AdamW has two states, Lion one";
  EXPECT_THAT(file_bytes(files_.folder.file("out") + "/compare.html"), HasSubstr("adamw"));

  const Ran again = compare(rest);
  ASSERT_EQ(again.status, 0) << again.err;
  EXPECT_EQ(again.out, ran.out);
  EXPECT_EQ(runs(), 8);
  EXPECT_THAT(again.err, HasSubstr("made before"));
  // Other data are another run.
  files_.folder.write("text.jsonl", "{\"text\":\"a cab at a bar, a crab at a cabaret\"}\n");
  ASSERT_EQ(compare(rest, {"--only", "lion", "--quick"}).status, 0);
  EXPECT_EQ(runs(), 9);
}

TEST_F(Compare, tries_no_other_rate_of_an_optimizer_that_finds_its_own) {
  const Ran ran = compare("rates: [0.5, 4]\nseeds: [1]\nvariants:\n  prodigy: {optimizer: \"prodigy,lookahead\"}\n");
  ASSERT_EQ(ran.status, 0) << ran.err;
  EXPECT_EQ(runs(), 1);
  const auto found = parse_json(file_bytes(files_.folder.file("out") + "/compare.json"), "compare.json");
  ASSERT_TRUE(found);
  EXPECT_EQ((*found)[0]["learning_rate"].get<double>(), 1);
}

TEST_F(Compare, says_what_did_not_run) {
  const Ran ran = compare("variants:\n  adamw: {}\n  wrong: {optimizer: admw}\n  lion: {optimizer: lion}\n");
  ASSERT_EQ(ran.status, 0) << ran.err;
  EXPECT_THAT(ran.out, HasSubstr("| wrong | not run: "));
  EXPECT_THAT(ran.out, HasSubstr("admw"));
  EXPECT_THAT(ran.out, Not(HasSubstr("lion | not run")));
}

TEST_F(Compare, steps_take_the_place_of_epochs) {
  const Ran ran = compare("variants:\n  adamw: {epochs: 0.5}\n", {"--steps", "1"});
  ASSERT_EQ(ran.status, 0) << ran.err;
  EXPECT_THAT(ran.out, Not(HasSubstr("not run")));
}

TEST_F(Compare, refuses_recipes_that_are_none) {
  const auto refused = [&](const std::string& rest, const std::string& words, std::vector<std::string> more = {}) {
    const Ran ran = compare(rest, more);
    EXPECT_EQ(ran.status, 2) << rest;
    EXPECT_THAT(ran.err, HasSubstr(words));
  };
  refused("variant:\n  adamw: {}\n", "recipe.yaml:10: there is no key 'variant'; the nearest are variants");
  refused("rates: [0]\nvariants:\n  adamw: {}\n", "recipe.yaml:10: expected numbers");
  refused("variants:\n  a/b: {}\n", "a variant is called by");
  refused("variants:\n  adamw: {out: x}\n", "'out' is set by compare itself");
  refused("variants:\n  adamw: {}\n", "nearest are adamw", {"--only", "adam"});
  refused("variants: [\n", "it is not YAML");
}

}  // namespace
}  // namespace thimble
