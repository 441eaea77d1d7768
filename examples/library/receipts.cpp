// Fine-tunes a model within a budget, then lets it answer: the main job of thimble, from a program of one's own.
//
//   receipts MODEL TRAIN.jsonl OUT [STEPS] [BUDGET_BYTES]
#include <cstdio>
#include <cstdlib>

#include "thimble/thimble.h"

namespace {

int fail(const thimble::Error& error) {
  std::fprintf(stderr, "%s\n", error.message.c_str());
  return error.code == thimble::ErrorCode::over_budget ? 3 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 4) {
    std::fprintf(stderr, "usage: %s MODEL TRAIN.jsonl OUT [STEPS] [BUDGET_BYTES]\n", argv[0]);
    return 2;
  }
  thimble::Recipe recipe;
  recipe.model = argv[1];
  recipe.data = argv[2];
  recipe.out = argv[3];
  recipe.steps = argc > 4 ? std::atoll(argv[4]) : 20;
  recipe.memory = argc > 5 ? std::atoll(argv[5]) : 300'000'000;

  {
    auto training = thimble::FineTuning::plan(recipe);  // nothing large exists yet
    if (!training) return fail(training.error());
    std::printf("%s\n", training->ledger().text().c_str());
    const auto trained = training->run([](const thimble::StepEvent& step) {
      std::printf("step %lld  loss %.4f\n", static_cast<long long>(step.step), step.loss);
      return true;  // go on
    });
    if (!trained) return fail(trained.error());
  }  // what training held is free again: the budget is the process's

  auto model =
      thimble::Model::open({.model = recipe.model, .adapter = recipe.out + "/adapter", .memory = recipe.memory});
  if (!model) return fail(model.error());
  const auto reply =
      model->generate({.text = "4 heavy pencils for GBP 43.92 each, purchased on 2021-10-16.", .chat = true});
  if (!reply) return fail(reply.error());
  std::printf("%s\n", reply->c_str());
  return 0;
}
