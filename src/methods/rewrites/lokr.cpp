// LoKr: a frozen weight plus the Kronecker product of two small trained matrices, the larger of them of low rank.
//
//   Paper   Yeh et al. 2023, arXiv:2309.14859 (LyCORIS), section 3.2; Edalati et al. 2022, arXiv:2212.10650
//   Graph   W' = W + (alpha / rank) w1 (x) w2;  out = a b, in = c d;  w1 [a, c];  w2 [b, d], or w2_a w2_b of low rank
//           where that is smaller;  decompose_both: w1 likewise
//   Emits   w1 (x) w2 = (P w1 R^T) * (Q w2 S^T), P, Q, R, S constant selections of rows
//   Adds    w1 zeros; w2, and the factors, uniform in +-1/sqrt(columns)
//   Names   as PEFT's: "<module>.lokr_w1", "lokr_w2_a", "lokr_w2_b"; sizes as its factorization() chooses them
#include <algorithm>
#include <cmath>

#include "methods/rewrite.h"
#include "methods/rewrites/kronecker.h"
#include "ops/matrix.h"
#include "ops/pointwise.h"
#include "ops/update.h"

namespace thimble {
namespace {

constexpr Option kOptions[] = {
    whole_number("rank", 8, 1, 65536, "r, of w2 and where decompose_both says so of w1"),
    {"alpha", 8, -1e6, 1e6, "what is added is scaled by alpha / rank"},
    zero_or_one("decompose_both", 0, "1: w1 too is of low rank where that is smaller"),
    whole_number("decompose_factor", -1, -1, 1'000'000,
                 "the smaller factor of the extents; -1: as near to their roots as they allow"),
};
using Kind = PeftField::Kind;
constexpr PeftField kFields[] = {{"r", "rank", Kind::whole, "rank_pattern", 8},
                                 {"alpha", "alpha", Kind::number, "alpha_pattern", 8},
                                 {"decompose_both", "decompose_both", Kind::flag},
                                 {"decompose_factor", "decompose_factor", Kind::whole, {}, -1}};
constexpr PeftNote kHarmless[] = {{"use_effective_conv2d", "it is for convolutions, which these models have none of"},
                                  {"rank_dropout_scale", "it is used with rank_dropout alone"}};
constexpr PeftNote kTraining[] = {{"rank_dropout", "ranks are dropped in training"},
                                  {"module_dropout", "modules are dropped in training"}};

struct Factors {
  int64_t small, large;
};
// As near to the root as divisors allow, the smaller first; where `factor` divides, that is the first.
Factors factorize(int64_t extent, int64_t factor) {
  if (factor > 0 && extent % factor == 0) return {factor, extent / factor};
  const int64_t most = factor < 0 ? extent : factor;
  Factors best{1, extent};
  for (int64_t m = 2; m <= most && best.small < best.large; ++m) {
    if (extent % m != 0) continue;
    if (m + extent / m > best.small + best.large) break;
    best = {m, extent / m};
  }
  return {std::min(best.small, best.large), std::max(best.small, best.large)};
}

// w1 or w2, whole or as a product.
ValueId factor(ModuleRewrite& m, const char* name, int64_t rows, int64_t columns, bool whole, bool zero) {
  const auto rank = static_cast<int64_t>(m.option("rank"));
  const auto uniform = [](int64_t n) { return Initial::uniform(1 / std::sqrt(static_cast<float>(n))); };
  if (whole) return m.add(name, {rows, columns}, zero ? Initial::constant(0) : uniform(columns));
  const std::string text(name);
  const ValueId a = m.add(text + "_a", {rows, rank}, zero ? Initial::constant(0) : uniform(rank));
  const ValueId b = m.add(text + "_b", {rank, columns}, uniform(columns));
  return multiplied(m, a, b, false, m.module.name + "." + text);
}

ValueId weight(ModuleRewrite& m) {
  const auto asked = static_cast<int64_t>(m.option("decompose_factor"));
  const Factors in = factorize(m.in, asked), out = factorize(m.module.whole, asked);
  const double rank = m.option("rank");
  const bool whole1 = m.option("decompose_both") == 0 || rank >= static_cast<double>(std::max(out.small, in.small)) / 2;
  const bool whole2 = rank >= static_cast<double>(std::max(out.large, in.large)) / 2;
  const ValueId w1 = factor(m, "lokr_w1", out.small, in.small, whole1, true);
  const ValueId w2 = factor(m, "lokr_w2", out.large, in.large, whole2, false);
  // Element (i b + k, j d + l) is w1[i, j] w2[k, l].
  const auto spread = [&](ValueId w, int64_t n, int64_t divisor, int64_t columns, int64_t by, const char* name) {
    const ValueId selected = m.rows(m.rows_of_owner(selection(m, m.module.whole, n, divisor)));
    const ValueId rows = multiplied(m, selected, w, false, m.module.name + name);
    return multiplied(m, rows, selection(m, m.in, columns, by), true, m.module.name + name);
  };
  const ValueId left = spread(w1, out.small, out.large, in.small, in.large, ".lokr_left");
  const ValueId right = spread(w2, out.large, 1, in.large, 1, ".lokr_right");
  PointwiseBuilder b;
  const Expr w = b.tensor(), x = b.tensor(), y = b.tensor();
  b.output(w + x * y * (m.module.scale * m.option("alpha") / rank));
  return m.graph.emit(kPointwise, b.attributes(), {m.w, left, right}, m.name("lokr_W"));
}

}  // namespace

const Rewrite kLokr = {
    .name = "lokr",
    .summary = "frozen weights plus Kronecker products of small matrices",
    .paper = "arXiv:2309.14859",
    .rate = 5,
    .options = kOptions,
    .weight = weight,
    .scales = true,
    .form = {
        .type = "LOKR", .fields = kFields, .harmless = kHarmless, .training = kTraining, .init_field = "init_weights"}};

}  // namespace thimble
