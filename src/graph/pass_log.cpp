#include "graph/pass_log.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>
#include <iterator>
#include <utility>

#include "graph/op.h"

namespace thimble {

namespace {

// THIMBLE_VERIFY=1 asks for it in any build; tests do.
bool asked_to_verify() {
#ifdef NDEBUG
  const char* const asked = std::getenv("THIMBLE_VERIFY");
  return asked && std::string_view(asked) == "1";
#else
  return true;
#endif
}

// Whether THIMBLE_SKIP_PASSES names the pass.
Result<bool> skipped(std::string_view pass) {
  const char* const skip = std::getenv("THIMBLE_SKIP_PASSES");
  bool found = false;
  for (std::string_view names = skip ? skip : ""; !names.empty();) {
    const std::string_view name = names.substr(0, names.find(','));
    names.remove_prefix(std::min(names.size(), name.size() + 1));
    if (std::ranges::find(kOptionalPasses, name) == std::end(kOptionalPasses))
      return fail(ErrorCode::invalid_argument,
                  "THIMBLE_SKIP_PASSES: '{}' is no pass that can be left out; there are {}", name,
                  fmt::join(kOptionalPasses, ", "));
    found = found || name == pass;
  }
  return found;
}

}  // namespace

bool verify_every_pass = asked_to_verify();

Result<void> PassLog::end(std::string name, const Graph& graph) {
  GraphPass pass{.name = std::move(name),
                 .seconds = std::chrono::duration<double>(Clock::now() - begun_).count(),
                 .values = graph.values().size()};
  for (const Node& node : graph.nodes()) ++pass.operations[node.op->name];
  if (verify_every_pass)
    if (auto legal = graph.verify(); !legal)
      return fail(legal.error().code, "after the pass '{}': {}", pass.name, legal.error().message);
  passes_.push_back(std::move(pass));
  begun_ = Clock::now();
  return {};
}

Result<void> PassLog::optional(std::string_view name, Graph& graph, const std::function<void(Graph&)>& change) {
  if (TRY(skipped(name))) return end(fmt::format("{} (left out)", name), graph);
  change(graph);
  return end(std::string(name), graph);
}

namespace {

using Changes = std::vector<std::pair<std::string_view, int64_t>>;  // operation, nodes added; the most first

// Of passes[i] against the one before it.
Changes changes_of(const std::vector<GraphPass>& passes, size_t i) {
  std::map<std::string_view, int64_t> changed = passes[i].operations;
  if (i > 0)
    for (const auto& [name, count] : passes[i - 1].operations) changed[name] -= count;
  Changes changes(changed.begin(), changed.end());
  std::erase_if(changes, [](const auto& change) { return change.second == 0; });
  std::ranges::stable_sort(changes, std::greater{}, [](const auto& change) { return std::abs(change.second); });
  return changes;
}

int64_t nodes_of(const GraphPass& pass) {
  int64_t nodes = 0;
  for (const auto& [name, count] : pass.operations) nodes += count;
  return nodes;
}

}  // namespace

std::string passes_table(const std::vector<GraphPass>& passes) {
  std::string out = fmt::format("{:<28}{:>9}{:>8}{:>8}  {}\n", "pass", "ms", "nodes", "values", "what it changed");
  for (size_t i = 0; i < passes.size(); ++i) {
    std::string changed;
    for (const auto& [name, count] : changes_of(passes, i))
      changed += fmt::format("{}{:+} {}", changed.empty() ? "" : ", ", count, name);
    fmt::format_to(std::back_inserter(out), "{:<28}{:>9.2f}{:>8}{:>8}  {}\n", passes[i].name, 1e3 * passes[i].seconds,
                   nodes_of(passes[i]), passes[i].values, changed.empty() ? "no node" : changed);
  }
  return out;
}

std::string passes_json(const std::vector<GraphPass>& passes) {
  std::string out = "[";
  for (size_t i = 0; i < passes.size(); ++i) {
    std::string changed;
    for (const auto& [name, count] : changes_of(passes, i))
      changed += fmt::format("{}\"{}\":{}", changed.empty() ? "" : ",", name, count);
    fmt::format_to(std::back_inserter(out),
                   "{}{{\"pass\":\"{}\",\"seconds\":{:.6f},\"nodes\":{},\"values\":{},\"changed\":{{{}}}}}",
                   i > 0 ? "," : "", passes[i].name, passes[i].seconds, nodes_of(passes[i]), passes[i].values, changed);
  }
  return out + "]";
}

}  // namespace thimble
