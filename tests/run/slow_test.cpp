#include "files/safetensors.h"
#include "run/arena.h"
#include "run/trainer.h"
#include "shared_data.h"
#include "smollm2.h"
#include "temporary_folder.h"

namespace thimble {
namespace {

TEST(Slow, smollm2_losses_of_the_whole_text) {
  NEED_SMOLLM2(model);
  NEED_SHARED_DATA(text, "wikitext2/valid.txt");
  NEED_SHARED_DATA(path, "models/smollm2/nll_wikitext2_valid.json");
  const std::vector<double> golden = golden_losses(path), found = window_losses(model, "f32", text, 0);
  ASSERT_EQ(found.size(), golden.size());
  for (size_t i = 0; i < found.size(); ++i) EXPECT_NEAR(found[i], golden[i], 1e-4) << "window " << i;
}

// Names and header of 27,000 tensors are some megabytes while a checkpoint is written.
TEST(Slow, a_model_of_a_thousand_layers_is_saved_within_its_plan) {
  const TemporaryFolder folder;
  const SafetensorsTensor tensor{"ids", "I32", {4, 64}};
  const std::vector<int32_t> ids(4 * 64, 9);
  auto data = SafetensorsWriter::create(folder.file("ids.safetensors"), {&tensor, 1});
  ASSERT_TRUE(data);
  ASSERT_TRUE(data->write(std::as_bytes(std::span(ids))));
  ASSERT_TRUE(data->finish());
  const std::string config =
      folder.write("deep.json", R"({"model_type":"llama","hidden_size":32,"intermediate_size":32,)"
                                R"("num_hidden_layers":1000,"num_attention_heads":2,"num_key_value_heads":1,)"
                                R"("max_position_embeddings":64,"vocab_size":64,"tie_word_embeddings":true})");
  const Recipe recipe{.data = folder.file("ids.safetensors"),
                      .out = folder.file("run"),
                      .method = "full",
                      .architecture = config,
                      .scratch = "none",
                      .memory = 900'000'000,
                      .context = 64,
                      .steps = 1};
  forget_peak_resident();
  Events events(true);
  auto trainer = Trainer::prepare(recipe, events);
  ASSERT_TRUE(trainer) << trainer.error().message;
  const auto done = (*trainer)->run();
  ASSERT_TRUE(done) << done.error().message;
  EXPECT_LE(peak_resident_bytes(), (*trainer)->plan().ledger.planned_bytes);
}

}  // namespace
}  // namespace thimble
