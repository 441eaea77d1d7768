// rope: rotary position embedding. The pair (a, b) at frequency f of a head becomes
// (a cos - b sin, b cos + a sin), with cos and sin of position * f read from a table. A head's elements behind those
// that turn are copied.
//
//   Paper     Su et al. 2021, arXiv:2104.09864, eq. 34
//   Pairs     halves: (i, i + rotated/2) as in Hugging Face; interleaved: (2i, 2i + 1)
//   Gradient  rotate dy back (the table holds scaled cos and sin when the scaling says so: the transpose is the same
//             with sin negated)
#include "ops/backward.h"
#include "ops/rows.h"
#include "ops/shape_rule.h"
#include "ops/table.h"
#include "ops/tangents.h"

namespace thimble {
namespace {

const RopeAttributes& of(const std::any& attributes) { return *std::any_cast<RopeAttributes>(&attributes); }
int64_t rotated(const RopeAttributes& a) { return a.rotated > 0 ? a.rotated : a.head_dim; }

Result<std::vector<Type>> infer(const std::any& any, std::span<const Type> in) {
  CHECK_OK(expect_operands("rope", in, 3));
  CHECK_OK(expect_rank("rope", "x", in[0], 2));
  const int64_t head_dim = of(any).head_dim;
  if (head_dim <= 0 || in[0].shape[1] % head_dim)
    return fail(ErrorCode::shape, "rope: rows of {} are not whole heads of {}", in[0].shape[1], head_dim);
  const int64_t turns = rotated(of(any));
  if (turns % 2 || turns > head_dim)
    return fail(ErrorCode::shape, "rope: an even number of a head's {} elements should turn, found {}", head_dim,
                turns);
  CHECK_OK(expect_indices("rope", "positions", in[1], in[0].shape[0]));
  CHECK_OK(expect_rank("rope", "table", in[2], 2));
  CHECK_OK(expect_f32("rope", "table", in[2]));
  if (in[2].shape[1] != turns)
    return fail(ErrorCode::shape, "rope: the table's rows should be {}, found {}", turns, in[2].shape[1]);
  return std::vector{in[0]};
}

template <class T>
void rotate(const RopeAttributes& attributes, const T* x, const float* table, T* y, int64_t columns) {
  const int64_t head_dim = attributes.head_dim, turns = rotated(attributes), half = turns / 2;
  const int64_t step = attributes.interleaved ? 2 : 1, apart = attributes.interleaved ? 1 : half;
  const T sign = attributes.inverse ? -1 : 1;
  for (int64_t head = 0; head < columns; head += head_dim) {
    for (int64_t i = 0; i < half; ++i) {
      const T cosine = table[2 * i], sine = sign * table[2 * i + 1];
      const int64_t p = head + i * step;
      const T a = x[p], b = x[p + apart];
      y[p] = a * cosine - b * sine;
      y[p + apart] = b * cosine + a * sine;
    }
    std::copy(x + head + turns, x + head + head_dim, y + head + turns);
  }
}

int64_t workspace(const std::any&, std::span<const Type> in, std::span<const Type>, Multiply, int threads) {
  return row_buffer_bytes(in[0].shape[1], 2, threads);
}

void run(const Call& call) noexcept {
  const int64_t columns = call.in[0].shape[1], turns = call.in[2].shape[1];
  call.run.threads.split(call.in[0].shape[0], 1, [&](int64_t begin, int64_t end, int thread) {
    float* const y = row_buffer(call, columns, 2, thread, 1);
    for (int64_t i = begin; i < end; ++i) {
      const float* const x = read_row(call.in[0], i, columns, row_buffer(call, columns, 2, thread, 0));
      rotate(call.as<RopeAttributes>(), x, call.in[2].as<const float>() + call.in[1].as<int32_t>()[i] * turns, y,
             columns);
      write_row(call.out[0], i, columns, y);
    }
  });
}

[[gnu::cold]] void reference(const ReferenceCall& call) {
  const RopeAttributes& attributes = call.as<RopeAttributes>();
  const int64_t columns = call.in[0].shape[1];
  for (int64_t i = 0; i < call.in[0].shape[0]; ++i) {
    std::vector<float> table(static_cast<size_t>(rotated(attributes)));
    for (size_t j = 0; j < table.size(); ++j)
      table[j] = static_cast<float>(
          call.in[2][static_cast<int64_t>(call.in[1][i]) * rotated(attributes) + static_cast<int64_t>(j)]);
    rotate(attributes, &call.in[0][i * columns], table.data(), &call.out[0][i * columns], columns);
  }
}

Result<void> gradient(Backward& backward, const Node& node) {
  const ValueId dy = backward.gradient_of(node.out[0]);
  if (dy == kNone || !backward.wanted(node.in[0])) return {};
  RopeAttributes attributes = node.as<RopeAttributes>();
  attributes.inverse = !attributes.inverse;
  backward.add(node.in[0],
               backward.graph().emit(kRope, attributes, {dy, node.in[1], node.in[2]}, backward.name(node.in[0])));
  return {};
}

[[gnu::cold]] std::vector<Sample> samples() {
  return {{RopeAttributes{.head_dim = 6}, {Type{{4, 12}}, Type{{4}, &kI32}, Type{{5, 6}}}, {{}, {0, 3, 4, 1}}, {2}},
          {RopeAttributes{.head_dim = 6, .interleaved = true},
           {Type{{3, 6}}, Type{{3}, &kI32}, Type{{5, 6}}},
           {{}, {2, 0, 4}},
           {2}},
          {RopeAttributes{.head_dim = 32, .inverse = true},
           {Type{{3, 64}, &kBf16}, Type{{3}, &kI32}, Type{{5, 32}}},
           {{}, {2, 0, 4}},
           {2}},
          {RopeAttributes{.head_dim = 7, .rotated = 4},
           {Type{{3, 14}}, Type{{3}, &kI32}, Type{{5, 4}}},
           {{}, {2, 0, 4}},
           {2}}};
}

constexpr InPlace kOverX[] = {{0, 0, false}};

}  // namespace

const Op kRope = {.name = "rope",
                  .infer = infer,
                  .text =
                      [](const std::any& a) {
                        const std::string part = of(a).rotated > 0 ? fmt::format(" first {}", of(a).rotated) : "";
                        return fmt::format("{{{}{}{}{}}}", of(a).head_dim, part,
                                           of(a).interleaved ? " interleaved" : "", of(a).inverse ? " inverse" : "");
                      },
                  .gradient = gradient,
                  .tangent = linear_tangent<0>,
                  .workspace = workspace,
                  .cost = pointwise_cost,
                  .reference = reference,
                  .run = run,
                  .samples = samples,
                  .in_place = kOverX};

}  // namespace thimble
