// OFT: the input of a frozen layer is turned by trained orthogonal blocks, so that angles between neurons stay.
//
//   Paper   Qiu et al. 2023, arXiv:2306.07280, eq. 4; of the input instead of the weight, and the series: Qiu et al.
//           2025, arXiv:2506.19847 (OFTv2), sections 4.1 and 4.2
//   Graph   Q_i skew-symmetric of its trained numbers;  R_i = I + 2 Q + 2 Q^2 + ... + Q^k, k = terms - 1, or with
//           neumann=0 the exact (I - Q)(I + Q)^-1;  y = (x diag(R)) W^T + b
//   Bound   with constrained=1 (COFT) |Q_i| <= eps / sqrt(n), n blocks that are stored: beyond it Q_i is scaled down,
//           whose gradient is taken as if it were not (oft_bound.cpp)
//   Adds    for n blocks of size b: [n, b (b - 1) / 2], zeros; one block with shared=1
//   Names   as PEFT's: "<module>.oft_R.weight"
//   Choice  sizes that do not divide the layer's input are the nearest that do, as in PEFT; the sign of Q in the two
//           forms of R is PEFT's
#include "methods/rewrites/oft.h"

#include "methods/rewrites/rotation.h"
#include "ops/pointwise.h"
#include "ops/table.h"
#include "ops/update.h"

namespace thimble {
namespace {

using Kind = PeftField::Kind;
constexpr PeftField kFields[] = {{"r", "blocks", Kind::whole},
                                 {"oft_block_size", "block_size", Kind::whole},
                                 {"block_share", "shared", Kind::flag},
                                 {"coft", "constrained", Kind::flag},
                                 {"eps", "eps", Kind::number, {}, 6e-5},
                                 {"use_cayley_neumann", "neumann", Kind::flag, {}, 1},
                                 {"num_cayley_neumann_terms", "terms", Kind::whole, {}, 5}};
constexpr PeftNote kTraining[] = {{"module_dropout", "blocks are left out in training"}};

// The nearest divisor; of two as near the lower.
int64_t nearest_divisor(int64_t extent, int64_t asked) {
  if (asked >= extent) return extent;
  int64_t higher = asked, lower = asked;
  while (extent % higher != 0) ++higher;
  while (extent % lower != 0) --lower;
  return asked - lower <= higher - asked ? lower : higher;
}

struct Blocks {
  int64_t count, size;
};
Blocks blocks_of(const OptionValues& options, int64_t in) {
  if (const auto size = static_cast<int64_t>(options["block_size"]); size > 0) {
    const int64_t divisor = nearest_divisor(in, size);
    return {in / divisor, divisor};
  }
  const int64_t count = nearest_divisor(in, static_cast<int64_t>(options["blocks"]));
  return {count, in / count};
}

Result<void> check(const OptionValues& options, int64_t in, int64_t) {
  if ((options["block_size"] > 0) == (options["blocks"] > 0))
    return fail(ErrorCode::invalid_argument,
                "expected one of block_size (oft_block_size) and blocks (r), and 0 for the other; found {} and {}",
                options["block_size"], options["blocks"]);
  if (blocks_of(options, in).size < 2)
    return fail(ErrorCode::invalid_argument, "blocks of {} inputs turn nothing; give a larger block_size", 1);
  return {};
}

// The numbers as they count, with the gradient of those that are stored.
ValueId within_bound(ModuleRewrite& m, ValueId numbers) {
  const ValueId bounded = oft_bounded(m.graph, numbers, m.option("eps"), m.name("oft_bounded"));
  if (!m.trains()) return bounded;
  PointwiseBuilder change, sum;
  const Expr to = change.tensor(), from = change.tensor();
  change.output(to - from);
  const ValueId by = m.graph.emit(kPointwise, change.attributes(), {bounded, numbers}, m.name("oft_change"));
  sum.output(sum.tensor() + sum.tensor());
  return m.graph.emit(kPointwise, sum.attributes(), {numbers, m.graph.emit(kDetach, {}, {by}, m.name("oft_detached"))},
                      m.name("oft_within"));
}

ValueId rotation(ModuleRewrite& m) {
  return m.once("oft_rotation", [&] {
    const auto [count, size] = blocks_of(m.module.options, m.in);
    const int64_t stored = m.option("shared") > 0 ? 1 : count;
    ValueId numbers = m.add(kOftR, {stored, size * (size - 1) / 2}, Initial::constant(0));
    if (m.option("constrained") > 0) numbers = within_bound(m, numbers);
    const ValueId q = skew_blocks(m, numbers, size, m.name("oft_Q"));
    if (m.option("neumann") == 0) return cayley(m, q, stored, m.name("oft_rotation"));
    // PEFT adds a third power where three terms are asked for.
    const auto terms = static_cast<int64_t>(m.option("terms"));
    return terms == 1
               ? cayley_series(m, q, stored, 0, m.name("oft_rotation"))
               : cayley_series(m, q, stored, terms == 2 ? 1 : std::max<int64_t>(3, terms - 1), m.name("oft_rotation"));
  });
}

void adapt(ModuleRewrite& m) {
  const int64_t count = blocks_of(m.module.options, m.in).count;
  const ValueId r = rotation(m);
  const ValueId x = m.once("oft_x", [&] {
    return turned(m, m.x, r, count, false, m.option("shared") > 0, m.attributes.codec, m.name("oft_x"));
  });
  m.y = m.linear(x, m.w, {}, m.bias, m.addend, m.module.name);
}

ValueId weight(ModuleRewrite& m) {
  const int64_t count = blocks_of(m.module.options, m.in).count;
  return turned(m, m.w, rotation(m), count, true, m.option("shared") > 0, &kF32, m.name("oft_W"));
}

}  // namespace

const Rewrite kOft = {.name = "oft",
                      .summary = "inputs of frozen layers are turned by trained orthogonal blocks",
                      .paper = "arXiv:2306.07280",
                      .rate = 10,
                      .options = kOftOptions,
                      .adapt = adapt,
                      .weight = weight,
                      .check = check,
                      .wrapper = &kOftBound,
                      .form = {.type = "OFT", .fields = kFields, .training = kTraining, .init_field = "init_weights"}};

}  // namespace thimble
