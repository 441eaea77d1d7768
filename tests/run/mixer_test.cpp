// Recurrent blocks: what they make over a state, token by token, is what they make of the whole sequence; the state
// begins, is cleared, and is as large for any context.
#include "models/mixer.h"

#include <gmock/gmock.h>

#include <cmath>

#include "models/hf_writer.h"
#include "models/memory_model.h"
#include "run/all_logits.h"
#include "run/blocks.h"
#include "run/generator.h"
#include "temporary_folder.h"

namespace thimble {
namespace {

using ::testing::HasSubstr;

Architecture architecture(const std::vector<const Mixer*>& mixers, bool coupled) {
  Architecture a = llama({.vocab = 40,
                          .width = 24,
                          .layers = static_cast<int64_t>(mixers.size()),
                          .heads = 3,
                          .kv_heads = 1,
                          .head_dim = 8,
                          .ffn_width = 20,
                          .context = 32768});
  a.family = "thimble", a.coupled = coupled;
  for (size_t i = 0; i < mixers.size(); ++i)
    if (mixers[i]->mix) set_mixer(a.blocks[i], *mixers[i]);
  return a;
}

class RecurrentModel : public ::testing::Test {
 protected:
  void write(const std::vector<const Mixer*>& mixers, bool coupled = false) {
    const MemoryModel model(architecture(mixers, coupled));
    const auto written = write_hf_model(folder_.file("m"), model.architecture, model.tensors, model.rows());
    ASSERT_TRUE(written) << written.error().message;
    ids_.clear();
    for (int32_t i = 0; i < 48; ++i) ids_.push_back(1 + i * i * 7 % 39);
  }
  std::unique_ptr<Inference> open(const std::string& decoder = "plain") {
    auto opened = Inference::open(
        {.model = folder_.file("m"), .precision = "f32", .multiply = "f32", .cache_type = "f32", .decoder = decoder});
    EXPECT_TRUE(opened) << opened.error().message;
    return opened ? std::move(*opened) : nullptr;
  }
  std::vector<float> all_logits(std::span<const int32_t> ids) {
    const auto inference = open();
    const auto all = AllLogits::prepare(*inference, static_cast<int64_t>(ids.size()));
    EXPECT_TRUE(all && (*all)->load());
    const auto found = (*all)->run(ids);
    return {found->begin(), found->end()};
  }
  static void expect_near(std::span<const float> found, std::span<const float> expected) {
    ASSERT_EQ(found.size(), expected.size());
    float largest = 1;
    for (const float x : expected) largest = std::max(largest, std::abs(x));
    for (size_t i = 0; i < found.size(); ++i) ASSERT_NEAR(found[i], expected[i], 2e-4f * largest) << i;
  }

  void expect_the_same_over_a_state() {
    const std::vector<float> expected = all_logits(ids_);
    const auto inference = open();
    const auto generator = Generator::prepare(*inference, 2, 64);
    ASSERT_TRUE(generator) << generator.error().message;
    ASSERT_TRUE((*generator)->load());
    const auto row = [&](size_t i) { return std::span(expected).subspan(i * 40, 40); };
    // Another sequence beside it, and one before it in the same slot: neither is seen.
    const std::vector<int32_t> other(ids_.rbegin(), ids_.rbegin() + 20);
    const Generator::Prompt before[] = {{0, other}, {1, std::span(other).first(7)}};
    ASSERT_TRUE((*generator)->prefill(before));
    EXPECT_EQ((*generator)->truncate(0, 5), 0) << "a state does not go back";
    const Generator::Prompt prompts[] = {{1, std::span(other).first(3)}, {0, std::span(ids_).first(21)}};
    ASSERT_TRUE((*generator)->prefill(prompts));
    expect_near((*generator)->logits(1), row(20));
    for (size_t i = 21; i < ids_.size(); ++i) {
      const Generator::Token token{0, ids_[i]};
      ASSERT_TRUE((*generator)->step({&token, 1}));
      expect_near((*generator)->logits(0), row(i));
    }
  }

