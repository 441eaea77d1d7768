// linear_group: linears of few rows none of which needs another's result, run together: threads wake once for all of
// them, and what they read in common is prepared once. Each gives the bits it would give alone.
#include "graph/rewrite.h"
#include "kernels/dot/int8_dot.h"
#include "kernels/narrow.h"
#include "ops/experts.h"
#include "ops/linear_parts.h"
#include "ops/shape_rule.h"

namespace thimble {
namespace {

const LinearGroupAttributes& of(const std::any& attributes) {
  return *std::any_cast<LinearGroupAttributes>(&attributes);
}

// see(member's number, its attributes, its part of all operands).
template <class Operands, class See>
void each_member(const LinearGroupAttributes& group, std::span<Operands> in, See see) {
  size_t first = 0;
  for (size_t i = 0; i < group.members.size(); ++i) {
    const size_t count = 2 * group.members[i].terms.size() + 2;
    see(i, group.members[i], in.subspan(first, count));
    first += count;
  }
}

size_t terms_of(const LinearGroupAttributes& group) {
  size_t terms = 0;
  for (const LinearAttributes& member : group.members) terms += member.terms.size();
  return terms;
}

Result<std::vector<Type>> infer(const std::any& any, std::span<const Type> in) {
  const LinearGroupAttributes& group = of(any);
  const size_t terms = terms_of(group);
  if (terms == 0 || terms > kMostNarrowTerms)
    return fail(ErrorCode::shape, "linear_group: 1 to {} terms, found {}", kMostNarrowTerms, terms);
  CHECK_OK(expect_operands("linear_group", in, 2 * (terms + group.members.size())));
  std::vector<Type> out;
  Result<void> result;
  each_member(group, in, [&](size_t, const LinearAttributes& member, std::span<const Type> operands) {
    if (!result) return;
    auto types = kLinear.infer(member, operands);
    if (!types)
      result = Failure(std::move(types.error()));
    else if (!member.narrow || !(types->at(0).shape[0] == in[0].shape[0]))
      result = fail(ErrorCode::shape, "linear_group: all members are narrow and have as many rows");
    else
      out.push_back(types->at(0));
  });
  CHECK_OK(result);
  return out;
}

// A group's products and their terms, in memory of the stack.
struct Products {
  Term terms[kMostNarrowTerms];
  Product products[kMostNarrowTerms];
  size_t count = 0;

