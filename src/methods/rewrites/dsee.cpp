// DSEE: LoRA, and a few numbers of the weight besides, where a product of low rank is worst at saying what the weight
// is.
//
//   Paper   Chen et al. 2021, arXiv:2111.00160, section 3.2 (sparsity-embedded parameter-efficient fine-tuning)
//   Graph   W' = W + S;  y = x W'^T + s (dropout(x) A^T) B^T, s = alpha / rank
//   Adds    A and B as LoRA; S [out, sparse], zeros, and its places in each row
//   Begins  places: where |W - W_r| is largest in the row, W_r the weight's largest `rank` singular parts
//   Names   LoRA's, "<module>.dsee_S", "dsee_places" (columns, as f32 whole numbers); peft_type DSEE, which other tools
//           do not read
//   Choice  the authors decompose W by GreBsmo and take the 64 largest numbers of all its sparse part; here the
//           low-rank part is the singular one, and each row has as many numbers. Their second half, weights that are
//           sparse themselves, is the command prune
#include <algorithm>

#include "methods/optimizers/matrices.h"
#include "methods/rewrites/lora.h"
#include "ops/matrix.h"
#include "ops/pointwise.h"
#include "ops/update.h"

namespace thimble {
namespace {

constexpr Option kOptions[] = {
    kLoraOptions[0], kLoraOptions[1], kLoraOptions[2],
    kLoraOptions[3], kLoraOptions[4], whole_number("sparse", 1, 1, 65536, "numbers of each row that train besides")};
using Kind = PeftField::Kind;
constexpr PeftField kFields[] = {
    {"r", "rank", Kind::whole, {}, 8},         {"lora_alpha", "alpha", Kind::number, {}, 8},
    {"lora_dropout", "dropout", Kind::number}, {"use_rslora", "rslora", Kind::flag},
    {"lora_bias", "bias", Kind::flag},         {"num_sparse", "sparse", Kind::whole, {}, 1}};
constexpr std::string_view kPlaces = "dsee_places", kNumbers = "dsee_S";

int64_t sparse_of(const ModuleRewrite& m) { return static_cast<int64_t>(m.option("sparse")); }

// W + S, f32, of the rows that are wanted.
ValueId with_sparse(ModuleRewrite& m) {
  const Shape shape{m.out, sparse_of(m)};
  const ValueId places = m.rows(m.add(kPlaces, shape, {}, {.by_rows = true, .trained = false, .derived = true}));
  const ValueId numbers = m.rows(m.add(kNumbers, shape, Initial::constant(0), {.by_rows = true}));
  const ValueId put = m.graph.emit(kPutPlaces, PutAttributes{m.in}, {numbers, places}, m.name("dsee_put"));
  PointwiseBuilder b;
  const Expr w = b.tensor(), s = b.tensor();
  b.output(w + m.module.scale * s);
  return m.graph.emit(kPointwise, b.attributes(), {m.w, put}, m.name("dsee_WS"));
}

void adapt(ModuleRewrite& m) {
  lora_a(m);
  const ValueId w = with_sparse(m), b = lora_b(m), h = lora_h(m);
  const ModuleRewrite::Term term{h, b, lora_scale(m)};
  m.y = m.linear(m.x, w, {&term, 1}, lora_bias(m), m.addend, m.module.name);
}

ValueId weight(ModuleRewrite& m) {
  m.w = with_sparse(m);
  return lora_weight(m);
}

// Where a row is worst told by what is of low rank.
std::vector<std::pair<std::string_view, ValueId>> begin(ModuleRewrite& m) {
  const std::vector<ValueId> usv =
      m.graph.emit_all(kSvd, SvdAttributes{static_cast<int64_t>(m.option("rank"))}, {m.w}, m.name("dsee"));
  PointwiseBuilder scaled;
  const Expr u = scaled.tensor(), size = scaled.row();
  scaled.output(u * size);
  const ValueId ud = m.graph.emit(kPointwise, scaled.attributes(), {usv[0], usv[1]}, m.name("dsee_UD"));
  const ValueId low = product(m.graph, ud, usv[2], m.name("dsee_low"));
  PointwiseBuilder b;  // the smallest of these is the largest difference
  const Expr w = b.tensor(), told = b.tensor();
  b.output(1 / (abs(w - told) + 1e-12));
  const ValueId inverse = m.graph.emit(kPointwise, b.attributes(), {m.w, low}, m.name("dsee_inverse"));
  return {{kPlaces, m.graph.emit(kSmallestPlaces, SmallestAttributes{sparse_of(m)}, {inverse}, m.name("dsee_chosen"))}};
}

Result<void> check(const OptionValues& options, int64_t in, int64_t out) {
  if (options["sparse"] > static_cast<double>(in))
    return fail(ErrorCode::invalid_argument, "rows of {} have no {} numbers; give a smaller dsee.sparse", in,
                options["sparse"]);
  if (options["rank"] <= static_cast<double>(std::min(in, out))) return {};
  return fail(ErrorCode::invalid_argument, "a weight [{}, {}] has no parts of rank {}; give a smaller --rank", out, in,
              options["rank"]);
}

}  // namespace

const Rewrite kDsee = {.name = "dsee",
                       .summary = "LoRA, and a few trained numbers of the weight where it is least of low rank",
                       .paper = "arXiv:2111.00160",
                       .rate = 5,
                       .options = kOptions,
                       .adapt = adapt,
                       .weight = weight,
                       .bias = lora_bias,
                       .scales = true,
                       .whole = true,
                       .check = check,
                       .begin = begin,
                       .form = {.type = "DSEE", .fields = kFields, .init_field = "init_lora_weights"}};

}  // namespace thimble
