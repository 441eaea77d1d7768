// Learning from a teacher, from files to files.
#include <gmock/gmock.h>

#include "run/small_training.h"

namespace thimble {
namespace {

using ::testing::HasSubstr;

class Distilled : public SmallTraining {
 protected:
  void SetUp() override {
    SmallTraining::SetUp();
    Recipe teacher = recipe_;
    teacher.steps = 8;
    losses(teacher, "teacher");
    recipe_.teacher = folder_.path() + "/teacher/model";
    recipe_.objective = "distillation";
    recipe_.steps = 6;
  }

  std::string refusal(const Recipe& recipe) {
    Events events(true);
    const auto trainer = Trainer::prepare(recipe, events);
    return trainer ? "" : trainer.error().message;
  }
};

// A fresh adapter on the teacher's own weights has nothing to learn; another model has.
TEST_F(Distilled, counts_how_far_the_teacher_is) {
  Recipe same = recipe_;
  same.model = recipe_.teacher, same.size = "", same.tokenizer = "", same.method = "lora", same.steps = 1;
  EXPECT_NEAR(losses(same, "same").front(), 0, 1e-6);
  recipe_.seed = 3;
  const std::vector<double> taken = losses(recipe_, "other");
  ASSERT_EQ(taken.size(), 6u);
  EXPECT_GT(taken.front(), 0.01);
  EXPECT_LT(taken.back(), 0.5 * taken.front());
}

TEST_F(Distilled, resumes_exactly_and_with_the_same_teacher_only) {
  recipe_.set = {"distillation.hard=0.5", "distillation.temperature=2"};
  expect_resumes_exactly(recipe_, "whole", 3, 6, [&](Recipe other) {
    other.teacher = folder_.path() + "/whole/model", other.out = folder_.path() + "/whole-part";
    EXPECT_THAT(refusal(other), HasSubstr("--teacher"));
  });
}

TEST_F(Distilled, refuses_what_is_no_teacher) {
  recipe_.out = folder_.path() + "/refused";
  Recipe none = recipe_;
  none.teacher = "";
  EXPECT_THAT(refusal(none), HasSubstr("--teacher is missing"));
  Recipe lead = recipe_;
  lead.model = recipe_.teacher, lead.size = "", lead.tokenizer = "", lead.method = "prompt_tuning";
  EXPECT_THAT(refusal(lead), HasSubstr("virtual tokens"));
}

}  // namespace
}  // namespace thimble
