// The rewrite socket: how a model is changed before it is trained, and what of it trains. One method is one file in
// rewrites/ and one row of the table in method.cpp.
#pragma once

#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "graph/graph.h"
#include "graph/rewrite.h"

namespace thimble {

// What the user says of a method: `--rank --alpha --dropout --target`.
struct MethodOptions {
  int64_t rank = 8;
  double alpha = 16;
  double dropout = 0;
  // Rank and scale of single modules; not empty: exactly these are adapted, and `rank`, `alpha`, `targets` do not
  // count.
  struct Place {
    int64_t rank;
    double scale;
  };
  std::map<std::string, Place> modules;
  std::vector<std::string> targets;  // ends of module names, "q_proj"; empty: every linear of the blocks
  bool training = true;              // false: no dropout
  Role role = Role::parameter;       // of what the method adds; weight when it is only used
};

struct Method {
  std::string_view name;
  std::string_view summary;
  std::string_view paper;
  bool trains_weights;  // the model's own weights are parameters (f32 masters)
  // nullptr: the model is trained as it is.
  Result<GraphCopy> (*rewrite)(const Graph& graph, const MethodOptions& options) = nullptr;
};

std::span<const Method* const> methods();
Result<const Method*> method_named(std::string_view name);

extern const Method kFull;
extern const Method kLora;

}  // namespace thimble
