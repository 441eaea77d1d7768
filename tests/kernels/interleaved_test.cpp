#include "codecs/interleaved.h"

#include <gtest/gtest.h>

#include <vector>

#include "core/random.h"
#include "kernels/gemm.h"

namespace thimble {
namespace {

// Any row, from any block on, reads as it would plainly: whole pieces and parts of them, odd numbers of blocks, and
// rows behind the last whole group.
TEST(Interleaved, rows_decode_as_before) {
  const Random random(3, "interleaved");
  int codecs_seen = 0;
  for (const Codec* codec : codecs()) {
    const Codec* const home = interleaved(*codec);
    if (!home) continue;
    ++codecs_seen;
    for (int64_t columns : {codec->block, 3 * codec->block, 9 * codec->block, 16 * codec->block}) {
      SCOPED_TRACE(fmt::format("{} of {} columns", codec->name, columns));
      constexpr int64_t kRows = 35;
      std::vector<float> values(kRows * columns), plain(columns), read(columns);
      for (size_t i = 0; i < values.size(); ++i) values[i] = random.normal(i);
      const int64_t stride = codec->bytes(columns);
      std::vector<std::byte> rows(kRows * stride);
      codec->encode(values.data(), rows.data(), kRows * columns);
      std::vector<std::byte> groups = rows;
      for (int64_t row = 0; row + kInterleavedRows <= kRows; row += kInterleavedRows)
        interleave_rows(*codec, rows.data() + row * stride, stride, columns, groups.data() + row * stride);
      EXPECT_EQ(home->bytes(columns), stride);
      EXPECT_NE(groups, rows);
      const Matrix matrix{home, groups.data(), kRows, columns, 0};
      for (int64_t row = 0; row < kRows; ++row)
        for (int64_t first = 0; first < columns; first += codec->block) {
          const int64_t count = columns - first;
          codec->decode(rows.data() + row * stride + codec->bytes(first), plain.data(), count);
          matrix.decode(row, first, count, read.data());
          ASSERT_EQ(std::vector(plain.begin(), plain.begin() + count), std::vector(read.begin(), read.begin() + count))
              << row << " from " << first;
        }
    }
  }
  EXPECT_EQ(codecs_seen, 8);
}

}  // namespace
}  // namespace thimble
