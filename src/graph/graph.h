// A program as a graph: typed values in single assignment, and coarse operations on them in execution order.
#pragma once

#include <any>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "codecs/codec.h"
#include "core/result.h"
#include "core/shape.h"

namespace thimble {

struct Op;

// Row indices, token ids: 32-bit integers, not a codec of the table.
extern const Codec kI32;

using ValueId = int32_t;
constexpr ValueId kNone = -1;  // an optional operand that is absent

// What the first extent of a value counts. All but `fixed` may be smaller at run time; the shape holds the bound.
enum class Extent : uint8_t { fixed, tokens, selected };

struct Type {
  Shape shape;
  const Codec* codec = &kF32;
  Extent extent = Extent::fixed;
  int64_t bytes() const { return codec->bytes(shape.count()); }
  bool operator==(const Type&) const = default;
};

enum class Role {
  input,       // written by the host before a run
  constant,    // written by the host once
  weight,      // frozen
  parameter,   // trained: the f32 master
  gradient,    // of a parameter, f32, zero at the start of a step
  state,       // of an optimizer, of a cache
  activation,  // made and consumed within a run
  result,      // read by the host after a run
};

// Values of these roles outlive a run and are shared by name between programs.
constexpr bool persistent(Role role) { return role != Role::activation; }

enum class Phase { forward, backward, update };

struct Value {
  std::string name;
  Type type;
  Role role = Role::activation;
};

struct Node {
  const Op* op = nullptr;
  std::any attributes;
  std::vector<ValueId> in;
  std::vector<ValueId> out;  // kNone: not asked for
  Phase phase = Phase::forward;
  int block = -1;  // which repeated block of the model it belongs to; -1: none

  template <class A>
  const A& as() const {
    return *std::any_cast<A>(&attributes);
  }
};

class Graph {
 public:
  ValueId add_value(std::string name, const Type& type, Role role);
  // Checks operands and derives the types of the outputs by the operation's shape rule; output i gets the name
  // `name` (plus ".i" after the first). wanted[i] = false leaves output i out.
  ValueId emit(const Op& op, std::any attributes, std::vector<ValueId> in, std::string name,
               std::span<const bool> wanted = {});
  // As emit; returns all outputs.
  std::vector<ValueId> emit_all(const Op& op, std::any attributes, std::vector<ValueId> in, std::string name,
                                std::span<const bool> wanted = {});

  const std::vector<Value>& values() const { return values_; }
  const std::vector<Node>& nodes() const { return nodes_; }
  Value& value(ValueId id) { return values_[static_cast<size_t>(id)]; }
  const Value& value(ValueId id) const { return values_[static_cast<size_t>(id)]; }
  ValueId find(std::string_view name) const;  // kNone when absent
  // Index of the node that makes a value, or -1.
  int producer(ValueId id) const { return producers_[static_cast<size_t>(id)]; }
  std::vector<Type> types(std::span<const ValueId> ids) const;
  // The first node of this operation that has the value as operand `index`; nullptr: there is none.
  const Node* user(const Op& op, size_t index, ValueId id) const;

  // Where emitted nodes belong.
  void set_phase(Phase phase) { phase_ = phase; }
  void set_block(int block) { block_ = block; }
  Phase phase() const { return phase_; }

  // Removes nodes of which no output is a result, persistent, or used.
  void prune();
  // Puts the nodes in this order; every value must still be made before it is used.
  void reorder(std::span<const size_t> order);
  // One line a node: "%12 bf16[512, 576] x.3 = linear(%4, %5) ...". Stable; the numerics' hash is taken over it.
  std::string text() const;
  // Every operand defined before its use, types equal to what the shape rules derive, names unique.
  Result<void> verify() const;

 private:
  std::vector<Value> values_;
  std::vector<int> producers_;
  std::vector<Node> nodes_;
  Phase phase_ = Phase::forward;
  int block_ = -1;
};

}  // namespace thimble
