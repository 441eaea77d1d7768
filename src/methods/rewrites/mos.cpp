// MoS: the factors of LoRA are put together from shards of pools that all layers of one kind share.
//
//   Paper   Wang et al. 2024, arXiv:2410.00938, section 3: subset selection, pair dissociation, vector sharding, shard
//           privatization
//   Graph   y = x W^T + s (h B^T), h = dropout(x) A^T, s = alpha / rank. A row of A is `shards` pieces of a pool,
//           chosen by a draw that is fixed for each layer; a column of B likewise, of a pool and a draw of its own;
//           `private` of the ranks are the layer's own
//   Adds    of a kind with L layers pools of (equivalent - private) L shards pieces for A and B; private ranks of each
//           layer. B's pool and private ranks begin at zero, A's uniform in +-1/sqrt(in)
//   Names   "mos_A.<kind>", "mos_B.<kind>", "<module>.mos_A", "<module>.mos_B"; peft_type MOS, which other tools do not
//           read
//   Choice  a piece of B is every `shards`-th row, which is the paper's with rows in another order. Draws are without
//           repetition while the pool lasts, by key and the layer's name
#include <cmath>

#include "core/draws.h"
#include "methods/rewrite.h"
#include "ops/matrix.h"
#include "ops/pointwise.h"
#include "ops/update.h"

