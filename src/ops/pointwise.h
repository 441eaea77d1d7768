// Pointwise expressions, fused into one pass over memory: each block is decoded, computed in f32 and encoded again.
//
//   PointwiseBuilder b;
//   Expr p = b.tensor(), m = b.tensor(), g = b.tensor(), lr = b.scalar();
//   b.store(p, p - lr * sign(m));      // stored tensors come first, in the order of their operands
#pragma once

#include <string>
#include <vector>

namespace thimble {

struct PointwiseAttributes {
  enum class Kind {
    tensor,
    scalar,
    constant,
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
    floor
  };
  struct Instruction {
    Kind kind;
    int a = -1, b = -1;  // registers; of tensor and scalar: the operand
    double value = 0;
    bool uniform = false;  // the same for all elements: computed once, in double
    bool operator==(const Instruction&) const = default;
  };
  std::vector<Instruction> code;  // instruction i writes register i
  std::vector<int> stores;        // output i, which lies over operand i, is this register
  int tensors = 0;                // operands 0 .. tensors - 1; scalars follow
  bool operator==(const PointwiseAttributes&) const = default;
};

class PointwiseBuilder;

struct Expr {
  PointwiseBuilder* builder;
  int id;
};

class PointwiseBuilder {
 public:
  // Operands in the order of the node's; all tensors before all scalars.
  Expr tensor();
  Expr scalar();
  Expr constant(double value);
  Expr apply(PointwiseAttributes::Kind kind, Expr a, Expr b);
  Expr apply(PointwiseAttributes::Kind kind, Expr a);
  // `target` is a tensor; the k-th call must store to the k-th tensor.
  void store(Expr target, Expr value);
  const PointwiseAttributes& attributes() const { return attributes_; }

 private:
  Expr push(PointwiseAttributes::Instruction instruction);
  PointwiseAttributes attributes_;
  int scalars_ = 0;
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

}  // namespace thimble