  const TemporaryFolder folder_;
  std::vector<int32_t> ids_;
};

TEST_F(RecurrentModel, makes_over_a_state_what_it_makes_of_whole_sequences) {
  for (const Mixer* mixer : mixers()) {
    if (!mixer->recurrent) continue;
    SCOPED_TRACE(mixer->name);
    write({mixer, &kAttentionMixer, mixer});
    expect_the_same_over_a_state();
  }
}

TEST_F(RecurrentModel, does_so_with_coupled_streams) {
  write({&kDeltaNetMixer, &kAttentionMixer, &kDeltaNetMixer}, true);
  expect_the_same_over_a_state();
}

TEST_F(RecurrentModel, has_a_state_of_equal_bytes_for_any_context) {
  write({&kDeltaNetMixer, &kDeltaNetMixer});
  std::vector<int64_t> bytes;
  for (const int64_t context : {1024, 16384}) {
    const auto inference = open();
    ASSERT_TRUE(Generator::prepare(*inference, 1, context));
    bytes.push_back(inference->plan().layout.bytes(Role::state));
  }
  EXPECT_EQ(bytes[0], bytes[1]);
  // Three heads of 8 x 8, and three convolutions of three rows of 24, of two blocks; each value on its own 64 bytes.
  EXPECT_NEAR(static_cast<double>(bytes[0]), 2 * 4 * (3 * 8 * 8 + 3 * 3 * 24), 2 * 4 * 64);
}

TEST_F(RecurrentModel, takes_no_guesses) {
  write({&kDeltaNetMixer});
  const auto opened = Inference::open({.model = folder_.file("m"), .decoder = "prompt_lookup"});
  ASSERT_FALSE(opened);
  EXPECT_THAT(opened.error().message, HasSubstr("recurrent"));
}

std::string blocks_refusal(const std::vector<std::string>& settings) {
  Architecture a = llama({.vocab = 40,
                          .width = 32,
                          .layers = 2,
                          .heads = 2,
                          .kv_heads = 2,
                          .head_dim = 16,
                          .ffn_width = 64,
                          .context = 32});
  const auto set = set_blocks(settings, a);
  return set ? "" : set.error().message;
}

TEST(Blocks, settings_that_a_router_has_not_are_refused) {
  const auto hash = [](const std::string& setting) { return blocks_refusal({"block.router=hash", setting}); };
  EXPECT_THAT(hash("block.balance=0.01"), HasSubstr("--set block.balance=0.01: the router hash has no such setting"));
  EXPECT_THAT(hash("block.chosen=2"), HasSubstr("the router hash has no such setting"));
  EXPECT_THAT(hash("block.capacity=1.5"), HasSubstr("the router hash has no such setting"));
  EXPECT_THAT(blocks_refusal({"block.router=top_k", "block.capacity=1.5"}), HasSubstr("top_k has no such setting"));
  EXPECT_THAT(blocks_refusal({"block.router=top_k", "block.experts=4", "block.chosen=5"}),
              HasSubstr("--set block.chosen=5: there are 4 experts"));
  EXPECT_THAT(blocks_refusal({"block.router=switch", "block.capacity=-0.5"}), HasSubstr("block.capacity=-0.5"));
  EXPECT_THAT(blocks_refusal({"block.router=top_k", "block.experts=2.5"}), HasSubstr("expected a whole number"));
  EXPECT_EQ(blocks_refusal({"block.router=top_k", "block.experts=1"}), "") << "the router's own number is at most that";
  EXPECT_EQ(blocks_refusal({"block.router=hash|top_k", "block.balance=0.1", "block.chosen=3"}), "");
}

// A model of as many blocks as the rate is for is Llama; one of four times as many adds half, and begins as the other.
TEST(Blocks, tuned_layers_scale_what_blocks_add) {
  LlamaShape shape{
      .vocab = 40, .width = 32, .layers = 2, .heads = 2, .kv_heads = 2, .head_dim = 16, .ffn_width = 64, .context = 32};
  Architecture same = llama(shape);
  ASSERT_TRUE(set_blocks({"block.tuned_layers=2"}, same));
  Architecture plain = llama(shape);
  plain.family = same.family;
  EXPECT_EQ(same, plain);
  shape.layers = 8;
  Architecture deep = llama(shape);
  ASSERT_TRUE(set_blocks({"block.tuned_layers=2"}, deep));
  for (const Block& block : deep.blocks) EXPECT_DOUBLE_EQ(block.residual_scale, 0.5);
  const auto deviation = [](const Architecture& a) {
    for (const TensorSpec& spec : tensor_specs(a))
      if (spec.name == "model.layers.1.mlp.down_proj.weight") return spec.initial.number;
    return 0.0f;
  };
  EXPECT_FLOAT_EQ(deviation(deep), deviation(plain));
}

TEST(Blocks, names_that_are_none_are_refused) {
  const LlamaShape shape{
      .vocab = 40, .width = 32, .layers = 2, .heads = 2, .kv_heads = 2, .head_dim = 16, .ffn_width = 64, .context = 32};
  for (const char* setting :
       {"block.mixer=attention|", "block.mixer=|deltanet", "block.router=hash|", "block.mixer=", "block.experts=4",
        "block.ffn=gatd", "block.ffn=gated|gated|low_rank", "block.router=none|none|hash", "block.ffn_rank=4"}) {
    Architecture a = llama(shape);
    EXPECT_FALSE(set_blocks({setting}, a)) << setting;
  }
  Architecture a = llama(shape);
  EXPECT_FALSE(set_blocks({"block.mixer=deltanet", "block.window=4"}, a));
  EXPECT_TRUE(set_blocks({"block.mixer=attention|deltanet", "block.window=4", "block.router=none|hash"}, a));
  EXPECT_FALSE(set_blocks({"block.ffn=low_rank", "block.ffn_rank=33"}, a));
  EXPECT_TRUE(set_blocks({"block.ffn=low_rank|plain", "block.ffn_rank=4"}, a));
  EXPECT_EQ(a.blocks[0].ffn.rank, 4);
  EXPECT_EQ(a.blocks[1].ffn.rank, 0);
  EXPECT_EQ(a.blocks[1].ffn.mixer, &kPlainFfn);
  EXPECT_FALSE(a.coupled);
  EXPECT_TRUE(set_blocks({"block.coupled=1"}, a));
  EXPECT_TRUE(a.coupled);
}

// Each block with its own numbers, where routers of several kinds want others.
TEST(Blocks, of_several_kinds_are_written_and_read) {
  Architecture a = llama({.vocab = 40,
                          .width = 32,
                          .layers = 3,
                          .heads = 2,
                          .kv_heads = 2,
                          .head_dim = 16,
                          .ffn_width = 64,
                          .context = 32});
  ASSERT_TRUE(set_blocks({"block.router=switch|top_k|none", "block.experts=3", "block.ffn=low_rank|plain"}, a));
  ASSERT_NE(a.blocks[0].ffn.routing.chosen, a.blocks[1].ffn.routing.chosen);
  const MemoryModel model(a);
  TemporaryFolder folder;
  const auto written = write_hf_model(folder.file("m"), a, model.tensors, model.rows());
  ASSERT_TRUE(written) << written.error().message;
  const auto source = ModelSource::open(folder.file("m"));
  ASSERT_TRUE(source) << source.error().message;
  for (size_t i = 0; i < a.blocks.size(); ++i) EXPECT_EQ((*source)->architecture().blocks[i].ffn, a.blocks[i].ffn) << i;
}

}  // namespace
}  // namespace thimble