  Products(const LinearGroupAttributes& group, std::span<const Operand> in, std::span<const Operand> out) {
    Term* next = terms;
    each_member(group, in, [&](size_t i, const LinearAttributes& member, std::span<const Operand> operands) {
      products[count++] = describe_linear(member, operands, out[i], next);
      next += member.terms.size();
    });
  }
  std::span<const Product> all() const { return {products, count}; }
};

int64_t workspace(const std::any& attributes, std::span<const Type> in, std::span<const Type> out, Multiply multiply,
                  int threads) {
  const auto operands = [](std::span<const Type> types) {
    std::vector<Operand> all;
    for (const Type& type : types) all.push_back({nullptr, type.shape, type.codec});
    return all;
  };
  return narrow_workspace_bytes(multiply, Products(of(attributes), operands(in), operands(out)).all(), threads);
}

void run(const Call& call) noexcept {
  const Products products(call.as<LinearGroupAttributes>(), call.in, call.out);
  narrow(call.run.threads, call.run.multiply, products.all(), call.workspace);
}

[[gnu::cold]] void reference(const ReferenceCall& call) {
  each_member(call.as<LinearGroupAttributes>(), call.in,
              [&](size_t i, const LinearAttributes& member, std::span<const ReferenceOperand> operands) {
                const std::any attributes = member;
                kLinear.reference({attributes, operands, call.out.subspan(i, 1), call.run});
              });
}

Cost cost(const std::any& any, std::span<const Type> in, std::span<const Type> out) {
  Cost cost;
  each_member(of(any), in, [&](size_t i, const LinearAttributes& member, std::span<const Type> operands) {
    const Cost one = kLinear.cost(member, operands, out.subspan(i, 1));
    for (size_t use = 0; use < kProductUses; ++use) cost.flops[use] += one.flops[use];
    cost.bytes += one.bytes;
    cost.decoded += one.decoded;
  });
  return cost;
}

std::string text(const std::any& any) {
  std::string out;
  for (const LinearAttributes& member : of(any).members) out += kLinear.text(member);
  return out;
}

[[gnu::cold]] std::vector<Sample> samples() {
  const Type none{.codec = nullptr};
  const auto f = [](int64_t a, int64_t b) { return Type{{a, b}}; };
  const LinearAttributes plain{.narrow = true}, two{.terms = {{true, 1}, {true, 0.5}}, .narrow = true};
  return {{LinearGroupAttributes{{plain, two, plain}},
           {f(3, 50), f(37, 50), none, none, f(3, 50), f(5, 50), f(3, 7), f(5, 7), Type{{5}}, f(3, 5), f(3, 9),
            f(21, 9), none, f(3, 21)}}};
}

bool groups(const Node& node) { return node.op == &kLinear && node.as<LinearAttributes>().narrow; }

}  // namespace

Graph narrow_linears(const Graph& graph, const NarrowLinears& which) {
  GraphCopy copy = rewrite(graph, [&](GraphCopy& to, const Node& node) {
    if (node.op == &kExpertLinear && which.all) {
      ExpertLinearAttributes experts = node.as<ExpertLinearAttributes>();
      experts.narrow = experts.transposed;
      to.bind(node.out[0], to.graph().emit(kExpertLinear, experts, to.mapped(node.in), "narrow"));
      return true;
    }
    if (node.op != &kLinear) return false;
    LinearAttributes attributes = node.as<LinearAttributes>();
    const Type& weight = graph.value(node.in[1]).type;
    const bool transposed = std::ranges::all_of(attributes.terms, &LinearAttributes::Term::transposed);
    attributes.narrow = transposed && (which.all || (which.int8 && int8_format(*weight.codec, weight.shape[1])));
    if (!attributes.narrow) return false;
    std::vector<ValueId> in;
    for (ValueId id : node.in) in.push_back(to.map(id));
    to.bind(node.out[0], to.graph().emit(kLinear, attributes, in, "narrow"));
    return true;
  });
  return std::move(copy.graph());
}

Graph group_linears(const Graph& graph) {
  GraphCopy copy(graph);
  copy.copy_inputs();
  const std::vector<Node>& nodes = graph.nodes();
  std::vector<bool> done(nodes.size());
  const auto ready = [&](const Node& node) {
    return std::all_of(node.in.begin(), node.in.end(), [&](ValueId id) {
      return id == kNone || graph.producer(id) < 0 || done[static_cast<size_t>(graph.producer(id))];
    });
  };
  for (size_t i = 0; i < nodes.size(); ++i) {
    if (done[i]) continue;
    std::vector<size_t> members;
    size_t terms = 0;
    for (size_t j = i; j < nodes.size() && groups(nodes[i]) && nodes[j].block == nodes[i].block; ++j)
      if (!done[j] && groups(nodes[j]) && ready(nodes[j]) &&
          terms + nodes[j].as<LinearAttributes>().terms.size() <= kMostNarrowTerms) {
        members.push_back(j);
        terms += nodes[j].as<LinearAttributes>().terms.size();
      }
    copy.graph().set_phase(nodes[i].phase);
    copy.graph().set_block(nodes[i].block);
    if (members.size() < 2) {
      copy.copy(nodes[i]);
      done[i] = true;
      continue;
    }
    LinearGroupAttributes group;
    std::vector<ValueId> in;
    for (size_t member : members) {
      group.members.push_back(nodes[member].as<LinearAttributes>());
      for (ValueId id : nodes[member].in) in.push_back(copy.map(id));
      done[member] = true;
    }
    const std::vector<ValueId> out = copy.graph().emit_all(kLinearGroup, group, in, "group");
    for (size_t m = 0; m < members.size(); ++m) copy.bind(nodes[members[m]].out[0], out[m]);
  }
  return std::move(copy.graph());
}

const Op kLinearGroup = {.name = "linear_group",
                         .infer = infer,
                         .text = text,
                         .workspace = workspace,
                         .cost = cost,
                         .reference = reference,
                         .run = run,
                         .samples = samples};

}  // namespace thimble
