// The operation socket. One operation is one file in src/ops/ and one row of the table in ops/table.cpp.
#pragma once

#include <algorithm>
#include <any>
#include <array>
#include <cassert>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/threads.h"
#include "graph/graph.h"
#include "kernels/gemm.h"

namespace thimble {

class Backward;
class Tangents;

// One operand of a call. shape has the rows of this call.
struct Operand {
  std::byte* data = nullptr;  // nullptr: absent
  Shape shape;
  const Codec* codec = &kF32;

  explicit operator bool() const { return data != nullptr; }
  template <class T>
  T* as() const {
    return reinterpret_cast<T*>(data);
  }
  Matrix matrix() const { return {codec, data, shape.rows(), shape.columns(), 0}; }
};

// What is the same for all nodes of a run.
struct RunContext {
  Threads& threads;
  Multiply multiply = Multiply::f32;
  uint64_t seed = 0;
  uint64_t step = 0;       // optimizer steps done: random numbers are keyed by it
  uint64_t first_row = 0;  // rows of this step that came before: random numbers are keyed by the global row
  // The same of the update, which may be executed in the first pass of the next step: nodes of the update see it as
  // `step`.
  uint64_t update_step = 0;
};

// Elements of an elementwise call, where it is made part by part: operands of as many elements as the outputs begin
// with the first of them, though their shapes are whole.
struct Part {
  int64_t first = 0;
  int64_t count = -1;  // -1: all
};

struct Call {
  const std::any& attributes;
  std::span<const Operand> in;
  std::span<const Operand> out;
  std::span<std::byte> workspace;
  RunContext& run;
  Part part = {};

  template <class A>
  const A& as() const {
    return *std::any_cast<A>(&attributes);
  }
};

// The same in double, for the scalar reference.
struct ReferenceOperand {
  std::vector<double>* data = nullptr;  // nullptr: absent
  Shape shape;
  explicit operator bool() const { return data != nullptr; }
  double& operator[](int64_t i) const { return (*data)[static_cast<size_t>(i)]; }
};
struct ReferenceCall {
  const std::any& attributes;
  std::span<const ReferenceOperand> in;
  std::span<const ReferenceOperand> out;
  RunContext& run;

  template <class A>
  const A& as() const {
    return *std::any_cast<A>(&attributes);
  }
};

// What a matrix product is for: kernels reach different speeds with the shapes that come with it.
enum class ProductUse : uint8_t {
  forward,
  input_gradient,
  weight_gradient,
  narrow,
  head,
  head_gradient,
  attention,
  attention_gradient
};
// As `calibrate` shows them and its cache holds them.
constexpr std::string_view kProductUseNames[] = {"forward", "input gradient", "weight gradient", "narrow",
                                                 "head",    "head gradient",  "attention",       "attention gradient"};
constexpr size_t kProductUses = std::size(kProductUseNames);
static_assert(kProductUses == static_cast<size_t>(ProductUse::attention_gradient) + 1);
constexpr int64_t kNarrow = 32;  // extents from which on a product is no longer narrow (adapters of low rank)

struct Cost {
  std::array<double, kProductUses> flops = {};  // by what they are for
  double bytes = 0;                             // moved
  double decoded = 0;                           // elements of weights decoded from block codecs
  double encoded = 0;                           // elements written in block codecs
  double drawn = 0;                             // normal numbers drawn

  double& of(ProductUse use) { return flops[static_cast<size_t>(use)]; }
  bool multiplies() const {
    return std::any_of(flops.begin(), flops.end(), [](double f) { return f > 0; });
  }
};

// One example for the tests: attributes and operands (types; what integers hold). Gradients are tested for all operands
// that are neither integers nor fixed.
struct Sample {
  std::any attributes;
  std::vector<Type> in;
  std::vector<std::vector<int32_t>> integers = {};  // per operand; empty: random numbers
  std::vector<int> fixed = {};                      // operands that no gradient is asked for
  bool positive = false;                            // random numbers are above 0
};

// Output `out` may be written over input `in`, or always is: the operand is then no longer there for later nodes.
struct InPlace {
  int out = 0;
  int in = 0;
  bool destructive = false;
};

// Pairs of one node; they are asked for often, so that none are allocated.
class Aliases {
 public:
  static constexpr size_t kMost = 16;
  void add(const InPlace& pair) {
    assert(size_ < kMost);
    pairs_[size_++] = pair;
  }
  const InPlace* begin() const { return pairs_.data(); }
  const InPlace* end() const { return pairs_.data() + size_; }

 private:
  std::array<InPlace, kMost> pairs_;
  size_t size_ = 0;
};

struct Op {
  std::string_view name;
  // Infers the output types; a violated shape rule is a `shape` error naming the operand.
  Result<std::vector<Type>> (*infer)(const std::any& attributes, std::span<const Type> in);
  std::string (*text)(const std::any& attributes) = nullptr;
  // Emits what is wanted of the gradients of the node's inputs. nullptr: not differentiable.
  Result<void> (*gradient)(Backward& backward, const Node& node) = nullptr;
  // Emits the derivatives of the node's outputs along a direction, out of those of its inputs (ops/tangents.h).
  // nullptr: there is none.
  Result<void> (*tangent)(Tangents& tangents, const Node& node) = nullptr;
  int64_t (*workspace)(const std::any& attributes, std::span<const Type> in, std::span<const Type> out,
                       Multiply multiply, int threads) = nullptr;
  Cost (*cost)(const std::any& attributes, std::span<const Type> in, std::span<const Type> out);
  void (*reference)(const ReferenceCall& call);
  void (*run)(const Call& call) noexcept;  // all threads may be in it at once: Threads::together(), `alone`
  std::vector<Sample> (*samples)() = nullptr;
  std::span<const InPlace> in_place = {};
  // How many of the first outputs lie over the operands of the same numbers, where the attributes decide it.
  int (*overwrites)(const std::any& attributes) = nullptr;
  // Operands that hold what the operation would otherwise compute again: with or without them the bits are the same.
  std::span<const int> spares = {};
  // Every element of the outputs depends on the same element of those operands alone that have as many, in the same
  // shape or flat, and on the others as a whole: it may be run part by part (Part), cut between whole blocks.
  bool elementwise = false;
  // run() writes outside of calls of its threads too, or reads there what they have made: not in Threads::together().
  bool alone = false;
  // No gradient passes through it.
  bool detaches = false;
};

}  // namespace thimble
