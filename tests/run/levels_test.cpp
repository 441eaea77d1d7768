// A training and a decode in numbers that every instruction set level and every architecture must come to. The numbers
// are those of x86's AVX2: what is right, ops_test says by references in double and run_golden_test beside PyTorch.
#include <cmath>

#include "core/isa.h"
#include "models/gguf_writer.h"
#include "models/memory_model.h"
#include "plan/tiny_training.h"
#include "run/generator.h"
#include "temporary_folder.h"

namespace thimble {
namespace {

// Three steps, and the length of the vector of all trained numbers after them.
void expect_training(const Rewrite& method, const Codec& activation, const std::vector<double>& losses, double length,
                     double apart) {
  TrainingSpec spec = tiny_spec(method);
  spec.batch = 2, spec.context = 64;
  spec.activation = &activation;
  const auto plan = plan_training(spec, Machine{});
  ASSERT_TRUE(plan) << plan.error().message;
  const Trajectory found = run_plan(spec, *plan, 3);
  ASSERT_EQ(found.losses.size(), losses.size());
  for (size_t i = 0; i < losses.size(); ++i)
    EXPECT_NEAR(found.losses[i], losses[i], apart * losses[i]) << "step " << i << " on " << isa_name();
  double squares = 0;
  for (const float number : found.parameters) squares += double{number} * number;
  EXPECT_NEAR(std::sqrt(squares), length, apart * length) << isa_name();
}

TEST(Levels, train_alike) { expect_training(kFull, kF32, {5.056561736, 5.143955402, 5.127264835}, 26.106098814, 1e-5); }

TEST(Levels, train_alike_in_bf16) {
  expect_training(kFull, kBf16, {5.056613585, 5.143302578, 5.133484237}, 26.100992753, 1e-3);
}

TEST(Levels, train_adapters_alike) {
  expect_training(kLora, kBf16, {5.056613585, 5.084848754, 5.077035405}, 9.111385813, 1e-3);
}

// A model in q4_0 goes on from five tokens, each time with the likeliest one; the logits before each choice.
TEST(Levels, decode_alike) {
  const TemporaryFolder folder;
  const Architecture shape = llama({.vocab = 96,
                                    .width = 64,
                                    .layers = 2,
                                    .heads = 4,
                                    .kv_heads = 2,
                                    .head_dim = 16,
                                    .ffn_width = 96,
                                    .context = 64});
  const MemoryModel model(shape);
  const std::string path = folder.file("q4_0.gguf");
  ASSERT_TRUE(write_gguf_model(path, shape, model.tensors, model.rows(), {.codec = &kQ4_0}));
  struct Expected {
    const char *precision, *multiply;
    std::vector<int32_t> ids;
    std::vector<float> logits;
    float apart;
  };
  for (const Expected& expected :
       {Expected{"f32",
                 "f32",
                 {53, 11, 19, 73, 2, 53, 10, 83},
                 {19.862097f, 15.270496f, 33.920128f, 23.783749f, 23.344198f, 35.37271f, 20.249004f, 25.218431f},
                 1e-3f},
        Expected{"bf16",
                 "int8",
                 {53, 11, 19, 73, 2, 53, 10, 83},
                 {19.65961f, 15.170775f, 33.81844f, 24.049322f, 24.48587f, 35.83869f, 20.243309f, 25.044796f},
                 0.05f}}) {
    SCOPED_TRACE(fmt::format("{} on {}", expected.multiply, isa_name()));
    const auto inference = Inference::open(
        {.model = path, .precision = expected.precision, .multiply = expected.multiply, .cache_type = "f32"});
    ASSERT_TRUE(inference) << inference.error().message;
    const auto generator = Generator::prepare(**inference, 1, 32);
    ASSERT_TRUE(generator) << generator.error().message;
    ASSERT_TRUE((*generator)->load());
    const std::vector<int32_t> start = {3, 14, 15, 9, 26};
    const Generator::Prompt prompt{0, start};
    ASSERT_TRUE((*generator)->prefill({&prompt, 1}));
    std::vector<int32_t> ids;
    std::vector<float> largest;
    for (int i = 0; i < 8; ++i) {
      const std::span<const float> logits = (*generator)->logits(0);
      const auto best = std::max_element(logits.begin(), logits.end());
      largest.push_back(*best);
      const Generator::Token token{0, static_cast<int32_t>(best - logits.begin())};
      ids.push_back(token.id);
      ASSERT_TRUE((*generator)->step({&token, 1}));
    }
    EXPECT_EQ(ids, expected.ids);
    ASSERT_EQ(largest.size(), expected.logits.size()) << fmt::format("{}", fmt::join(largest, "f, "));
    for (size_t i = 0; i < largest.size(); ++i)
      EXPECT_NEAR(largest[i], expected.logits[i], expected.apart) << "token " << i;
  }
}

}  // namespace
}  // namespace thimble
