// round_weighted: a matrix rounded to a codec by the fit that weighs errors.
//
//   Value   each row as weighted_encoder() of the codec writes it (codecs/importance.h), with the statistic of its
//           columns for their importance. Only ratios of importances count: sums and means do alike.
//   Order   rows do not depend on each other: threads share them
#include <algorithm>
#include <cmath>

#include "codecs/importance.h"
#include "ops/rows.h"
#include "ops/shape_rule.h"
#include "ops/transform.h"

namespace thimble {
namespace {

using Attributes = RoundWeightedAttributes;

const Attributes& of(const std::any& attributes) { return *std::any_cast<Attributes>(&attributes); }

Result<std::vector<Type>> infer(const std::any& any, std::span<const Type> in) {
  CHECK_OK(expect_operands("round_weighted", in, 2));
  CHECK_OK(expect_rank("round_weighted", "w", in[0], 2));
  CHECK_OK(expect_f32("round_weighted", "w", in[0]));
  const int64_t n = in[0].shape[1];
  CHECK_OK(expect_shape("round_weighted", "importance", in[1], {n}));
  CHECK_OK(expect_f32("round_weighted", "importance", in[1]));
  const Codec* const codec = of(any).codec;
  if (!codec || !weighted_encoder(*codec))
    return fail(ErrorCode::shape, "round_weighted: {} has no fit that weighs errors", codec ? codec->name : "no codec");
  if (n % codec->block != 0)
    return fail(ErrorCode::shape, "round_weighted: rows of {} are no whole blocks of {} ({})", n, codec->name,
                codec->block);
  return std::vector{Type{in[0].shape, codec}};
}

void run(const Call& call) noexcept {
  const Codec& codec = *of(call.attributes).codec;
  const WeightedEncoder encode = weighted_encoder(codec);
  const int64_t m = call.in[0].shape[0], n = call.in[0].shape[1];
  const float* const w = call.in[0].as<const float>();
  const float* const importance = call.in[1].as<const float>();
  call.run.threads.split(m, 1, [&](int64_t begin, int64_t end, int) {
    for (int64_t row = begin; row < end; ++row)
      encode(w + row * n, importance, call.out[0].data + row * codec.bytes(n), n);
  });
}

[[gnu::cold]] void reference(const ReferenceCall& call) {
  const Codec& codec = *call.as<Attributes>().codec;
  const int64_t m = call.in[0].shape[0], n = call.in[0].shape[1];
  std::vector<float> row(static_cast<size_t>(n)), importance(row.size());
  std::vector<std::byte> bytes(static_cast<size_t>(codec.bytes(n)));
  for (int64_t j = 0; j < n; ++j) importance[static_cast<size_t>(j)] = static_cast<float>(call.in[1][j]);
  for (int64_t r = 0; r < m; ++r) {
    for (int64_t j = 0; j < n; ++j) row[static_cast<size_t>(j)] = static_cast<float>(call.in[0][r * n + j]);
    weighted_encoder(codec)(row.data(), importance.data(), bytes.data(), n);
    codec.decode(bytes.data(), row.data(), n);
    for (int64_t j = 0; j < n; ++j) call.out[0][r * n + j] = static_cast<double>(row[static_cast<size_t>(j)]);
  }
}

std::string text(const std::any& any) { return fmt::format("{{{}}}", of(any).codec->name); }

Cost cost(const std::any&, std::span<const Type> in, std::span<const Type> out) {
  return {.bytes = moved_bytes(in, out), .encoded = static_cast<double>(in[0].shape.count())};
}

[[gnu::cold]] std::vector<Sample> samples() {
  return {{Attributes{&kQ4_0}, {Type{{11, 32}}, Type{{32}}}, {}, {}, true},
          {Attributes{&kQ5_1}, {Type{{3, 64}}, Type{{64}}}, {}, {}, true},
          {Attributes{&kQ4K}, {Type{{2, 256}}, Type{{256}}}, {}, {}, true}};
}

}  // namespace

const Op kRoundWeighted = {.name = "round_weighted",
                           .infer = infer,
                           .text = text,
                           .cost = cost,
                           .reference = reference,
                           .run = run,
                           .samples = samples};

}  // namespace thimble
