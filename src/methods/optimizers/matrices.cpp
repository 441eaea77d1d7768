#include "methods/optimizers/matrices.h"

#include "methods/optimizers/update_expr.h"
#include "ops/matrix.h"

namespace thimble {
namespace {

const Shape& shape_of(const Graph& g, ValueId id) { return g.value(id).type.shape; }

// x <- a x + (b A + c A A) x with A = x x^T; of a tall x the same from the right, with the smaller A = x^T x.
ValueId newton_schulz(Graph& g, ValueId x, const std::string& name) {
  constexpr double kA = 3.4445, kB = -4.7750, kC = 2.0315;
  const bool tall = shape_of(g, x)[0] > shape_of(g, x)[1];
  const ValueId gram = tall ? inner(g, x, x, name + ".gram") : product_transposed(g, x, x, name + ".gram");
  const ValueId square = product(g, gram, gram, name + ".square");
  ValueId polynomial = kNone, next = kNone;
  {
    Fused f(g, name + ".polynomial");
    const Expr a = f.tensor(gram), aa = f.tensor(square);
    f.output(polynomial, kB * a + kC * aa);
    f.emit();
  }
  const ValueId turned =
      tall ? product(g, x, polynomial, name + ".product") : product(g, polynomial, x, name + ".product");
  Fused f(g, name);
  const Expr before = f.tensor(x), added = f.tensor(turned);
  f.output(next, kA * before + added);
  f.emit();
  return next;
}

}  // namespace

ValueId product(Graph& g, ValueId x, ValueId w, const std::string& name) {
  return g.emit(kLinear, LinearAttributes{.terms = {{.transposed = false}}}, {x, w, kNone, kNone}, name);
}

ValueId product_transposed(Graph& g, ValueId x, ValueId w, const std::string& name) {
  return g.emit(kLinear, LinearAttributes{}, {x, w, kNone, kNone}, name);
}

ValueId inner(Graph& g, ValueId left, ValueId right, const std::string& name) {
  const ValueId zero =
      g.emit(kZeros, ZerosAttributes{{shape_of(g, left)[1], shape_of(g, right)[1]}}, {}, name + ".zero");
  return g.emit(kLinearDw, ScaleAttributes{}, {zero, left, right}, name);
}

ValueId orthonormal(Graph& g, ValueId x, const std::string& name) {
  const bool wanted[] = {true, false};
  return g.emit(kQr, {}, {x}, name, wanted);
}

ValueId eigenvectors(Graph& g, ValueId x, const std::string& name) {
  const bool wanted[] = {false, true};
  return g.emit_all(kEigh, {}, {x}, name, wanted)[1];
}

ValueId reduce(Graph& g, ValueId x, Reduce kind, ReduceOver over, const std::string& name) {
  return g.emit(kReduce, ReduceAttributes{kind, over}, {x}, name);
}

ValueId nearly_orthogonal(Graph& g, ValueId x, int iterations, const std::string& name) {
  const ValueId squares = squared_length(g, x, "length." + name);
  ValueId out = kNone;
  {
    Fused f(g, "unit." + name);
    const Expr whole = f.tensor(x), length = f.scalar(squares);
    f.output(out, whole / (sqrt(length) + 1e-7));
    f.emit();
  }
  for (int i = 0; i < iterations; ++i) out = newton_schulz(g, out, "orthogonal." + name);
  return out;
}

}  // namespace thimble
