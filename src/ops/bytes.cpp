// group_ranges, to_bytes, from_bytes: numbers as bytes between bounds of their group of columns (keep.h).
//
//   Bounds   b = decay running + (1 - decay) own, or own where running is 0; low = -b[2g], width = b[2g] + b[2g + 1]
//   Write    q = clip(floor((x - low) 255 / width + u), 0, 255), u uniform in (0, 1) by (seed, stream, step, element),
//   or
//            1/2. A width of 0 writes 0
//   Read     low + q width / 255
//   Unbiased where x lies between the bounds, up to 2^-17 of a step
#include <algorithm>
#include <cmath>

#include "core/random.h"
#include "ops/keep.h"
#include "ops/rows.h"
#include "ops/shape_rule.h"

namespace thimble {

int64_t granules_of(int64_t rows) { return (rows + kGranule - 1) / kGranule; }

namespace {

constexpr float kLevels = 255;
constexpr int64_t kBytesPerWord = 4;

int64_t words_of(int64_t columns) { return (columns + kBytesPerWord - 1) / kBytesPerWord; }
int64_t bounds_of(int64_t columns, int64_t group) { return 2 * columns / group; }

Result<void> expect_whole_groups(std::string_view op, int64_t columns, int64_t group) {
  if (group > 0 && columns % group == 0) return {};
  return fail(ErrorCode::shape, "{}: rows of {} are not whole groups of {}", op, columns, group);
}

Result<std::vector<Type>> infer_ranges(const std::any& any, std::span<const Type> in) {
  const int64_t group = std::any_cast<RangeAttributes>(&any)->group;
  CHECK_OK(expect_operands("group_ranges", in, 1));
  CHECK_OK(expect_rank("group_ranges", "x", in[0], 2));
  CHECK_OK(expect_whole_groups("group_ranges", in[0].shape[1], group));
  return std::vector{Type{{granules_of(in[0].shape[0]), bounds_of(in[0].shape[1], group)}}};
}

int64_t workspace_ranges(const std::any&, std::span<const Type> in, std::span<const Type>, Multiply, int threads) {
  return row_buffer_bytes(in[0].shape[1], 1, threads);
}

// A granule is one thread's: a maximum does not depend on the order, but its memory does.
void run_ranges(const Call& call) noexcept {
  const int64_t rows = call.in[0].shape[0], columns = call.in[0].shape[1], group = call.as<RangeAttributes>().group;
  const int64_t bounds = bounds_of(columns, group);
  call.run.threads.split(granules_of(rows), 1, [&](int64_t begin, int64_t end, int thread) {
    for (int64_t granule = begin; granule < end; ++granule) {
      float* const out = call.out[0].as<float>() + granule * bounds;
      std::fill(out, out + bounds, 0.0f);
      for (int64_t i = granule * kGranule; i < std::min(rows, (granule + 1) * kGranule); ++i) {
        const float* const x = read_row(call.in[0], i, columns, row_buffer(call, columns, 1, thread, 0));
        for (int64_t g = 0; g < columns / group; ++g) {
          float low = 0, high = 0;
          for (int64_t j = g * group; j < (g + 1) * group; ++j) low = std::min(low, x[j]), high = std::max(high, x[j]);
          out[2 * g] = std::max(out[2 * g], -low), out[2 * g + 1] = std::max(out[2 * g + 1], high);
        }
      }
    }
  });
}

void reference_ranges(const ReferenceCall& call) {
  const int64_t columns = call.in[0].shape[1], group = call.as<RangeAttributes>().group;
  for (int64_t i = 0; i < call.out[0].shape.count(); ++i) call.out[0][i] = 0;
  for (int64_t i = 0; i < call.in[0].shape.count(); ++i) {
    const int64_t at = i / columns / kGranule * bounds_of(columns, group) + 2 * (i % columns / group);
    const double x = call.in[0][i];
    call.out[0][at] = std::max(call.out[0][at], -x), call.out[0][at + 1] = std::max(call.out[0][at + 1], x);
  }
}

std::vector<Sample> samples_ranges() {
  return {{RangeAttributes{4}, {Type{{5, 12}}}}, {RangeAttributes{33}, {Type{{1030, 66}, &kBf16}}}};
}

const ByteAttributes& of(const std::any& attributes) { return *std::any_cast<ByteAttributes>(&attributes); }

Result<void> check_bounds(std::string_view op, const ByteAttributes& a, int64_t rows, std::span<const Type> in) {
  CHECK_OK(expect_whole_groups(op, a.columns, a.group));
  const int64_t bounds = bounds_of(a.columns, a.group);
  CHECK_OK(expect_shape(op, "ranges", in[1], {granules_of(rows), bounds}));
  CHECK_OK(expect_shape(op, "running", in[2], {bounds}));
  CHECK_OK(expect_f32(op, "ranges", in[1]));
  return expect_f32(op, "running", in[2]);
}

Result<std::vector<Type>> infer_to(const std::any& any, std::span<const Type> in) {
  CHECK_OK(expect_operands("to_bytes", in, 3));
  CHECK_OK(expect_rank("to_bytes", "x", in[0], 2));
  CHECK_OK(expect_shape("to_bytes", "x", in[0], {in[0].shape[0], of(any).columns}));
  CHECK_OK(check_bounds("to_bytes", of(any), in[0].shape[0], in));
  return std::vector{Type{{in[0].shape[0], words_of(of(any).columns)}, &kI32, in[0].extent}};
}

Result<std::vector<Type>> infer_from(const std::any& any, std::span<const Type> in) {
  CHECK_OK(expect_operands("from_bytes", in, 3));
  if (absent(in[0]) || in[0].codec != &kI32 || in[0].shape.rank() != 2 || in[0].shape[1] != words_of(of(any).columns))
    return fail(ErrorCode::shape, "from_bytes: rows of {} should be i32[t, {}], found {}", of(any).columns,
                words_of(of(any).columns), in[0].shape.text());
  CHECK_OK(check_bounds("from_bytes", of(any), in[0].shape[0], in));
  return std::vector{Type{{in[0].shape[0], of(any).columns}, of(any).codec, in[0].extent}};
}

int64_t workspace_bytes(const std::any& any, std::span<const Type>, std::span<const Type>, Multiply, int threads) {
  return row_buffer_bytes(of(any).columns, 1, threads);
}

struct Bounds {
  float low, width;
};
Bounds bounds_at(float running_low, float running_high, float own_low, float own_high, float decay) noexcept {
  const auto mixed = [&](float running, float own) { return running > 0 ? decay * running + (1 - decay) * own : own; };
  const float low = mixed(running_low, own_low), high = mixed(running_high, own_high);
  return {-low, low + high};
}
Bounds bounds_at(const Call& call, int64_t row, int64_t g) noexcept {
  const ByteAttributes& a = call.as<ByteAttributes>();
  const float* const own = call.in[1].as<float>() + row / kGranule * bounds_of(a.columns, a.group) + 2 * g;
  const float* const running = call.in[2].as<float>() + 2 * g;
  return bounds_at(running[0], running[1], own[0], own[1], a.decay);
}

// 16 bits of noise an element, eight elements a draw.
class Noise {
 public:
  Noise(const RunContext& run, uint64_t stream) noexcept
      : nearest_(stream == 0), key_(run.seed), high_(stream ^ (run.step << 40)) {}
  float at(uint64_t element) noexcept {
    if (nearest_) return 0.5f;
    if (const uint64_t draw = element >> 3; draw != drawn_) words_ = philox(key_, draw, high_), drawn_ = draw;
    const uint32_t word = words_[element >> 1 & 3];
    return static_cast<float>(element & 1 ? word >> 16 : word & 0xffff) * 0x1p-16f + 0x1p-17f;
  }

