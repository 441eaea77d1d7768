// LaMDA in training: columns of B freeze one after another, the first ones first.
//
//   Paper   Azizi et al. 2024, arXiv:2406.12832, section 3: all of B is frozen after three tenths of the run
//   Update  before step i, from 0, the first floor(rank i / frozen_by) columns stay as they were, whatever the
//           optimizer's moments and decay would do
//   State   none: the parameter as it was lives for one update
//   Choice  the authors' code zeroes gradients of the columns, which moments go on moving for some steps, and counts
//           whole thirds of the run for columns. Memory of gradient and moments of B is held for the whole run: the
//           plan is that of its largest step
#include "methods/optimizers/update_expr.h"
#include "methods/rewrites/lamda.h"

namespace thimble {
namespace {

constexpr double kPart = 0.3;  // of the run

bool is_b(std::string_view name) { return name.find(fmt::format(".{}", kLamdaB)) != std::string_view::npos; }

// Steps by which all columns are frozen; 0: they never are, as the length of the run is not known.
double steps_of(const Update& u) {
  return u.options["frozen_by"] > 0 ? u.options["frozen_by"] : kPart * static_cast<double>(u.steps);
}

std::vector<StateSpec> states(const Parameter&, const OptionValues&) { return {}; }

void before(Update& u) {
  if (!is_b(u.name()) || steps_of(u) == 0) return;
  ValueId held = kNone;
  Fused f(u.graph, "lamda.held." + u.name());
  f.output(held, f.tensor(u.parameter));
  f.emit();
  u.statistics = {held};
}

void after(Update& u) {
  if (u.statistics.empty()) return;
  const int64_t rank = u.trained.shape[1];
  const std::string name = fmt::format("lamda.columns.{}", rank);
  const auto fill = [](int64_t first, int64_t count, float* to) {
    for (int64_t i = 0; i < count; ++i) to[i] = static_cast<float>(first + i);
  };
  const ValueId columns = u.graph.constant(name, {{rank}}, Initial::table(fill, name));
  Fused f(u.graph, "lamda.frozen." + u.name());
  const Expr moved = f.tensor(u.parameter), held = f.tensor(u.statistics[0]), column = f.row(columns);
  const Expr frozen = floor(static_cast<double>(rank) * (f.scalar(u.step) - 1) / steps_of(u) + 1e-9);
  f.store(u.parameter, select(greater(frozen, column), held, moved));
  f.emit();
}

}  // namespace

const Wrapper kLamdaFreezing = {.name = "lamda",
                                .summary = "freezes LaMDA's second projection, column after column",
                                .paper = "arXiv:2406.12832",
                                .options = kLamdaOptions,
                                .states = states,
                                .before = before,
                                .after = after,
                                .scheduled = true};

}  // namespace thimble
