#include "text/jinja/parser.h"

#include <algorithm>
#include <array>

#include "text/jinja/parser_base.h"

namespace thimble::jinja {
namespace {

class Parser : ExpressionParser {
 public:
  using ExpressionParser::ExpressionParser;

  Result<Tree> run() {
    tree_.root = TRY(statements({}));
    if (now().kind != TokenKind::end) return unexpected();
    if (!unknown_.empty()) return Failure(unknown_.front());
    return std::move(tree_);
  }

 private:
  using Ends = std::initializer_list<std::string_view>;
  struct Statement {
    std::string_view name;
    Result<NodeId> (Parser::*parse)();
  };
  static const std::array<Statement, 17> kStatements;

  // Up to a tag of `ends`, whose name is the next token; without ends, up to the end of the template.
  Result<NodeId> statements(Ends ends);
  // The same for the body of a statement, from the end of its tag on; `closed`: the closing name is skipped.
  Result<NodeId> body(Ends ends, bool closed = true);
  // A body whose surroundings are its own.
  Result<NodeId> inner_body(Ends ends, const Surroundings& surroundings);
  Result<NodeId> statement(Ends ends);
  Result<NodeId> if_();
  Result<NodeId> for_();
  Result<NodeId> set_();
  Result<NodeId> macro_();
  Result<NodeId> call_();
  Result<NodeId> filter_();
  Result<NodeId> with_();
  Result<NodeId> block_();
  Result<NodeId> autoescape_();
  Result<NodeId> print_();
  Result<NodeId> generation_();
  Result<NodeId> leave_();
  Result<NodeId> other_template_();
  Result<void> signature(Function& function);
  Result<NodeId> function(Function made, std::string_view end, NodeKind kind, NodeId call);
};

constexpr std::array<Parser::Statement, 17> Parser::kStatements{{
    {"if", &Parser::if_},
    {"for", &Parser::for_},
    {"set", &Parser::set_},
    {"macro", &Parser::macro_},
    {"call", &Parser::call_},
    {"filter", &Parser::filter_},
    {"with", &Parser::with_},
    {"block", &Parser::block_},
    {"autoescape", &Parser::autoescape_},
    {"print", &Parser::print_},
    {"generation", &Parser::generation_},
    {"break", &Parser::leave_},
    {"continue", &Parser::leave_},
    {"extends", &Parser::other_template_},
    {"include", &Parser::other_template_},
    {"import", &Parser::other_template_},
    {"from", &Parser::other_template_},
}};

Result<NodeId> Parser::statements(Ends ends) {
  std::vector<NodeId> made;
  const uint32_t line = now().line;
  while (now().kind != TokenKind::end) {
    if (now().kind == TokenKind::data) {
      const NodeId text = constant(Value::text(now().text), now().line);
      tree_.nodes[text].kind = NodeKind::text;
      made.push_back(text);
      skip();
    } else if (now().kind == TokenKind::variable_begin) {
      const uint32_t at = now().line;
      skip();
      const NodeId value = TRY(tuple({}));
      CHECK_OK(expect(TokenKind::variable_end));
      made.push_back(add({.kind = NodeKind::output, .line = at}, {&value, 1}));
    } else {
      CHECK_OK(expect(TokenKind::block_begin));
      if (std::ranges::any_of(ends, [&](std::string_view end) { return now().is_name(end); })) break;
      made.push_back(TRY(statement(ends)));
      CHECK_OK(expect(TokenKind::block_end));
    }
  }
  return add({.kind = NodeKind::block, .line = line}, made);
}

Result<NodeId> Parser::statement(Ends ends) {
  if (now().kind != TokenKind::name) return error("tag name expected");
  const auto found = std::ranges::find(kStatements, now().text, &Statement::name);
  if (found == kStatements.end() || !found->parse) {
    return error(fmt::format("Encountered unknown tag '{}'.{}", now().text,
                             ends.size() == 0 ? "" : fmt::format(" Expected {}.", fmt::join(ends, " or "))));
  }
  ++depth_;
  if (depth_ > kDeepestSource) return error(fmt::format("the template is nested more than {} deep", kDeepestSource));
  const NodeId made = TRY((this->*found->parse)());
  --depth_;
  return made;
}

Result<NodeId> Parser::body(Ends ends, bool closed) {
  skip_sign(":");
  CHECK_OK(expect(TokenKind::block_end));
  const NodeId made = TRY(statements(ends));
  if (now().kind == TokenKind::end)
    return error(fmt::format("Unexpected end of template, expected {}.", fmt::join(ends, " or ")));
  if (closed) skip();
  return made;
}

Result<NodeId> Parser::inner_body(Ends ends, const Surroundings& surroundings) {
  const Surroundings outside = std::exchange(surroundings_, surroundings);
  const NodeId made = TRY(body(ends));
  surroundings_ = outside;
  return made;
}

Result<NodeId> Parser::if_() {
  const Surroundings outside = surroundings_;
  surroundings_.conditional = true;
  std::vector<Node> branches;
  NodeId otherwise = 0;
  for (;;) {
    Node branch{.kind = NodeKind::condition, .line = now().line};
    skip();  // if, elif
    branch.a = TRY(tuple({.conditional = false}));
    branch.b = TRY(body({"elif", "else", "endif"}, false));
    branches.push_back(branch);
    if (now().is_name("elif")) continue;
    if (skip_name("else")) {
      otherwise = TRY(body({"endif"}));
    } else {
      skip();
    }
    break;
  }
  surroundings_ = outside;
  for (size_t i = branches.size(); i-- > 0;) {
    branches[i].c = otherwise;
    otherwise = add(branches[i]);
  }
  return otherwise;
}

Result<NodeId> Parser::for_() {
  Node made{.kind = NodeKind::loop, .line = now().line};
  skip();
  made.a = TRY(target({.targets = true, .end = "in"}));
  CHECK_OK(expect_name("in"));
  made.b = TRY(tuple({.conditional = false, .end = "recursive"}));
  const Surroundings outside = surroundings_;
  surroundings_ = {.conditional = false, .loops = outside.loops + 1};
  if (skip_name("if")) made.c = TRY(expression());
  if (skip_name("recursive")) made.what = What::recursive;
  std::array<NodeId, 2> parts{TRY(body({"endfor", "else"}, false)), 0};
  surroundings_ = {.conditional = false, .loops = outside.loops};
  if (skip_name("else")) {
    parts[1] = TRY(body({"endfor"}));
  } else {
    skip();
  }
  surroundings_ = outside;
  return add(made, parts);
}

Result<NodeId> Parser::set_() {
  Node made{.kind = NodeKind::assign, .line = now().line};
  skip();
  made.a = TRY(target({.targets = true, .names = true}));
  if (skip_sign("=")) {
    made.b = TRY(tuple({}));
    return add(made);
  }
  made.kind = NodeKind::assign_block;
  made.b = TRY(filters(0));
  made.c = TRY(inner_body({"endset"}, {.loops = surroundings_.loops}));
  return add(made);
}

Result<void> Parser::signature(Function& function) {
  CHECK_OK(expect_sign("("));
  bool has_default = false;
  while (!now().is_sign(")")) {
    if (!function.parameters.empty()) CHECK_OK(expect_sign(","));
    const NameId parameter = TRY(name());
    NodeId otherwise = 0;
    if (skip_sign("=")) {
      otherwise = TRY(expression());
      has_default = true;
    } else if (has_default) {
      return error("non-default argument follows default argument");
    }
    function.parameters.emplace_back(parameter, otherwise);
  }
  return expect_sign(")");
}

Result<NodeId> Parser::function(Function made, std::string_view end, NodeKind kind, NodeId call) {
  const uint32_t line = now().line;
  const size_t first = tree_.nodes.size();
  made.body = TRY(inner_body({end}, {}));
  for (size_t i = first; i < tree_.nodes.size(); ++i) {
    if (tree_.nodes[i].kind != NodeKind::variable) continue;
    const std::string& used = tree_.names[tree_.nodes[i].name];
    made.takes_values |= used == "varargs";
    made.takes_named |= used == "kwargs";
    made.takes_caller |= used == "caller";
  }
  tree_.functions.push_back(std::move(made));
  return add({.kind = kind, .line = line, .a = call, .index = static_cast<uint32_t>(tree_.functions.size() - 1)});
}

Result<NodeId> Parser::macro_() {
  skip();
  Function made{.name = TRY(name())};
  CHECK_OK(signature(made));
  return function(std::move(made), "endmacro", NodeKind::macro, 0);
}

Result<NodeId> Parser::call_() {
  skip();
  Function made{.name = name_id("caller")};
  if (now().is_sign("(")) CHECK_OK(signature(made));
  const NodeId call = TRY(expression());
  if (node(call).kind != NodeKind::call) return error("expected call");
  return function(std::move(made), "endcall", NodeKind::call_block, call);
}

Result<NodeId> Parser::filter_() {
  Node made{.kind = NodeKind::filter_block, .line = now().line};
  skip();
  made.b = TRY(filters(0, true));
  made.c = TRY(inner_body({"endfilter"}, {.loops = surroundings_.loops}));
  return add(made);
}

Result<NodeId> Parser::with_() {
  Node made{.kind = NodeKind::with, .line = now().line};
  skip();
  std::vector<NodeId> parts;
  while (now().kind != TokenKind::block_end) {
    if (!parts.empty()) CHECK_OK(expect_sign(","));
    parts.push_back(TRY(target({.targets = true})));
    CHECK_OK(expect_sign("="));
    parts.push_back(TRY(expression()));
  }
  made.c = TRY(inner_body({"endwith"}, {.loops = surroundings_.loops}));
  return add(made, parts);
}

Result<NodeId> Parser::block_() {
  Node made{.kind = NodeKind::scope, .line = now().line};
  skip();
  const NameId block = TRY(name());
  const bool scoped = skip_name("scoped");
  skip_name("required");
  made.what = scoped ? What::next : What::none;
  made.c = TRY(inner_body({"endblock"}, {}));
  tree_.blocks.push_back({.name = block, .body = made.c});
  skip_name(tree_.names[block]);
  return add(made);
}

Result<NodeId> Parser::autoescape_() {
  Node made{.kind = NodeKind::autoescape, .line = now().line};
  skip();
  made.a = TRY(expression());
  made.c = TRY(inner_body({"endautoescape"}, {.loops = surroundings_.loops}));
  return add(made);
}

Result<NodeId> Parser::print_() {
  const uint32_t line = now().line;
  skip();
  std::vector<NodeId> parts;
  while (now().kind != TokenKind::block_end) {
    if (!parts.empty()) CHECK_OK(expect_sign(","));
    parts.push_back(TRY(expression()));
  }
  return add({.kind = NodeKind::output, .line = line}, parts);
}

Result<NodeId> Parser::generation_() {
  Node made{.kind = NodeKind::generation, .line = now().line};
  skip();
  made.c = TRY(inner_body({"endgeneration"}, {}));
  tree_.has_generation = true;
  return add(made);
}

Result<NodeId> Parser::leave_() {
  if (surroundings_.loops == 0) return error(fmt::format("'{}' outside loop", now().text));
  const What what = now().is_name("break") ? What::stop : What::next;
  const uint32_t line = now().line;
  skip();
  return add({.kind = NodeKind::leave, .what = what, .line = line});
}

// Other templates cannot be reached from a chat template: an error where one is wanted.
Result<NodeId> Parser::other_template_() {
  const uint32_t line = now().line;
  const std::string tag = now().text;
  while (now().kind != TokenKind::block_end && now().kind != TokenKind::end) skip();
  const NodeId why = constant(Value::text(fmt::format("'{}' needs another template, and there is none", tag)), line);
  tree_.nodes[why].kind = NodeKind::refused;
  return why;
}

}  // namespace

Result<Tree> parse(std::string_view source) {
  for (size_t at = 0; at < source.size();) {
    const Utf8Char c = decode_utf8(source, at);
    if (!c.valid) return fail(ErrorCode::corrupt, "it is not UTF-8 at byte {}", at);
    at += c.length;
  }
  return Parser(TRY(tokenize(source))).run();
}

}  // namespace thimble::jinja
