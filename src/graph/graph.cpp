#include "graph/graph.h"

#include <xxhash.h>

#include <algorithm>
#include <cstring>
#include <set>

#include "graph/op.h"

namespace thimble {

// Written from tables of whole numbers, over themselves too (Initial).
const Codec kI32 = {.name = "i32",
                    .description = "32-bit integer",
                    .block = 1,
                    .block_bytes = 4,
                    .safetensors = "I32",
                    .encode = [](const float* from, std::byte* to, int64_t count) noexcept {
                      for (int64_t i = 0; i < count; ++i) {
                        const auto number = static_cast<int32_t>(from[i]);
                        std::memcpy(to + 4 * i, &number, 4);
                      }
                    }};

std::string Initial::text() const {
  switch (kind) {
    case Kind::none:
      return "";
    case Kind::constant:
      return fmt::format("constant {}", number);
    case Kind::uniform:
      return fmt::format("uniform {}{}{}", number, content.empty() ? "" : " as ", content);
    case Kind::normal:
      return fmt::format("normal {}{}{}", number, content.empty() ? "" : " as ", content);
    case Kind::table:
      return content;
  }
  return "";
}

Aliases aliases(const Node& node) {
  Aliases out;
  const auto add = [&](const InPlace& pair) {
    const auto o = static_cast<size_t>(pair.out), i = static_cast<size_t>(pair.in);
    if (o < node.out.size() && i < node.in.size() && node.out[o] != kNone && node.in[i] != kNone) out.add(pair);
  };
  const int overwritten = node.op->overwrites ? node.op->overwrites(node.attributes) : 0;
  for (int i = 0; i < overwritten; ++i) add({i, i, true});
  for (const InPlace& pair : node.op->in_place) add(pair);
  return out;
}

ValueId Graph::latest(ValueId id) const {
  for (const Node& node : nodes_)
    for (const InPlace& pair : aliases(node))
      if (pair.destructive && node.in[static_cast<size_t>(pair.in)] == id) id = node.out[static_cast<size_t>(pair.out)];
  return id;
}

ValueId Graph::add_value(std::string name, const Type& type, Role role, Initial initial) {
  values_.push_back({std::move(name), type, role, std::move(initial)});
  producers_.push_back(-1);
  return static_cast<ValueId>(values_.size() - 1);
}

ValueId Graph::constant(std::string name, const Type& type, Initial initial) {
  if (const ValueId there = find(name); there != kNone) {
    const Value& found = value(there);
    if (found.role == Role::constant && found.type == type && found.initial.kind == initial.kind &&
        found.initial.text() == initial.text())
      return there;
  }
  return add_value(std::move(name), type, Role::constant, std::move(initial));
}

std::vector<Type> Graph::types(std::span<const ValueId> ids) const {
  std::vector<Type> out;
  for (ValueId id : ids) out.push_back(id == kNone ? Type{.codec = nullptr} : value(id).type);
  return out;
}

std::vector<ValueId> Graph::emit_all(const Op& op, std::any attributes, std::vector<ValueId> in, std::string name,
                                     std::span<const bool> wanted) {
  const auto inferred = op.infer(attributes, types(in));
  if (!inferred) {
    fmt::print(stderr, "internal error: {} '{}': {}\n", op.name, name, inferred.error().message);
    std::abort();
  }
  Node node{.op = &op, .attributes = std::move(attributes), .in = std::move(in), .phase = phase_, .block = block_};
  for (size_t i = 0; i < inferred->size(); ++i) {
    if (!wanted.empty() && !wanted[i]) {
      node.out.push_back(kNone);
      continue;
    }
    const ValueId id = add_value(i ? fmt::format("{}.{}", name, i) : name, (*inferred)[i], Role::activation);
    producers_.back() = static_cast<int>(nodes_.size());
    node.out.push_back(id);
  }
  std::vector<ValueId> out = node.out;
  nodes_.push_back(std::move(node));
  return out;
}

ValueId Graph::emit(const Op& op, std::any attributes, std::vector<ValueId> in, std::string name,
                    std::span<const bool> wanted) {
  return emit_all(op, std::move(attributes), std::move(in), std::move(name), wanted)[0];
}

ValueId Graph::find(std::string_view name) const {
  for (size_t i = 0; i < values_.size(); ++i)
    if (values_[i].name == name) return static_cast<ValueId>(i);
  return kNone;
}

std::vector<char> Graph::prune() {
  std::vector<char> used(values_.size(), 0);
  std::vector<char> kept(nodes_.size(), 0);
  for (size_t i = nodes_.size(); i-- > 0;) {
    const Node& node = nodes_[i];
    for (ValueId id : node.out)
      if (id != kNone && (used[static_cast<size_t>(id)] || persistent(value(id).role))) kept[i] = 1;
    // A node that overwrites an operand is kept for that.
    for (const InPlace& pair : aliases(node))
      if (pair.destructive) kept[i] = 1;
    if (!kept[i]) continue;
    for (ValueId id : node.in)
      if (id != kNone) used[static_cast<size_t>(id)] = 1;
  }
  std::vector<Node> nodes;
  producers_.assign(values_.size(), -1);
  for (size_t i = 0; i < nodes_.size(); ++i) {
    if (!kept[i]) continue;
    for (ValueId id : nodes_[i].out)
      if (id != kNone) producers_[static_cast<size_t>(id)] = static_cast<int>(nodes.size());
    nodes.push_back(std::move(nodes_[i]));
  }
  nodes_ = std::move(nodes);
  return kept;
}

void Graph::reorder(std::span<const size_t> order) {
  std::vector<Node> nodes;
  for (size_t index : order) nodes.push_back(std::move(nodes_[index]));
  nodes_ = std::move(nodes);
  for (size_t i = 0; i < nodes_.size(); ++i)
    for (ValueId id : nodes_[i].out)
      if (id != kNone) producers_[static_cast<size_t>(id)] = static_cast<int>(i);
}

namespace {

std::string text_of(const Type& type) {
  return fmt::format("{}{}{}", type.codec->name, type.shape.text(), type.extent == Extent::fixed ? "" : "*");
}

// As text_of, without the number of rows where that may differ.
std::string symbolic(const Type& type) {
  if (type.extent == Extent::fixed) return text_of(type);
  return fmt::format("{}{}{}", type.codec->name, type.extent == Extent::tokens ? "tokens" : "selected",
                     type.shape.with_first(0).text());
}

uint64_t hashed(std::string_view text) { return XXH3_64bits(text.data(), text.size()); }

bool spares(const Op& op, size_t operand) {
  return std::find(op.spares.begin(), op.spares.end(), static_cast<int>(operand)) != op.spares.end();
}

}  // namespace

std::string Graph::text() const {
  std::string out;
  std::vector<int> number(values_.size(), -1);
  int next = 0;
  for (const Node& node : nodes_) {
    for (ValueId id : node.out) {
      if (id == kNone) continue;
      number[static_cast<size_t>(id)] = next++;
      out += fmt::format("%{} {} {} ", number[static_cast<size_t>(id)], text_of(value(id).type), value(id).name);
    }
    out += fmt::format("= {}(", node.op->name);
    for (size_t i = 0; i < node.in.size(); ++i) {
      const ValueId id = node.in[i];
      out += i ? ", " : "";
      out += id == kNone        ? "-"
             : producer(id) < 0 ? fmt::format("{} {}", value(id).name, text_of(value(id).type))
                                : fmt::format("%{}", number[static_cast<size_t>(id)]);
    }
    out += ")";
    if (node.op->text) out += " " + node.op->text(node.attributes);
    out += "\n";
  }
  return out;
}

// A value is what made it: each hash covers those of the operands. What counts are the nodes that leave something
// behind: results, and values that were overwritten.
uint64_t Graph::numerics_hash() const {
  std::vector<uint64_t> of_value(values_.size(), 0), effects;
  for (size_t i = 0; i < values_.size(); ++i)
    if (producers_[i] < 0)
      of_value[i] = hashed(fmt::format("{} {} {} {}", static_cast<int>(values_[i].role), values_[i].name,
                                       symbolic(values_[i].type), values_[i].initial.text()));
  for (const Node& node : nodes_) {
    std::string text = fmt::format("{}{}", node.op->name, node.op->text ? node.op->text(node.attributes) : "");
    for (size_t i = 0; i < node.in.size(); ++i)
      if (!spares(*node.op, i))
        text += fmt::format(" {:x}", node.in[i] == kNone ? 0 : of_value[static_cast<size_t>(node.in[i])]);
    const uint64_t of_node = hashed(text);
    bool effect = false;
    for (size_t i = 0; i < node.out.size(); ++i) {
      if (node.out[i] == kNone) continue;
      const Value& value = this->value(node.out[i]);
      // Its shape follows from what was hashed, and may be of the rows of a pass by a rule of the operation's own.
      of_value[static_cast<size_t>(node.out[i])] =
          hashed(fmt::format("{:x} {} {}", of_node, i, value.type.codec->name));
      effect |= persistent(value.role);
    }
    for (const InPlace& pair : aliases(node)) effect |= pair.destructive;
    if (effect) effects.push_back(of_node);
  }
  std::sort(effects.begin(), effects.end());
  return XXH3_64bits(effects.data(), effects.size() * sizeof(uint64_t));
}

namespace {

bool may_be_overwritten(Role role) { return role != Role::input && role != Role::constant && role != Role::weight; }

Result<void> verify_names(const Graph& graph) {
  std::set<std::string_view> names;
  for (const Value& value : graph.values())
    if (persistent(value.role) && !names.insert(value.name).second)
      return fail(ErrorCode::invalid_argument, "graph: two persistent values are named '{}'", value.name);
  return {};
}

}  // namespace

Result<void> Graph::verify() const {
  CHECK_OK(verify_names(*this));
  std::vector<const Node*> overwritten(values_.size(), nullptr);
  std::vector<char> defined(values_.size(), 0);
  for (size_t i = 0; i < values_.size(); ++i) defined[i] = producers_[i] < 0;
  for (const Node& node : nodes_) {
    if (node.attributes.has_value() && !node.op->text)
      return fail(ErrorCode::invalid_argument, "graph: {} has attributes without a text, which no hash would cover",
                  node.op->name);
    for (ValueId id : node.in) {
      if (id == kNone) continue;
      if (!defined[static_cast<size_t>(id)])
        return fail(ErrorCode::invalid_argument, "graph: '{}' is used by {} before it is made", value(id).name,
                    node.op->name);
      if (const Node* const by = overwritten[static_cast<size_t>(id)])
        return fail(ErrorCode::invalid_argument, "graph: '{}' is read by {} after {} has overwritten it",
                    value(id).name, node.op->name, by->op->name);
    }
    const auto inferred = TRY(node.op->infer(node.attributes, types(node.in)));
    for (size_t i = 0; i < node.out.size(); ++i) {
      if (node.out[i] == kNone) continue;
      defined[static_cast<size_t>(node.out[i])] = 1;
      if (!(inferred[i] == value(node.out[i]).type))
        return fail(ErrorCode::shape, "graph: '{}' is not of the type that {} makes", value(node.out[i]).name,
                    node.op->name);
    }
    for (const InPlace& pair : aliases(node)) {
      if (!pair.destructive) continue;
      const ValueId id = node.in[static_cast<size_t>(pair.in)];
      if (!may_be_overwritten(value(id).role))
        return fail(ErrorCode::invalid_argument, "graph: {} would overwrite '{}', which is read only", node.op->name,
                    value(id).name);
      overwritten[static_cast<size_t>(id)] = &node;
    }
  }
  return {};
}

}  // namespace thimble
