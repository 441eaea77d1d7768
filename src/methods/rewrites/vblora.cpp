// VB-LoRA: the factors of LoRA are put together from a bank of vectors that all layers share.
//
//   Paper   Li et al. 2024, arXiv:2405.15179, eq. 4 to 6
//   Graph   a vector of length b of A's rows, or of B's columns, is sum_i softmax_k(logits)_i bank_i over the k largest
//           logits;  y = x W^T + (dropout(x) A^T) B^T
//   Adds    the bank [vectors, b], uniform; logits of A [rank, in / b, vectors] and B [out / b, rank, vectors], normal
//   Names   as PEFT's: "vblora_vector_bank", "<module>.vblora_logits_A", "vblora_logits_B"
//   Rates   0.01 of logits and 0.001 of the bank, as the paper and PEFT have them
//   Choice  save_only_topk_weights is refused: what it saves cannot be trained on
#include "core/random.h"
#include "methods/rewrite.h"
#include "ops/matrix.h"
#include "ops/pointwise.h"
#include "ops/update.h"

namespace thimble {
namespace {

constexpr Option kOptions[] = {
    whole_number("rank", 4, 1, 65536, "r, rows of A and columns of B"),
    whole_number("vectors", 256, 1, 65536, "in the bank"),
    whole_number("vector_length", 256, 1, 65536, "b, which divides the extents of every adapted layer"),
    whole_number("top_k", 2, 1, 64, "k, vectors that are mixed"),
    {"dropout", 0, 0, 0.99, "of the input of A, in training"},
    {"bank_bound", 0.02, 0, 1e3, "vectors begin uniform within it"},
    {"logits_deviation", 0.1, 0, 1e3, "logits begin normal with it"},
    {"bank_rate", 0.1, 1e-4, 1e4, "the learning rate of the bank, as a multiple of the logits'"},
};
using Kind = PeftField::Kind;
constexpr PeftField kFields[] = {{"r", "rank", Kind::whole, {}, 4},
                                 {"num_vectors", "vectors", Kind::whole, {}, 256},
                                 {"vector_length", "vector_length", Kind::whole, {}, 256},
                                 {"topk", "top_k", Kind::whole, {}, 2},
                                 {"vblora_dropout", "dropout", Kind::number},
                                 {"init_vector_bank_bound", "bank_bound", Kind::number, {}, 0.02},
                                 {"init_logits_std", "logits_deviation", Kind::number, {}, 0.1}};
constexpr PeftNote kRefused[] = {
    {"save_only_topk_weights", "only weights of the largest logits are saved; save it again without"}};

int64_t whole(const ModuleRewrite& m, const char* option) { return static_cast<int64_t>(m.option(option)); }

Result<void> check(const OptionValues& options, int64_t in, int64_t out) {
  const auto length = static_cast<int64_t>(options["vector_length"]);
  if (in % length != 0 || out % length != 0)
    return fail(ErrorCode::invalid_argument,
                "vectors of {} do not divide a layer [{}, {}]; give a vector_length that divides both", length, out,
                in);
  if (options["top_k"] > options["vectors"])
    return fail(ErrorCode::invalid_argument, "a bank of {} vectors has no {} largest; give a smaller top_k",
                options["vectors"], options["top_k"]);
  return {};
}

ValueId reshaped(ModuleRewrite& m, ValueId x, const Shape& shape, const std::string& name) {
  PointwiseBuilder b;
  b.shape(shape);
  b.output(b.tensor());
  return m.graph.emit(kPointwise, b.attributes(), {x}, name);
}

// Vectors of a factor, one a row; `stored` is the shape of its logits.
ValueId vectors(ModuleRewrite& m, const char* factor, const Shape& stored) {
  const int64_t length = whole(m, "vector_length"), count = whole(m, "vectors");
  const std::string suffix = std::string("vblora_logits_") + factor;
  const ValueId bank =
      m.add("vblora_vector_bank", {count, length}, Initial::uniform(static_cast<float>(m.option("bank_bound"))),
            {.shared = true, .rate = m.option_or("bank_rate", 0.1)});
  const ValueId logits = m.add(suffix, {stored[0] * stored[1], count},
                               Initial::normal(static_cast<float>(m.option("logits_deviation"))), {.stored = stored});
  const ValueId weights = m.graph.emit(kTopSoftmax, TopKAttributes{whole(m, "top_k")}, {logits},
                                       m.name(std::string("vblora_weights_") + factor));
  const LinearAttributes product{.terms = {{false, 1}}};
  return m.graph.emit(kLinear, product, {weights, bank, kNone, kNone}, m.name(std::string("vblora_vectors_") + factor));
}

ValueId factor_a(ModuleRewrite& m) {
  const int64_t rank = whole(m, "rank"), length = whole(m, "vector_length");
  const ValueId rows = vectors(m, "A", {rank, m.in / length, whole(m, "vectors")});
  return reshaped(m, rows, {rank, m.in}, m.name("vblora_A"));
}

// Of a tile of B [b, rank] the columns lie one after another: they become rows. Tiles are of the layer of the file.
ValueId factor_b_of_owner(ModuleRewrite& m) {
  const int64_t rank = whole(m, "rank"), length = whole(m, "vector_length"), tiles = m.module.whole / length;
  const ValueId columns = vectors(m, "B", {tiles, rank, whole(m, "vectors")});
  const std::string table = fmt::format("columns of {} as rows of {}", length, rank);
  const auto fill = [=](int64_t first, int64_t count, float* to) {
    for (int64_t e = first; e < first + count; ++e) to[e - first] = static_cast<float>(e % rank * length + e / rank);
  };
  const ValueId at = m.constant(table, {rank * length}, Initial::table(fill, table), &kI32);
  const ValueId flat = reshaped(m, columns, {tiles, rank * length}, m.name("vblora_tiles"));
  const GatherAttributes axis{GatherAttributes::Axis::columns};
  const ValueId rows = m.graph.emit(kGather, axis, {flat, at}, m.name("vblora_rows"));
  return reshaped(m, rows, {m.module.whole, rank}, m.name("vblora_B"));
}

ValueId factor_b(ModuleRewrite& m) {
  return m.rows_of_owner(m.once("vblora_B", [&] { return factor_b_of_owner(m); }));
}

void adapt(ModuleRewrite& m) {
  ValueId dropped = m.x;
  if (m.option("dropout") > 0 && m.training)
    dropped = m.graph.emit(kDropout, DropoutAttributes{m.option("dropout"), name_hash(m.owner())}, {m.x},
                           m.name("vblora_dropout"));
  const ValueId h = m.product(dropped, factor_a(m), m.name("vblora_h"));
  const ModuleRewrite::Term term{h, factor_b(m), m.module.scale};
  m.y = m.linear(m.x, m.w, {&term, 1}, m.bias, m.addend, m.module.name);
}

ValueId weight(ModuleRewrite& m) {
  const ValueId a = factor_a(m), b = m.rows(factor_b(m));
  const LinearAttributes product{.terms = {{false, static_cast<float>(m.module.scale)}}};
  return m.graph.emit(kLinear, product, {b, a, kNone, m.decoded()}, m.name("vblora_W"));
}

}  // namespace

const Rewrite kVblora = {.name = "vblora",
                         .summary = "factors of LoRA put together from a shared bank of vectors",
                         .paper = "arXiv:2405.15179",
                         .rate = 50,
                         .options = kOptions,
                         .adapt = adapt,
                         .weight = weight,
                         .scales = true,
                         .check = check,
                         .form = {.type = "VBLORA", .fields = kFields, .refused = kRefused}};

}  // namespace thimble
