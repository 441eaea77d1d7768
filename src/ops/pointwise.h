// Pointwise expressions, fused into one pass over memory: each block is decoded, computed in f32 and encoded again.
//
//   PointwiseBuilder b;
//   Expr p = b.tensor(), m = b.tensor(), g = b.tensor(), lr = b.scalar();
//   b.store(p, p - lr * sign(m));      // over operand 0
//   b.output(m * b.row(), &kBf16);     // a new value
//
// Each operand is asked for in a declaration of its own: in b.tensor() * b.row() C++ does not say which comes first.
// Operands are those of the node in the order in which the builder was asked for them: tensors of the node's shape,
// rows [columns] and columns [rows] that are broadcast over it, scalars [1]. The node's shape is that of its tensors,
// or what shape() says: rows and columns are then broadcast over that, and tensors may have their elements in other
// rows. Without it, a tensor may also lie flat, as [rows * columns].
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "graph/graph.h"

namespace thimble {

struct PointwiseAttributes {
  enum class Kind : uint8_t {
    tensor,  // operands
    row,
    column,
    scalar,
    constant,
    uniform_noise,  // of (seed, stream, step, element)
    normal_noise,
    add,
    subtract,
    multiply,
    divide,
    minimum,
    maximum,
    power,
    greater,
    square_root,
    absolute,
    sign,
    exponential,
    floor,
    logarithm,
    tanh,
    cosine
  };
  struct Instruction {
    Kind kind;
    int a = -1, b = -1;  // registers; of operands: a is which
    double value = 0;    // of a constant; of noise, steps for which it stays the same
    uint64_t stream = 0;
    bool uniform = false;  // the same for all elements: computed once, in double
    bool operator==(const Instruction&) const = default;
  };
  struct Output {
    int value;           // register
    const Codec* codec;  // nullptr: over the operand of the same number
    uint64_t stream;     // not 0: rounded to bf16 up or down by chance, so that the mean is the value
    bool operator==(const Output&) const = default;
  };
  std::vector<Instruction> code;  // instruction i writes register i
  std::vector<Output> outputs;
  int operands = 0;
  Shape shape;          // rank 0: that of the tensors; without a first extent (0): as many as their elements come to
  bool tokens = false;  // rows are tokens: noise is keyed by their number in the step
  bool operator==(const PointwiseAttributes&) const = default;
};

class PointwiseBuilder;

struct Expr {
  PointwiseBuilder* builder;
  int id;
};

class PointwiseBuilder {
 public:
  Expr tensor() { return operand(PointwiseAttributes::Kind::tensor); }
  Expr row() { return operand(PointwiseAttributes::Kind::row); }        // [columns]: the same for every row
  Expr column() { return operand(PointwiseAttributes::Kind::column); }  // [rows]: one number a row
  Expr scalar() { return operand(PointwiseAttributes::Kind::scalar); }  // f32 [1]
  Expr operand(PointwiseAttributes::Kind kind);
  Expr constant(double value);
  // Uniform in [0, 1), and standard normal; drawn anew every `period` steps.
  Expr uniform_noise(uint64_t stream, int64_t period = 1);
  Expr normal_noise(uint64_t stream, int64_t period = 1);
  Expr apply(PointwiseAttributes::Kind kind, Expr a, Expr b);
  Expr apply(PointwiseAttributes::Kind kind, Expr a);

  // Output k, for the k-th call, lies over operand k, which `target` must be.
  void store(Expr target, Expr value, uint64_t stream = 0);
  // A new value; after all stores.
  void output(Expr value, const Codec* codec = &kF32);
  void shape(const Shape& shape) { attributes_.shape = shape; }
  void of_tokens() { attributes_.tokens = true; }
  const PointwiseAttributes& attributes() const { return attributes_; }

 private:
  friend class PointwiseGradient;
  friend class PointwiseTangent;
  Expr push(PointwiseAttributes::Instruction instruction);
  PointwiseAttributes attributes_;
};

inline Expr lift(Expr like, double value) { return like.builder->constant(value); }

#define THIMBLE_EXPR(name, kind)                                                                       \
  inline Expr name(Expr a, Expr b) { return a.builder->apply(PointwiseAttributes::Kind::kind, a, b); } \
  inline Expr name(Expr a, double b) { return name(a, lift(a, b)); }                                   \
  inline Expr name(double a, Expr b) { return name(lift(b, a), b); }
THIMBLE_EXPR(operator+, add)
THIMBLE_EXPR(operator-, subtract)
THIMBLE_EXPR(operator*, multiply)
THIMBLE_EXPR(operator/, divide)
THIMBLE_EXPR(min, minimum)
THIMBLE_EXPR(max, maximum)
THIMBLE_EXPR(pow, power)
THIMBLE_EXPR(greater, greater)  // 1 where a > b, else 0
#undef THIMBLE_EXPR
inline Expr sqrt(Expr a) { return a.builder->apply(PointwiseAttributes::Kind::square_root, a); }
inline Expr abs(Expr a) { return a.builder->apply(PointwiseAttributes::Kind::absolute, a); }
inline Expr sign(Expr a) { return a.builder->apply(PointwiseAttributes::Kind::sign, a); }
inline Expr floor(Expr a) { return a.builder->apply(PointwiseAttributes::Kind::floor, a); }
inline Expr exp(Expr a) { return a.builder->apply(PointwiseAttributes::Kind::exponential, a); }
inline Expr log(Expr a) { return a.builder->apply(PointwiseAttributes::Kind::logarithm, a); }
inline Expr cos(Expr a) { return a.builder->apply(PointwiseAttributes::Kind::cosine, a); }
inline Expr tanh(Expr a) { return a.builder->apply(PointwiseAttributes::Kind::tanh, a); }
// No power overflows in it, nor in its derivative.
inline Expr sigmoid(Expr a) { return 0.5 + 0.5 * tanh(0.5 * a); }
// x where the condition is 1, y where it is 0; both must be finite.
inline Expr select(Expr condition, Expr x, Expr y) { return condition * x + (1 - condition) * y; }

}  // namespace thimble
