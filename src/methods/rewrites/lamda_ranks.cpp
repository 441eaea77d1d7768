// LaMDA++: layers get ranks by the energy of their singular values, which are measured before the run is planned.
//
//   Paper   Azizi et al. 2024, arXiv:2406.12832, section 3 (LaMDA++): adaptive ranks by a normalised energy score of
//           the pre-trained weight's spectrum, in the budget of one rank for all
//   Energy  E_l(r) = sum over i <= r of s_i^2 / sum over i <= R of s_i^2, R = 2 rank: of layer l, what r singular
//           vectors hold of what R do
//   Ranks   from rank / 2 on, the layer of the least E gets one more, again and again, while S and B of all layers have
//           no more numbers than with one rank; at most R
//   Choice  the rule from scores to ranks: ranks even out what layers keep of their energy. The paper sorts layers by
//           their scores and gives them ranks of a small set
#include <algorithm>
#include <numeric>

#include "methods/rewrite.h"
#include "methods/rewrites/lamda.h"
#include "ops/matrix.h"

namespace thimble {
namespace {

int64_t most_rank(double rank, int64_t in, int64_t out) { return std::min({2 * static_cast<int64_t>(rank), in, out}); }

ValueId singular_values(ModuleRewrite& m) {
  const SvdAttributes largest{most_rank(m.option("rank"), m.in, m.out)};
  return m.graph.emit_all(kSvd, largest, {m.w}, m.name("lamda_spectrum"))[1];
}

// A layer while ranks are allotted.
struct Layer {
  AdaptedModule* module;
  std::vector<double> energy;  // [i]: of the first i + 1 singular values, as a part of all
  int64_t rank;

  double kept() const { return energy[static_cast<size_t>(rank - 1)]; }
  bool can_grow() const { return rank < std::ssize(energy); }
  int64_t numbers(int64_t r) const { return r * (r + module->whole); }  // of S and B
};

Layer layer_of(AdaptedModule& module, const std::vector<float>& values, int64_t least) {
  Layer layer{&module, {}, std::clamp<int64_t>(least, 1, std::ssize(values))};
  double sum = 0;
  for (const float value : values) layer.energy.push_back(sum += double{value} * double{value});
  for (double& part : layer.energy) part = sum > 0 ? part / sum : 1;
  return layer;
}

// Raises ranks while they stay within so many numbers; returns how many they have.
int64_t raise(std::vector<Layer>& layers, int64_t budget) {
  int64_t used = 0;
  for (const Layer& layer : layers) used += layer.numbers(layer.rank);
  for (;;) {
    Layer* next = nullptr;
    for (Layer& layer : layers) {
      const bool fits = layer.can_grow() && used + layer.numbers(layer.rank + 1) - layer.numbers(layer.rank) <= budget;
      if (fits && (!next || layer.kept() < next->kept())) next = &layer;
    }
    if (!next) return used;
    used += next->numbers(next->rank + 1) - next->numbers(next->rank);
    ++next->rank;
  }
}

Result<std::string> settle(const Settling::Measured& measured, std::map<std::string, AdaptedModule>& modules) {
  std::vector<Layer> layers;
  int64_t budget = 0;
  for (auto& [name, module] : modules) {
    const auto rank = static_cast<int64_t>(module.options["rank"]);
    layers.push_back(layer_of(module, measured.at(name), rank / 2));
    budget += rank * (rank + module.whole);
  }
  const int64_t used = raise(layers, budget);
  for (const Layer& layer : layers)
    CHECK_OK(layer.module->options.set(kLamda.name, "rank", static_cast<double>(layer.rank)));
  const auto [least, most] = std::ranges::minmax_element(layers, {}, &Layer::rank);
  return fmt::format("ranks {} to {} by layer, {} numbers of S and B within the {} that one rank has", least->rank,
                     most->rank, used, budget);
}

}  // namespace

const Settling kLamdaRanks = {
    .of_weight = singular_values, .wanted = [](const OptionValues& o) { return o["adaptive"] > 0; }, .settle = settle};

}  // namespace thimble
