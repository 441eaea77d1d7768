// What a template is compiled to: one array of nodes that name each other by number.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "text/jinja/value.h"

namespace thimble::jinja {

using NodeId = uint32_t;  // place in Tree::nodes; 0 is none
using NameId = uint32_t;  // place in Tree::names

enum class NodeKind : uint8_t {
  nothing,
  // expressions
  constant,     // index: of the constants
  variable,     // name
  tuple,        // children
  list,         // children
  dict,         // children: key, value, key, value, ...
  attribute,    // a.name
  item,         // a[b]
  slice,        // a:b:c, as an item's b
  call,         // a(index: of the calls)
  filter,       // a | name(index); a is 0 where a block's text goes in
  test,         // a is name(index)
  unary,        // what: of a
  binary,       // a what b
  concat,       // children, with ~
  compare,      // a, children: operands
  operand,      // what a, of a comparison
  both,         // a and b
  either,       // a or b
  conditional,  // b if a else c
  // targets
  names_attribute,  // name.index, index: of the names
  // statements
  block,         // children, one after the other; index: of unset
  text,          // index: of the constants
  output,        // children
  condition,     // if a: b, else c, a block or a condition
  loop,          // for a in b if c: children: the body, what is done else
  assign,        // a = b
  assign_block,  // a = the text of c, through the filters b
  macro,         // index: of the functions
  call_block,    // call a with the function `index` as caller
  filter_block,  // the text of c, through the filters b
  with,          // children: target, value, ...; c
  scope,         // c, in a scope of its own that begins at the top
  autoescape,    // a; c
  generation,    // c, which the assistant wrote
  leave,         // what: stop or next
  refused,       // index: of the constants, why
};

enum class What : uint8_t {
  none,
  negative,
  positive,
  negation,
  add,
  subtract,
  multiply,
  divide,
  floor_divide,
  modulo,
  power,
  equal,
  unequal,
  less,
  less_equal,
  greater,
  greater_equal,
  in,
  not_in,
  stop,
  next,
  recursive,
};

struct Node {
  NodeKind kind = NodeKind::nothing;
  What what = What::none;
  uint32_t line = 0;
  NodeId a = 0, b = 0, c = 0;
  NameId name = 0;
  uint32_t index = 0;
  uint32_t first = 0, count = 0;  // children, of Tree::children
};

// What stands in the parentheses of a call.
struct CallSite {
  std::vector<NodeId> values;
  std::vector<std::pair<NameId, NodeId>> named;
  NodeId all_values = 0, all_named = 0;  // *a, **b
};

// A macro, or the body of a call block.
struct Function {
  NameId name = 0;
  std::vector<std::pair<NameId, NodeId>> parameters;  // with their defaults, or 0
  NodeId body = 0;
  bool takes_values = false, takes_named = false, takes_caller = false;  // its body names varargs, kwargs, caller
};

struct Tree {
  std::vector<Node> nodes{Node{}};
  std::vector<NodeId> children;
  std::vector<Value> constants;
  std::vector<std::string> names;
  std::vector<CallSite> calls{CallSite{}};
  std::vector<Function> functions;
  std::vector<Function> blocks;            // named parts, which `self` calls
  std::vector<std::vector<NameId>> unset;  // what a scope sets before it reads it; the first is empty
  NodeId root = 0;
  bool has_generation = false;
};

}  // namespace thimble::jinja
