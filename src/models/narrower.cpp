#include "models/narrower.h"

#include <fmt/format.h>

#include <array>

namespace thimble {
namespace {

Result<void> divide(int64_t& extent, int64_t by, int64_t unit, const char* what) {
  if (extent % (by * unit) != 0)
    return fail(ErrorCode::invalid_argument,
                "the model's {} is {}, which cannot be made {} times as narrow{}; give "
                "another reduction",
                what, extent, by, unit > 1 ? " with an even number left" : "");
  extent /= by;
  return {};
}

std::vector<double> every(const std::vector<double>& numbers, int64_t by) {
  std::vector<double> out;
  for (size_t i = 0; i < numbers.size(); i += static_cast<size_t>(by)) out.push_back(numbers[i]);
  return out;
}

}  // namespace

Result<Architecture> narrower(const Architecture& architecture, int64_t by) {
  Architecture out = architecture;
  out.embedding_width = 0, out.learned_positions = 0;
  CHECK_OK(divide(out.width, by, 1, "width"));
  for (Rope& rope : out.ropes) {
    CHECK_OK(divide(rope.rotated, by, 2, "number of elements of a head that turn"));
    rope.layout = Rope::Layout::halves;
    rope.scaling.short_factors = every(rope.scaling.short_factors, by);
    rope.scaling.long_factors = every(rope.scaling.long_factors, by);
  }
  for (Block& block : out.blocks) {
    CHECK_OK(divide(block.attention.head_dim, by, 1, "head dimension"));
    CHECK_OK(divide(block.ffn.width, by, 1, "FFN width"));
    block.attention.scale = 0;  // of the model's heads
    if (block.ffn.rank > 0) CHECK_OK(divide(block.ffn.rank, by, 1, "rank of the FFN"));
    block.ffn.routing = {};
  }
  return out;
}

}  // namespace thimble
