// pointwise: a fused elementwise program (pointwise.h). Output i lies over operand i.
//
// Tiles of 512 elements go through the instructions one after another, in L1; values that are the same for all elements
// (learning rate, bias corrections) are computed once in double.
#include "ops/pointwise.h"

#include <cmath>

#include "kernels/clones.h"
#include "kernels/math.h"
#include "ops/rows.h"
#include "ops/shape_rule.h"
#include "ops/table.h"
#include "ops/update.h"

namespace thimble {

using Kind = PointwiseAttributes::Kind;

Expr PointwiseBuilder::push(PointwiseAttributes::Instruction instruction) {
  attributes_.code.push_back(instruction);
  return {this, static_cast<int>(attributes_.code.size()) - 1};
}
Expr PointwiseBuilder::tensor() { return push({.kind = Kind::tensor, .a = attributes_.tensors++}); }
Expr PointwiseBuilder::scalar() {
  return push({.kind = Kind::scalar, .a = attributes_.tensors + scalars_++, .uniform = true});
}
Expr PointwiseBuilder::constant(double value) {
  return push({.kind = Kind::constant, .value = value, .uniform = true});
}
Expr PointwiseBuilder::apply(Kind kind, Expr a, Expr b) {
  const bool uniform =
      attributes_.code[static_cast<size_t>(a.id)].uniform && attributes_.code[static_cast<size_t>(b.id)].uniform;
  return push({.kind = kind, .a = a.id, .b = b.id, .uniform = uniform});
}
Expr PointwiseBuilder::apply(Kind kind, Expr a) {
  return push({.kind = kind, .a = a.id, .uniform = attributes_.code[static_cast<size_t>(a.id)].uniform});
}
void PointwiseBuilder::store(Expr target, Expr value) {
  assert(attributes_.code[static_cast<size_t>(target.id)].a == static_cast<int>(attributes_.stores.size()));
  (void)target;
  attributes_.stores.push_back(value.id);
}

namespace {

constexpr int64_t kTile = 512;
constexpr size_t kMostCode = 64;

const PointwiseAttributes& of(const std::any& attributes) { return *std::any_cast<PointwiseAttributes>(&attributes); }

Result<std::vector<Type>> infer(const std::any& any, std::span<const Type> in) {
  const PointwiseAttributes& attributes = of(any);
  if (attributes.code.size() > kMostCode)
    return fail(ErrorCode::shape, "pointwise: {} instructions, at most {}", attributes.code.size(), kMostCode);
  for (int i = 0; i < attributes.tensors; ++i)
    CHECK_OK(expect_shape("pointwise", "operand", in[static_cast<size_t>(i)], in[0].shape));
  for (size_t i = static_cast<size_t>(attributes.tensors); i < in.size(); ++i)
    CHECK_OK(expect_shape("pointwise", "scalar", in[i], {1}));
  return std::vector<Type>(in.begin(), in.begin() + static_cast<std::ptrdiff_t>(attributes.stores.size()));
}

template <class T>
T compute(Kind kind, T a, T b) noexcept {
  switch (kind) {
    case Kind::add:
      return a + b;
    case Kind::subtract:
      return a - b;
    case Kind::multiply:
      return a * b;
    case Kind::divide:
      return a / b;
    case Kind::minimum:
      return a < b ? a : b;
    case Kind::maximum:
      return a > b ? a : b;
    case Kind::power:
      return std::pow(a, b);
    case Kind::greater:
      return a > b ? T(1) : T(0);
    case Kind::square_root:
      return std::sqrt(a);
    case Kind::absolute:
      return std::abs(a);
    case Kind::sign:
      return a > 0 ? T(1) : a < 0 ? T(-1) : T(0);
    case Kind::exponential:
      return std::exp(a);
    case Kind::floor:
      return std::floor(a);
    default:
      return T(0);
  }
}

// One instruction over a tile. A switch outside of the loops lets each loop vectorise.
CLONES void apply(Kind kind, const float* __restrict a, const float* __restrict b, float* __restrict y,
                  int64_t n) noexcept {
  switch (kind) {
    case Kind::add:
      for (int64_t i = 0; i < n; ++i) y[i] = a[i] + b[i];
      return;
    case Kind::subtract:
      for (int64_t i = 0; i < n; ++i) y[i] = a[i] - b[i];
      return;
    case Kind::multiply:
      for (int64_t i = 0; i < n; ++i) y[i] = a[i] * b[i];
      return;
    case Kind::divide:
      for (int64_t i = 0; i < n; ++i) y[i] = a[i] / b[i];
      return;
    case Kind::minimum:
      for (int64_t i = 0; i < n; ++i) y[i] = a[i] < b[i] ? a[i] : b[i];
      return;
    case Kind::maximum:
      for (int64_t i = 0; i < n; ++i) y[i] = a[i] > b[i] ? a[i] : b[i];
      return;
    case Kind::greater:
      for (int64_t i = 0; i < n; ++i) y[i] = a[i] > b[i] ? 1.0f : 0.0f;
      return;
    case Kind::square_root:
      for (int64_t i = 0; i < n; ++i) y[i] = __builtin_sqrtf(a[i]);
      return;
    case Kind::absolute:
      for (int64_t i = 0; i < n; ++i) y[i] = __builtin_fabsf(a[i]);
      return;
    case Kind::sign:
      for (int64_t i = 0; i < n; ++i) y[i] = a[i] > 0 ? 1.0f : a[i] < 0 ? -1.0f : 0.0f;
      return;
    case Kind::exponential:
      for (int64_t i = 0; i < n; ++i) y[i] = exp_f32(a[i]);
      return;
    case Kind::floor:
      for (int64_t i = 0; i < n; ++i) y[i] = __builtin_floorf(a[i]);
      return;
    default:
      for (int64_t i = 0; i < n; ++i) y[i] = compute<float>(kind, a[i], b[i]);
      return;
  }
}

double uniform_value(const PointwiseAttributes& attributes, const Call& call, size_t i, const double* values) noexcept {
  const auto& [kind, a, b, value, uniform] = attributes.code[i];
  if (kind == Kind::scalar) return call.in[static_cast<size_t>(a)].as<const float>()[0];
  if (kind == Kind::constant) return value;
  return compute<double>(kind, values[a], b < 0 ? 0 : values[b]);
}

int64_t workspace(const std::any& any, std::span<const Type>, std::span<const Type>, Multiply, int threads) {
  return threads * static_cast<int64_t>(of(any).code.size()) * kTile * 4;
}

void run(const Call& call) noexcept {
  const PointwiseAttributes& attributes = call.as<PointwiseAttributes>();
  double uniform[kMostCode] = {};
  for (size_t i = 0; i < attributes.code.size(); ++i)
    if (attributes.code[i].uniform) uniform[i] = uniform_value(attributes, call, i, uniform);
  const int64_t count = call.in[0].shape.count();
  call.run.threads.split(count, kTile, [&](int64_t begin, int64_t end, int thread) {
    float* const registers =
        reinterpret_cast<float*>(call.workspace.data()) + thread * static_cast<int64_t>(attributes.code.size()) * kTile;
    const auto reg = [&](int id) { return registers + id * kTile; };
    for (size_t i = 0; i < attributes.code.size(); ++i)
      if (attributes.code[i].uniform)
        std::fill(reg(static_cast<int>(i)), reg(static_cast<int>(i)) + kTile, static_cast<float>(uniform[i]));
    for (int64_t at = begin; at < end; at += kTile) {
      const int64_t n = std::min(kTile, end - at);
      for (size_t i = 0; i < attributes.code.size(); ++i) {
        const auto& [kind, a, b, value, is_uniform] = attributes.code[i];
        if (is_uniform) continue;
        float* const y = reg(static_cast<int>(i));
        if (kind == Kind::tensor) {
          const Operand& from = call.in[static_cast<size_t>(a)];
          from.codec->decode(from.data + at / from.codec->block * from.codec->block_bytes, y, n);
        } else {
          apply(kind, reg(a), b < 0 ? reg(a) : reg(b), y, n);
        }
      }
      for (size_t i = 0; i < attributes.stores.size(); ++i) {
        const Operand& to = call.out[i];
        to.codec->encode(reg(attributes.stores[i]), to.data + at / to.codec->block * to.codec->block_bytes, n);
      }
    }
  });
}

Cost cost(const std::any&, std::span<const Type> in, std::span<const Type> out) {
  Cost cost{.bytes = moved_bytes(in, out)};
  for (const Type& type : out)
    if (!absent(type) && type.codec->block > 1) cost.encoded += static_cast<double>(type.shape.count());
  return cost;
}

void reference(const ReferenceCall& call) {
  const PointwiseAttributes& attributes = call.as<PointwiseAttributes>();
  std::vector<double> values(attributes.code.size());
  for (int64_t e = 0; e < call.in[0].shape.count(); ++e) {
    for (size_t i = 0; i < values.size(); ++i) {
      const auto& [kind, a, b, value, uniform] = attributes.code[i];
      if (kind == Kind::tensor)
        values[i] = call.in[static_cast<size_t>(a)][e];
      else if (kind == Kind::scalar)
        values[i] = call.in[static_cast<size_t>(a)][0];
      else if (kind == Kind::constant)
        values[i] = value;
      else
        values[i] = compute<double>(kind, values[static_cast<size_t>(a)], b < 0 ? 0 : values[static_cast<size_t>(b)]);
    }
    for (size_t i = 0; i < attributes.stores.size(); ++i)
      call.out[i][e] = values[static_cast<size_t>(attributes.stores[i])];
  }
}

std::string text(const std::any& any) {
  constexpr const char* kNames[] = {"tensor", "scalar", "constant", "add",  "sub", "mul",  "div", "min",
                                    "max",    "pow",    "greater",  "sqrt", "abs", "sign", "exp", "floor"};
  static_assert(std::size(kNames) == static_cast<size_t>(Kind::floor) + 1);
  std::string out = "{";
  for (const auto& [kind, a, b, value, uniform] : of(any).code)
    out += kind == Kind::constant ? fmt::format("{};", value)
                                  : fmt::format("{} {} {};", kNames[static_cast<int>(kind)], a, b);
  for (int store : of(any).stores) out += fmt::format(" ->{}", store);
  return out + "}";
}

std::vector<Sample> samples() {
  PointwiseBuilder b;
  const Expr p = b.tensor(), m = b.tensor(), g = b.tensor(), lr = b.scalar();
  const Expr next = 0.9 * m + 0.1 * g;
  b.store(p, p * (1 - lr * 0.1) - lr * next / (sqrt(abs(next)) + 1e-3) + min(sign(g), max(m, exp(g))));
  b.store(m, next + floor(3 * g));
  const Codec* codec = find_codec("int8_block") ? find_codec("int8_block") : &kBf16;
  return {{b.attributes(), {Type{{700}}, Type{{700}}, Type{{700}, &kBf16}, Type{{1}}}},
          {b.attributes(), {Type{{33, 47}}, Type{{33, 47}, codec}, Type{{33, 47}}, Type{{1}}}}};
}

constexpr InPlace kOverOperands[] = {{0, 0, true}, {1, 1, true}, {2, 2, true}, {3, 3, true},
                                     {4, 4, true}, {5, 5, true}, {6, 6, true}, {7, 7, true}};

}  // namespace

const Op kPointwise = {.name = "pointwise",
                       .infer = infer,
                       .text = text,
                       .workspace = workspace,
                       .cost = cost,
                       .reference = reference,
                       .run = run,
                       .samples = samples,
                       .in_place = kOverOperands,
                       .elementwise = true};

}  // namespace thimble
