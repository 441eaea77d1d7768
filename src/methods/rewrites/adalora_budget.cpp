// AdaLoRA in training: what keeps A and B orthogonal, and what allots ranks to the layers.
//
//   Paper   Zhang et al. 2023, arXiv:2303.10512, eq. 4, 8 to 12 and Algorithm 1; schedules as PEFT has them, with steps
//           i from 0
//   Update  g <- g + o d/dp mean of |A A^T - I| and |B^T B - I| over all layers
//           I = |p g|;  a <- b1 a + (1 - b1) I;  u <- b2 u + (1 - b2) |I - a|;  score of a number: a u
//           score of rank k: that of E_k + mean of those of A's row k + mean of those of B's column k
//           E_k <- 0 after a step for all but the budget's highest ranks: every `every` steps between tinit and
//           total - tfinal, where the budget falls as a cube to `rank` a layer; which ranks are left then, stays
//   State   a, u of the shape of each of A, E, B; of E the ranks that are left
//   Choice  sensitivity is of the parameter that the gradient was taken at, as in Algorithm 1; PEFT takes it after the
//           step. The orthogonality's gradient is added behind clipping
#include <cmath>
#include <map>

#include "methods/optimizers/matrices.h"
#include "methods/optimizers/update_expr.h"
#include "methods/rewrites/adalora.h"
#include "ops/matrix.h"

