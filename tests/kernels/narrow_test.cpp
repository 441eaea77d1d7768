// Products of few rows, with weights in every codec.
#include "kernels/narrow.h"

#include <gtest/gtest.h>

#include <vector>

#include "core/isa.h"
#include "core/random.h"
#include "core/round.h"

namespace thimble {
namespace {

std::vector<float> normals(const char* what, int64_t count) {
  const Random random(5, what);
  std::vector<float> values(static_cast<size_t>(count));
  for (size_t i = 0; i < values.size(); ++i) values[i] = random.normal(i);
  return values;
}

std::vector<float> product(Threads& threads, const std::vector<float>& x, int64_t m, const Matrix& w) {
  std::vector<float> y(static_cast<size_t>(m * w.rows));
  const auto* const data = reinterpret_cast<const std::byte*>(x.data());
  const Term term{{&kF32, data, m, w.columns, 0}, w, false, true, 1};
  const Product p{.terms = {&term, 1}, .c = reinterpret_cast<std::byte*>(y.data()), .m = m, .n = w.rows};
  std::vector<std::byte> workspace(
      static_cast<size_t>(narrow_workspace_bytes(Multiply::f32, {&p, 1}, threads.count())));
  narrow(threads, Multiply::f32, {&p, 1}, workspace);
  return y;
}

TEST(Narrow, multiplies_what_a_codec_decodes_to_and_a_row_to_the_same_bits_beside_any_others) {
  constexpr int64_t kMost = 7;
  Threads threads(2);
  const Isa before = active_isa.level;
  for (const Codec* codec : codecs())
    for (const auto& [rows, columns] : {std::pair<int64_t, int64_t>{19, 64}, {5, 100}, {37, 576}}) {
      if (codec->rows_of || !codec->fits_rows(columns)) continue;  // of interleaved rows: interleaved_test.cpp
      const int64_t row_bytes = codec->bytes(columns);
      const std::vector<float> values = normals("weights", rows * columns), x = normals("x", kMost * columns);
      std::vector<std::byte> packed(static_cast<size_t>(rows * row_bytes));
      std::vector<float> decoded(static_cast<size_t>(rows * round_up(columns, codec->block)));
      for (int64_t r = 0; r < rows; ++r)
        codec->encode(values.data() + r * columns, packed.data() + r * row_bytes, columns);
      const Matrix w{codec, packed.data(), rows, columns, 0};
      for (int64_t r = 0; r < rows; ++r) w.decode(r, 0, columns, decoded.data() + r * columns);
      for (const IsaLevel& level : isa_levels()) {
        if (!(this_cpu_levels() & isa_bit(level.isa))) continue;
        use_isa(level.isa);
        SCOPED_TRACE(fmt::format("{} [{}, {}] {}", codec->name, rows, columns, level.name));
        const std::vector<float> all = product(threads, x, kMost, w);
        for (int64_t i = 0; i < kMost; ++i)
          for (int64_t r = 0; r < rows; ++r) {
            double sum = 0, size = 0;
            for (int64_t k = 0; k < columns; ++k) {
              const double p =
                  double{x[static_cast<size_t>(i * columns + k)]} * decoded[static_cast<size_t>(r * columns + k)];
              sum += p, size += std::abs(p);
            }
            ASSERT_NEAR(all[static_cast<size_t>(i * rows + r)], sum, 1e-6 * size) << i << ", " << r;
          }
        for (const int64_t m : {1, 2, 3, 4}) {
          const std::vector<float> some = product(threads, x, m, w);
          ASSERT_EQ(some, std::vector<float>(all.begin(), all.begin() + m * rows)) << m;
        }
      }
      use_isa(before);
    }
}

}  // namespace
}  // namespace thimble
