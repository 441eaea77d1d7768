// group_ranges, to_bytes, from_bytes: numbers as bytes between bounds of their group of columns (keep.h).
//
//   Bounds   b = decay running + (1 - decay) own, or own where running is 0; low = -b[2g], width = b[2g] + b[2g + 1]
//   Write    q = clip(floor((x - low) 255 / width + u), 0, 255), u uniform in (0, 1) by (seed, stream, step, element),
//            or 1/2. A width of 0 writes 0
//   Read     low + q width / 255
//   E4M3     q = E4M3(x / s), s = max(b) / 448;  read: s q
//   Unbiased where x lies between the bounds, up to 2^-17 of a step
#include <algorithm>
#include <cmath>

#include "codecs/e4m3.h"
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

[[gnu::cold]] void reference_ranges(const ReferenceCall& call) {
  const int64_t columns = call.in[0].shape[1], group = call.as<RangeAttributes>().group;
  for (int64_t i = 0; i < call.out[0].shape.count(); ++i) call.out[0][i] = 0;
  for (int64_t i = 0; i < call.in[0].shape.count(); ++i) {
    const int64_t at = i / columns / kGranule * bounds_of(columns, group) + 2 * (i % columns / group);
    const double x = call.in[0][i];
    call.out[0][at] = std::max(call.out[0][at], -x), call.out[0][at + 1] = std::max(call.out[0][at + 1], x);
  }
}

[[gnu::cold]] std::vector<Sample> samples_ranges() {
  return {{RangeAttributes{4}, {Type{{5, 12}}}}, {RangeAttributes{33}, {Type{{1030, 66}, &kBf16}}}};
}

const ByteAttributes& of(const std::any& attributes) { return *std::any_cast<ByteAttributes>(&attributes); }

Result<void> check_bounds(std::string_view op, const ByteAttributes& a, int64_t rows, std::span<const Type> in) {
  CHECK_OK(expect_whole_groups(op, a.columns, a.group));
  const int64_t bounds = bounds_of(a.columns, a.group);
  CHECK_OK(expect_shape(op, "ranges", in[1], {granules_of(rows), bounds}));
  if (!absent(in[2])) CHECK_OK(expect_shape(op, "running", in[2], {bounds}));
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
  return row_buffer_bytes(of(any).columns, 2, threads);
}

struct Bounds {
  float low, width;  // of E4M3: 0, the scale
};
Bounds bounds_at(float running_low, float running_high, float own_low, float own_high,
                 const ByteAttributes& a) noexcept {
  const auto mixed = [&](float running, float own) {
    return running > 0 ? a.decay * running + (1 - a.decay) * own : own;
  };
  const float low = mixed(running_low, own_low), high = mixed(running_high, own_high);
  if (a.e4m3) return {0, std::max(low, high) / kLargestE4m3};
  return {-low, low + high};
}
Bounds bounds_at(const Call& call, int64_t row, int64_t g) noexcept {
  const ByteAttributes& a = call.as<ByteAttributes>();
  const float* const own = call.in[1].as<float>() + row / kGranule * bounds_of(a.columns, a.group) + 2 * g;
  if (!call.in[2]) return bounds_at(0, 0, own[0], own[1], a);
  const float* const running = call.in[2].as<float>() + 2 * g;
  return bounds_at(running[0], running[1], own[0], own[1], a);
}

// 16 bits of noise an element, eight elements a draw.
class Noise {
 public:
  Noise(const RunContext& run, uint64_t stream) noexcept
      : nearest_(stream == 0), key_(run.seed), high_(stream ^ (run.step << 40)) {}
  float at(uint64_t element) const noexcept {
    return nearest_ ? 0.5f : of_bits(philox(key_, element >> 3, high_)[element >> 1 & 3], element & 1);
  }
  // Of elements [first, first + n).
  void fill(uint64_t first, int64_t n, float* to) const noexcept {
    if (nearest_) return std::fill(to, to + n, 0.5f), void();
    for (int64_t j = 0; j < n;) {
      const uint64_t element = first + static_cast<uint64_t>(j);
      const auto words = philox(key_, element >> 3, high_);
      const int64_t end = std::min(n, j + 8 - static_cast<int64_t>(element & 7));
      for (uint64_t e = element; j < end; ++j, ++e) to[j] = of_bits(words[e >> 1 & 3], e & 1);
    }
  }

