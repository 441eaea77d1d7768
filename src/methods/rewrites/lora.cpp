// LoRA: a frozen weight, in whatever codec it is, plus a trained product of low rank.
//
//   Paper   Hu et al. 2021, arXiv:2106.09685, eq. 3; on a quantised base: Dettmers et al. 2023, arXiv:2305.14314
//   Graph   y = x W^T  becomes  h = dropout(x) A^T;  y = x W^T + (alpha / rank) h B^T, one product, rounded once
//   Adds    A [rank, in], uniform in +-1/sqrt(in) (as PEFT begins); B [out, rank], zeros
//   Names   as PEFT's: "<module>.lora_A.weight", "<module>.lora_B.weight"
#include <cmath>

#include "core/random.h"
#include "methods/method.h"
#include "ops/table.h"

namespace thimble {
namespace {

constexpr std::string_view kWeight = ".weight";

// The module's name when its weight is to be adapted, else "".
std::string adapted_module(const Graph& graph, const Node& node, const MethodOptions& options) {
  if (node.op != &kLinear || node.block < 0 || node.as<LinearAttributes>().terms.size() != 1) return "";
  const std::string& weight = graph.value(node.in[1]).name;
  if (!weight.ends_with(kWeight)) return "";
  const std::string module = weight.substr(0, weight.size() - kWeight.size());
  if (!options.modules.empty()) return options.modules.contains(module) ? module : "";
  if (options.targets.empty()) return module;
  for (const std::string& target : options.targets)
    if (module == target || module.ends_with("." + target)) return module;
  return "";
}

void adapt(GraphCopy& copy, const Node& node, const std::string& module, const MethodOptions& options) {
  Graph& graph = copy.graph();
  LinearAttributes attributes = node.as<LinearAttributes>();
  const Shape& w = copy.from().value(node.in[1]).type.shape;
  const auto place = options.modules.find(module);
  const int64_t rank = place == options.modules.end() ? options.rank : place->second.rank;
  const double scale = place == options.modules.end() ? options.alpha / static_cast<double>(rank) : place->second.scale;
  const ValueId a = graph.add_value(module + ".lora_A.weight", {{rank, w[1]}}, options.role,
                                    Initial::uniform(1 / std::sqrt(static_cast<float>(w[1]))));
  const ValueId b = graph.add_value(module + ".lora_B.weight", {{w[0], rank}}, options.role, Initial::constant(0));
  const ValueId x = copy.map(node.in[0]);
  ValueId dropped = x;
  if (options.dropout > 0 && options.training)
    dropped =
        graph.emit(kDropout, DropoutAttributes{options.dropout, name_hash(module)}, {x}, module + ".lora_dropout");
  const ValueId h = graph.emit(kLinear, LinearAttributes{.codec = attributes.codec, .narrow = attributes.narrow},
                               {dropped, a, kNone, kNone}, module + ".lora_h");
  attributes.terms.push_back({true, static_cast<float>(scale)});
  const ValueId y = graph.emit(kLinear, attributes,
                               {x, copy.map(node.in[1]), h, b, copy.map(node.in[2]), copy.map(node.in[3])}, module);
  copy.bind(node.out[0], y);
}

Result<GraphCopy> rewrite_lora(const Graph& graph, const MethodOptions& options) {
  int adapted = 0;
  GraphCopy copy = rewrite(graph, [&](GraphCopy& to, const Node& node) {
    const std::string module = adapted_module(graph, node, options);
    if (module.empty()) return false;
    ++adapted;
    adapt(to, node, module, options);
    return true;
  });
  if (!options.modules.empty() && adapted != static_cast<int>(options.modules.size()))
    return fail(ErrorCode::invalid_argument,
                "the adapter is for {} linear layers, of which the model has {}: it belongs to another model",
                options.modules.size(), adapted);
  if (adapted == 0)
    return fail(ErrorCode::invalid_argument,
                "--target: no linear layer of the model is named so; try q_proj, k_proj, v_proj, o_proj, gate_proj, "
                "up_proj, down_proj");
  return copy;
}

}  // namespace

const Method kLora = {.name = "lora",
                      .summary = "frozen weights plus trained products of low rank",
                      .paper = "arXiv:2106.09685",
                      .trains_weights = false,
                      .rewrite = rewrite_lora};

}  // namespace thimble
