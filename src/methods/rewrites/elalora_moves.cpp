// ElaLoRA in training: the ranks that matter least are taken from their layers, and layers whose least ranks matter
// more than others' get new ones.
//
//   Paper   Chang et al. 2025, arXiv:2504.00254, section 3.2 to 3.4 and the authors' code
//           (github.com/HuandongChang/ElaLoRA); scores as AdaLoRA's (rank_scores.cpp)
//   Update  of every layer the `of_layer` least scores, but never the last rank's, are gathered; the `moves` least of
//           them all are taken away (E <- 0), and each of the `moves` largest gives its layer a rank: row of A and
//           column of B normal, less what lies along those that are there, of length 1; E <- 1e-13
//           With `falling` moves <- round(moves (1 - p^3)), p the part of the time in which ranks move that is over
//   State   AdaLoRA's of each number; those of a new rank begin at zero
//   Choice  a layer without room gives its place to the next. Ranks move at steps that `every` divides, counted from 0.
//           Two ranks that are new in one layer at once are not made orthogonal to each other. The optimizer's moments
//           of a place stay. Equal scores are told apart by their places
#include "methods/optimizers/matrices.h"
#include "methods/optimizers/update_expr.h"
#include "methods/rewrites/elalora.h"
#include "methods/rewrites/rank_scores.h"
#include "ops/matrix.h"

