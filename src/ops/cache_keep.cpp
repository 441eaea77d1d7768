// cache_keep: the tokens of a sequence that stay, moved to its first places.
//
//   Keys     k at place p is R(p) k0; at place q it is R(q) R(p)^-1 of that. Where the table's pairs are as long as a
//            factor of attention says, the turn is of length 1 all the same
//   Order    places one after the other: a place is read before it is written over, as none moves up
#include "ops/cache_keep.h"

#include <cmath>

#include "ops/rows.h"
#include "ops/shape_rule.h"

namespace thimble {
namespace {

const RopeAttributes& of(const std::any& attributes) { return *std::any_cast<RopeAttributes>(&attributes); }

enum In { kKeys, kValues, kSlot, kKept, kTable };

Result<std::vector<Type>> infer(const std::any& any, std::span<const Type> in) {
  CHECK_OK(expect_operands("cache_keep", in, 5));
  CHECK_OK(expect_rank("cache_keep", "cache_k", in[kKeys], 3));
  CHECK_OK(expect_shape("cache_keep", "cache_v", in[kValues], in[kKeys].shape));
  const int64_t places = in[kKeys].shape[1], d = of(any).head_dim;
  for (const int cache : {kKeys, kValues})
    if (d < 1 || in[kKeys].shape[2] % d != 0 || d % in[static_cast<size_t>(cache)].codec->block != 0)
      return fail(ErrorCode::shape, "cache_keep: rows of {} are no heads of {} in whole blocks of {}",
                  in[kKeys].shape[2], d, in[static_cast<size_t>(cache)].codec->name);
  CHECK_OK(expect_indices("cache_keep", "slot", in[kSlot], 1));
  CHECK_OK(expect_indices("cache_keep", "kept", in[kKept], places));
  if (absent(in[kTable])) return std::vector{in[kKeys], in[kValues]};
  CHECK_OK(expect_shape("cache_keep", "table", in[kTable], {places, of(any).rotated > 0 ? of(any).rotated : d}));
  CHECK_OK(expect_f32("cache_keep", "table", in[kTable]));
  return std::vector{in[kKeys], in[kValues]};
}

// Turns one head from the place of `from` to that of `to`, rows of the table.
template <class T, class From, class To>
void turn(const RopeAttributes& a, int64_t rotated, const From& from, const To& to, T* x) {
  const int64_t half = rotated / 2, step = a.interleaved ? 2 : 1, apart = a.interleaved ? 1 : half;
  for (int64_t i = 0; i < half; ++i) {
    const T cos0 = from(2 * i), sin0 = from(2 * i + 1), cos1 = to(2 * i), sin1 = to(2 * i + 1);
    const T length = cos0 * cos0 + sin0 * sin0;
    const T cosine = (cos1 * cos0 + sin1 * sin0) / length, sine = (sin1 * cos0 - cos1 * sin0) / length;
    T& first = x[i * step];
    T& second = x[i * step + apart];
    const T before = first;
    first = before * cosine - second * sine;
    second = second * cosine + before * sine;
  }
}

int64_t workspace(const std::any& any, std::span<const Type>, std::span<const Type>, Multiply, int threads) {
  return row_buffer_bytes(of(any).head_dim, 1, threads);
}

// Heads of keys and of values side by side.
void run(const Call& call) noexcept {
  const RopeAttributes& a = of(call.attributes);
  const Shape& cache = call.in[kKeys].shape;
  const int64_t heads = cache[2] / a.head_dim, rotated = call.in[kTable] ? call.in[kTable].shape[1] : 0;
  const float* const table = call.in[kTable].as<const float>();
  call.run.threads.split(2 * heads, 1, [&](int64_t begin, int64_t end, int thread) {
    const int64_t slot = call.in[kSlot].as<const int32_t>()[0];
    const auto* const kept = call.in[kKept].as<const int32_t>();
    float* const row = row_buffer(call, a.head_dim, 1, thread, 0);
    for (int64_t part = begin; part < end; ++part) {
      const bool keys = part < heads;
      const Operand& to = call.out[keys ? 0 : 1];
      for (int64_t place = 0; place < cache[1] && kept[place] >= 0; ++place) {
        if (kept[place] == place) continue;
        const auto at = [&](int64_t p) { return ((slot * cache[1] + p) * heads + part % heads) * a.head_dim; };
        const Operand flat{to.data, {to.shape.count()}, to.codec};
        to.codec->decode(to.data + to.codec->bytes(at(kept[place])), row, a.head_dim);
        if (keys && rotated > 0)
          turn(
              a, rotated, [&](int64_t i) { return table[kept[place] * rotated + i]; },
              [&](int64_t i) { return table[place * rotated + i]; }, row);
        write_run(flat, at(place), a.head_dim, row);
      }
    }
  });
}

[[gnu::cold]] void reference(const ReferenceCall& call) {
  const RopeAttributes& a = call.as<RopeAttributes>();
  const Shape& cache = call.in[kKeys].shape;
  const int64_t rotated = call.in[kTable] ? call.in[kTable].shape[1] : 0;
  for (const size_t o : {size_t{0}, size_t{1}}) {
    for (int64_t i = 0; i < cache.count(); ++i) call.out[o][i] = call.in[o][i];
    for (int64_t place = 0; place < cache[1] && call.in[kKept][place] >= 0; ++place) {
      const auto from = static_cast<int64_t>(call.in[kKept][place]), slot = static_cast<int64_t>(call.in[kSlot][0]);
      for (int64_t i = 0; i < cache[2]; ++i)
        call.out[o][(slot * cache[1] + place) * cache[2] + i] = call.in[o][(slot * cache[1] + from) * cache[2] + i];
      for (int64_t head = 0; o == 0 && rotated > 0 && from != place && head < cache[2]; head += a.head_dim)
        turn(
            a, rotated, [&](int64_t i) { return call.in[kTable][from * rotated + i]; },
            [&](int64_t i) { return call.in[kTable][place * rotated + i]; },
            &call.out[0][(slot * cache[1] + place) * cache[2] + head]);
    }
  }
}

std::string text(const std::any& any) { return fmt::format("{{heads of {}}}", of(any).head_dim); }

[[gnu::cold]] std::vector<Sample> samples() {
  const auto make = [](const RopeAttributes& a, int64_t heads, const Codec* codec, bool rotated) {
    const Type cache{{2, 6, heads * a.head_dim}, codec}, index{{6}, &kI32}, none{.codec = nullptr};
    const Type table{{6, a.rotated > 0 ? a.rotated : a.head_dim}};
    return Sample{
        a, {cache, cache, Type{{1}, &kI32}, index, rotated ? table : none}, {{}, {}, {1}, {0, 2, 3, 5, -1, -1}, {}}};
  };
  return {make({.head_dim = 6}, 3, &kF32, true),
          make({.head_dim = 8, .rotated = 4, .interleaved = true}, 2, &kBf16, true),
          make({.head_dim = 32}, 2, &kQ8_0, false)};
}

constexpr InPlace kCaches[] = {{0, 0, true}, {1, 1, true}};

}  // namespace

const Op kCacheKeep = {.name = "cache_keep",
                       .infer = infer,
                       .text = text,
                       .workspace = workspace,
                       .cost = pointwise_cost,
                       .reference = reference,
                       .run = run,
                       .samples = samples,
                       .in_place = kCaches};

}  // namespace thimble
