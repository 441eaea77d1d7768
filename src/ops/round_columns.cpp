// round_columns: weights rounded to a codec's levels, with error feedback.
//
//   Paper   Frantar et al. 2022, arXiv:2210.17323, equations 2 and 3 in the form of Algorithm 1
//   Update  for each column j in order:  q_j = nearest level of w_j;  e = (w_j - q_j) / u_jj;
//           w_k <- w_k - e u_jk for every later column k
//   Levels  of a block: where columns go in their order, what the codec's encoder makes of the block when its first
//           column is reached, with all feedback so far; in another order, of w as it was
//   Order   feedback in double, column after column
//   Choice  rows do not depend on each other: threads share them, and the bits are the same for any number of threads
#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "kernels/doubles.h"
#include "ops/rows.h"
#include "ops/shape_rule.h"
#include "ops/transform.h"

namespace thimble {
namespace {

using Attributes = RoundColumnsAttributes;

constexpr int64_t kMostBlock = 32;
constexpr int64_t kTile = 8;  // rows that go through u together

const Attributes& of(const std::any& attributes) { return *std::any_cast<Attributes>(&attributes); }

Result<std::vector<Type>> infer(const std::any& any, std::span<const Type> in) {
  CHECK_OK(expect_operands("round_columns", in, 3));
  CHECK_OK(expect_rank("round_columns", "w", in[0], 2));
  CHECK_OK(expect_f32("round_columns", "w", in[0]));
  const int64_t n = in[0].shape[1];
  CHECK_OK(expect_shape("round_columns", "u", in[1], {n, n}));
  CHECK_OK(expect_f32("round_columns", "u", in[1]));
  if (!absent(in[2])) CHECK_OK(expect_indices("round_columns", "order", in[2], n));
  const Codec* const codec = of(any).codec;
  if (!codec || !level_grid(*codec))
    return fail(ErrorCode::shape, "round_columns: {} has no evenly spaced levels", codec ? codec->name : "no codec");
  if (codec->block > kMostBlock || n % codec->block != 0)
    return fail(ErrorCode::shape, "round_columns: rows of {} are no whole blocks of {} ({})", n, codec->name,
                codec->block);
  return std::vector{Type{in[0].shape, codec}};
}

// What a thread has for a tile of rows.
struct Tile {
  double* w;       // [kTile, n], in order
  Levels* levels;  // [kTile, n / block]
  uint8_t* codes;  // [kTile, n], by column

