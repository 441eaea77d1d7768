// Learning from a teacher, from files to files.
#include <gmock/gmock.h>

#include <cmath>
#include <span>

#include "run/all_logits.h"
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
}

// The logits of every row of a model that is run for itself.
std::vector<float> logits_of(const InferenceOptions& options, const std::vector<int32_t>& ids) {
  auto inference = *Inference::open(options);
  const auto all = *AllLogits::prepare(*inference, std::ssize(ids));
  EXPECT_TRUE(all->load());
  const auto logits = *all->run(ids);
  return {logits.begin(), logits.end()};
}

// KL(q || p) of softmaxes of logits, in double.
double divergence(std::span<const float> teacher, std::span<const float> student) {
  const auto lse = [](std::span<const float> logits) {
    double sum = 0;
    for (const float x : logits) sum += std::exp(double{x});
    return std::log(sum);
  };
  const double lse_q = lse(teacher), lse_p = lse(student);
  double sum = 0;
  for (size_t v = 0; v < teacher.size(); ++v) {
    const double q = double{teacher[v]} - lse_q, p = double{student[v]} - lse_p;
    sum += std::exp(q) * (q - p);
  }
  return sum;
}

// The teacher reads each text alone; the student has virtual tokens before it, of which none meets the teacher.
TEST_F(Distilled, virtual_tokens_are_the_students_alone) {
  recipe_.model = recipe_.teacher, recipe_.size = recipe_.tokenizer = "", recipe_.steps = 1;
  recipe_.data = folder_.write("two.jsonl", R"({"text": "say one word"})"
                                            "\n"
                                            R"({"text": "and then another one"})"
                                            "\n");
  recipe_.train_on = "all", recipe_.lr = 1e-30, recipe_.context = 128;
  for (const std::string method : {"prompt_tuning", "prefix_tuning"}) {
    SCOPED_TRACE(method);
    recipe_.method = method, recipe_.set = {method + ".tokens=5"};
    const double loss = losses(recipe_, method).front();
    InferenceOptions teacher{.model = recipe_.teacher, .precision = "f32", .multiply = "f32"}, student = teacher;
    student.adapter = folder_.path() + "/" + method + "/adapter";
    const auto tokenizer = *Tokenizer::open(recipe_.teacher);
    const auto data = *Dataset::open(recipe_.data, *tokenizer, {.context = 100, .train_on = TrainOn::all});
    double sum = 0;
    int64_t count = 0;
    for (int64_t i = 0; i < data->size(); ++i) {
      Example example;
      ASSERT_TRUE(data->read(i, example));
      const std::vector<int32_t> ids(example.ids.begin(), example.ids.end());
      const std::vector<float> q = logits_of(teacher, ids), p = logits_of(student, ids);
      const size_t vocab = q.size() / ids.size();
      for (size_t row = 0; row + 1 < ids.size(); ++row) {
        if (!example.trained[row + 1]) continue;
        sum += divergence(std::span(q).subspan(row * vocab, vocab), std::span(p).subspan(row * vocab, vocab));
        ++count;
      }
    }
    ASSERT_GT(sum, 0);
    EXPECT_NEAR(loss, sum / static_cast<double>(count), 1e-4 * sum / static_cast<double>(count));
  }
}

}  // namespace
}  // namespace thimble
