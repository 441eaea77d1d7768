// pointwise: a fused elementwise program (pointwise.h).
//
//   Gradient  a pointwise program of the same operands (pointwise_gradient.cpp); what was broadcast is summed
//
// Tiles of 512 elements go through the instructions one after another, in L1; values that are the same for all elements
// (learning rate, bias corrections) are computed once in double.
#include "ops/pointwise.h"

#include <algorithm>
#include <cmath>

#include "codecs/dispatch.h"
#include "core/random.h"
#include "kernels/draw.h"
#include "kernels/math.h"
#include "ops/pointwise_parts.h"
#include "ops/rows.h"
#include "ops/shape_rule.h"
#include "ops/table.h"
#include "ops/update.h"

namespace thimble {
namespace {

using Kind = PointwiseAttributes::Kind;

constexpr int64_t kTile = 512;

const PointwiseAttributes& of(const std::any& attributes) { return *std::any_cast<PointwiseAttributes>(&attributes); }

// That of a tensor which does not lie flat, if there is one. Of a shape without a number of rows there are as many as
// the elements of a tensor come to.
template <class Typed>
Shape shape_of(const PointwiseAttributes& attributes, std::span<const Typed> in) {
  Shape shape = attributes.shape;
  if (shape.rank() > 0 && shape[0] == 0) {
    const int64_t row = shape.with_first(1).count();
    for (const auto& instruction : attributes.code)
      if (instruction.kind == Kind::tensor)
        return shape.with_first(in[static_cast<size_t>(instruction.a)].shape.count() / std::max<int64_t>(1, row));
  }
  if (shape.rank() > 0) return shape;
  for (const auto& [kind, a, b, value, stream, uniform] : attributes.code)
    if (kind == Kind::tensor && in[static_cast<size_t>(a)].shape.rank() > shape.rank())
      shape = in[static_cast<size_t>(a)].shape;
  return shape;
}

// Where the node says its shape, tensors may have their elements in other rows.
bool lies_like(const PointwiseAttributes& attributes, const Shape& tensor, const Shape& shape) {
  return tensor.same_elements(shape) || (attributes.shape.rank() > 0 && tensor.same_count(shape));
}

Result<void> check_operand(const PointwiseAttributes& attributes, Kind kind, const Type& type, const Shape& shape) {
  CHECK_OK(expect_numbers("pointwise", "operand", type));
  if (type.codec->rows_of)
    return fail(ErrorCode::shape, "pointwise: an operand lies in rows together ({}); expected {}", type.codec->name,
                type.codec->rows_of->name);
  switch (kind) {
    case Kind::tensor:
      if (!lies_like(attributes, type.shape, shape)) CHECK_OK(expect_shape("pointwise", "tensor", type, shape));
      return expect_run("pointwise", "tensor", type);
    case Kind::row:
      CHECK_OK(expect_f32("pointwise", "row", type));
      return expect_shape("pointwise", "row", type, {shape.columns()});
    case Kind::column:
      CHECK_OK(expect_f32("pointwise", "column", type));
      return expect_shape("pointwise", "column", type, {shape.rows()});
    default:
      CHECK_OK(expect_f32("pointwise", "scalar", type));
      return expect_shape("pointwise", "scalar", type, {1});
  }
}

Result<std::vector<Type>> infer(const std::any& any, std::span<const Type> in) {
  const PointwiseAttributes& attributes = of(any);
  if (attributes.code.size() > kMostPointwise)
    return fail(ErrorCode::shape, "pointwise: {} instructions, at most {}", attributes.code.size(), kMostPointwise);
  if (attributes.outputs.size() > Aliases::kMost)
    return fail(ErrorCode::shape, "pointwise: {} outputs, at most {}", attributes.outputs.size(), Aliases::kMost);
  CHECK_OK(expect_operands("pointwise", in, static_cast<size_t>(attributes.operands)));
  const Shape shape = shape_of(attributes, in);
  if (shape.rank() == 0) return fail(ErrorCode::shape, "pointwise: neither a tensor nor a shape is given");
  Extent extent = Extent::fixed;
  for (const auto& instruction : attributes.code) {
    if (instruction.kind > Kind::scalar) continue;
    const Type& type = in[static_cast<size_t>(instruction.a)];
    CHECK_OK(check_operand(attributes, instruction.kind, type, shape));
    if (instruction.kind != Kind::row && type.extent != Extent::fixed) extent = type.extent;
  }
  std::vector<Type> out;
  bool stores = true;  // the first outputs
  for (const auto& [value, codec, stream] : attributes.outputs) {
    if (!codec && !stores) return fail(ErrorCode::shape, "pointwise: output {} overwrites after new ones", out.size());
    stores = !codec;
    if (value < 0 || value >= static_cast<int>(attributes.code.size()))
      return fail(ErrorCode::shape, "pointwise: output {} is no instruction", out.size());
    if (!codec && out.size() >= in.size())
      return fail(ErrorCode::shape, "pointwise: output {} lies over no operand", out.size());
    if (!codec && !lies_like(attributes, in[out.size()].shape, shape))
      return fail(ErrorCode::shape, "pointwise: output {} would lie over an operand that is broadcast", out.size());
    out.push_back(codec ? Type{shape, codec, extent} : in[out.size()]);
    CHECK_OK(expect_run("pointwise", "output", out.back()));
  }
  return out;
}

int overwrites(const std::any& any) {
  int count = 0;
  for (const auto& output : of(any).outputs) count += output.codec == nullptr;
  return count;
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
      return smaller(a, b);
    case Kind::maximum:
      return larger(a, b);
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
    case Kind::logarithm:
      return std::log(a);
    case Kind::tanh:
      return std::tanh(a);
    case Kind::cosine:
      return std::cos(a);
    default:
      return T(0);
  }
}

// One instruction over a tile. A switch outside of the loops lets each loop vectorise.
THIMBLE_BODY void apply_body(Kind kind, const float* __restrict a, const float* __restrict b, float* __restrict y,
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
      for (int64_t i = 0; i < n; ++i) y[i] = smaller(a[i], b[i]);
      return;
    case Kind::maximum:
      for (int64_t i = 0; i < n; ++i) y[i] = larger(a[i], b[i]);
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

constexpr auto* apply = dispatched<apply_body>;

double uniform_value(const PointwiseAttributes& attributes, const Call& call, size_t i, const double* values) noexcept {
  const auto& instruction = attributes.code[i];
  if (instruction.kind == Kind::scalar) return call.in[static_cast<size_t>(instruction.a)].as<const float>()[0];
  if (instruction.kind == Kind::constant) return instruction.value;
  return compute<double>(instruction.kind, values[instruction.a], instruction.b < 0 ? 0 : values[instruction.b]);
}

int64_t workspace(const std::any& any, std::span<const Type>, std::span<const Type>, Multiply, int threads) {
  return int64_t{threads} * static_cast<int64_t>(of(any).code.size()) * kTile * 4;
}

// Elements from `element` on of a row or column that is broadcast over rows of `columns`.
void broadcast(Kind kind, const float* values, int64_t element, int64_t columns, int64_t n, float* y) noexcept {
  int64_t row = element / columns, column = element % columns;
  for (int64_t i = 0; i < n; ++row, column = 0) {
    const int64_t end = std::min(n, i + columns - column);
    if (kind == Kind::row)
      std::copy(values + column, values + column + (end - i), y + i);
    else
      std::fill(y + i, y + end, values[row]);
    i = end;
  }
}

void draw(const PointwiseAttributes::Instruction& instruction, const RunContext& run, uint64_t element, int64_t n,
          float* y) noexcept {
  const Random random(run.seed, instruction.stream, run.step / static_cast<uint64_t>(instruction.value));
  if (instruction.kind == Kind::normal_noise) return draw_normal(random, element, n, y);
  for (int64_t i = 0; i < n; ++i) y[i] = random.uniform(element + static_cast<uint64_t>(i));
}

// Rounds to bf16 by adding random bits below its last one, so that on average the value is kept. Numbers that are not
// finite stay as they are.
void round_by_chance(float* values, int64_t n, const Random& random, uint64_t element) noexcept {
  for (int64_t i = 0; i < n; ++i) {
    uint32_t bits;
    std::memcpy(&bits, values + i, 4);
    if ((bits & 0x7f800000u) == 0x7f800000u) continue;
    bits += random.bits(element + static_cast<uint64_t>(i)) & 0xffffu;
    bits &= 0xffff0000u;
    std::memcpy(values + i, &bits, 4);
  }
}

// One call on one thread: the elements from `begin` to `end` of the part.
class Pass {
 public:
  Pass(const Call& call, const double* uniform, int thread) noexcept
      : call_(call),
        attributes_(call.as<PointwiseAttributes>()),
        tiles_(reinterpret_cast<float*>(call.workspace.data()) +
               int64_t{thread} * static_cast<int64_t>(attributes_.code.size()) * kTile),
        columns_(std::max<int64_t>(1, shape_of(attributes_, call.in).columns())),
        first_(static_cast<uint64_t>(call.part.first) +
               (attributes_.tokens ? call.run.first_row * static_cast<uint64_t>(columns_) : 0)) {
    for (size_t i = 0; i < attributes_.code.size(); ++i)
      if (attributes_.code[i].uniform)
        std::fill(tile(static_cast<int>(i)), tile(static_cast<int>(i)) + kTile, static_cast<float>(uniform[i]));
  }

  void run(int64_t begin, int64_t end) noexcept {
    for (int64_t at = begin; at < end; at += kTile) {
      const int64_t n = std::min(kTile, end - at);
      for (size_t i = 0; i < attributes_.code.size(); ++i)
        if (!attributes_.code[i].uniform) instruction(static_cast<int>(i), at, n);
      for (size_t i = 0; i < attributes_.outputs.size(); ++i)
        if (call_.out[i]) write(i, at, n);
    }
  }

 private:
  float* tile(int i) const noexcept { return tiles_ + i * kTile; }

  void instruction(int i, int64_t at, int64_t n) noexcept {
    const auto& instruction = attributes_.code[static_cast<size_t>(i)];
    float* const y = tile(i);
    switch (instruction.kind) {
      case Kind::tensor: {
        const Operand& from = call_.in[static_cast<size_t>(instruction.a)];
        from.codec->decode(from.data + from.codec->bytes(at), y, n);
        return;
      }
      case Kind::row:
      case Kind::column:
        broadcast(instruction.kind, broadcast_values(instruction.a), call_.part.first + at, columns_, n, y);
        return;
      case Kind::uniform_noise:
      case Kind::normal_noise:
        draw(instruction, call_.run, first_ + static_cast<uint64_t>(at), n, y);
        return;
      default:
        apply(instruction.kind, tile(instruction.a), tile(instruction.b < 0 ? instruction.a : instruction.b), y, n);
    }
  }

  // A row of a one-row value has as many elements as the node, and is cut with it.
  const float* broadcast_values(int operand) const noexcept {
    const Operand& from = call_.in[static_cast<size_t>(operand)];
    const bool cut = call_.part.count >= 0 && from.shape.same_count(call_.out[0].shape);
    return from.as<const float>() - (cut ? call_.part.first : 0);
  }

  void write(size_t i, int64_t at, int64_t n) noexcept {
    const auto& output = attributes_.outputs[i];
    const Operand& to = call_.out[i];
    const float* from = tile(output.value);
    alignas(64) float rounded[kTile];
    if (output.stream != 0 && to.codec == &kBf16) {
      std::copy(from, from + n, rounded);
      round_by_chance(rounded, n, Random(call_.run.seed, output.stream, call_.run.step),
                      first_ + static_cast<uint64_t>(at));
      from = rounded;
    }
    to.codec->encode(from, to.data + to.codec->bytes(at), n);
  }

  const Call& call_;
  const PointwiseAttributes& attributes_;
  float* const tiles_;
  const int64_t columns_;
  const uint64_t first_;  // number of element 0 for what is drawn
};

void run(const Call& call) noexcept {
  const PointwiseAttributes& attributes = call.as<PointwiseAttributes>();
  const int64_t count = call.part.count >= 0 ? call.part.count : call.out[0].shape.count();
  // What is the same for all elements is computed once a thread.
  const auto start = [&](int thread) {
    double uniform[kMostPointwise];
    for (size_t i = 0; i < attributes.code.size(); ++i)
      if (attributes.code[i].uniform) uniform[i] = uniform_value(attributes, call, i, uniform);
    return [pass = Pass(call, uniform, thread), count](int64_t begin, int64_t end) mutable {
      pass.run(begin * kTile, std::min(count, end * kTile));
    };
  };
  call.run.threads.share_from((count + kTile - 1) / kTile, start);
}

Cost cost(const std::any& any, std::span<const Type> in, std::span<const Type> out) {
  Cost cost{.bytes = moved_bytes(in, out)};
  double elements = 0;
  for (const Type& type : out) {
    if (absent(type)) continue;
    const auto count = static_cast<double>(type.shape.count());
    elements = std::max(elements, count);
    if (type.codec->block > 1) cost.encoded += count;
  }
  for (const auto& instruction : of(any).code)
    if (instruction.kind == Kind::normal_noise && !instruction.uniform) cost.drawn += elements;
  return cost;
}

[[gnu::cold]] void reference(const ReferenceCall& call) {
  const PointwiseAttributes& attributes = call.as<PointwiseAttributes>();
  const Shape shape = shape_of(attributes, call.in);
  std::vector<double> values(attributes.code.size());
  for (int64_t e = 0; e < shape.count(); ++e) {
    const auto number = static_cast<uint64_t>(e) +
                        (attributes.tokens ? call.run.first_row * static_cast<uint64_t>(shape.columns()) : 0);
    for (size_t i = 0; i < values.size(); ++i) {
      const auto& [kind, a, b, value, stream, uniform] = attributes.code[i];
      const auto period = static_cast<uint64_t>(std::max(1.0, value));
      const Random random(call.run.seed, stream, call.run.step / period);
      if (kind <= Kind::scalar)
        values[i] = call.in[static_cast<size_t>(a)][kind == Kind::tensor   ? e
                                                    : kind == Kind::row    ? e % shape.columns()
                                                    : kind == Kind::column ? e / shape.columns()
                                                                           : 0];
      else if (kind == Kind::constant)
        values[i] = value;
      else if (kind == Kind::uniform_noise || kind == Kind::normal_noise)
        values[i] = kind == Kind::uniform_noise ? random.uniform(number) : random.normal(number);
      else
        values[i] = compute<double>(kind, values[static_cast<size_t>(a)], b < 0 ? 0 : values[static_cast<size_t>(b)]);
    }
    for (size_t i = 0; i < attributes.outputs.size(); ++i)
      if (call.out[i]) call.out[i][e] = values[static_cast<size_t>(attributes.outputs[i].value)];
  }
}

std::string text(const std::any& any) {
  constexpr const char* kNames[] = {"tensor", "row",  "column", "scalar", "constant", "uniform", "normal",  "add",
                                    "sub",    "mul",  "div",    "min",    "max",      "pow",     "greater", "sqrt",
                                    "abs",    "sign", "exp",    "floor",  "log",      "tanh",    "cos"};
  static_assert(std::size(kNames) == static_cast<size_t>(Kind::cosine) + 1);
  std::string out = "{";
  for (const auto& [kind, a, b, value, stream, uniform] : of(any).code) {
    out += kNames[static_cast<int>(kind)];
    if (kind == Kind::constant)
      out += fmt::format(" {};", value);
    else if (kind == Kind::uniform_noise || kind == Kind::normal_noise)
      out += fmt::format(" {:x} every {};", stream, value);
    else
      out += fmt::format(" {} {};", a, b);
  }
  for (const auto& [value, codec, stream] : of(any).outputs)
    out += fmt::format(" ->{}{}{}", value, codec ? fmt::format(" {}", codec->name) : "",
                       stream ? fmt::format(" by chance {:x}", stream) : "");
  // Of a shape that tensors are read in, rows are what the elements come to, which is a matter of the pass.
  const auto is_tensor = [](const PointwiseAttributes::Instruction& i) { return i.kind == Kind::tensor; };
  const Shape& shape = of(any).shape;
  if (shape.rank() == 2 && std::ranges::any_of(of(any).code, is_tensor))
    out += fmt::format(" [, {}]", shape[1]);
  else if (shape.rank() > 0)
    out += fmt::format(" {}", shape.text());
  return out + (of(any).tokens ? " tokens}" : "}");
}

[[gnu::cold]] std::vector<Sample> samples() {
  PointwiseBuilder b;
  const Expr p = b.tensor(), m = b.tensor(), g = b.tensor(), lr = b.scalar();
  const Expr next = 0.9 * m + 0.1 * g;
  b.store(p, p * (1 - lr * 0.1) - lr * next / (sqrt(abs(next)) + 1e-3) + min(sign(g), max(m, exp(g))));
  b.store(m, next + floor(3 * g));
  PointwiseBuilder wide;
  const Expr x = wide.tensor(), gain = wide.row(), weight = wide.column(), mix = wide.scalar(), y = wide.tensor();
  wide.output(x * gain + mix * tanh(y) * weight + log(1 + abs(y)) / (1 + exp(x)));
  wide.output(select(greater(x, y), sqrt(2 + x * x), pow(1.5 + tanh(y), 3) + cos(x)) - min(x, gain) * max(y, weight));
  PointwiseBuilder flat;  // what lies flat is stored over, what is broadcast goes by the node's rows
  const Expr state = flat.tensor(), each = flat.row(), all = flat.column(), whole = flat.tensor();
  flat.store(state, state * each + all * whole);
  PointwiseBuilder heads;  // of another shape with as many elements
  const Expr values = heads.tensor(), head = heads.column();
  heads.store(values, values * head);
  heads.shape({3, 40});
  PointwiseBuilder noise;
  noise.shape({37, 29});
  noise.output(noise.normal_noise(7) + noise.uniform_noise(8));
  const Type f{{33, 47}};
  return {{b.attributes(), {Type{{700}}, Type{{700}}, Type{{700}, &kBf16}, Type{{1}}}, {}, {0, 1, 2, 3}},
          {b.attributes(), {f, Type{{33 * 47}, &kInt8Block}, f, Type{{1}}}, {}, {0, 1, 2, 3}},
          {wide.attributes(), {f, Type{{47}}, Type{{33}}, Type{{1}}, f}},
          {wide.attributes(), {Type{{5, 600}, &kBf16}, Type{{600}}, Type{{5}}, Type{{1}}, Type{{5, 600}, &kBf16}}},
          {flat.attributes(), {Type{{33 * 47}}, Type{{47}}, Type{{33}}, f}, {}, {0, 1, 2, 3}},
          {heads.attributes(), {Type{{12, 10}}, Type{{3}}}, {}, {0, 1}},
          {noise.attributes(), {}}};
}

}  // namespace

const Op kPointwise = {.name = "pointwise",
                       .infer = infer,
                       .text = text,
                       .gradient = pointwise_gradient,
                       .tangent = pointwise_tangent,
                       .workspace = workspace,
                       .cost = cost,
                       .reference = reference,
                       .run = run,
                       .samples = samples,
                       .overwrites = overwrites,
                       .elementwise = true};

}  // namespace thimble
