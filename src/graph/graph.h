// A program as a graph: typed values in single assignment, and coarse operations on them in execution order.
#pragma once

#include <any>
#include <cstdint>
#include <functional>
#include <memory>
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
  // Every row begins a block of its own, so that kernels may take rows apart.
  int64_t bytes() const { return shape.rows() * codec->bytes(shape.columns()); }
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

// What a persistent value holds before anything is loaded into it. Random numbers are keyed by the run's seed and the
// value's name, element by element.
struct Initial {
  enum class Kind : uint8_t {
    none,      // whoever owns the value writes it before it is read
    constant,  // `number`
    uniform,   // in [-number, number)
    normal,    // mean 0, standard deviation `number`
    table      // by `fill`
  };
  // Writes elements [first, first + count) of the value.
  using Fill = std::function<void(int64_t first, int64_t count, float* to)>;

  Kind kind = Kind::none;
  float number = 0;
  std::shared_ptr<const Fill> fill = nullptr;
  std::string content = {};  // of a table: what tells it from others, for the hash; of random numbers: another's name

  static Initial constant(float number) { return {Kind::constant, number}; }
  static Initial uniform(float bound) { return {Kind::uniform, bound}; }
  static Initial normal(float deviation) { return {Kind::normal, deviation}; }
  static Initial table(Fill fill, std::string content) {
    return {Kind::table, 0, std::make_shared<const Fill>(std::move(fill)), std::move(content)};
  }
  std::string text() const;  // "uniform 0.125"
};

struct Value {
  std::string name;
  Type type;
  Role role = Role::activation;
  Initial initial = {};
};

struct Node {
  const Op* op = nullptr;
  std::any attributes;
  std::vector<ValueId> in;
  std::vector<ValueId> out;  // kNone: not asked for
  Phase phase = Phase::forward;
  int block = -1;          // which repeated block of the model it belongs to; -1: none
  bool last_pass = false;  // of the passes of a step: in the others nobody reads what it makes

  template <class A>
  const A& as() const {
    return *std::any_cast<A>(&attributes);
  }
};

class Aliases;
// Which outputs of a node lie, or may lie, over which operands: those pairs of its operation of which both are there.
Aliases aliases(const Node& node);

class Graph {
 public:
  ValueId add_value(std::string name, const Type& type, Role role, Initial initial = {});
  // A constant of this name, type and content: the one that is there, so that all who want it share it, or a new one.
  ValueId constant(std::string name, const Type& type, Initial initial);
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
  // What a value has become where nodes write over it; itself where none does.
  ValueId latest(ValueId id) const;
  // Index of the node that makes a value, or -1.
  int producer(ValueId id) const { return producers_[static_cast<size_t>(id)]; }
  std::vector<Type> types(std::span<const ValueId> ids) const;

  // Where emitted nodes belong.
  void set_phase(Phase phase) { phase_ = phase; }
  void set_block(int block) { block_ = block; }
  Phase phase() const { return phase_; }
  int block() const { return block_; }

  // Says that only the last pass of a step needs a node.
  void in_last_pass(size_t node) { nodes_[node].last_pass = true; }
  // Removes nodes of which no output is a result, persistent, or used.
  std::vector<char> prune();  // by node: whether it was kept
  // Puts the nodes in this order; every value must still be made before it is used.
  void reorder(std::span<const size_t> order);
  // One line a node: "%12 bf16[512*, 576] x.3 = linear(%4, model.norm.weight f32[576]) {T}". Values are numbered in the
  // order in which nodes make them.
  std::string text() const;
  // Of what is computed: every operation with its attributes, types, and how values begin; not of the order of nodes
  // that do not depend on each other, of the names of activations, nor of how many tokens go at once. Operands that
  // only save recomputation (Op::spares) do not count.
  uint64_t numerics_hash() const;
  // Every operand is made before its use and not read after it was overwritten, types are what the shape rules derive,
  // persistent values have one maker and a name of their own.
  Result<void> verify() const;

 private:
  std::vector<Value> values_;
  std::vector<int> producers_;
  std::vector<Node> nodes_;
  Phase phase_ = Phase::forward;
  int block_ = -1;
};

}  // namespace thimble
