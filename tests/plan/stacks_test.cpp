// Techniques on one another: every two of them, in both orders, make a legal training graph, or are refused for a
// reason that lies in what they are.
#include <gmock/gmock.h>

#include <algorithm>

#include "plan/tiny_training.h"

namespace thimble {
namespace {

// Parts of the messages that refuse a pair.
constexpr const char* kReasons[] = {
    "they change a layer in the same way",           // both make tensors of one name
    "is trained by two techniques at once",          // both train a value of the model
    "is a network beside the model as it is",        // which is not the model that another technique changes
    "leaves blocks of the model out",                // that the other one adapts
    "leaves rows of the model out",                  // likewise
    "there would be no experts",                     // of FFNs that the other one changes
    "has losses of tokens in blocks",                // which lemo has fewer of
    "changes the residual stream of a whole model",  // two of them
    "both put virtual tokens at the first positions",
};

TEST(Stacks, every_two_techniques_go_together_or_say_why_not) {
  const Architecture architecture = tiny_llama(2);
  std::vector<const Rewrite*> methods;
  for (const Rewrite* method : methods_for_tests())
    if (!method->trains_weights) methods.push_back(method);
  size_t built = 0;
  for (const Rewrite* first : methods)
    for (const Rewrite* second : methods) {
      if (first == second) continue;
      SCOPED_TRACE(fmt::format("{},{}", first->name, second->name));
      TrainingSpec spec = tiny_spec(*first);
      spec.architecture = architecture, spec.context = 64;
      spec.rewrites = {rewrite_for_tests(*first, architecture), rewrite_for_tests(*second, architecture)};
      const auto graph = build_training(spec, 64, true);  // verified at its end
      if (graph) {
        ++built;
        continue;
      }
      const std::string& message = graph.error().message;
      EXPECT_TRUE(std::ranges::any_of(kReasons, [&](const char* reason) {
        return message.find(reason) != std::string::npos;
      })) << message;
    }
  EXPECT_GT(built, methods.size() * methods.size() / 2);
}

// The places and numbers of dsee stand in the weight that a technique behind it is applied to.
TEST(Stacks, a_computed_weight_is_still_that_of_its_layer) {
  TrainingSpec spec = tiny_spec(kDsee);
  spec.rewrites.push_back(rewrite_for_tests(kHyperformer, spec.architecture));
  spec.batch = 2, spec.context = 64;
  const auto plan = plan_training(spec, Machine{});
  ASSERT_TRUE(plan) << plan.error().message;
  const auto has = [&](const char* part) {
    return std::ranges::any_of(plan->train.parameters, [&](const TrainedParameter& parameter) {
      return parameter.name.find(part) != std::string::npos;
    });
  };
  EXPECT_TRUE(has("dsee_S"));
  EXPECT_TRUE(has("hyperformer"));
  expect_same_bits_at_the_smallest_budget_and_on_disk(spec, 2);
}

}  // namespace
}  // namespace thimble