 private:
  static float of_bits(uint32_t word, bool upper) noexcept {
    return static_cast<float>(upper ? word >> 16 : word & 0xffff) * 0x1p-16f + 0x1p-17f;
  }

  const bool nearest_;
  const uint64_t key_, high_;
};

inline uint32_t to_byte(float x, const Bounds& bounds, float noise, bool e4m3) noexcept {
  if (!(bounds.width > 0)) return 0;
  if (e4m3) return to_e4m3(std::min(std::abs(x) / bounds.width, kLargestE4m3)) | (std::signbit(x) ? 0x80u : 0u);
  const float at = (x - bounds.low) * (kLevels / bounds.width) + noise;
  return static_cast<uint32_t>(static_cast<int32_t>(at > 0 ? std::min(at, kLevels) : 0.0f));
}

inline float from_byte(uint32_t q, const Bounds& bounds, bool e4m3) noexcept {
  if (e4m3) return (q & 0x80 ? -bounds.width : bounds.width) * from_e4m3(static_cast<uint8_t>(q));
  return bounds.low + static_cast<float>(q) * (bounds.width / kLevels);
}

// Words hold bytes in the order of the elements.
uint8_t* bytes_of(const Operand& words, int64_t row, int64_t columns) noexcept {
  return words.as<uint8_t>() + row * words_of(columns) * kBytesPerWord;
}

void write_bytes(const Call& call, int64_t row, const float* x, const float* noise) noexcept {
  const ByteAttributes& a = call.as<ByteAttributes>();
  uint8_t* const bytes = bytes_of(call.out[0], row, a.columns);
  std::fill(bytes + a.columns, bytes + words_of(a.columns) * kBytesPerWord, uint8_t{0});
  for (int64_t first = 0; first < a.columns; first += a.group) {
    const Bounds bounds = bounds_at(call, row, first / a.group);
    for (int64_t j = first; j < first + a.group; ++j)
      bytes[j] = static_cast<uint8_t>(to_byte(x[j], bounds, noise[j], a.e4m3));
  }
}

void run_to(const Call& call) noexcept {
  const ByteAttributes& a = call.as<ByteAttributes>();
  const Noise noise(call.run, a.stream);
  call.run.threads.split(call.in[0].shape[0], 1, [&](int64_t begin, int64_t end, int thread) {
    const auto buffer = [&](int i) { return row_buffer(call, a.columns, 2, thread, i); };
    for (int64_t i = begin; i < end; ++i) {
      const uint64_t row = call.run.first_row + static_cast<uint64_t>(i);
      noise.fill(row * static_cast<uint64_t>(a.columns), a.columns, buffer(1));
      write_bytes(call, i, read_row(call.in[0], i, a.columns, buffer(0)), buffer(1));
    }
  });
}

void run_from(const Call& call) noexcept {
  const ByteAttributes& a = call.as<ByteAttributes>();
  call.run.threads.split(call.in[0].shape[0], 1, [&](int64_t begin, int64_t end, int thread) {
    float* const x = row_buffer(call, a.columns, 2, thread, 0);
    for (int64_t i = begin; i < end; ++i) {
      const uint8_t* const bytes = bytes_of(call.in[0], i, a.columns);
      for (int64_t first = 0; first < a.columns; first += a.group) {
        const Bounds bounds = bounds_at(call, i, first / a.group);
        for (int64_t j = first; j < first + a.group; ++j) x[j] = from_byte(bytes[j], bounds, a.e4m3);
      }
      write_row(call.out[0], i, a.columns, x);
    }
  });
}

Bounds reference_bounds(const ReferenceCall& call, int64_t row, int64_t column) {
  const ByteAttributes& a = call.as<ByteAttributes>();
  const int64_t g = 2 * (column / a.group), own = row / kGranule * bounds_of(a.columns, a.group) + g;
  const auto running = [&](int64_t i) { return call.in[2] ? static_cast<float>(call.in[2][i]) : 0.0f; };
  return bounds_at(running(g), running(g + 1), static_cast<float>(call.in[1][own]),
                   static_cast<float>(call.in[1][own + 1]), a);
}

