// Questions of benchmarks as lm-evaluation-harness 0.4 puts them: what stands before each choice, and what is scored.
#include "text/choices.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "temporary_folder.h"

namespace thimble {
namespace {

using ::testing::ElementsAre;

struct Scored {
  std::string prompt, text;
  int64_t characters;
  bool operator==(const Scored&) const = default;
};
void PrintTo(const Scored& s, std::ostream* out) {
  *out << '\'' << s.prompt << "' + '" << s.text << "' " << s.characters;
}

std::vector<Scored> scored(const std::string& line) {
  TemporaryFolder folder;
  const auto read = read_choices(folder.write("q.jsonl", line + "\n"), 0);
  EXPECT_TRUE(read) << read.error().message;
  std::vector<Scored> out;
  if (read)
    for (const Choice& c : read->questions.at(0).choices) out.push_back({c.prompt, c.text, c.characters});
  return out;
}

// A space is put before a choice even where cleaning has left one there, as it has before the first words of a title.
TEST(Choices, HellaSwag) {
  EXPECT_THAT(scored(R"({"activity_label":"Letters","ctx_a":"[header] How [title] Find a pen.","ctx_b":"","label":"0",)"
                     R"("endings":["[title] Find paper. [step] Any.","goes  on"]})"),
              ElementsAre(Scored{"Letters: How. Find a pen.", "  Find paper. Any.", 17},
                          Scored{"Letters: How. Find a pen.", " goes on", 7}));
}

TEST(Choices, SciQ) {
  EXPECT_THAT(scored(R"({"question":"Hot?","distractor1":"a","distractor2":"b","distractor3":"c","correct_answer":"d",)"
                     R"("support":" It is. "})")
                  .front(),
              (Scored{"It is. \nQuestion: Hot?\nAnswer:", " a", 1}));
  EXPECT_THAT(scored(R"({"question":"Hot?","distractor1":"a","distractor2":"b","distractor3":"c","correct_answer":"d",)"
                     R"("support":""})")
                  .front(),
              (Scored{"\nQuestion: Hot?\nAnswer:", " a", 1}));
}

// A space at the end of the stem is moved, and another stands between; a prompt of the user's own is as given.
TEST(Choices, SpacesBetween) {
  EXPECT_THAT(scored(R"({"question_stem":"It is ","choices":{"text":["a"," b"],"label":["A","B"]},"answerKey":"A"})"),
              ElementsAre(Scored{"It is", "  a", 1}, Scored{"It is", "   b", 2}));
  EXPECT_THAT(scored(R"({"prompt":"It is ","choices":["a"," b"],"answer":0})"),
              ElementsAre(Scored{"It is", " a", 1}, Scored{"It is", "  b", 2}));
  EXPECT_THAT(scored(R"({"prompt":"It is","choices":["a"," b"],"answer":0})"),
              ElementsAre(Scored{"It is", " a", 1}, Scored{"It is", " b", 2}));
}

TEST(Choices, WinoGrande) {
  EXPECT_THAT(scored(R"({"sentence":"The _ is big.","option1":"cup","option2":"box","answer":"2"})"),
              ElementsAre(Scored{"The cup", " is big.", 7}, Scored{"The box", " is big.", 7}));
}

TEST(Choices, APassageWithChoicesOfItsOwnIsNoYesOrNo) {
  EXPECT_THAT(scored(R"({"passage":"P","question":"q","choices":["x","y"],"answer":0})"),
              ElementsAre(Scored{"P\nQuestion: q\nAnswer:", " x", 1}, Scored{"P\nQuestion: q\nAnswer:", " y", 1}));
  EXPECT_THAT(scored(R"({"passage":"P","question":"q","options":["x","y"],"label":"B"})").back(),
              (Scored{"P\nQuestion: q\nAnswer:", " y", 1}));
  EXPECT_THAT(scored(R"({"passage":"P","question":"q","answer":true})").front(),
              (Scored{"P\nQuestion: q?\nAnswer:", " no", 2}));
}

TEST(Choices, AnswersAgreeAndOtherFieldsAreTold) {
  TemporaryFolder folder;
  const auto read = [&](const std::string& line) { return read_choices(folder.write("q.jsonl", line + "\n"), 0); };
  EXPECT_THAT(read(R"({"question":"q","choices":["a","b"],"answer":1,"label":0})").error().message,
              testing::HasSubstr("its fields name two answers: choice 1 and, by `label`, choice 0"));
  const auto told = read(R"({"question":"q","choices":["a","b"],"answer":1,"answerKey":"B","id":7,"hint":"h"})");
  ASSERT_TRUE(told) << told.error().message;
  EXPECT_EQ(told->questions[0].answer, 1u);
  EXPECT_THAT(told->notes, ElementsAre("fields without effect: hint (1)"));
}

}  // namespace
}  // namespace thimble
