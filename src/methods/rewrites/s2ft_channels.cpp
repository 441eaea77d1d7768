// S2FT by contribution: which channels of which layers train, for so many numbers, chosen before the run is planned.
//
//   Paper   Lin et al. 2022 (On-Device Training Under 256KB Memory), arXiv:2206.15472, section 3.2: layers and channels
//           by their contribution under a bound of memory; Yang et al. 2024 (S2FT), arXiv:2412.06289: S2FT-G
//   Score   of channels that lie together (one, or those of a head): the sum over the first windows of the squared norm
//           of the gradient of their columns: how fast the loss falls when they alone train
//   Trains  by falling score for a number, whatever still fits `numbers`; layers of which nothing does are left alone
//   Choice  Lin et al. measure accuracy with each layer trained alone and search with evolution
#include <algorithm>
#include <functional>

#include "methods/rewrites/s2ft.h"

namespace thimble {
namespace {

// Channels that lie together (of a head), by how fast the loss falls for a number of theirs when they alone train.
struct Candidate {
  AdaptedModule* module;
  int64_t first;
  double score, numbers;
};

std::vector<Candidate> candidates(const Settling::Measured& measured, std::map<std::string, AdaptedModule>& modules) {
  std::vector<Candidate> out;
  for (const auto& [name, squares] : measured) {
    AdaptedModule& module = modules.at(name);
    const int64_t group = module.in_group;
    for (int64_t first = 0; first + group <= std::ssize(squares); first += group) {
      double score = 0;
      for (int64_t c = first; c < first + group; ++c) score += double{squares[static_cast<size_t>(c)]};
      out.push_back({&module, first, score, static_cast<double>(group * module.whole)});
    }
  }
  return out;
}

Result<std::string> settle(const Settling::Measured& measured, std::map<std::string, AdaptedModule>& modules) {
  std::vector<Candidate> order = candidates(measured, modules);
  std::ranges::stable_sort(order, std::greater(), [](const Candidate& c) { return c.score / c.numbers; });
  std::map<AdaptedModule*, std::vector<double>> channels;
  const double most = modules.begin()->second.options["numbers"];
  double used = 0;
  for (const Candidate& one : order) {
    if (used + one.numbers > most || one.score <= 0) continue;
    used += one.numbers;
    for (int64_t c = 0; c < one.module->in_group; ++c)
      channels[one.module].push_back(static_cast<double>(one.first + c));
  }
  if (channels.empty())
    return fail(ErrorCode::invalid_argument,
                "--set s2ft.numbers={}: no channel has so few, or none contributes on the windows that were looked at",
                most);
  for (auto& [module, list] : channels) {
    std::ranges::sort(list);
    CHECK_OK(module->options.set(kS2ft.name, "channels", list));
  }
  return fmt::format("{} numbers are trained, in channels of {} of {} layers", used, channels.size(), modules.size());
}

}  // namespace

const Settling kS2ftChannels = {.windows =
                                    [](const OptionValues& o) {
                                      const bool wanted = o["numbers"] > 0 && o.list("channels").empty();
                                      return wanted ? static_cast<int64_t>(o["batches"]) : 0;
                                    },
                                .settle = settle};

}  // namespace thimble
