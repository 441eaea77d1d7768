#include <algorithm>
#include <array>

#include "text/jinja/builtins.h"
#include "text/jinja/parser_base.h"

namespace thimble::jinja {
namespace {

struct Deeper {
  explicit Deeper(int& depth) : depth(++depth) {}
  ~Deeper() { --depth; }
  int& depth;
};

std::string shown(const Token& token) {
  switch (token.kind) {
    case TokenKind::name:
    case TokenKind::sign:
      return token.text;
    case TokenKind::end:
      return "end of template";
    case TokenKind::block_end:
      return "end of statement block";
    case TokenKind::variable_end:
      return "end of print statement";
    case TokenKind::string:
      return "string";
    default:
      return "number";
  }
}

}  // namespace

bool ExpressionParser::skip_sign(std::string_view sign) {
  if (!now().is_sign(sign)) return false;
  skip();
  return true;
}

bool ExpressionParser::skip_name(std::string_view name) {
  if (!now().is_name(name)) return false;
  skip();
  return true;
}

Result<void> ExpressionParser::expect_sign(std::string_view sign) {
  if (skip_sign(sign)) return {};
  return error(fmt::format("expected token '{}', got '{}'", sign, shown(now())));
}

Result<void> ExpressionParser::expect_name(std::string_view name) {
  if (skip_name(name)) return {};
  return error(fmt::format("expected '{}', got '{}'", name, shown(now())));
}

Result<void> ExpressionParser::expect(TokenKind kind) {
  if (now().kind != kind) return error(fmt::format("expected the end of the tag, got '{}'", shown(now())));
  skip();
  return {};
}

Result<NameId> ExpressionParser::name() {
  if (now().kind != TokenKind::name) return error(fmt::format("expected a name, got '{}'", shown(now())));
  const NameId id = name_id(now().text);
  skip();
  return id;
}

Failure ExpressionParser::unexpected() const { return error(fmt::format("unexpected '{}'", shown(now()))); }

NodeId ExpressionParser::add(Node node) {
  tree_.nodes.push_back(node);
  return static_cast<NodeId>(tree_.nodes.size() - 1);
}

NodeId ExpressionParser::add(Node node, std::span<const NodeId> children) {
  node.first = static_cast<uint32_t>(tree_.children.size());
  node.count = static_cast<uint32_t>(children.size());
  tree_.children.insert(tree_.children.end(), children.begin(), children.end());
  return add(node);
}

NameId ExpressionParser::name_id(std::string_view name) {
  const auto found = name_ids_.find(name);
  if (found != name_ids_.end()) return found->second;
  tree_.names.emplace_back(name);
  return name_ids_[std::string(name)] = static_cast<NameId>(tree_.names.size() - 1);
}

NodeId ExpressionParser::constant(Value value, uint32_t line) {
  tree_.constants.push_back(std::move(value));
  return add({.kind = NodeKind::constant, .line = line, .index = static_cast<uint32_t>(tree_.constants.size() - 1)});
}

Result<NodeId> ExpressionParser::expression(bool conditional) {
  const Deeper deeper(depth_);
  if (depth_ > kDeepestSource) return error(fmt::format("the template is nested more than {} deep", kDeepestSource));
  if (!conditional) return either();
  const uint32_t line = now().line;
  const Surroundings outside = surroundings_;
  const size_t known = unknown_.size();
  NodeId result = TRY(either());
  while (skip_name("if")) {
    unknown_.resize(known);
    surroundings_.conditional = true;
    const NodeId test = TRY(either());
    const NodeId otherwise = skip_name("else") ? TRY(expression()) : 0;
    result = add({.kind = NodeKind::conditional, .line = line, .a = test, .b = result, .c = otherwise});
  }
  surroundings_ = outside;
  return result;
}

Result<NodeId> ExpressionParser::either() {
  NodeId left = TRY(both());
  for (uint32_t line = now().line; skip_name("or"); line = now().line) {
    const NodeId right = TRY(both());
    left = add({.kind = NodeKind::either, .line = line, .a = left, .b = right});
  }
  return left;
}

Result<NodeId> ExpressionParser::both() {
  NodeId left = TRY(negation());
  for (uint32_t line = now().line; skip_name("and"); line = now().line) {
    const NodeId right = TRY(negation());
    left = add({.kind = NodeKind::both, .line = line, .a = left, .b = right});
  }
  return left;
}

Result<NodeId> ExpressionParser::negation() {
  const uint32_t line = now().line;
  int count = 0;
  while (skip_name("not")) ++count;
  NodeId of = TRY(comparison());
  // Two of them are no identity: they make a boolean.
  for (int i = 0; i < std::min(count, count % 2 == 0 ? 2 : 1); ++i) {
    of = add({.kind = NodeKind::unary, .what = What::negation, .line = line, .a = of});
  }
  return of;
}

Result<What> ExpressionParser::comparison_sign() {
  constexpr std::array kSigns = std::to_array<Level>({{"==", What::equal},
                                                      {"!=", What::unequal},
                                                      {"<", What::less},
                                                      {"<=", What::less_equal},
                                                      {">", What::greater},
                                                      {">=", What::greater_equal}});
  for (const Level& level : kSigns) {
    if (skip_sign(level.sign)) return level.what;
  }
  if (skip_name("in")) return What::in;
  if (now().is_name("not") && next().is_name("in")) {
    skip(2);
    return What::not_in;
  }
  return What::none;
}

Result<NodeId> ExpressionParser::comparison() {
  const uint32_t line = now().line;
  const NodeId left = TRY(sum());
  std::vector<NodeId> operands;
  for (;;) {
    const What what = TRY(comparison_sign());
    if (what == What::none) break;
    const NodeId right = TRY(sum());
    operands.push_back(add({.kind = NodeKind::operand, .what = what, .line = line, .a = right}));
  }
  if (operands.empty()) return left;
  return add({.kind = NodeKind::compare, .line = line, .a = left}, operands);
}

Result<NodeId> ExpressionParser::left_to_right(std::span<const Level> levels,
                                               Result<NodeId> (ExpressionParser::*operand)()) {
  NodeId left = TRY((this->*operand)());
  for (;;) {
    const uint32_t line = now().line;
    const auto level = std::ranges::find_if(levels, [&](const Level& one) { return now().is_sign(one.sign); });
    if (level == levels.end()) return left;
    skip();
    const NodeId right = TRY((this->*operand)());
    left = add({.kind = NodeKind::binary, .what = level->what, .line = line, .a = left, .b = right});
  }
}

Result<NodeId> ExpressionParser::sum() {
  constexpr std::array kLevel = std::to_array<Level>({{"+", What::add}, {"-", What::subtract}});
  return left_to_right(kLevel, &ExpressionParser::concatenation);
}

Result<NodeId> ExpressionParser::concatenation() {
  const uint32_t line = now().line;
  std::vector<NodeId> parts{TRY(product())};
  while (skip_sign("~")) parts.push_back(TRY(product()));
  return parts.size() == 1 ? parts[0] : add({.kind = NodeKind::concat, .line = line}, parts);
}

Result<NodeId> ExpressionParser::product() {
  constexpr std::array kLevel = std::to_array<Level>(
      {{"*", What::multiply}, {"/", What::divide}, {"//", What::floor_divide}, {"%", What::modulo}});
  return left_to_right(kLevel, &ExpressionParser::power);
}

Result<NodeId> ExpressionParser::power() {
  NodeId left = TRY(unary());
  for (uint32_t line = now().line; skip_sign("**"); line = now().line) {
    const NodeId right = TRY(unary());
    left = add({.kind = NodeKind::binary, .what = What::power, .line = line, .a = left, .b = right});
  }
  return left;
}

Result<NodeId> ExpressionParser::unary(bool with_filters) {
  const Deeper deeper(depth_);
  if (depth_ > kDeepestSource) return error(fmt::format("the template is nested more than {} deep", kDeepestSource));
  const uint32_t line = now().line;
  NodeId of = 0;
  if (now().is_sign("-") || now().is_sign("+")) {
    const What what = now().is_sign("-") ? What::negative : What::positive;
    skip();
    const NodeId inner = TRY(unary(false));
    of = add({.kind = NodeKind::unary, .what = what, .line = line, .a = inner});
  } else {
    of = TRY(primary());
  }
  of = TRY(postfix(of));
  return with_filters ? postfix_filters(of) : Result<NodeId>(of);
}

Result<NodeId> ExpressionParser::primary(bool names) {
  const Token token = now();
  switch (token.kind) {
    case TokenKind::name: {
      skip();
      if (token.text == "true" || token.text == "True") return constant(Value(true), token.line);
      if (token.text == "false" || token.text == "False") return constant(Value(false), token.line);
      if (token.text == "none" || token.text == "None") return constant(Value(), token.line);
      const NameId id = name_id(token.text);
      if (!names || !skip_sign(".")) return add({.kind = NodeKind::variable, .line = token.line, .name = id});
      const NameId attribute = TRY(name());
      return add({.kind = NodeKind::names_attribute, .line = token.line, .name = id, .index = attribute});
    }
    case TokenKind::string: {
      std::string text;
      for (; now().kind == TokenKind::string; skip()) text += now().text;
      return constant(Value::text(text), token.line);
    }
    case TokenKind::integer:
      skip();
      return constant(Value(token.integer), token.line);
    case TokenKind::real:
      skip();
      return constant(Value(token.real), token.line);
    default:
      break;
  }
  if (skip_sign("(")) {
    const NodeId inside = TRY(tuple({.parentheses = true}));
    CHECK_OK(expect_sign(")"));
    return inside;
  }
  if (token.is_sign("[")) return list();
  if (token.is_sign("{")) return dict();
  return unexpected();
}

bool ExpressionParser::tuple_ends(std::string_view end) const {
  return now().kind == TokenKind::variable_end || now().kind == TokenKind::block_end || now().is_sign(")") ||
         (!end.empty() && now().is_name(end));
}

Result<NodeId> ExpressionParser::tuple(const TupleOptions& options) {
  const uint32_t line = now().line;
  std::vector<NodeId> parts;
  bool is_tuple = false;
  for (;;) {
    if (!parts.empty()) CHECK_OK(expect_sign(","));
    if (tuple_ends(options.end)) break;
    parts.push_back(options.targets ? TRY(primary(options.names)) : TRY(expression(options.conditional)));
    if (!now().is_sign(",")) break;
    is_tuple = true;
  }
  if (!is_tuple && !parts.empty()) return parts[0];
  if (!is_tuple && !options.parentheses) return error(fmt::format("Expected an expression, got '{}'", shown(now())));
  return add({.kind = NodeKind::tuple, .line = line}, parts);
}

Result<NodeId> ExpressionParser::target(const TupleOptions& options) {
  const uint32_t line = now().line;
  const NodeId made = TRY(tuple(options));
  const auto assignable = [&](auto&& self, NodeId id) -> bool {
    const Node one = node(id);
    if (one.kind == NodeKind::variable || one.kind == NodeKind::names_attribute) return true;
    if (one.kind != NodeKind::tuple) return false;
    for (uint32_t i = 0; i < one.count; ++i) {
      if (!self(self, tree_.children[one.first + i])) return false;
    }
    return true;
  };
  if (!assignable(assignable, made)) return syntax_error(line, "can't assign to this expression");
  return made;
}

Result<NodeId> ExpressionParser::list() {
  const uint32_t line = now().line;
  CHECK_OK(expect_sign("["));
  std::vector<NodeId> items;
  while (!now().is_sign("]")) {
    if (!items.empty()) CHECK_OK(expect_sign(","));
    if (now().is_sign("]")) break;
    items.push_back(TRY(expression()));
  }
  CHECK_OK(expect_sign("]"));
  return add({.kind = NodeKind::list, .line = line}, items);
}

Result<NodeId> ExpressionParser::dict() {
  const uint32_t line = now().line;
  CHECK_OK(expect_sign("{"));
  std::vector<NodeId> items;
  while (!now().is_sign("}")) {
    if (!items.empty()) CHECK_OK(expect_sign(","));
    if (now().is_sign("}")) break;
    items.push_back(TRY(expression()));
    CHECK_OK(expect_sign(":"));
    items.push_back(TRY(expression()));
  }
  CHECK_OK(expect_sign("}"));
  return add({.kind = NodeKind::dict, .line = line}, items);
}

Result<NodeId> ExpressionParser::postfix(NodeId node) {
  for (;;) {
    if (now().is_sign(".") || now().is_sign("[")) {
      node = TRY(subscript(node));
    } else if (now().is_sign("(")) {
      node = TRY(call(node));
    } else {
      return node;
    }
  }
}

Result<NodeId> ExpressionParser::postfix_filters(NodeId node) {
  for (;;) {
    if (now().is_sign("|")) {
      node = TRY(filters(node));
    } else if (now().is_name("is")) {
      node = TRY(test(node));
    } else if (now().is_sign("(")) {
      node = TRY(call(node));
    } else {
      return node;
    }
  }
}

Result<NodeId> ExpressionParser::subscript(NodeId node) {
  const uint32_t line = now().line;
  if (skip_sign(".")) {
    const Token token = now();
    skip();
    if (token.kind == TokenKind::name)
      return add({.kind = NodeKind::attribute, .line = line, .a = node, .name = name_id(token.text)});
    if (token.kind != TokenKind::integer) return syntax_error(line, "expected name or number");
    const NodeId place = constant(Value(token.integer), line);
    return add({.kind = NodeKind::item, .line = line, .a = node, .b = place});
  }
  CHECK_OK(expect_sign("["));
  std::vector<NodeId> parts;
  while (!now().is_sign("]")) {
    if (!parts.empty()) CHECK_OK(expect_sign(","));
    parts.push_back(TRY(subscribed()));
  }
  CHECK_OK(expect_sign("]"));
  const NodeId place = parts.size() == 1 ? parts[0] : add({.kind = NodeKind::tuple, .line = line}, parts);
  return add({.kind = NodeKind::item, .line = line, .a = node, .b = place});
}

Result<NodeId> ExpressionParser::subscribed() {
  const uint32_t line = now().line;
  const auto ends = [&] { return now().is_sign("]") || now().is_sign(","); };
  Node slice{.kind = NodeKind::slice, .line = line};
  if (!now().is_sign(":")) {
    slice.a = TRY(expression());
    if (!now().is_sign(":")) return slice.a;
  }
  skip();
  if (!now().is_sign(":") && !ends()) slice.b = TRY(expression());
  if (skip_sign(":") && !ends()) slice.c = TRY(expression());
  return add(slice);
}

Result<NodeId> ExpressionParser::call(NodeId node) {
  const uint32_t line = now().line;
  const uint32_t site = TRY(arguments());
  return add({.kind = NodeKind::call, .line = line, .a = node, .index = site});
}

Result<void> ExpressionParser::argument(CallSite& site) {
  const auto misplaced = [&] { return error("invalid syntax for function call expression"); };
  if (now().is_sign("*")) {
    if (site.all_values || site.all_named) return misplaced();
    skip();
    site.all_values = TRY(expression());
  } else if (now().is_sign("**")) {
    if (site.all_named) return misplaced();
    skip();
    site.all_named = TRY(expression());
  } else if (now().kind == TokenKind::name && next().is_sign("=")) {
    if (site.all_named) return misplaced();
    const NameId id = name_id(now().text);
    skip(2);
    site.named.emplace_back(id, TRY(expression()));
  } else {
    if (site.all_values || site.all_named || !site.named.empty()) return misplaced();
    site.values.push_back(TRY(expression()));
  }
  return {};
}

Result<uint32_t> ExpressionParser::arguments() {
  CHECK_OK(expect_sign("("));
  CallSite site;
  bool comma = false;
  while (!now().is_sign(")")) {
    if (comma) {
      CHECK_OK(expect_sign(","));
      if (now().is_sign(")")) break;
    }
    CHECK_OK(argument(site));
    comma = true;
  }
  CHECK_OK(expect_sign(")"));
  tree_.calls.push_back(std::move(site));
  return static_cast<uint32_t>(tree_.calls.size() - 1);
}

Result<NodeId> ExpressionParser::filters(NodeId input, bool started) {
  while (started || now().is_sign("|")) {
    if (!started) skip();
    started = false;
    const uint32_t line = now().line;
    NameId id = TRY(name());
    while (skip_sign(".")) {
      const NameId more = TRY(name());
      id = name_id(tree_.names[id] + "." + tree_.names[more]);
    }
    if (!find_filter(tree_.names[id]) && !surroundings_.conditional)
      unknown_.push_back(syntax_error(line, fmt::format("No filter named '{}'.", tree_.names[id])).value());
    const uint32_t site = now().is_sign("(") ? TRY(arguments()) : 0;
    input = add({.kind = NodeKind::filter, .line = line, .a = input, .name = id, .index = site});
  }
  return input;
}

Result<NodeId> ExpressionParser::test(NodeId of) {
  const uint32_t line = now().line;
  skip();  // is
  const bool negated = skip_name("not");
  NameId id = TRY(name());
  while (skip_sign(".")) {
    const NameId more = TRY(name());
    id = name_id(tree_.names[id] + "." + tree_.names[more]);
  }
  if (!find_test(tree_.names[id]) && !surroundings_.conditional)
    unknown_.push_back(syntax_error(line, fmt::format("No test named '{}'.", tree_.names[id])).value());
  uint32_t site = 0;
  const Token& token = now();
  const bool operand = token.kind == TokenKind::name || token.kind == TokenKind::string ||
                       token.kind == TokenKind::integer || token.kind == TokenKind::real || token.is_sign("[") ||
                       token.is_sign("{");
  if (token.is_sign("(")) {
    site = TRY(arguments());
  } else if (operand && !token.is_name("else") && !token.is_name("or") && !token.is_name("and")) {
    if (token.is_name("is")) return error("You cannot chain multiple tests with is");
    const NodeId value = TRY(postfix(TRY(primary())));
    tree_.calls.push_back({.values = {value}});
    site = static_cast<uint32_t>(tree_.calls.size() - 1);
  }
  const NodeId made = add({.kind = NodeKind::test, .line = line, .a = of, .name = id, .index = site});
  if (!negated) return made;
  return add({.kind = NodeKind::unary, .what = What::negation, .line = line, .a = made});
}

}  // namespace thimble::jinja