// A byte falls on one side or the other of a bound: what decides it is computed in f32 here too.
[[gnu::cold]] void reference_to(const ReferenceCall& call) {
  const ByteAttributes& a = call.as<ByteAttributes>();
  const int64_t words = words_of(a.columns);
  const Noise noise(call.run, a.stream);
  for (int64_t i = 0; i < call.out[0].shape.count(); ++i) {
    uint32_t word = 0;
    for (int64_t b = 0; b < kBytesPerWord; ++b) {
      const int64_t row = i / words, j = i % words * kBytesPerWord + b, at = row * a.columns + j;
      if (j >= a.columns) continue;
      word |= to_byte(static_cast<float>(call.in[0][at]), reference_bounds(call, row, j),
                      noise.at(static_cast<uint64_t>(at)), a.e4m3)
              << (8 * b);
    }
    call.out[0][i] = static_cast<int32_t>(word);
  }
}

[[gnu::cold]] void reference_from(const ReferenceCall& call) {
  const ByteAttributes& a = call.as<ByteAttributes>();
  for (int64_t i = 0; i < call.out[0].shape.count(); ++i) {
    const int64_t row = i / a.columns, j = i % a.columns;
    const auto word = static_cast<uint32_t>(static_cast<int64_t>(call.in[0][row * words_of(a.columns) + j / 4]));
    const Bounds bounds = reference_bounds(call, row, j);
    const uint32_t q = word >> (8 * (j % 4)) & 0xff;
    call.out[0][i] = a.e4m3 ? from_byte(q, bounds, true) : bounds.low + static_cast<double>(q) * bounds.width / 255;
  }
}

constexpr ByteAttributes kFloats{.group = 12, .e4m3 = true, .codec = &kF32, .columns = 12};

[[gnu::cold]] std::vector<Sample> samples_to() {
  const ByteAttributes nearest{.group = 6, .decay = 0.5, .codec = &kF32, .columns = 12};
  const ByteAttributes chance{.group = 33, .decay = 0.9f, .stream = 7, .codec = &kBf16, .columns = 66};
  return {{nearest, {Type{{5, 12}}, Type{{1, 4}}, Type{{4}}}, {}, {}, true},
          {chance, {Type{{520, 66}, &kBf16}, Type{{2, 4}}, Type{{4}}}, {}, {}, true},
          {kFloats, {Type{{5, 12}}, Type{{1, 2}}, Type{.codec = nullptr}}, {}, {}, true}};
}

[[gnu::cold]] std::vector<Sample> samples_from() {
  std::vector<int32_t> words(5 * 3);
  for (size_t i = 0; i < words.size(); ++i) words[i] = static_cast<int32_t>(0x10203040 * (i % 7) + i);
  const ByteAttributes a{.group = 6, .decay = 0.5, .codec = &kF32, .columns = 12};
  return {{a, {Type{{5, 3}, &kI32}, Type{{1, 4}}, Type{{4}}}, {words, {}, {}}, {}, true},
          {kFloats, {Type{{5, 3}, &kI32}, Type{{1, 2}}, Type{.codec = nullptr}}, {words, {}, {}}, {}, true}};
}

// As of a codec of blocks.
Cost cost_to(const std::any& any, std::span<const Type> in, std::span<const Type> out) {
  return {.bytes = moved_bytes(in, out), .encoded = static_cast<double>(in[0].shape[0] * of(any).columns)};
}
Cost cost_from(const std::any&, std::span<const Type> in, std::span<const Type> out) {
  return {.bytes = moved_bytes(in, out), .decoded = static_cast<double>(out[0].shape.count())};
}

std::string text(const std::any& any) {
  const ByteAttributes& a = of(any);
  return fmt::format("{{group {}, decay {}, stream {}{}}}", a.group, a.decay, a.stream, a.e4m3 ? ", e4m3" : "");
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
                     .cost = cost_to,
                     .reference = reference_to,
                     .run = run_to,
                     .samples = samples_to};
const Op kFromBytes = {.name = "from_bytes",
                       .infer = infer_from,
                       .text = text,
                       .workspace = workspace_bytes,
                       .cost = cost_from,
                       .reference = reference_from,
                       .run = run_from,
                       .samples = samples_from};

}  // namespace thimble
