// Scores of ranks, as AdaLoRA has them.
//
//   Paper   Zhang et al. 2023, arXiv:2303.10512, eq. 4 and 8 to 10
//   Update  g <- g + o d/dp of |A A^T - I| and |B^T B - I|
//           I = |p g|;  a <- b1 a + (1 - b1) I;  u <- b2 u + (1 - b2) |I - a|;  score of a number: a u
//           score of rank k: that of E_k + mean of those of A's row k + mean of those of B's column k
#include "methods/rewrites/rank_scores.h"

#include <map>

#include "methods/optimizers/matrices.h"
#include "methods/optimizers/update_expr.h"
#include "ops/matrix.h"

namespace thimble {
namespace {

bool is(std::string_view name, std::string_view factor) {
  const size_t at = name.rfind(factor);
  if (at == std::string_view::npos) return false;
  const std::string_view rest = name.substr(at + factor.size());
  return rest.empty() || rest.starts_with(".rows_");
}
bool is_b(std::string_view name) { return is(name, ".lora_B"); }

// [rank, rank] less one on the diagonal, and its length [1].
struct Departure {
  ValueId matrix = kNone, squares = kNone;
};
Departure departure(Graph& g, ValueId gram, ValueId alive, const std::string& name) {
  const int64_t n = g.value(gram).type.shape[0];
  const auto fill = [n](int64_t first, int64_t count, float* to) {
    for (int64_t i = first; i < first + count; ++i) to[i - first] = i / n == i % n;
  };
  const ValueId identity = g.constant(fmt::format("ranks.one.{}", n), {{n, n}}, Initial::table(fill, "identity"));
  Departure out;
  PointwiseBuilder b;
  std::vector<ValueId> in{gram, identity};
  const Expr of = b.tensor(), from = b.tensor();
  Expr whole = of - from;
  if (alive != kNone) {
    const Expr row = b.row(), column = b.column();
    whole = whole * row * column;
    in.insert(in.end(), {alive, alive});
  }
  b.output(whole);
  out.matrix = g.emit(kPointwise, b.attributes(), in, name + ".departure");
  out.squares = squared_length(g, out.matrix, name + ".departure.length");
  return out;
}

// The gradient with the orthogonality's; the states; the scores of every number. `turned` is the departure times p, or
// kNone for E.
ValueId weigh(Update& u, const Departure& from, ValueId turned, double factor) {
  const RankSchedule schedule(u);
  const double b1 = u.options["beta1"], b2 = u.options["beta2"];
  Fused f(u.graph, "ranks." + u.name());
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

// Numbers [n] as [1, count], zeros around them.
ValueId placed(Graph& g, ValueId numbers, int64_t at, int64_t count, const std::string& name) {
  const int64_t own = g.value(numbers).type.shape[0];
  ValueId row = kNone;
  Fused f(g, fmt::format("{}.row.{}", name, at));
  f.builder().shape({1, own});
  f.output(row, f.tensor(numbers));
  f.emit();
  const SliceAttributes place{SliceAttributes::Axis::columns, at, own, count};
  return g.emit(kPad, place, {row}, fmt::format("{}.placed.{}", name, at));
}

}  // namespace

bool is_rank_rows(std::string_view name) { return is(name, ".lora_A"); }
bool is_rank_scale(std::string_view name) { return is(name, ".lora_E"); }
bool is_rank_factor(std::string_view name) { return is_rank_rows(name) || is_b(name) || is_rank_scale(name); }

std::vector<RankedLayer> ranked_layers(std::span<Update* const> updates) {
  std::map<std::string, RankedLayer> layers;
  for (Update* const update : updates) {
    const std::string name = update->name(), module = name.substr(0, name.rfind(".lora_"));
    if (is_rank_rows(name)) layers[module].a = update;
    if (is_rank_scale(name)) layers[module].e = update;
    if (is_b(name)) layers[module].b.push_back(update);
  }
  std::vector<RankedLayer> out;
  for (auto& [module, layer] : layers)
    if (layer.a && layer.e && !layer.b.empty()) out.push_back(std::move(layer));
  return out;
}

RankSchedule::RankSchedule(const Update& update) {
  const double total = update.options["total"] > 0 ? update.options["total"]
                       : update.steps > 0          ? static_cast<double>(update.steps)
                                                   : 1e18;
  begin = update.options["tinit"], end = total - update.options["tfinal"];
}

std::vector<StateSpec> rank_states(const Parameter& parameter) {
  if (!is_rank_factor(parameter.name)) return {};
  return {{.name = "sensitivity", .shape = parameter.shape}, {.name = "uncertainty", .shape = parameter.shape}};
}

ValueId rank_scores(const RankedLayer& layer, double orthogonal, ValueId alive) {
  Graph& g = layer.e->graph;
  Update& a = *layer.a;
  const std::string name = a.name();
  const Departure of_a = departure(g, product_transposed(g, a.parameter, a.parameter, name + ".gram"), alive, name);
  const ValueId turned = product(g, of_a.matrix, a.parameter, name + ".turned");
  const ValueId scores =
      reduce(g, weigh(a, of_a, turned, orthogonal), Reduce::sum, ReduceOver::columns, name + ".scores");
  const ValueId of_e = weigh(*layer.e, {}, kNone, 0);
  double rows = 0;
  for (const Update* const part : layer.b) rows += static_cast<double>(part->trained.shape[0]);
  Fused f(g, name + ".ranks");
  const Expr own = f.tensor(of_e), first = f.tensor(scores);
  Expr sum = own + first / static_cast<double>(a.trained.shape[1]);
  const Departure of_b = departure(g, gram_of(layer.b), alive, layer.b.front()->name());
  for (Update* const part : layer.b) {
    const std::string of = part->name();
    const ValueId all = weigh(*part, of_b, product(g, part->parameter, of_b.matrix, of + ".turned"), orthogonal);
    sum = sum + f.tensor(reduce(g, all, Reduce::sum, ReduceOver::rows, of + ".scores")) / rows;
  }
  ValueId ranks = kNone;
  f.output(ranks, sum);
  f.emit();
  return ranks;
}

ValueId joined_ranks(Graph& g, std::span<const ValueId> vectors, int64_t count, const std::string& name) {
  ValueId all = kNone;
  int64_t at = 0;
  for (const ValueId some : vectors) {
    const ValueId here = placed(g, some, at, count, name);
    at += g.value(some).type.shape[0];
    if (all == kNone) {
      all = here;
      continue;
    }
    Fused f(g, fmt::format("{}.to_{}", name, at));
    const Expr before = f.tensor(all), next = f.tensor(here);
    f.output(all, before + next);
    f.emit();
  }
  return reduce(g, all, Reduce::sum, ReduceOver::rows, name);
}

ValueId rank_places(Graph& g, int64_t count) {
  const auto fill = [](int64_t first, int64_t some, float* to) {
    for (int64_t i = 0; i < some; ++i) to[i] = static_cast<float>(first + i);
  };
  return g.constant(fmt::format("ranks.places.{}", count), {{count}}, Initial::table(fill, "places"));
}

}  // namespace thimble
