#include "shared_data.h"
#include "smollm2.h"

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

}  // namespace
}  // namespace thimble
