// VeRA: frozen random projections that all layers share, scaled by trained vectors of each.
//
//   Paper   Kopiczko et al. 2023, arXiv:2310.11454, eq. 2
//   Graph   h = (dropout(x) A^T) * d;  y = x W^T + h (diag(b) B)^T
//   Adds    A [rank, largest in] and B [largest out, rank], frozen, of which each layer takes the first columns and
//           rows; d [rank], d_initial; b [out], zeros
//   Names   as PEFT's: "vera_A", "vera_B" where they are saved; "<module>.vera_lambda_d", "vera_lambda_b"
//   Choice  A and B are those that PyTorch draws from projection_prng_key, so that a file without them means the same:
//           Kaiming's uniform numbers, 24 bits each of the Mersenne Twister, A before B
#include <cmath>
#include <memory>
#include <random>

#include "core/random.h"
#include "methods/rewrite.h"
#include "ops/matrix.h"
#include "ops/pointwise.h"
#include "ops/update.h"

namespace thimble {
namespace {

constexpr Option kOptions[] = {
    whole_number("rank", 256, 1, 65536, "r, rows of A and columns of B"),
    {"dropout", 0, 0, 0.99, "of the input of A, in training"},
    {"d_initial", 0.1, -1e3, 1e3, "what d begins with"},
    whole_number("key", 0, 0, 4294967295, "that A and B are drawn from"),
    zero_or_one("save_projection", 1, "0: A and B are not saved, but drawn again from the key"),
};
using Kind = PeftField::Kind;
constexpr PeftField kFields[] = {{"r", "rank", Kind::whole, {}, 256},
                                 {"vera_dropout", "dropout", Kind::number},
                                 {"d_initial", "d_initial", Kind::number, {}, 0.1},
                                 {"projection_prng_key", "key", Kind::whole},
                                 {"save_projection", "save_projection", Kind::flag, {}, 1}};

// Numbers of one generator from `skip` on, in [-bound, bound). Asked for in order, each is drawn once.
Initial drawn(uint32_t key, int64_t skip, float bound) {
  struct Generator {
    std::mt19937 twister;
    int64_t at = 0;
  };
  const auto generator = std::make_shared<Generator>();
  const auto fill = [=](int64_t first, int64_t count, float* to) {
    Generator& g = *generator;
    if (g.at == 0 || g.at > skip + first) g.twister.seed(key), g.at = 0;
    g.twister.discard(static_cast<unsigned long long>(skip + first - g.at));
    for (int64_t i = 0; i < count; ++i)
      to[i] = static_cast<float>(g.twister() & 0xffffffu) * 0x1p-24f * (bound - -bound) + -bound;
    g.at = skip + first + count;
  };
  return Initial::table(fill, fmt::format("uniform {} of twister {} from {}", bound, key, skip));
}

float bound_of(int64_t fan_in) {
  const double deviation = std::sqrt(2.0) / std::sqrt(static_cast<double>(fan_in));
  return static_cast<float>(std::sqrt(3.0) * deviation);
}

ValueId part(ModuleRewrite& m, ValueId value, SliceAttributes::Axis axis, int64_t count, const char* name) {
  const Shape& shape = m.graph.value(value).type.shape;
  if (shape[axis == SliceAttributes::Axis::rows ? 0 : 1] == count) return value;
  return m.graph.emit(kSlice, SliceAttributes{axis, 0, count}, {value}, m.name(name));
}

ValueId projection(ModuleRewrite& m, bool a) {
  const auto rank = static_cast<int64_t>(m.option("rank"));
  const auto key = static_cast<uint32_t>(m.option("key"));
  const bool saved = m.option("save_projection") > 0;
  const int64_t in = m.module.largest_in, out = m.module.largest_out;
  const ModuleRewrite::How how{.trained = false, .saved = saved, .optional = !saved, .shared = true};
  const ValueId whole = a ? m.add("vera_A", {rank, in}, drawn(key, 0, bound_of(in)), how)
                          : m.add("vera_B", {out, rank}, drawn(key, rank * in, bound_of(rank)), how);
  return a ? part(m, whole, SliceAttributes::Axis::columns, m.in, "vera_A_part")
           : m.rows_of_owner(part(m, whole, SliceAttributes::Axis::rows, m.module.whole, "vera_B_part"));
}

ValueId lambda_d(ModuleRewrite& m) {
  const auto initial = static_cast<float>(m.option("d_initial"));
  return m.add("vera_lambda_d", {static_cast<int64_t>(m.option("rank"))}, Initial::constant(initial));
}
ValueId lambda_b(ModuleRewrite& m) { return m.add("vera_lambda_b", {m.out}, Initial::constant(0), {.by_rows = true}); }

// diag(b) B
ValueId scaled_b(ModuleRewrite& m) {
  PointwiseBuilder b;
  const Expr row = b.tensor(), by = b.column();
  b.output(row * by);
  return m.graph.emit(kPointwise, b.attributes(), {projection(m, false), lambda_b(m)}, m.name("vera_bB"));
}

void adapt(ModuleRewrite& m) {
  ValueId dropped = m.x;
  if (m.option("dropout") > 0 && m.training)
    dropped = m.graph.emit(kDropout, DropoutAttributes{m.option("dropout"), name_hash(m.owner())}, {m.x},
                           m.name("vera_dropout"));
  const ValueId h = m.product(dropped, projection(m, true), m.name("vera_h"));
  PointwiseBuilder b;
  const Expr value = b.tensor(), by = b.row();
  b.output(value * by, m.attributes.codec);
  const ValueId scaled = m.graph.emit(kPointwise, b.attributes(), {h, lambda_d(m)}, m.name("vera_dh"));
  const ModuleRewrite::Term term{scaled, scaled_b(m), m.module.scale};
  m.y = m.linear(m.x, m.w, {&term, 1}, m.bias, m.addend, m.module.name);
}

ValueId weight(ModuleRewrite& m) {
  PointwiseBuilder b;
  const Expr row = b.tensor(), by = b.column();
  b.output(row * by);
  const ValueId a = m.graph.emit(kPointwise, b.attributes(), {projection(m, true), lambda_d(m)}, m.name("vera_dA"));
  const LinearAttributes product{.terms = {{false, static_cast<float>(m.module.scale)}}};
  return m.graph.emit(kLinear, product, {m.rows(scaled_b(m)), a, kNone, m.decoded()}, m.name("vera_W"));
}

}  // namespace

const Rewrite kVera = {.name = "vera",
                       .summary = "shared frozen random projections, scaled by trained vectors",
                       .paper = "arXiv:2310.11454",
                       .rate = 20,
                       .options = kOptions,
                       .adapt = adapt,
                       .weight = weight,
                       .scales = true,
                       .form = {.type = "VERA", .fields = kFields, .init_field = "init_weights"}};

}  // namespace thimble
