#include "text/jinja/unset_names.h"

#include <algorithm>
#include <functional>
#include <map>
#include <set>

namespace thimble::jinja {
namespace {

enum class Origin : uint8_t { given, around, unset };

// Of one scope.
struct Symbols {
  const Symbols* parent = nullptr;
  std::map<NameId, Origin> origins;
  std::set<NameId> stored;

  bool knows(NameId name) const { return origins.contains(name) || (parent && parent->knows(name)); }
  void load(NameId name) {
    if (!knows(name)) origins[name] = Origin::given;
  }
  void store(NameId name) {
    stored.insert(name);
    if (!origins.contains(name)) origins[name] = parent && parent->knows(name) ? Origin::around : Origin::unset;
  }
  void declare(NameId name) {
    stored.insert(name);
    origins[name] = Origin::given;
  }
  // After branches of which one is taken: what some of them set is as it was before where it is not set.
  void join(const std::vector<Symbols>& branches) {
    std::set<NameId> set_within;
    for (const Symbols& branch : branches)
      for (const NameId name : branch.stored)
        if (!stored.contains(name)) set_within.insert(name);
    for (const Symbols& branch : branches) {
      for (const auto& [name, origin] : branch.origins) origins[name] = origin;
      stored.insert(branch.stored.begin(), branch.stored.end());
    }
    for (const NameId name : set_within) origins[name] = parent && parent->knows(name) ? Origin::around : Origin::given;
  }
};

class Finder {
 public:
  explicit Finder(Tree& tree) : tree_(tree) {}

  // A scope with `body`; `before` tells what is declared and read at its beginning.
  void scope(NodeId body, const Symbols* parent, const std::function<void(Symbols&)>& before = {}) {
    Symbols symbols{.parent = parent};
    std::vector<NodeId> within;
    std::swap(within, within_);
    if (before) before(symbols);
    if (body != 0) visit(body, symbols);
    std::swap(within, within_);
    std::vector<NameId> unset;
    for (const auto& [name, origin] : symbols.origins)
      if (origin == Origin::unset) unset.push_back(name);
    if (!unset.empty()) {
      tree_.nodes[body].index = static_cast<uint32_t>(tree_.unset.size());
      tree_.unset.push_back(std::move(unset));
    }
    for (const NodeId inner : within) scopes_of(inner, symbols);
  }

 private:
  const Node& node(NodeId id) const { return tree_.nodes[id]; }

  void visit_all(const Node& of, Symbols& symbols) {
    for (uint32_t i = 0; i < of.count; ++i) visit(tree_.children[of.first + i], symbols);
  }

  void visit_call(const CallSite& site, Symbols& symbols) {
    for (const NodeId value : site.values) visit(value, symbols);
    for (const auto& named : site.named) visit(named.second, symbols);
    visit(site.all_values, symbols);
    visit(site.all_named, symbols);
  }

  void target(NodeId id, Symbols& symbols, void (Symbols::*what)(NameId) = &Symbols::store) {
    const Node& to = node(id);
    if (to.kind == NodeKind::variable) return (symbols.*what)(to.name);
    if (to.kind == NodeKind::names_attribute) return symbols.load(to.name);
    for (uint32_t i = 0; i < to.count; ++i) target(tree_.children[to.first + i], symbols, what);
  }

  // The branches behind `elif` count as one, within which each may be taken or not.
  void condition(const Node& first, Symbols& symbols) {
    visit(first.a, symbols);
    const Symbols before = symbols;
    std::vector<Symbols> branches(3, before);
    visit(first.b, branches[0]);
    NodeId rest = first.c;
    for (; node(rest).kind == NodeKind::condition; rest = node(rest).c) {
      visit(node(rest).a, branches[1]);
      std::vector<Symbols> parts(3, branches[1]);
      visit(node(rest).b, parts[0]);
      branches[1].join(parts);
    }
    visit(rest, branches[2]);
    symbols.join(branches);
  }

  void visit(NodeId id, Symbols& symbols) {
    if (id == 0) return;
    const Node one = node(id);
    switch (one.kind) {
      case NodeKind::variable:
      case NodeKind::names_attribute:
        return symbols.load(one.name);
      case NodeKind::condition:
        return condition(one, symbols);
      case NodeKind::assign:
        visit(one.b, symbols);
        return target(one.a, symbols);
      case NodeKind::assign_block:
        target(one.a, symbols);
        break;
      case NodeKind::loop:
      case NodeKind::filter_block:
        visit(one.b, symbols);
        break;
      case NodeKind::macro:
        symbols.store(tree_.functions[one.index].name);
        break;
      case NodeKind::call_block:
      case NodeKind::autoescape:
        visit(one.a, symbols);
        break;
      case NodeKind::with:
        for (uint32_t i = 1; i < one.count; i += 2) visit(tree_.children[one.first + i], symbols);
        break;
      case NodeKind::scope:
      case NodeKind::generation:
        break;
      default:
        for (const NodeId part : {one.a, one.b, one.c}) visit(part, symbols);
        if (one.kind == NodeKind::call || one.kind == NodeKind::filter || one.kind == NodeKind::test)
          visit_call(tree_.calls[one.index], symbols);
        return visit_all(one, symbols);
    }
    within_.push_back(id);
  }

  // The scopes that a statement opens within the one that it stands in.
  void scopes_of(NodeId id, const Symbols& around) {
    const Node one = node(id);
    switch (one.kind) {
      case NodeKind::loop:
        scope(tree_.children[one.first], &around, [&](Symbols& s) { target(one.a, s, &Symbols::declare); });
        scope(0, &around, [&](Symbols& s) {
          target(one.a, s, &Symbols::declare);
          visit(one.c, s);
        });
        return scope(tree_.children[one.first + 1], &around);
      case NodeKind::macro:
      case NodeKind::call_block: {
        const Function& function = tree_.functions[one.index];
        return scope(function.body, &around, [&](Symbols& s) {
          for (const auto& parameter : function.parameters) s.declare(parameter.first);
          for (const auto& parameter : function.parameters) visit(parameter.second, s);
        });
      }
      case NodeKind::with:
        return scope(one.c, &around, [&](Symbols& s) {
          for (uint32_t i = 0; i < one.count; i += 2) target(tree_.children[one.first + i], s, &Symbols::declare);
        });
      case NodeKind::scope:
        return scope(one.c, one.what == What::next ? &around : nullptr);
      default:
        return scope(one.c, &around);
    }
  }

  Tree& tree_;
  std::vector<NodeId> within_;  // statements of the scope at hand that open others
};

}  // namespace

void find_unset_names(Tree& tree) {
  tree.unset.resize(1);
  Finder(tree).scope(tree.root, nullptr);
}

}  // namespace thimble::jinja
