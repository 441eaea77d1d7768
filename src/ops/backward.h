// Reverse-mode differentiation of a graph, ahead of time, for exactly what is wanted.
//
// Gradients are ordinary nodes appended to the graph. What is wanted are leaves: values without a producer, whose
// gradients accumulate over the passes of a step. A value on the way to one (an activation, or a weight that is
// computed from parameters) has a gradient of one pass. Contributions to one activation's gradient that are matrix
// products are gathered into `linear` nodes of up to 16 terms, each rounded once.
#pragma once

#include <any>
#include <functional>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "core/result.h"
#include "graph/graph.h"

namespace thimble {

// One product of a gathered gradient: x W (or x W^T when transposed), times scale.
struct ProductTerm {
  ValueId x;
  ValueId w;
  bool transposed;
  float scale;
};

// One loss over a table of the vocabulary: the operation that adds its gradient to an accumulator, with its operands
// behind that. Of those kIds and kDy are free for a look-up in the same table, which it adds too.
struct HeadUse {
  static constexpr size_t kIds = 5, kDy = 6;
  const Op* op;
  std::any attributes;
  std::vector<ValueId> in;
};

class Backward {
 public:
  // wanted: leaves whose gradients are asked for, in no particular order.
  Backward(Graph& graph, std::span<const ValueId> wanted);

  // What waits for the backward pass in place of what the forward pass made.
  struct Kept {
    // What a gradient reads for a value of the forward pass that it asks for; the value itself where nothing waits in
    // its place.
    std::function<ValueId(ValueId value)> saved;
    // Emits the gradient of a node out of other values than its operation's gradient reads. False: nothing was emitted,
    // and the operation's own gradient is taken.
    std::function<Result<bool>(const Node& node)> gradient;
  };
  void keep_by(Kept kept) { kept_ = std::move(kept); }

  // Walks back from `losses` (sums that are minimised as they are, of operations that carry their own scale) and from
  // every value that add() was called for before. An error where a gradient meets an operation that has none, or where
  // nothing that is wanted is reached. May be called again for nodes that were appended since: it walks back to where
  // it was called before, and gradients of leaves go on adding up; an error where one would pass beyond that.
  Result<void> run(std::span<const ValueId> losses);
  // Whether a value that may have been appended since depends on something wanted.
  bool reaches(ValueId value);

  Graph& graph() { return graph_; }
  // Whether the gradient of this value is needed: something wanted leads to it. False for values that the backward pass
  // itself has made.
  bool wanted(ValueId id) const {
    return id != kNone && static_cast<size_t>(id) < wanted_.size() && wanted_[static_cast<size_t>(id)];
  }
  bool is_loss(ValueId id) const;
  // What a gradient reads of the forward pass.
  ValueId saved(ValueId id) { return id == kNone || !kept_.saved ? id : kept_.saved(id); }
  // The node of the forward pass that is being differentiated; nullptr outside of run().
  const Node* reader() const { return reader_; }

  // The gradient that has been gathered for an output of the node being differentiated; kNone: it is not used.
  ValueId gradient_of(ValueId output) { return output == kNone ? kNone : emit_gathered(output); }
  // Adds to the gradient of a value. Of a leaf all that was added is accumulated when its last reader has been
  // differentiated.
  void add(ValueId value, ValueId contribution);
  void add_product(ValueId value, const ProductTerm& term);
  // Adds what an operation makes whose first operand is an f32 accumulator of the value's shape, which it overwrites
  // with the sum; `in` are its other operands.
  void accumulate(ValueId value, const Op& op, std::any attributes, std::vector<ValueId> in, std::string_view suffix);
  // The same for tables of the vocabulary, whose uses are added together when all readers have been differentiated.
  void accumulate_lookup(ValueId table, const Node& embedding, ValueId dy);
  void accumulate_head(ValueId table, const HeadUse& use);
  // Name for the gradient of a value.
  std::string name(ValueId value) const { return "d." + graph_.value(value).name; }

  struct LeafGradient {
    ValueId parameter;
    ValueId first;  // of role gradient
    ValueId last;   // the final version
  };
  // Of what was reached, in the order in which it was.
  const std::vector<LeafGradient>& leaves() const { return leaves_; }
  // Whether sums over tokens were made that another pass does not add to: a pass must then hold all tokens of a
  // micro-batch, lest their bits depend on where it is cut.
  bool sums_within_pass() const { return sums_within_pass_; }

 private:
  struct Gathered {
    std::vector<ProductTerm> products;
    ValueId sum = kNone;
  };
  struct TableUses {
    int readers = 0;  // not yet differentiated
    std::vector<HeadUse> heads;
    struct Lookup {
      int64_t first;  // row of the table
      ValueId ids, dy;
    };
    std::vector<Lookup> lookups;
  };
  void see_appended();
  Result<void> check_all_passed_on() const;
  ValueId emit_gathered(ValueId value);
  ValueId accumulator(ValueId leaf);
  void emit_table(ValueId table, const TableUses& uses);
  void finish_leaf(ValueId leaf);
  Result<void> differentiate(const Node& node);

  Graph& graph_;
  size_t begin_ = 0, seen_ = 0;  // nodes that run() has dealt with, and that wanted_ and tables_ are of
  std::vector<char> wanted_;
  std::vector<ValueId> losses_;
  Kept kept_;
  const Node* reader_ = nullptr;
  std::map<ValueId, Gathered> gathered_;
  std::map<ValueId, TableUses> tables_;
  std::map<ValueId, size_t> index_;
  std::vector<LeafGradient> leaves_;
  bool sums_within_pass_ = false;
};

// All values of role parameter.
std::vector<ValueId> parameters_of(const Graph& graph);

}  // namespace thimble