 private:
  bool nearest_;
  uint64_t key_, high_, drawn_ = ~uint64_t{0};
  std::array<uint32_t, 4> words_;
};

uint32_t to_byte(float x, const Bounds& bounds, float noise) noexcept {
  if (!(bounds.width > 0)) return 0;
  const float at = std::floor((x - bounds.low) * (kLevels / bounds.width) + noise);
  return static_cast<uint32_t>(at > 0 ? std::min(at, kLevels) : 0.0f);
}

void write_words(const Call& call, int64_t row, const float* x, Noise& noise) noexcept {
  const ByteAttributes& a = call.as<ByteAttributes>();
  uint32_t* const words = call.out[0].as<uint32_t>() + row * words_of(a.columns);
  std::fill(words, words + words_of(a.columns), 0u);
  const uint64_t first = (call.run.first_row + static_cast<uint64_t>(row)) * static_cast<uint64_t>(a.columns);
  for (int64_t g = 0; g < a.columns / a.group; ++g) {
    const Bounds bounds = bounds_at(call, row, g);
    for (int64_t j = g * a.group; j < (g + 1) * a.group; ++j)
      words[j / kBytesPerWord] |= to_byte(x[j], bounds, noise.at(first + static_cast<uint64_t>(j)))
                                  << (8 * (j % kBytesPerWord));
  }
}

void run_to(const Call& call) noexcept {
  const ByteAttributes& a = call.as<ByteAttributes>();
  call.run.threads.split(call.in[0].shape[0], 1, [&](int64_t begin, int64_t end, int thread) {
    Noise noise(call.run, a.stream);
    for (int64_t i = begin; i < end; ++i)
      write_words(call, i, read_row(call.in[0], i, a.columns, row_buffer(call, a.columns, 1, thread, 0)), noise);
  });
}

void run_from(const Call& call) noexcept {
  const ByteAttributes& a = call.as<ByteAttributes>();
  call.run.threads.split(call.in[0].shape[0], 1, [&](int64_t begin, int64_t end, int thread) {
    float* const x = row_buffer(call, a.columns, 1, thread, 0);
    for (int64_t i = begin; i < end; ++i) {
      const uint32_t* const words = call.in[0].as<uint32_t>() + i * words_of(a.columns);
      for (int64_t g = 0; g < a.columns / a.group; ++g) {
        const Bounds bounds = bounds_at(call, i, g);
        for (int64_t j = g * a.group; j < (g + 1) * a.group; ++j)
          x[j] = bounds.low + static_cast<float>(words[j / kBytesPerWord] >> (8 * (j % kBytesPerWord)) & 0xff) *
                                  (bounds.width / kLevels);
      }
      write_row(call.out[0], i, a.columns, x);
    }
  });
}

Bounds reference_bounds(const ReferenceCall& call, int64_t row, int64_t column) {
  const ByteAttributes& a = call.as<ByteAttributes>();
  const int64_t g = 2 * (column / a.group), own = row / kGranule * bounds_of(a.columns, a.group) + g;
  const auto f = [](double x) { return static_cast<float>(x); };
  return bounds_at(f(call.in[2][g]), f(call.in[2][g + 1]), f(call.in[1][own]), f(call.in[1][own + 1]), a.decay);
}

// A byte falls on one side or the other of a bound: what decides it is computed in f32 here too.
void reference_to(const ReferenceCall& call) {
  const ByteAttributes& a = call.as<ByteAttributes>();
  const int64_t words = words_of(a.columns);
  Noise noise(call.run, a.stream);
  for (int64_t i = 0; i < call.out[0].shape.count(); ++i) {
    uint32_t word = 0;
    for (int64_t b = 0; b < kBytesPerWord; ++b) {
      const int64_t row = i / words, j = i % words * kBytesPerWord + b, at = row * a.columns + j;
      if (j >= a.columns) continue;
      word |= to_byte(static_cast<float>(call.in[0][at]), reference_bounds(call, row, j),
                      noise.at(static_cast<uint64_t>(at)))
              << (8 * b);
    }
    call.out[0][i] = static_cast<int32_t>(word);
  }
}

void reference_from(const ReferenceCall& call) {
  const ByteAttributes& a = call.as<ByteAttributes>();
  for (int64_t i = 0; i < call.out[0].shape.count(); ++i) {
    const int64_t row = i / a.columns, j = i % a.columns;
    const auto word = static_cast<uint32_t>(static_cast<int64_t>(call.in[0][row * words_of(a.columns) + j / 4]));
    const Bounds bounds = reference_bounds(call, row, j);
    call.out[0][i] = bounds.low + static_cast<double>(word >> (8 * (j % 4)) & 0xff) * bounds.width / 255;
  }
}

std::vector<Sample> samples_to() {
  const ByteAttributes nearest{.group = 6, .decay = 0.5, .codec = &kF32, .columns = 12};
  const ByteAttributes chance{.group = 33, .decay = 0.9f, .stream = 7, .codec = &kBf16, .columns = 66};
  return {{nearest, {Type{{5, 12}}, Type{{1, 4}}, Type{{4}}}, {}, {}, true},
          {chance, {Type{{520, 66}, &kBf16}, Type{{2, 4}}, Type{{4}}}, {}, {}, true}};
}

std::vector<Sample> samples_from() {
  std::vector<int32_t> words;
  for (int32_t i = 0; i < 5 * 3; ++i) words.push_back(0x10203040 * (i % 7) + i);
  const ByteAttributes a{.group = 6, .decay = 0.5, .codec = &kF32, .columns = 12};
  return {{a, {Type{{5, 3}, &kI32}, Type{{1, 4}}, Type{{4}}}, {words, {}, {}}, {}, true}};
}

std::string text(const std::any& any) {
  const ByteAttributes& a = of(any);
  return fmt::format("{{group {}, decay {}, stream {}}}", a.group, a.decay, a.stream);
}

}  // namespace

const Op kGroupRanges = {
    .name = "group_ranges",
    .infer = infer_ranges,
    .text = [](const std::any& any) { return fmt::format("{{{}}}", std::any_cast<RangeAttributes>(&any)->group); },
    .workspace = workspace_ranges,
    .cost = pointwise_cost,
    .reference = reference_ranges,
    .run = run_ranges,
    .samples = samples_ranges};
const Op kToBytes = {.name = "to_bytes",
                     .infer = infer_to,
                     .text = text,
                     .workspace = workspace_bytes,
                     .cost = pointwise_cost,
                     .reference = reference_to,
                     .run = run_to,
                     .samples = samples_to};
const Op kFromBytes = {.name = "from_bytes",
                       .infer = infer_from,
                       .text = text,
                       .workspace = workspace_bytes,
                       .cost = pointwise_cost,
                       .reference = reference_from,
                       .run = run_from,
                       .samples = samples_from};

}  // namespace thimble
