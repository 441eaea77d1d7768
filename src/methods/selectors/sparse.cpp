// sparse: the parameters that contribute most to what is learnt, for a number of bytes.
//
//   Paper   Lin et al. 2022 (On-Device Training Under 256KB Memory, arXiv:2206.15472), section 3.2: layers are chosen
//           by their contribution under a bound of memory, once, before training; Zhu et al. 2023 (PockEngine,
//           arXiv:2310.17752): the backward pass of what is left out is never built
//   Score   c_i = the mean over the first micro-batches of |dL/dp_i|^2: how fast the loss falls when p_i alone moves
//           down its gradient
//   Trains  by falling c_i / bytes_i, whatever still fits `bytes`; bytes_i = f32 master + gradient + states
//           What an adapter has of one layer is chosen together
//   Choice  the authors measure accuracy with each layer trained alone and search with evolution; here the score is
//           first-order, from the run's own data, and the search is greedy
#include <algorithm>
#include <map>
#include <set>

#include "methods/selector.h"

namespace thimble {
namespace {

constexpr Option kOptions[] = {
    whole_number("bytes", 0, 0, 1'000'000'000'000'000, "of masters, gradients and states of all that trains, at most"),
    whole_number("batches", 4, 1, 1024, "micro-batches that contributions are measured on")};

// What is chosen together.
struct Candidate {
  std::string_view module;
  double score = 0, bytes = 0;
};

std::vector<Candidate> candidates(const SelectorInput& input) {
  std::vector<Candidate> out;
  std::map<std::string_view, size_t> places;
  for (size_t i = 0; i < input.parameters.size(); ++i) {
    const Selectable& parameter = input.parameters[i];
    const auto [place, added] = places.try_emplace(parameter.module, out.size());
    if (added) out.push_back({parameter.module});
    out[place->second].score += input.scores[i];
    out[place->second].bytes += static_cast<double>(parameter.training_bytes);
  }
  return out;
}

Result<std::vector<Trains>> select(const SelectorInput& input) {
  const double most = input.options["bytes"];
  if (most == 0)
    return fail(ErrorCode::invalid_argument,
                "--select sparse: say how many bytes may train, --set select.bytes=50000000");
  std::vector<Candidate> order = candidates(input);
  const auto worth = [](const Candidate& one) { return one.score / one.bytes; };
  std::ranges::stable_sort(order, [&](const Candidate& a, const Candidate& b) { return worth(a) > worth(b); });
  std::set<std::string_view> chosen;
  double used = 0;
  for (const Candidate& one : order) {
    if (used + one.bytes > most || one.score <= 0) continue;
    used += one.bytes, chosen.insert(one.module);
  }
  if (!chosen.empty())
    return trained_where(input.parameters,
                         [&](const Selectable& parameter) { return chosen.contains(parameter.module); });
  if (!order.empty() && order.front().score <= 0)
    return fail(ErrorCode::invalid_argument,
                "--select sparse: the gradients of everything that may train are 0 on the batches that were looked at, "
                "so that nothing contributes; look at more, --set sparse.batches=N, or take --select last_layers");
  std::erase_if(order, [](const Candidate& one) { return one.score <= 0; });
  const auto least = std::ranges::min_element(order, {}, &Candidate::bytes);
  return fail(ErrorCode::invalid_argument,
              "--set select.bytes={}: nothing that contributes takes so little with its gradient and states; the "
              "smallest that does, '{}', takes {}",
              most, least->module, least->bytes);
}

}  // namespace

const Selector kSparse = {.name = "sparse",
                          .summary = "what contributes most for a number of bytes, chosen from the data",
                          .paper = "Lin et al. 2022 (arXiv:2206.15472), Zhu et al. 2023 (PockEngine, arXiv:2310.17752)",
                          .options = kOptions,
                          .select = select,
                          .scored = [](const OptionValues& o) { return static_cast<int64_t>(o["batches"]); }};

}  // namespace thimble