namespace thimble {
namespace {

constexpr std::string_view kMoves = "elalora.moves";
constexpr double kNever = 1e30;  // a score that none has

std::vector<StateSpec> states(const Parameter& parameter, const OptionValues&) { return rank_states(parameter); }

// A layer while ranks move: everything f32, [rank] but where it says otherwise.
struct Moving {
  RankedLayer layer;
  ValueId alive = kNone, key = kNone;   // 1 where a rank is there; its score, kNever of others
  ValueId least = kNone, most = kNone;  // [of_layer]: what may be taken away, and what speaks for a new rank
  ValueId bound = kNone;                // [1]: the largest of `least` that is one
  ValueId kept = kNone, fresh = kNone;  // 1 where a rank stays, and where one begins
};

ValueId alive_of(const RankedLayer& layer) {
  ValueId alive = kNone;
  Fused f(layer.e->graph, "elalora.alive." + layer.e->name());
  f.output(alive, greater(abs(f.tensor(layer.e->parameter)), 0.0));
  f.emit();
  return alive;
}

ValueId sum_of(Graph& g, ValueId x, const std::string& name) {
  return reduce(g, x, Reduce::sum, ReduceOver::all, name);
}

// The ranks of a layer that may be taken away, and those that speak for another.
void nominate(Moving& m, ValueId scores, int64_t count) {
  Graph& g = m.layer.e->graph;
  const std::string name = "elalora." + m.layer.e->name();
  const int64_t ranks = m.layer.rank();
  ValueId negative = kNone;
  Fused f(g, name + ".key");
  const Expr score = f.tensor(scores), there = f.tensor(m.alive), place = f.tensor(rank_places(g, ranks));
  const Expr key = select(there, score * (1 + 1e-5 * place) + 1e-36 * place, f.constant(kNever));
  f.output(m.key, key);
  f.output(negative, -1 * key);
  f.emit();
  const bool wanted[] = {true, false};
  const ValueId lowest = g.emit(kTopK, TopKAttributes{count}, {negative}, name + ".lowest", wanted);
  const ValueId alive = sum_of(g, m.alive, name + ".count");
  ValueId known = kNone;
  Fused c(g, name + ".nominated");
  const Expr low = -1 * c.tensor(lowest), number = c.tensor(rank_places(g, count)), all = c.scalar(alive);
  const Expr may = greater(all - 1.5, number);  // the last rank stays
  const Expr room = greater(static_cast<double>(ranks) - all - 0.5, number);
  c.output(m.least, select(may, low, c.constant(kNever)));
  c.output(m.most, select(may * room, low, c.constant(-kNever)));
  c.output(known, select(may, low, c.constant(-kNever)));
  c.emit();
  m.bound = reduce(g, known, Reduce::maximum, ReduceOver::all, name + ".bound");
}

// How many ranks move in this step, 0 or more.
Expr moves_in(Fused& f, const Update& any) {
  const RankSchedule schedule(any);
  const Expr i = f.scalar(any.step) - 1;
  const Expr part = min(max((i - schedule.begin) / (schedule.end - schedule.begin), 0.0), 1.0);
  const Expr when = greater(i, schedule.begin) * greater(schedule.end, i);
  const double most = any.options["moves"];
  return any.options["falling"] > 0 ? when * floor(most * (1 - part * part * part) + 0.5) : when * most;
}

// The number of the sorted [count] that comes last of those that move; beyond any where none moves.
ValueId limit(const Update& any, ValueId scores, int64_t count, double none, const std::string& name) {
  Graph& g = any.graph;
  const bool wanted[] = {true, false};
  const ValueId sorted = g.emit(kTopK, TopKAttributes{count}, {scores}, name + ".sorted", wanted);
  ValueId picked = kNone, whole = kNone;
  Fused f(g, name + ".picked");
  const Expr score = f.tensor(sorted), place = f.tensor(rank_places(g, count));
  const Expr last = min(moves_in(f, any), static_cast<double>(count)) - 1;
  f.output(picked, score * greater(0.5, abs(place - last)));
  f.emit();
  const ValueId found = sum_of(g, picked, name + ".found");
  Fused w(g, name);
  const Expr value = w.tensor(found), any_moves = greater(moves_in(w, any), 0.5);
  w.output(whole, select(any_moves, value, w.constant(none)));
  w.emit();
  return whole;
}

// Which ranks stay and which begin: places that are free now, the first ones.
void decide(Moving& m, ValueId below, ValueId above) {
  Graph& g = m.layer.e->graph;
  const std::string name = "elalora." + m.layer.e->name();
  const int64_t ranks = m.layer.rank();
  ValueId votes = kNone, counted = kNone;
  Fused v(g, name + ".votes");
  const Expr most = v.tensor(m.most);
  v.output(votes, (1 - greater(v.scalar(above), most)) * greater(most, -kNever / 10));
  v.emit();
  // [rank, rank]: how many places up to this one are free.
  const auto fill = [ranks](int64_t first, int64_t count, float* to) {
    for (int64_t i = first; i < first + count; ++i) to[i - first] = i % ranks <= i / ranks;
  };
  const ValueId up_to =
      g.constant(fmt::format("elalora.triangle.{}", ranks), {{ranks, ranks}}, Initial::table(fill, "triangle"));
  Fused t(g, name + ".free");
  const Expr before = t.tensor(up_to), alive = t.row(m.alive);
  t.output(counted, before * (1 - alive));
  t.emit();
  const ValueId order = reduce(g, counted, Reduce::sum, ReduceOver::columns, name + ".order");
  Fused f(g, name + ".decided");
  const Expr there = f.tensor(m.alive), key = f.tensor(m.key), nth = f.tensor(order);
  const Expr wanted = f.scalar(sum_of(g, votes, name + ".wanted"));
  const Expr stays = max(greater(key, -1 * f.scalar(below)), greater(key, f.scalar(m.bound)));
  f.output(m.kept, there * stays);
  f.output(m.fresh, (1 - there) * greater(wanted + 0.5, nth));
  f.emit();
}

// Normal rows of A's shape, less what lies along its rows that are there, of length 1.
ValueId fresh_rows(const Update& a, ValueId alive) {
  Graph& g = a.graph;
  const std::string name = "elalora." + a.name();
  ValueId drawn = kNone, there = kNone, rest = kNone, rows = kNone;
  Fused f(g, name + ".drawn");
  const Expr own = f.tensor(a.parameter), row = f.column(alive);
  f.output(drawn, f.builder().normal_noise(name_hash(name)));
  f.output(there, own * row);
  f.emit();
  const ValueId along = product(g, product_transposed(g, drawn, there, name + ".along"), there, name + ".projected");
  Fused r(g, name + ".rest");
  const Expr whole = r.tensor(drawn), part = r.tensor(along);
  r.output(rest, whole - part);
  r.emit();
  const ValueId squares = reduce(g, rest, Reduce::squares, ReduceOver::columns, name + ".squares");
  Fused n(g, name + ".rows");
  const Expr direction = n.tensor(rest), size = n.column(squares);
  n.output(rows, direction / (sqrt(size) + 1e-6));
  n.emit();
  return rows;
}

// Columns of B likewise, of all its parts.
std::vector<ValueId> fresh_columns(const std::vector<Update*>& parts, ValueId alive) {
  Graph& g = parts.front()->graph;
  std::vector<ValueId> drawn(parts.size()), there(parts.size()), rest(parts.size()), columns(parts.size());
  ValueId along = kNone, squares = kNone;
  const auto name_of = [&](size_t i) { return "elalora." + parts[i]->name(); };
  for (size_t i = 0; i < parts.size(); ++i) {
    const std::string name = name_of(i);
    Fused f(g, name + ".drawn");
    const Expr own = f.tensor(parts[i]->parameter), column = f.row(alive);
    f.output(drawn[i], f.builder().normal_noise(name_hash(name)));
    f.output(there[i], own * column);
    f.emit();
    along = along == kNone ? inner(g, there[i], drawn[i], name + ".along")
                           : g.emit(kLinearDw, ScaleAttributes{}, {along, there[i], drawn[i]}, name + ".along");
  }
  for (size_t i = 0; i < parts.size(); ++i) {
    const ValueId projected = product(g, there[i], along, name_of(i) + ".projected");
    Fused r(g, name_of(i) + ".rest");
    const Expr whole = r.tensor(drawn[i]), part = r.tensor(projected);
    r.output(rest[i], whole - part);
    r.emit();
    const ValueId own = reduce(g, rest[i], Reduce::squares, ReduceOver::rows, name_of(i) + ".squares");
    Fused s(g, name_of(i) + ".sum");
    const Expr one = s.tensor(own);
    if (squares != kNone) {
      ValueId sum = kNone;
      s.output(sum, one + s.tensor(squares));
      s.emit();
      squares = sum;
    } else {
      squares = own;
    }
  }
  for (size_t i = 0; i < parts.size(); ++i) {
    Fused n(g, name_of(i) + ".columns");
    const Expr direction = n.tensor(rest[i]), size = n.row(squares);
    n.output(columns[i], direction / (sqrt(size) + 1e-6));
    n.emit();
  }
  return columns;
}

void move_ranks(std::vector<Moving>& all, const std::vector<ValueId>& scores) {
  const Update& any = *all.front().layer.e;
  std::vector<ValueId> least, most;
  int64_t count = 0;
  for (size_t i = 0; i < all.size(); ++i) {
    const int64_t own =
        std::min(static_cast<int64_t>(any.options["of_layer"]), std::max<int64_t>(1, all[i].layer.rank() - 1));
    nominate(all[i], scores[i], own);
    ValueId negative = kNone;
    Fused f(any.graph, "elalora.negative." + all[i].layer.e->name());
    f.output(negative, -1 * f.tensor(all[i].least));
    f.emit();
    least.push_back(negative), most.push_back(all[i].most), count += own;
  }
  Graph& g = any.graph;
  // Of what is taken away scores are negative: the largest of them are the least.
  const ValueId below = limit(any, joined_ranks(g, least, count, "elalora.least"), count, kNever, "elalora.below");
  const ValueId above = limit(any, joined_ranks(g, most, count, "elalora.most"), count, kNever, "elalora.above");
  for (Moving& m : all) {
    decide(m, below, above);
    m.layer.e->statistics = {m.alive, m.kept, m.fresh};
    m.layer.a->statistics = {fresh_rows(*m.layer.a, m.alive), m.fresh};
    const std::vector<ValueId> columns = fresh_columns(m.layer.b, m.alive);
    for (size_t i = 0; i < columns.size(); ++i) m.layer.b[i]->statistics = {columns[i], m.fresh};
  }
}

void together(std::span<Update* const> updates) {
  std::vector<Moving> all;
  std::vector<ValueId> scores;
  const std::vector<RankedLayer> layers = ranked_layers(updates);
  for (const RankedLayer& layer : layers) {
    all.push_back({.layer = layer, .alive = alive_of(layer)});
    const double orthogonal = layer.e->options["orthogonal"] / static_cast<double>(layers.size());
    scores.push_back(rank_scores(layer, orthogonal, all.back().alive));
    layer.e->statistics = {all.back().alive};
  }
  if (!all.empty() && all.front().layer.e->is_due(kMoves)) move_ranks(all, scores);
}

// What is not there stays at zero; what is there is never zero, or it would be gone.
void after_scale(Update& u) {
  Fused f(u.graph, "elalora.scales." + u.name());
  const Expr moved = f.tensor(u.parameter), alive = f.tensor(u.statistics[0]);
  const Expr some = select(greater(abs(moved), 0.0), moved, f.constant(kFreshRank));
  if (u.statistics.size() == 1) {
    f.store(u.parameter, alive * some);
  } else {
    const Expr kept = f.tensor(u.statistics[1]), fresh = f.tensor(u.statistics[2]);
    f.store(u.parameter, kept * some + fresh * double{kFreshRank});
  }
  f.emit();
}

void after(Update& u) {
  if (u.statistics.empty()) return;
  const bool scale = is_rank_scale(u.name());
  if (scale) after_scale(u);
  if (u.statistics.size() == 1) return;
  const ValueId fresh = u.statistics.back();
  Fused f(u.graph, "elalora.fresh." + u.name());
  const Expr begins = scale ? f.tensor(fresh) : is_rank_rows(u.name()) ? f.column(fresh) : f.row(fresh);
  if (!scale) {
    const Expr moved = f.tensor(u.parameter), drawn = f.tensor(u.statistics[0]);
    f.store(u.parameter, select(begins, drawn, moved));
  }
  for (const size_t state : {kSensitivity, kUncertainty}) {
    const Expr before = UpdateExpr::read_state(f, u, state);
    UpdateExpr::store_state(f, u, state, before * (1 - begins));
  }
  f.emit();
}

constexpr Period kPeriods[] = {{kMoves, [](const OptionValues& o) { return static_cast<int64_t>(o["every"]); }}};

}  // namespace

const Wrapper kElaloraMoves = {.name = "elalora",
                               .summary = "moves ranks to the layers where they matter most",
                               .paper = "arXiv:2504.00254",
                               .options = kElaloraOptions,
                               .states = states,
                               .on_gradient = true,
                               .together = together,
                               .after = after,
                               .periods = kPeriods,
                               .scheduled = true};

}  // namespace thimble
