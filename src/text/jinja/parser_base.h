// What the two halves of the parser share: tokens, the tree that grows, and the halves' own functions.
#pragma once

#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "text/jinja/lexer.h"
#include "text/jinja/tree.h"

namespace thimble::jinja {

// Where a name may be that the template does not have: jinja2 looks filters and tests up when it compiles, but within
// conditions only when they are used.
struct Surroundings {
  bool conditional = false;
  int loops = 0;  // that `break` may leave
};

class ExpressionParser {
 public:
  explicit ExpressionParser(std::vector<Token> tokens) : tokens_(std::move(tokens)) {}

 protected:
  static constexpr int kDeepestSource = 150;

  const Token& now() const { return tokens_[at_]; }
  const Token& next() const { return tokens_[std::min(at_ + 1, tokens_.size() - 1)]; }
  void skip(size_t count = 1) { at_ = std::min(at_ + count, tokens_.size() - 1); }
  bool skip_sign(std::string_view sign);
  bool skip_name(std::string_view name);
  Result<void> expect_sign(std::string_view sign);
  Result<void> expect_name(std::string_view name);
  Result<void> expect(TokenKind kind);
  Result<NameId> name();
  Failure unexpected() const;
  Failure error(std::string_view what) const { return syntax_error(now().line, what); }

  NodeId add(Node node);
  NodeId add(Node node, std::span<const NodeId> children);
  NameId name_id(std::string_view name);
  NodeId constant(Value value, uint32_t line);
  const Node& node(NodeId id) const { return tree_.nodes[id]; }

  Result<NodeId> expression(bool conditional = true);
  // `end`: a name that ends it too.
  struct TupleOptions {
    bool targets = false;  // names and literals only
    bool conditional = true;
    bool parentheses = false;  // it may be empty
    bool names = false;        // namespace attributes as well
    std::string_view end = {};
  };
  Result<NodeId> tuple(const TupleOptions& options);
  Result<NodeId> target(const TupleOptions& options);
  Result<NodeId> primary(bool names = false);
  // Filters after an expression; of 0, for a block. `started`: the name comes without a '|'.
  Result<NodeId> filters(NodeId input, bool started = false);

  std::vector<Token> tokens_;
  size_t at_ = 0;
  Tree tree_;
  std::map<std::string, NameId, std::less<>> name_ids_;
  Surroundings surroundings_;
  std::vector<Error> unknown_;  // filters and tests that no condition is around
  int depth_ = 0;

 private:
  struct Level {
    std::string_view sign;
    What what;
  };
  Result<NodeId> either();
  Result<NodeId> both();
  Result<NodeId> negation();
  Result<NodeId> comparison();
  Result<What> comparison_sign();
  Result<NodeId> sum();
  Result<NodeId> concatenation();
  Result<NodeId> product();
  Result<NodeId> power();
  Result<NodeId> unary(bool with_filters = true);
  Result<NodeId> left_to_right(std::span<const Level> levels, Result<NodeId> (ExpressionParser::*operand)());
  Result<NodeId> postfix(NodeId node);
  Result<NodeId> postfix_filters(NodeId node);
  Result<NodeId> subscript(NodeId node);
  Result<NodeId> subscribed();
  Result<NodeId> call(NodeId node);
  Result<uint32_t> arguments();
  Result<void> argument(CallSite& site);
  Result<NodeId> test(NodeId node);
  Result<NodeId> list();
  Result<NodeId> dict();
  bool tuple_ends(std::string_view end) const;
};

}  // namespace thimble::jinja