namespace thimble {
namespace {

enum State : size_t { kSensitivity, kUncertainty, kLeft };

bool is(std::string_view name, std::string_view factor) {
  const size_t at = name.rfind(factor);
  if (at == std::string_view::npos) return false;
  const std::string_view rest = name.substr(at + factor.size());
  return rest.empty() || rest.starts_with(".rows_");
}
bool is_a(std::string_view name) { return is(name, ".lora_A"); }
bool is_b(std::string_view name) { return is(name, ".lora_B"); }
bool is_e(std::string_view name) { return is(name, ".lora_E"); }

std::vector<StateSpec> states(const Parameter& parameter, const OptionValues&) {
  if (!is_a(parameter.name) && !is_b(parameter.name) && !is_e(parameter.name)) return {};
  std::vector<StateSpec> out = {{.name = "sensitivity", .shape = parameter.shape},
                                {.name = "uncertainty", .shape = parameter.shape}};
  if (is_e(parameter.name)) out.push_back({.name = "left", .shape = parameter.shape, .initial = 1, .any_codec = false});
  return out;
}

// A layer's factors; B may be several values, by rows.
struct Layer {
  Update *a = nullptr, *e = nullptr;
  std::vector<Update*> b;
  int64_t rank() const { return e->trained.shape[0]; }
};

std::vector<Layer> layers_of(std::span<Update* const> updates) {
  std::map<std::string, Layer> layers;
  for (Update* const update : updates) {
    const std::string name = update->name(), module = name.substr(0, name.rfind(".lora_"));
    if (is_a(name)) layers[module].a = update;
    if (is_e(name)) layers[module].e = update;
    if (is_b(name)) layers[module].b.push_back(update);
  }
  std::vector<Layer> out;
  for (auto& [module, layer] : layers)
    if (layer.a && layer.e && !layer.b.empty()) out.push_back(std::move(layer));
  return out;
}

// When ranks are allotted, in steps from 0.
struct Schedule {
  explicit Schedule(const Update& update) : options(update.options) {
    const double total = options["total"] > 0 ? options["total"]
                         : update.steps > 0   ? static_cast<double>(update.steps)
                                              : 1e18;
    begin = options["tinit"], end = total - options["tfinal"];
  }
  const OptionValues& options;
  double begin, end;
};

// [rank, rank] less one on the diagonal, and its length [1].
struct Departure {
  ValueId matrix = kNone, squares = kNone;
};
Departure departure(Graph& g, ValueId gram, const std::string& name) {
  const int64_t n = g.value(gram).type.shape[0];
  const std::string one = fmt::format("adalora.one.{}", n);
  ValueId identity = g.find(one);
  if (identity == kNone)
    identity = g.add_value(one, {{n, n}}, Role::constant,
                           Initial::table(
                               [n](int64_t first, int64_t count, float* to) {
                                 for (int64_t i = first; i < first + count; ++i) to[i - first] = i / n == i % n;
                               },
                               "identity"));
  Departure out;
  Fused f(g, name + ".departure");
  const Expr of = f.tensor(gram), from = f.tensor(identity);
  f.output(out.matrix, of - from);
  f.emit();
  out.squares = squared_length(g, out.matrix, name + ".departure.length");
  return out;
}

// The gradient with the orthogonality's; the states; the scores of every number. `turned` is the departure times p, or
// kNone for E.
ValueId weigh(Update& u, const Departure& from, ValueId turned, double factor) {
  const Schedule schedule(u);
  const double b1 = u.options["beta1"], b2 = u.options["beta2"];
  Fused f(u.graph, "adalora." + u.name());
  const Expr p = f.tensor(u.parameter);
  Expr g = f.tensor(u.gradient);
  if (u.clip != kNone) g = g * f.scalar(u.clip);
  if (turned != kNone) g = g + factor * f.tensor(turned) / sqrt(max(f.scalar(from.squares), 1e-12));
  const Expr allots = greater(schedule.end + 0.5, f.scalar(u.step));  // a step from 1 on
  const Expr a = UpdateExpr::read_state(f, u, kSensitivity), v = UpdateExpr::read_state(f, u, kUncertainty);
  const Expr now = abs(p * g), next = b1 * a + (1 - b1) * now;
  const Expr sensitivity = select(allots, next, a),
             uncertainty = select(allots, b2 * v + (1 - b2) * abs(now - next), v);
  UpdateExpr::store_state(f, u, kSensitivity, sensitivity);
  UpdateExpr::store_state(f, u, kUncertainty, uncertainty);
  ValueId score = kNone, gradient = kNone;
  f.output(gradient, g);
  f.output(score, sensitivity * uncertainty);
  f.emit();
  u.gradient = gradient, u.clip = kNone;
  return score;
}

// B^T B, of all parts.
ValueId gram_of(const std::vector<Update*>& parts) {
  Graph& g = parts.front()->graph;
  ValueId gram = kNone;
  for (const Update* const part : parts) {
    const std::string name = part->name() + ".gram";
    gram = gram == kNone ? inner(g, part->parameter, part->parameter, name)
                         : g.emit(kLinearDw, ScaleAttributes{}, {gram, part->parameter, part->parameter}, name);
  }
  return gram;
}

// The score of every rank of a layer, [rank].
ValueId weigh_layer(const Layer& layer, double factor) {
  Graph& g = layer.e->graph;
  Update& a = *layer.a;
  const std::string name = a.name();
  const Departure of_a = departure(g, product_transposed(g, a.parameter, a.parameter, name + ".gram"), name);
  const ValueId turned = product(g, of_a.matrix, a.parameter, name + ".turned");
  const ValueId scores = reduce(g, weigh(a, of_a, turned, factor), Reduce::sum, ReduceOver::columns, name + ".scores");
  const ValueId of_e = weigh(*layer.e, {}, kNone, 0);
  double rows = 0;
  for (const Update* const part : layer.b) rows += static_cast<double>(part->trained.shape[0]);
  Fused f(g, name + ".ranks");
  const Expr own = f.tensor(of_e), first = f.tensor(scores);
  Expr sum = own + first / static_cast<double>(a.trained.shape[1]);
  const Departure of_b = departure(g, gram_of(layer.b), layer.b.front()->name());
  for (Update* const part : layer.b) {
    const std::string of = part->name();
    const ValueId all = weigh(*part, of_b, product(g, part->parameter, of_b.matrix, of + ".turned"), factor);
    sum = sum + f.tensor(reduce(g, all, Reduce::sum, ReduceOver::rows, of + ".scores")) / rows;
  }
  ValueId ranks = kNone;
  f.output(ranks, sum);
  f.emit();
  return ranks;
}

// Numbers [n] as [1, count], zeros around them.
ValueId placed(Graph& g, ValueId numbers, int64_t at, int64_t count) {
  const int64_t own = g.value(numbers).type.shape[0];
  ValueId row = kNone;
  Fused f(g, fmt::format("adalora.row.{}", at));
  f.builder().shape({1, own});
  f.output(row, f.tensor(numbers));
  f.emit();
  const SliceAttributes place{SliceAttributes::Axis::columns, at, own, count};
  return g.emit(kPad, place, {row}, fmt::format("adalora.placed.{}", at));
}

// All of them in one vector.
ValueId joined(Graph& g, std::span<const ValueId> ranks, int64_t count) {
  ValueId all = kNone;
  int64_t at = 0;
  for (const ValueId some : ranks) {
    const ValueId here = placed(g, some, at, count);
    at += g.value(some).type.shape[0];
    if (all == kNone) {
      all = here;
      continue;
    }
    Fused f(g, fmt::format("adalora.scores.to_{}", at));
    const Expr before = f.tensor(all), next = f.tensor(here);
    f.output(all, before + next);
    f.emit();
  }
  return reduce(g, all, Reduce::sum, ReduceOver::rows, "adalora.scores");
}

// The ranks that a step leaves; the largest score that is not among them.
ValueId threshold(const Update& u, ValueId scores, int64_t count, double target) {
  Graph& g = u.graph;
  const Schedule schedule(u);
  const bool wanted[] = {true, false};
  const ValueId sorted = g.emit(kTopK, TopKAttributes{count}, {scores}, "adalora.sorted", wanted);
  const ValueId places = g.add_value(fmt::format("adalora.places.{}", count), {{count}}, Role::constant,
                                     Initial::table(
                                         [](int64_t first, int64_t some, float* to) {
                                           for (int64_t i = 0; i < some; ++i) to[i] = static_cast<float>(first + i);
                                         },
                                         "places"));
  ValueId picked = kNone;
  Fused f(g, "adalora.picked");
  const Expr score = f.tensor(sorted), place = f.tensor(places), i = f.scalar(u.step) - 1;
  const Expr part = min(max(1 - (i - schedule.begin) / (schedule.end - schedule.begin), 0.0), 1.0);
  const Expr budget = floor((static_cast<double>(count) - target) * part * part * part + target + 1e-9);
  f.output(picked, score * greater(0.5, abs(place - budget)));
  f.emit();
  return reduce(g, picked, Reduce::sum, ReduceOver::all, "adalora.threshold");
}

void together(std::span<Update* const> updates) {
  const std::vector<Layer> layers = layers_of(updates);
  if (layers.empty()) return;
  const Update& any = *layers.front().e;
  std::vector<ValueId> ranks;
  int64_t count = 0;
  for (const Layer& layer : layers) {
    ranks.push_back(weigh_layer(layer, any.options["orthogonal"] / static_cast<double>(layers.size())));
    count += layer.rank();
  }
  const double target = any.options["rank"] * static_cast<double>(layers.size());
  if (target >= static_cast<double>(count)) return;  // all stay
  const ValueId least = threshold(any, joined(any.graph, ranks, count), count, target);
  for (size_t i = 0; i < layers.size(); ++i) layers[i].e->statistics = {ranks[i]}, layers[i].e->totals = {least};
}

void after(Update& u) {
  if (u.totals.empty()) return;
  const Schedule schedule(u);
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
                                .after = after};

}  // namespace thimble
