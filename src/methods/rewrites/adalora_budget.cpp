// AdaLoRA in training: what keeps A and B orthogonal, and what allots ranks to the layers.
//
//   Paper   Zhang et al. 2023, arXiv:2303.10512, eq. 4, 8 to 12 and Algorithm 1; schedules as PEFT has them, with steps
//           i from 0
//   Update  g <- g + o d/dp mean of |A A^T - I| and |B^T B - I| over all layers; scores as in rank_scores.cpp
//           E_k <- 0 after a step for all but the budget's highest ranks: every `every` steps between tinit and
//           total - tfinal, where the budget falls as a cube to `rank` a layer; which ranks are left then, stays
//   State   a, u of the shape of each of A, E, B; of E the ranks that are left
//   Choice  sensitivity is of the parameter that the gradient was taken at, as in Algorithm 1; PEFT takes it after the
//           step. The orthogonality's gradient is added behind clipping
#include "methods/optimizers/matrices.h"
#include "methods/optimizers/update_expr.h"
#include "methods/rewrites/adalora.h"
#include "methods/rewrites/rank_scores.h"
#include "ops/matrix.h"

namespace thimble {
namespace {

constexpr size_t kLeft = kRankStates;

std::vector<StateSpec> states(const Parameter& parameter, const OptionValues&) {
  std::vector<StateSpec> out = rank_states(parameter);
  if (is_rank_scale(parameter.name))
    out.push_back({.name = "left", .shape = parameter.shape, .initial = 1, .any_codec = false});
  return out;
}

// The ranks that a step leaves; the largest score that is not among them.
ValueId threshold(const Update& u, ValueId scores, int64_t count, double target) {
  Graph& g = u.graph;
  const RankSchedule schedule(u);
  const bool wanted[] = {true, false};
  const ValueId sorted = g.emit(kTopK, TopKAttributes{count}, {scores}, "adalora.sorted", wanted);
  ValueId picked = kNone;
  Fused f(g, "adalora.picked");
  const Expr score = f.tensor(sorted), place = f.tensor(rank_places(g, count)), i = f.scalar(u.step) - 1;
  const Expr part = min(max(1 - (i - schedule.begin) / (schedule.end - schedule.begin), 0.0), 1.0);
  const Expr budget = floor((static_cast<double>(count) - target) * part * part * part + target + 1e-9);
  f.output(picked, score * greater(0.5, abs(place - budget)));
  f.emit();
  return reduce(g, picked, Reduce::sum, ReduceOver::all, "adalora.threshold");
}

void together(std::span<Update* const> updates) {
  const std::vector<RankedLayer> layers = ranked_layers(updates);
  if (layers.empty()) return;
  const Update& any = *layers.front().e;
  std::vector<ValueId> ranks;
  int64_t count = 0;
  for (const RankedLayer& layer : layers) {
    ranks.push_back(rank_scores(layer, any.options["orthogonal"] / static_cast<double>(layers.size())));
    count += layer.rank();
  }
  const double target = any.options["rank"] * static_cast<double>(layers.size());
  if (target >= static_cast<double>(count)) return;  // all stay
  const ValueId least = threshold(any, joined_ranks(any.graph, ranks, count, "adalora.scores"), count, target);
  for (size_t i = 0; i < layers.size(); ++i) layers[i].e->statistics = {ranks[i]}, layers[i].e->totals = {least};
}

void after(Update& u) {
  if (u.totals.empty()) return;
  const RankSchedule schedule(u);
  const double every = u.options["every"];
  Fused f(u.graph, "adalora.allotted." + u.name());
  const Expr e = f.tensor(u.parameter), left = f.tensor(u.states[kLeft]), score = f.tensor(u.statistics[0]);
  const Expr i = f.scalar(u.step) - 1, stays = greater(score, f.scalar(u.totals[0]));
  const Expr late = greater(i, schedule.end - 0.5), last = late * greater(schedule.end + 0.5, i);
  const Expr due = greater(i, schedule.begin) * greater(0.5, i - every * floor(i / every));
  const Expr next = select(last, stays, left);
  f.store(u.parameter, e * select(late, next, select(due, stays, f.constant(1))));
  f.store(u.states[kLeft], next);
  f.emit();
}

}  // namespace

Result<void> adalora_check_run(const OptionValues& options, int64_t steps) {
  if (options["init_rank"] < options["rank"])
    return fail(
        ErrorCode::invalid_argument,
        "--method adalora: layers begin with {} ranks (adalora.init_rank), fewer than the {} that are to be left "
        "(--rank); give more to begin with, or fewer to be left",
        options["init_rank"], options["rank"]);
  const double total = options["total"] > 0 ? options["total"] : static_cast<double>(steps);
  if (total == 0 || options["tinit"] < total - options["tfinal"]) return {};
  return fail(
      ErrorCode::invalid_argument,
      "--method adalora: ranks are allotted between adalora.tinit ({}) and adalora.total - adalora.tfinal ({}), "
      "and no step is; give smaller ones or more --steps",
      options["tinit"], total - options["tfinal"]);
}

const Wrapper kAdaloraBudget = {.name = "adalora",
                                .summary = "allots the ranks of AdaLoRA to layers, and keeps its factors orthogonal",
                                .paper = "arXiv:2303.10512",
                                .options = kAdaloraOptions,
                                .states = states,
                                .on_gradient = true,
                                .together = together,
                                .after = after,
                                .scheduled = true};

}  // namespace thimble
