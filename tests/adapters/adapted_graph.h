// The graph of a small model with an adapter, and whether the adapter's file has what it needs.
#pragma once

#include "adapters/adapter.h"
#include "models/build.h"

namespace thimble {

inline Graph graph_of(const Architecture& architecture) {
  BuildOptions options{.prefix = "", .rows = 64, .positions = 64, .activation = &kF32, .differentiable = true};
  options.codec = [](const std::string&, const Shape&) -> const Codec* { return &kF32; };
  Graph graph;
  const auto built = build_model(graph, architecture, options);
  EXPECT_TRUE(built) << built.error().message;
  if (built) add_token_loss(graph, *built, {.gradient = true});
  return graph;
}

// As loading does it, without the numbers.
inline Result<Rewritten> adapt(std::vector<Adapter>& adapters, const Architecture& architecture) {
  std::vector<RewriteSpec> stack;
  for (Adapter& adapter : adapters) stack.push_back(TRY(rewrite_of(adapter, architecture)));
  PassLog log;
  Rewritten rewritten = TRY(rewrite_model(graph_of(architecture), stack, RewriteUse::train, log));
  CHECK_OK(check_files(adapters, rewritten.tensors));
  return rewritten;
}

}  // namespace thimble
