#include "graph/graph.h"

#include <set>

#include "graph/op.h"

namespace thimble {

const Codec kI32 = {.name = "i32", .description = "32-bit integer", .block = 1, .block_bytes = 4, .safetensors = "I32"};

ValueId Graph::add_value(std::string name, const Type& type, Role role) {
  values_.push_back({std::move(name), type, role});
  producers_.push_back(-1);
  return static_cast<ValueId>(values_.size() - 1);
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

const Node* Graph::user(const Op& op, size_t index, ValueId id) const {
  for (const Node& node : nodes_)
    if (node.op == &op && node.in[index] == id) return &node;
  return nullptr;
}

void Graph::prune() {
  std::vector<char> used(values_.size(), 0);
  std::vector<char> kept(nodes_.size(), 0);
  for (size_t i = nodes_.size(); i-- > 0;) {
    const Node& node = nodes_[i];
    for (ValueId id : node.out)
      if (id != kNone && (used[static_cast<size_t>(id)] || persistent(value(id).role))) kept[i] = 1;
    // An operation that must write over a persistent operand is wanted for that.
    for (const InPlace& pair : node.op->in_place)
      if (pair.must && node.in[static_cast<size_t>(pair.in)] != kNone) kept[i] = 1;
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
}

void Graph::reorder(std::span<const size_t> order) {
  std::vector<Node> nodes;
  for (size_t index : order) nodes.push_back(std::move(nodes_[index]));
  nodes_ = std::move(nodes);
  for (size_t i = 0; i < nodes_.size(); ++i)
    for (ValueId id : nodes_[i].out)
      if (id != kNone) producers_[static_cast<size_t>(id)] = static_cast<int>(i);
}

std::string Graph::text() const {
  std::string out;
  const auto type_text = [&](const Value& v) {
    return fmt::format("{}{}{}", v.type.codec->name, v.type.shape.text(), v.type.extent == Extent::fixed ? "" : "*");
  };
  for (const Node& node : nodes_) {
    for (ValueId id : node.out)
      if (id != kNone) out += fmt::format("%{} {} {} ", id, type_text(value(id)), value(id).name);
    out += fmt::format("= {}(", node.op->name);
    for (size_t i = 0; i < node.in.size(); ++i) {
      const ValueId id = node.in[i];
      out += i ? ", " : "";
      out += id == kNone        ? "-"
             : producer(id) < 0 ? fmt::format("{} {}", value(id).name, type_text(value(id)))
                                : fmt::format("%{}", id);
    }
    out += ")";
    if (node.op->text) out += " " + node.op->text(node.attributes);
    out += "\n";
  }
  return out;
}

Result<void> Graph::verify() const {
  std::vector<char> defined(values_.size(), 0);
  std::set<std::string_view> names;
  for (size_t i = 0; i < values_.size(); ++i) {
    if (producers_[i] < 0) defined[i] = 1;
    if (persistent(values_[i].role) && producers_[i] < 0 && !names.insert(values_[i].name).second)
      return fail(ErrorCode::invalid_argument, "graph: two persistent values are named '{}'", values_[i].name);
  }
  for (const Node& node : nodes_) {
    for (ValueId id : node.in)
      if (id != kNone && !defined[static_cast<size_t>(id)])
        return fail(ErrorCode::invalid_argument, "graph: '{}' is used by {} before it is made", value(id).name,
                    node.op->name);
    const auto inferred = TRY(node.op->infer(node.attributes, types(node.in)));
    for (size_t i = 0; i < node.out.size(); ++i) {
      if (node.out[i] == kNone) continue;
      defined[static_cast<size_t>(node.out[i])] = 1;
      if (!(inferred[i] == value(node.out[i]).type))
        return fail(ErrorCode::shape, "graph: '{}' is not of the type that {} makes", value(node.out[i]).name,
                    node.op->name);
    }
  }
  return {};
}

}  // namespace thimble
