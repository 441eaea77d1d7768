// mesa: activations wait in bytes, between bounds that are running estimates, one pair for a group of columns.
//
//   Paper   Pan et al. 2021, "Mesa", arXiv:2111.11124, section 4; defaults of ziplab/Mesa (decay 0.9, 256 levels,
//           rounding by chance, one group a head)
//   Keeps   q = clip(round((x - low) 255 / (high - low)), 0, 255), one byte a number
//   Bounds  running <- decay running + (1 - decay) seen, for low and high of each group; the first time: seen
//   State   running, 2 numbers a group, f32
//   Choice  q is made with decay running + (1 - decay) seen, as in the code of the paper, where `seen` is of the 512
//           tokens at hand; the state is that of the whole step before, so that no budget changes a bit. Bounds always
//           include 0.
#include "core/random.h"
#include "methods/keeper.h"
#include "ops/keep.h"
#include "ops/pointwise.h"
#include "ops/table.h"
#include "ops/update.h"

namespace thimble {
namespace {

constexpr Option kOptions[] = {
    whole_number("group", 64, 1, 1 << 20,
                 "columns that share bounds (a head); all of a row where it is not cut in such"),
    {"decay", 0.9, 0, 1, "of the running bounds, a step"},
    zero_or_one("stochastic", 1, "1: rounded up or down by chance; 0: to nearest")};

// What a step has seen of each bound, and how the next step finds it.
void run_on(Keeping& k, ValueId running, ValueId seen, ValueId ranges) {
  Graph& g = k.graph();
  const std::string name = g.value(running).name;
  const ValueId most = g.emit(kReduce, ReduceAttributes{Reduce::maximum, ReduceOver::rows}, {ranges}, name + ".pass");
  PointwiseBuilder b;
  const Expr total = b.tensor();
  b.store(total, max(total, b.tensor()));
  const ValueId all = g.emit(kPointwise, b.attributes(), {seen, most}, name + ".seen");
  k.at_step_end([running, all, name, decay = k.options()["decay"]](Graph& end) {
    PointwiseBuilder u;
    const Expr before = u.tensor(), now = u.tensor();
    const Expr known = greater(before, 0);
    u.store(before, select(known, decay * before + (1 - decay) * now, now));
    end.emit(kPointwise, u.attributes(), {running, all}, name + ".next");
  });
}

ValueId saved(Keeping& k, ValueId value) {
  return k.once("restored", value, [&] {
    Graph& g = k.graph();
    const Type type = g.value(value).type;
    const std::string name = k.name(value);
    const int64_t columns = type.shape.columns(), asked = std::llround(k.options()["group"]);
    const int64_t group = columns % asked == 0 ? asked : columns;
    const ByteAttributes bytes{.group = group,
                               .decay = static_cast<float>(k.options()["decay"]),
                               .stream = k.options()["stochastic"] > 0.5 ? name_hash(name) : 0,
                               .codec = type.codec,
                               .columns = columns};
    const ValueId ranges = k.forward(kGroupRanges, RangeAttributes{group}, {value}, name + ".ranges")[0];
    const Shape bounds{2 * columns / group};
    const ValueId running = k.state(name + ".running", bounds, 0);
    const ValueId kept = k.forward(kToBytes, bytes, {value, ranges, running}, name)[0];
    run_on(k, running, k.accumulator(name + ".seen", bounds), ranges);
    return g.emit(kFromBytes, bytes, {kept, ranges, running}, name + ".restored");
  });
}

}  // namespace

const Keeper kMesa = {.name = "mesa",
                      .summary = "activations of blocks are kept in bytes, between running bounds for each head",
                      .paper = "Pan et al. 2021 (arXiv:2111.11124)",
                      .options = kOptions,
                      .saved = saved};

}  // namespace thimble
