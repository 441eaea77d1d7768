// SaRA in training: in the middle of the run, numbers that have grown out of the smallest are frozen as they are, and
// those that have not moved far go on.
//
//   Paper   Hu et al. 2024, arXiv:2409.06633, section 3.4
//   Update  t = max |P| of a row as the run begins; before step `adjust_at`, from 0, trains <- |P| < t; then P stays
//           where trains is 0, whatever the optimizer's moments and decay would do
//   State   t [out]; trains, shape of P, in bf16
//   Choice  the paper's threshold is one for all layers; t is that of the row (sara.cpp)
#include "methods/optimizers/matrices.h"
#include "methods/optimizers/update_expr.h"
#include "methods/rewrites/sara.h"

namespace thimble {
namespace {

enum State : size_t { kLargest, kTrains };
constexpr double kPart = 0.5;  // of the run
constexpr std::string_view kFirst = "sara.first";

bool is_values(std::string_view name) { return name.find(fmt::format(".{}", kSaraValues)) != std::string_view::npos; }

// The step from 0 before which it is; 0: never, as the length of the run is not known.
double adjusts_at(const Update& u) {
  return u.options["adjust_at"] > 0 ? u.options["adjust_at"] : std::floor(kPart * static_cast<double>(u.steps));
}

std::vector<StateSpec> states(const Parameter& parameter, const OptionValues&) {
  if (!is_values(parameter.name)) return {};
  return {{.name = "largest", .shape = {parameter.shape[0]}, .any_codec = false},
          {.name = "trains", .shape = parameter.shape, .codec = &kBf16, .initial = 1, .any_codec = false}};
}

// The largest magnitude of every row, [out].
void measure(Update& u) {
  ValueId sizes = kNone;
  Fused f(u.graph, "sara.sizes." + u.name());
  f.output(sizes, abs(f.tensor(u.parameter)));
  f.emit();
  const ValueId largest = reduce(u.graph, sizes, Reduce::maximum, ReduceOver::columns, "sara.largest_of." + u.name());
  Fused store(u.graph, "sara.largest_stored." + u.name());
  (void)store.tensor(u.states[kLargest]);
  const Expr found = store.tensor(largest);
  store.store(u.states[kLargest], found);
  store.emit();
}

void before(Update& u) {
  if (!is_values(u.name()) || adjusts_at(u) == 0) return;
  if (u.is_due(kFirst)) measure(u);
  ValueId held = kNone;
  Fused f(u.graph, "sara.adjusted." + u.name());
  const Expr trains = f.tensor(u.states[kTrains]), p = f.tensor(u.parameter), largest = f.column(u.states[kLargest]);
  const Expr now = greater(0.5, abs(f.scalar(u.step) - 1 - adjusts_at(u)));
  f.store(u.states[kTrains], select(now, greater(largest, abs(p)), trains));
  f.output(held, p);
  f.emit();
  u.statistics = {held};
}

void after(Update& u) {
  if (u.statistics.empty()) return;
  Fused f(u.graph, "sara.frozen." + u.name());
  const Expr moved = f.tensor(u.parameter), held = f.tensor(u.statistics[0]), trains = f.tensor(u.states[kTrains]);
  f.store(u.parameter, select(trains, moved, held));
  f.emit();
}

constexpr Period kPeriods[] = {{kFirst, [](const OptionValues&) { return kOnce; }}};

}  // namespace

const Wrapper kSaraAdjustment = {.name = "sara",
                                 .summary = "freezes numbers that have grown out of a row's smallest",
                                 .paper = "arXiv:2409.06633",
                                 .options = kSaraOptions,
                                 .states = states,
                                 .before = before,
                                 .after = after,
                                 .periods = kPeriods,
                                 .scheduled = true};

}  // namespace thimble
