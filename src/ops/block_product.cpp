// block_product and block_inverse: products and inverses of small matrices that lie one under the other, in double.
//
//   Gradient  of a b: da = dy b^T, db = a^T dy; of the inverse y: da = -y^T dy y^T
//   Tangent   of a b: a' b + a b'; of the inverse y: -y a' y
//   Source    Golub and Van Loan, Matrix Computations, 4th ed., section 3.4: elimination with partial pivoting
//   Order     an element is one sum over k; threads share the blocks
#include <algorithm>
#include <cmath>
#include <vector>

#include "ops/backward.h"
#include "ops/blocks.h"
#include "ops/matrix.h"
#include "ops/pointwise.h"
#include "ops/shape_rule.h"
#include "ops/tangents.h"
#include "ops/update.h"

namespace thimble {
namespace {

const BlockProductAttributes& of(const std::any& attributes) {
  return *std::any_cast<BlockProductAttributes>(&attributes);
}

// c [m, p] of one block's a and b, with k between.
struct Extents {
  int64_t m, k, p;
};
Extents extents_of(const BlockProductAttributes& attributes, const Shape& a, const Shape& b) {
  const int64_t n = attributes.blocks, high = a[0] / n;
  return {attributes.left ? a[1] : high, attributes.left ? high : a[1], attributes.right ? b[0] / n : b[1]};
}

Result<void> expect_blocks(const char* op, const char* operand, const Type& type, int64_t blocks) {
  CHECK_OK(expect_rank(op, operand, type, 2));
  CHECK_OK(expect_f32(op, operand, type));
  if (blocks < 1 || type.shape[0] % blocks != 0 || type.shape.count() == 0)
    return fail(ErrorCode::shape, "{}: {} {} is not {} blocks", op, operand, type.shape.text(), blocks);
  return {};
}

Result<std::vector<Type>> infer(const std::any& any, std::span<const Type> in) {
  const BlockProductAttributes& attributes = of(any);
  CHECK_OK(expect_operands("block_product", in, 2));
  CHECK_OK(expect_blocks("block_product", "a", in[0], attributes.blocks));
  CHECK_OK(expect_blocks("block_product", "b", in[1], attributes.blocks));
  if (attributes.left && attributes.right) return fail(ErrorCode::shape, "block_product: both operands are transposed");
  const Extents e = extents_of(attributes, in[0].shape, in[1].shape);
  const int64_t depth = attributes.right ? in[1].shape[1] : in[1].shape[0] / attributes.blocks;
  if (depth != e.k)
    return fail(ErrorCode::shape, "block_product: blocks of a {} do not match those of b {}", in[0].shape.text(),
                in[1].shape.text());
  return std::vector{Type{{attributes.blocks * e.m, e.p}}};
}

// Element (i, j) of block n of the product, of numbers of either precision.
template <class A, class B>
double element(const BlockProductAttributes& attributes, const Extents& e, const A& a, const B& b, int64_t n, int64_t i,
               int64_t j) {
  double sum = 0;
  for (int64_t c = 0; c < e.k; ++c) {
    const int64_t left = n * e.m * e.k + (attributes.left ? c * e.m + i : i * e.k + c);
    const int64_t right = n * e.k * e.p + (attributes.right ? j * e.k + c : c * e.p + j);
    sum += static_cast<double>(a[left]) * static_cast<double>(b[right]);
  }
  return sum;
}

void run(const Call& call) noexcept {
  const auto& attributes = call.as<BlockProductAttributes>();
  const Extents e = extents_of(attributes, call.in[0].shape, call.in[1].shape);
  const float *a = call.in[0].as<const float>(), *b = call.in[1].as<const float>();
  const int64_t rows_worth = 1 + kWorthAThread / (2 * e.k * e.p);
  call.run.threads.split(attributes.blocks * e.m, rows_worth, [&](int64_t begin, int64_t end, int) {
    for (int64_t row = begin; row < end; ++row)
      for (int64_t j = 0; j < e.p; ++j)
        call.out[0].as<float>()[row * e.p + j] =
            static_cast<float>(element(attributes, e, a, b, row / e.m, row % e.m, j));
  });
}

[[gnu::cold]] void reference(const ReferenceCall& call) {
  const auto& attributes = call.as<BlockProductAttributes>();
  const Extents e = extents_of(attributes, call.in[0].shape, call.in[1].shape);
  for (int64_t row = 0; row < attributes.blocks * e.m; ++row)
    for (int64_t j = 0; j < e.p; ++j)
      call.out[0][row * e.p + j] = element(attributes, e, call.in[0], call.in[1], row / e.m, row % e.m, j);
}

ValueId product(Graph& graph, int64_t blocks, ValueId a, bool left, ValueId b, bool right, std::string name) {
  return graph.emit(kBlockProduct, BlockProductAttributes{blocks, left, right}, {a, b}, std::move(name));
}

Result<void> gradient(Backward& backward, const Node& node) {
  const ValueId dy = backward.gradient_of(node.out[0]), a = node.in[0], b = node.in[1];
  if (dy == kNone) return {};
  const auto& [n, left, right] = of(node.attributes);
  const ValueId kept_a = backward.saved(a), kept_b = backward.saved(b);
  Graph& graph = backward.graph();
  if (backward.wanted(a))
    backward.add(a, left ? product(graph, n, kept_b, false, dy, true, backward.name(a))
                         : product(graph, n, dy, false, kept_b, !right, backward.name(a)));
  if (backward.wanted(b))
    backward.add(b, right ? product(graph, n, dy, true, kept_a, false, backward.name(b))
                          : product(graph, n, kept_a, !left, dy, false, backward.name(b)));
  return {};
}

Cost cost(const std::any& any, std::span<const Type> in, std::span<const Type> out) {
  const Extents e = extents_of(of(any), in[0].shape, in[1].shape);
  Cost cost{.bytes = moved_bytes(in, out)};
  cost.of(ProductUse::narrow) = 2.0 * static_cast<double>(of(any).blocks * e.m * e.k * e.p);
  return cost;
}

std::string text(const std::any& any) {
  const auto& a = of(any);
  return fmt::format("{{{}{}{}}}", a.blocks, a.left ? " T" : "", a.right ? " N T" : "");
}

[[gnu::cold]] std::vector<Sample> samples() {
  return {{BlockProductAttributes{2}, {Type{{6, 4}}, Type{{8, 5}}}},
          {BlockProductAttributes{3, true}, {Type{{12, 2}}, Type{{12, 5}}}},
          {BlockProductAttributes{2, false, true}, {Type{{6, 33}}, Type{{10, 33}}}}};
}

Result<std::vector<Type>> infer_inverse(const std::any& any, std::span<const Type> in) {
  const int64_t n = std::any_cast<BlockInverseAttributes>(&any)->blocks;
  CHECK_OK(expect_operands("block_inverse", in, 1));
  CHECK_OK(expect_blocks("block_inverse", "a", in[0], n));
  CHECK_OK(expect_shape("block_inverse", "a", in[0], {in[0].shape[0], in[0].shape[0] / n}));
  return std::vector{Type{in[0].shape}};
}

int64_t workspace_inverse(const std::any&, std::span<const Type> in, std::span<const Type>, Multiply, int threads) {
  return 16 * threads * in[0].shape[1] * in[0].shape[1];
}

// a [k, k] is used up; `inverse` begins as the unit matrix.
void invert(double* a, double* inverse, int64_t k) noexcept {
  for (int64_t c = 0; c < k; ++c) {
    int64_t pivot = c;
    for (int64_t i = c + 1; i < k; ++i)
      if (std::abs(a[i * k + c]) > std::abs(a[pivot * k + c])) pivot = i;
    if (pivot != c) {
      std::swap_ranges(a + c * k, a + (c + 1) * k, a + pivot * k);
      std::swap_ranges(inverse + c * k, inverse + (c + 1) * k, inverse + pivot * k);
    }
    const double by = 1 / a[c * k + c];
    for (int64_t j = 0; j < k; ++j) a[c * k + j] *= by, inverse[c * k + j] *= by;
    for (int64_t i = 0; i < k; ++i) {
      const double factor = a[i * k + c];
      if (i == c || factor == 0) continue;
      for (int64_t j = 0; j < k; ++j) {
        a[i * k + j] -= factor * a[c * k + j];
        inverse[i * k + j] -= factor * inverse[c * k + j];
      }
    }
  }
}

void run_inverse(const Call& call) noexcept {
  const int64_t n = call.as<BlockInverseAttributes>().blocks, k = call.in[0].shape[1], size = k * k;
  call.run.threads.split(n, 1 + kWorthAThread / (4 * k * size), [&](int64_t begin, int64_t end, int thread) {
    double* const a = reinterpret_cast<double*>(call.workspace.data()) + 2 * thread * size;
    double* const inverse = a + size;
    for (int64_t block = begin; block < end; ++block) {
      std::copy_n(call.in[0].as<const float>() + block * size, size, a);
      for (int64_t i = 0; i < size; ++i) inverse[i] = i / k == i % k;
      invert(a, inverse, k);
      for (int64_t i = 0; i < size; ++i) call.out[0].as<float>()[block * size + i] = static_cast<float>(inverse[i]);
    }
  });
}

// By its first row, of a matrix whose rows and columns are those that are left.
double determinant(const std::vector<double>& a) {
  const auto k = static_cast<size_t>(std::lround(std::sqrt(static_cast<double>(a.size()))));
  if (k == 0) return 1;
  double sum = 0;
  for (size_t column = 0; column < k; ++column) {
    std::vector<double> minor;
    for (size_t i = k; i < k * k; ++i)
      if (i % k != column) minor.push_back(a[i]);
    sum += (column % 2 ? -1 : 1) * a[column] * determinant(minor);
  }
  return sum;
}

// By Cramer's rule.
[[gnu::cold]] void reference_inverse(const ReferenceCall& call) {
  const auto n = call.as<BlockInverseAttributes>().blocks, k = call.in[0].shape[1], size = k * k;
  for (int64_t block = 0; block < n; ++block) {
    std::vector<double> a(static_cast<size_t>(size));
    for (int64_t i = 0; i < size; ++i) a[static_cast<size_t>(i)] = call.in[0][block * size + i];
    for (int64_t e = 0; e < size; ++e) {
      std::vector<double> minor;
      for (int64_t i = 0; i < size; ++i)
        if (i / k != e % k && i % k != e / k) minor.push_back(a[static_cast<size_t>(i)]);
      const double sign = (e / k + e % k) % 2 ? -1 : 1;
      call.out[0][block * size + e] = sign * determinant(minor) / determinant(a);
    }
  }
}

// -y d y, or with y^T for y: the derivative of the inverse y along d, and its gradient.
ValueId minus_between(Graph& graph, int64_t blocks, ValueId y, bool transposed, ValueId d, const std::string& name) {
  const ValueId left = product(graph, blocks, y, transposed, d, false, name + ".left");
  const ValueId both = product(graph, blocks, left, false, y, transposed, name + ".both");
  PointwiseBuilder b;
  b.output(-1 * b.tensor());
  return graph.emit(kPointwise, b.attributes(), {both}, name);
}

Result<void> gradient_inverse(Backward& backward, const Node& node) {
  const ValueId dy = backward.gradient_of(node.out[0]), a = node.in[0];
  if (dy == kNone || !backward.wanted(a)) return {};
  const int64_t n = node.as<BlockInverseAttributes>().blocks;
  backward.add(a, minus_between(backward.graph(), n, backward.saved(node.out[0]), true, dy, backward.name(a)));
  return {};
}

Result<void> tangent_inverse(Tangents& tangents, const Node& node) {
  const ValueId y = node.out[0], da = tangents.of(node.in[0]);
  const int64_t n = node.as<BlockInverseAttributes>().blocks;
  tangents.set(y, minus_between(tangents.graph(), n, y, false, da, tangents.name(y)));
  return {};
}

Cost cost_inverse(const std::any&, std::span<const Type> in, std::span<const Type> out) {
  Cost cost{.bytes = moved_bytes(in, out)};
  cost.of(ProductUse::narrow) = 4.0 * static_cast<double>(in[0].shape.count() * in[0].shape[1]);
  return cost;
}

std::string text_inverse(const std::any& any) {
  return fmt::format("{{{}}}", std::any_cast<BlockInverseAttributes>(&any)->blocks);
}

[[gnu::cold]] std::vector<Sample> samples_inverse() {
  return {{BlockInverseAttributes{3}, {Type{{9, 3}}}}, {BlockInverseAttributes{2}, {Type{{10, 5}}}}};
}

}  // namespace

const Op kBlockProduct = {.name = "block_product",
                          .infer = infer,
                          .text = text,
                          .gradient = gradient,
                          .tangent = linear_tangent<0, 1>,
                          .cost = cost,
                          .reference = reference,
                          .run = run,
                          .samples = samples};
const Op kBlockInverse = {.name = "block_inverse",
                          .infer = infer_inverse,
                          .text = text_inverse,
                          .gradient = gradient_inverse,
                          .tangent = tangent_inverse,
                          .workspace = workspace_inverse,
                          .cost = cost_inverse,
                          .reference = reference_inverse,
                          .run = run_inverse,
                          .samples = samples_inverse};

}  // namespace thimble