  static int64_t bytes(int64_t n, int64_t block) {
    const int64_t levels = static_cast<int64_t>(sizeof(Levels)) * (n / block);
    return (kTile * (8 * n + levels + n) + 63) / 64 * 64;
  }
  Tile(std::byte* memory, int64_t n, int64_t block)
      : w(reinterpret_cast<double*>(memory)),
        levels(reinterpret_cast<Levels*>(memory + kTile * 8 * n)),
        codes(reinterpret_cast<uint8_t*>(levels + kTile * (n / block))) {}
};

int64_t workspace(const std::any& any, std::span<const Type> in, std::span<const Type>, Multiply, int threads) {
  return threads * Tile::bytes(in[0].shape[1], of(any).codec->block);
}

Levels levels_of(const LevelGrid& grid, const double* block) noexcept {
  std::array<float, kMostBlock> numbers;
  std::copy_n(block, grid.codec->block, numbers.begin());
  return grid.levels(numbers.data());
}

// rows [row, row + count) of the call, count <= kTile.
void round_tile(const Call& call, const LevelGrid& grid, const Tile& tile, int64_t row, int64_t count) noexcept {
  const int64_t n = call.in[0].shape[1], block = grid.codec->block, blocks = n / block;
  const float* const u = call.in[1].as<const float>();
  const int32_t* const order = call.in[2] ? call.in[2].as<const int32_t>() : nullptr;
  for (int64_t r = 0; r < count; ++r) {
    const float* const w = call.in[0].as<const float>() + (row + r) * n;
    for (int64_t j = 0; j < n; ++j) tile.w[r * n + j] = static_cast<double>(w[order ? order[j] : j]);
    for (int64_t b = 0; order && b < blocks; ++b) tile.levels[r * blocks + b] = grid.levels(w + b * block);
  }
  std::array<bool, kTile> broken{};  // rows whose errors are not finite, as where u is not
  for (int64_t j = 0; j < n; ++j) {
    const int64_t column = order ? order[j] : j, b = column / block;
    for (int64_t r = 0; r < count; ++r) {
      double* const w = tile.w + r * n;
      Levels& levels = tile.levels[r * blocks + b];
      if (!order && j % block == 0) levels = levels_of(grid, w + j);
      const int code = levels.nearest(static_cast<float>(w[j]));
      tile.codes[r * n + column] = static_cast<uint8_t>(code);
      const double error = (w[j] - static_cast<double>(levels.value(code))) / static_cast<double>(u[j * n + j]);
      broken[static_cast<size_t>(r)] |= !std::isfinite(error);
      add_scaled(w + j + 1, u + j * n + j + 1, -error, n - j - 1);
    }
  }
  for (int64_t i = 0; i < count * blocks; ++i)
    if (broken[static_cast<size_t>(i / blocks)]) tile.levels[i].step = std::numeric_limits<float>::quiet_NaN();
  std::byte* const to = call.out[0].data + row * grid.codec->bytes(n);
  for (int64_t i = 0; i < count * blocks; ++i)
    grid.pack(tile.levels[i], tile.codes + i * block, to + i * grid.codec->block_bytes);
}

void run(const Call& call) noexcept {
  const LevelGrid& grid = *level_grid(*of(call.attributes).codec);
  const int64_t m = call.in[0].shape[0], n = call.in[0].shape[1], bytes = Tile::bytes(n, grid.codec->block);
  call.run.threads.split((m + kTile - 1) / kTile, 1, [&](int64_t begin, int64_t end, int thread) {
    const Tile tile(call.workspace.data() + thread * bytes, n, grid.codec->block);
    for (int64_t t = begin; t < end; ++t) round_tile(call, grid, tile, t * kTile, std::min(kTile, m - t * kTile));
  });
}

[[gnu::cold]] void reference(const ReferenceCall& call) {
  const LevelGrid& grid = *level_grid(*call.as<Attributes>().codec);
  const int64_t m = call.in[0].shape[0], n = call.in[0].shape[1], block = grid.codec->block;
  for (int64_t r = 0; r < m; ++r) {
    std::vector<double> w(call.in[0].data->begin() + r * n, call.in[0].data->begin() + (r + 1) * n);
    std::vector<Levels> levels(static_cast<size_t>(n / block));
    const auto fit = [&](int64_t b) { levels[static_cast<size_t>(b)] = levels_of(grid, w.data() + b * block); };
    for (int64_t b = 0; call.in[2] && b < n / block; ++b) fit(b);
    const auto column = [&](int64_t j) { return call.in[2] ? static_cast<int64_t>(call.in[2][j]) : j; };
    for (int64_t j = 0; j < n; ++j) {
      if (!call.in[2] && j % block == 0) fit(j / block);
      const Levels& l = levels[static_cast<size_t>(column(j) / block)];
      double& x = w[static_cast<size_t>(column(j))];
      const auto q = static_cast<double>(l.value(l.nearest(static_cast<float>(x))));
      const double error = (x - q) / call.in[1][j * n + j];
      for (int64_t k = j + 1; k < n; ++k) w[static_cast<size_t>(column(k))] -= error * call.in[1][j * n + k];
      call.out[0][r * n + column(j)] = q;
    }
  }
}

std::string text(const std::any& any) { return fmt::format("{{{}}}", of(any).codec->name); }

Cost cost(const std::any&, std::span<const Type> in, std::span<const Type> out) {
  const auto n = static_cast<double>(in[0].shape[1]);
  return {.bytes = moved_bytes(in, out) + 4 * n * static_cast<double>(in[0].shape.count()),
          .encoded = static_cast<double>(in[0].shape.count())};
}

[[gnu::cold]] std::vector<Sample> samples() {
  std::vector<int32_t> order(32);
  for (int32_t i = 0; i < 32; ++i) order[static_cast<size_t>(i)] = (5 * i + 3) % 32;
  const std::vector<Type> plain = {Type{{11, 32}}, Type{{32, 32}}, Type{{}, nullptr}};
  return {{Attributes{&kQ4_0}, plain, {}, {}, true},
          {Attributes{&kQ4_1}, {Type{{3, 64}}, Type{{64, 64}}, Type{{}, nullptr}}, {}, {}, true},
          {Attributes{&kQ5_1}, {Type{{9, 32}}, Type{{32, 32}}, Type{{32}, &kI32}}, {{}, {}, order}, {}, true}};
}

}  // namespace

const Op kRoundColumns = {.name = "round_columns",
                          .infer = infer,
                          .text = text,
                          .workspace = workspace,
                          .cost = cost,
                          .reference = reference,
                          .run = run,
                          .samples = samples};

}  // namespace thimble