namespace thimble {
namespace {

constexpr Option kOptions[] = {
    whole_number("rank", 8, 2, 65536, "r, rows of A and columns of B"),
    {"alpha", 16, 1e-6, 1e6, "the product is scaled by alpha / rank"},
    {"dropout", 0, 0, 0.99, "of the input of A, in training"},
    whole_number("equivalent", 2, 1, 2048, "rank of a LoRA that would have as many numbers"),
    whole_number("private", 1, 1, 2048, "ranks that are the layer's own; less than `equivalent`"),
    whole_number("shards", 2, 1, 64, "pieces of a row of A or a column of B; divides the layer's extents"),
    whole_number("key", 0, 0, 4294967295, "that pieces are drawn from"),
};
using Kind = PeftField::Kind;
constexpr PeftField kFields[] = {
    {"r", "rank", Kind::whole, {}, 8},
    {"lora_alpha", "alpha", Kind::number, {}, 16},
    {"lora_dropout", "dropout", Kind::number},
    {"equivalent_rank", "equivalent", Kind::whole, {}, 2},
    {"private_rank", "private", Kind::whole, {}, 1},
    {"num_shards", "shards", Kind::whole, {}, 2},
    {"index_key", "key", Kind::whole},
};

int64_t whole(const ModuleRewrite& m, const char* option) { return static_cast<int64_t>(m.option(option)); }
double scale_of(const ModuleRewrite& m) { return m.module.scale * m.option("alpha") / m.option("rank"); }

Result<void> check(const OptionValues& options, int64_t in, int64_t out) {
  const auto shards = static_cast<int64_t>(options["shards"]);
  if (in % shards != 0 || out % shards != 0)
    return fail(ErrorCode::invalid_argument, "{} shards do not divide a layer [{}, {}]; give another number of shards",
                shards, out, in);
  if (options["private"] >= std::min(options["equivalent"], options["rank"]))
    return fail(ErrorCode::invalid_argument,
                "{} private ranks of an equivalent rank of {} leave nothing to share; give fewer", options["private"],
                options["equivalent"]);
  return {};
}

// Pieces that a layer takes of a pool, in their order: whole numbers below 2^24.
ValueId draw(ModuleRewrite& m, const char* factor, int64_t pool, int64_t count) {
  const std::string table = fmt::format("{}.pieces of {} {}", m.owner(), factor, whole(m, "key"));
  const auto fill = [table, pool](int64_t first, int64_t some, float* to) {
    const std::vector<int64_t> order = draw_places(Random(0, table), pool, pool);
    for (int64_t e = 0; e < some; ++e) to[e] = static_cast<float>(order[static_cast<size_t>((first + e) % pool)]);
  };
  return m.constant(table, {count}, Initial::table(fill, table), &kI32);
}

ValueId reshaped(ModuleRewrite& m, ValueId x, const Shape& shape, const std::string& name) {
  PointwiseBuilder b;
  b.shape(shape);
  b.output(b.tensor());
  return m.graph.emit(kPointwise, b.attributes(), {x}, name);
}

// A [ranks, in] and B [out, ranks] of the shared ranks, or of the layer's own.
struct Factors {
  ValueId a, b;
};
Factors shared(ModuleRewrite& m) {
  const int64_t shards = whole(m, "shards"), ranks = whole(m, "rank") - whole(m, "private");
  const int64_t pool = (whole(m, "equivalent") - whole(m, "private")) * m.module.alike * shards;
  const float bound = 1 / std::sqrt(static_cast<float>(m.in));
  const ValueId pool_a =
      m.add("mos_A." + m.module.kind, {pool, m.in / shards}, Initial::uniform(bound), {.shared = true});
  const ValueId pool_b =
      m.add("mos_B." + m.module.kind, {m.out / shards, pool}, Initial::constant(0), {.shared = true});
  const GatherAttributes rows{GatherAttributes::Axis::rows}, columns{GatherAttributes::Axis::columns};
  const ValueId a = m.graph.emit(kGather, rows, {pool_a, draw(m, "A", pool, ranks * shards)}, m.name("mos_A_pieces"));
  const ValueId b =
      m.graph.emit(kGather, columns, {pool_b, draw(m, "B", pool, ranks * shards)}, m.name("mos_B_pieces"));
  return {reshaped(m, a, {ranks, m.in}, m.name("mos_A_shared")),
          reshaped(m, b, {m.out, ranks}, m.name("mos_B_shared"))};
}
Factors own(ModuleRewrite& m) {
  const int64_t ranks = whole(m, "private");
  const float bound = 1 / std::sqrt(static_cast<float>(m.in));
  return {m.add("mos_A", {ranks, m.in}, Initial::uniform(bound)), m.add("mos_B", {m.out, ranks}, Initial::constant(0))};
}

void adapt(ModuleRewrite& m) {
  ValueId dropped = m.x;
  if (m.option("dropout") > 0 && m.training)
    dropped = m.graph.emit(kDropout, DropoutAttributes{m.option("dropout"), name_hash(m.owner())}, {m.x},
                           m.name("mos_dropout"));
  const Factors both = shared(m);
  const Factors mine = own(m);
  const ModuleRewrite::Term terms[] = {{m.product(dropped, both.a, m.name("mos_h")), both.b, scale_of(m)},
                                       {m.product(dropped, mine.a, m.name("mos_own_h")), mine.b, scale_of(m)}};
  m.y = m.linear(m.x, m.w, terms, m.bias, m.addend, m.module.name);
}

ValueId weight(ModuleRewrite& m) {
  const LinearAttributes product{.terms = {{false, static_cast<float>(scale_of(m))}}};
  const Factors both = shared(m);
  const ValueId w = m.graph.emit(kLinear, product, {m.rows(both.b), both.a, kNone, m.decoded()}, m.name("mos_W"));
  const Factors mine = own(m);
  return m.graph.emit(kLinear, product, {m.rows(mine.b), mine.a, kNone, w}, m.name("mos_own_W"));
}

}  // namespace

const Rewrite kMos = {.name = "mos",
                      .summary = "factors of LoRA put together from pieces of shared pools",
                      .paper = "arXiv:2410.00938",
                      .rate = 5,
                      .options = kOptions,
                      .adapt = adapt,
                      .weight = weight,
                      .scales = true,
                      .by_rows = false,
                      .check = check,
                      .form = {.type = "MOS", .fields = kFields}};

}  // namespace thimble
