// reversible: no activation within a block waits; the block's inputs are recovered from its outputs, and what it made
// of them is recomputed. Only what comes out of the last block waits.
//
//   Paper     Gomez et al. 2017 (RevNet), arXiv:1707.04585, section 3.2 and algorithm 1; Jacobsen et al. 2018
//             (i-RevNet), arXiv:1802.07088
//   Equation  y = scale x + by f + cross c, so x = (y - by f - cross c) / scale, where f is recomputed from what is
//             recovered already: of two streams in turn (ops/couple.h)
//   Keeps     the streams behind the last block, [rows, width] f32 and their low parts, whatever the number of blocks
//   Choice    it is for every graph whose blocks couple streams, and asks no method or model. Gradients are those of
//             activations that are kept, but for what the inverse loses: each division by `scale` some digits of 96
//             bits
#include <algorithm>

#include "graph/op.h"
#include "methods/keeper.h"
#include "ops/couple.h"

namespace thimble {
namespace {

class BlockScope {
 public:
  BlockScope(Graph& graph, int block) : graph_(graph), before_(graph.block()) { graph.set_block(block); }
  ~BlockScope() { graph_.set_block(before_); }

 private:
  Graph& graph_;
  const int before_;
};

// The last coupling of the forward pass that `is` is true for; -1: there is none. The functions of others before it are
// made of what it gives back.
template <class Is>
int last_coupling(const Graph& graph, Is is) {
  for (size_t i = graph.nodes().size(); i-- > 0;)
    if (const Node& node = graph.nodes()[i]; node.op == &kCouple && node.phase == Phase::forward && is(node))
      return static_cast<int>(i);
  return -1;
}

bool couples(const Graph& graph, int block) {
  return last_coupling(graph, [&](const Node& node) { return node.block == block; }) >= 0;
}

bool overwrites(const Node& node) {
  const Aliases all = aliases(node);
  return std::any_of(all.begin(), all.end(), [](const InPlace& pair) { return pair.destructive; });
}

ValueId restored(Keeping& k, ValueId value);

std::vector<ValueId> restored(Keeping& k, std::span<const ValueId> values) {
  std::vector<ValueId> out;
  for (const ValueId value : values) out.push_back(restored(k, value));
  return out;
}

// Result `which` of the node whose first result this is.
ValueId result_of(const Graph& graph, ValueId first, size_t which) {
  return graph.nodes()[static_cast<size_t>(graph.producer(first))].out[which];
}

// What a coupling took up, from what it became.
ValueId from_behind(Keeping& k, int coupling, ValueId value) {
  Graph& g = k.graph();
  const Node node = g.nodes()[static_cast<size_t>(coupling)];  // a copy: emitting moves the nodes
  const BlockScope scope(g, node.block);
  const ValueId high = k.once("restored", node.in[CoupleAttributes::kX], [&] {
    std::vector<ValueId> in = restored(k, node.out);
    for (const size_t i : {CoupleAttributes::kF, CoupleAttributes::kC, CoupleAttributes::kCLow})
      in.push_back(restored(k, node.in[i]));
    const bool wanted[] = {true, node.in[CoupleAttributes::kLow] != kNone};
    return g.emit(kCouple, node.as<CoupleAttributes>().inverse(), in, k.name(node.in[CoupleAttributes::kX]), wanted);
  });
  return value == node.in[CoupleAttributes::kX] ? high : result_of(g, high, 1);
}

ValueId recomputed(Keeping& k, const Node& node, ValueId value) {
  Graph& g = k.graph();
  const BlockScope scope(g, node.block);
  const auto present = std::ranges::find_if(node.out, [](ValueId id) { return id != kNone; });
  const auto first = static_cast<size_t>(present - node.out.begin());
  const ValueId made = k.once("restored", *present, [&] {
    const std::vector<ValueId> in = restored(k, node.in);
    bool wanted[16] = {};
    for (size_t i = 0; i < node.out.size(); ++i) wanted[i] = node.out[i] != kNone;
    return g.emit_all(*node.op, node.attributes, in, k.name(*present), {wanted, node.out.size()})[first];
  });
  return result_of(g, made, static_cast<size_t>(std::ranges::find(node.out, value) - node.out.begin()));
}

// A value of the forward pass as the backward pass has it: itself where it waits.
ValueId restored(Keeping& k, ValueId value) {
  Graph& g = k.graph();
  const int producer = value == kNone ? -1 : g.producer(value);
  if (producer < 0) return value;
  const int coupling = last_coupling(g, [&](const Node& node) {
    return node.in[CoupleAttributes::kX] == value || node.in[CoupleAttributes::kLow] == value;
  });
  if (coupling >= 0) return from_behind(k, coupling, value);
  const Node node = g.nodes()[static_cast<size_t>(producer)];
  const bool again = node.block >= 0 && node.op != &kCouple && node.out.size() <= 16 && !overwrites(node);
  return again && couples(g, node.block) ? recomputed(k, node, value) : value;
}

// All that a block took up is recovered when the first of its values is asked for, while what that is made of is there.
void restore_block(Keeping& k, int block) {
  const Graph& g = k.graph();
  std::vector<std::pair<int, ValueId>> taken;
  for (size_t i = 0; i < g.nodes().size() && g.nodes()[i].phase == Phase::forward; ++i) {
    const Node& node = g.nodes()[i];
    if (node.block == block && node.op == &kCouple)
      taken.emplace_back(static_cast<int>(i), node.in[CoupleAttributes::kX]);
  }
  for (; !taken.empty(); taken.pop_back()) restored(k, taken.back().second);
}

ValueId saved(Keeping& k, ValueId value) {
  const Graph& g = k.graph();
  if (!couples(g, k.block())) return value;
  k.keeps();
  restore_block(k, k.block());
  return restored(k, value);
}

}  // namespace

const Keeper kReversible = {.name = "reversible",
                            .summary = "what blocks made is recovered from what came out of the last one (meft)",
                            .paper = "Gomez et al. 2017 (RevNet, arXiv:1707.04585)",
                            .saved = saved,
                            .any_value = true};

}  // namespace thimble
