// OFT: the input of a frozen layer is turned by trained orthogonal blocks, so that angles between neurons stay.
//
//   Paper   Qiu et al. 2023, arXiv:2306.07280, eq. 4; of the input instead of the weight, and the series: Qiu et al.
//           2025, arXiv:2506.19847 (OFTv2), sections 4.1 and 4.2
//   Graph   Q_i skew-symmetric of its trained numbers;  R_i = I + 2 Q + 2 Q^2 + ... + Q^k, k = terms - 1, or with
//           neumann=0 the exact (I - Q)(I + Q)^-1;  y = (x diag(R)) W^T + b
//   Adds    for n blocks of size b: [n, b (b - 1) / 2], zeros; one block with shared=1
//   Names   as PEFT's: "<module>.oft_R.weight"
//   Choice  sizes that do not divide the layer's input are the nearest that do, as in PEFT; the sign of Q in the two
//           forms of R is PEFT's
#include "methods/rewrites/rotation.h"

namespace thimble {
namespace {

constexpr Option kOptions[] = {
    whole_number("block_size", 32, 0, 4096, "b, elements of the input that are turned together; 0: as `blocks` says"),
    whole_number("blocks", 0, 0, 65536, "n, blocks of a layer; 0: as `block_size` says"),
    zero_or_one("shared", 0, "1: all blocks of a layer are the same"),
    zero_or_one("neumann", 1, "1: the inverse is a series; 0: it is exact"),
    whole_number("terms", 5, 1, 64, "of the series"),
};
using Kind = PeftField::Kind;
constexpr PeftField kFields[] = {{"r", "blocks", Kind::whole},
                                 {"oft_block_size", "block_size", Kind::whole},
                                 {"block_share", "shared", Kind::flag},
                                 {"use_cayley_neumann", "neumann", Kind::flag, {}, 1},
                                 {"num_cayley_neumann_terms", "terms", Kind::whole, {}, 5}};
constexpr PeftNote kHarmless[] = {{"eps", "it is used with coft alone"}};
constexpr PeftNote kRefused[] = {{"coft", "weights are projected in place whenever they are used (constrained OFT)"}};
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

ValueId rotation(ModuleRewrite& m) {
  return m.once("oft_rotation", [&] {
    const auto [count, size] = blocks_of(m.module.options, m.in);
    const int64_t stored = m.option("shared") > 0 ? 1 : count;
    const ValueId numbers = m.add("oft_R.weight", {stored, size * (size - 1) / 2}, Initial::constant(0));
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
                      .options = kOptions,
                      .adapt = adapt,
                      .weight = weight,
                      .check = check,
                      .form = {.type = "OFT",
                               .fields = kFields,
                               .harmless = kHarmless,
                               .refused = kRefused,
                               .training = kTraining,
                               .init_field = "init_weights"}};

}  // namespace thimble
