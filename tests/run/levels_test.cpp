// One training and one decoding in numbers that every instruction set level and every architecture must come to: those
// of x86's AVX2, which double references of operations (ops_test) and PyTorch (run_golden_test) hold to what is right.
#include <cmath>

#include "core/isa.h"
#include "models/gguf_writer.h"
#include "models/memory_model.h"
#include "run/generator.h"
#include "run/small_training.h"

namespace thimble {
namespace {

class Levels : public SmallTraining {
 protected:
  void expect_losses(const std::string& precision, const std::vector<double>& expected, double apart) {
    recipe_.precision = precision;
    recipe_.multiply = "f32";
    recipe_.batch = 2;
    recipe_.steps = 3;
    const std::vector<double> found = losses(recipe_, precision);
    ASSERT_EQ(found.size(), expected.size());
    for (size_t i = 0; i < found.size(); ++i)
      EXPECT_NEAR(found[i], expected[i], apart) << fmt::format("step {}: {:.9f} on {}", i, found[i], isa_name());
  }
};

TEST_F(Levels, train_alike) { expect_losses("f32", {0, 0, 0}, 1e-5); }

TEST_F(Levels, train_alike_in_bf16) { expect_losses("bf16", {0, 0, 0}, 5e-3); }

// A model in q4_0 goes on from five tokens, each time with the likeliest one; the logits before each choice.
TEST_F(Levels, decode_alike) {
  const Architecture shape = llama({.vocab = 96,
                                    .width = 64,
                                    .layers = 2,
                                    .heads = 4,
                                    .kv_heads = 2,
                                    .head_dim = 16,
                                    .ffn_width = 96,
                                    .context = 64});
  const MemoryModel model(shape);
  const std::string path = folder_.path() + "/q4_0.gguf";
  ASSERT_TRUE(write_gguf_model(path, shape, model.tensors, model.rows(), {.codec = &kQ4_0}));
  struct Expected {
    const char* multiply;
    std::vector<int32_t> ids;
    std::vector<float> logits;
    float apart;
  };
  for (const Expected& expected : {Expected{"f32", {}, {}, 1e-3f}, Expected{"int8", {}, {}, 5e-2f}}) {
    SCOPED_TRACE(fmt::format("{} on {}", expected.multiply, isa_name()));
    const auto inference =
        Inference::open({.model = path, .precision = "f32", .multiply = expected.multiply, .cache_type = "f32"});
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
