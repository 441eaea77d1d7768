// BOFT: the input of a frozen layer is turned by a product of sparse orthogonal matrices, each blocks between two
// permutations as in a fast Fourier transform; outputs are scaled.
//
//   Paper   Liu et al. 2023, arXiv:2311.06243, eq. 3 and section 4
//   Graph   Q = (R - R^T) / 2;  D = (I - Q)(I + Q)^-1, block by block;  M = M_N ... M_1, M_i = P_i diag(D_i) P_i^T;
//           y = s * ((x M) W^T) + b
//   Adds    R [factors, blocks, size, size], zeros; s [out], ones
//   Names   as PEFT's: "<module>.boft_R", "<module>.boft_s" [out, 1]
//   Choice  PEFT without its CUDA kernel takes one factor whatever is asked for; here it is what was asked for
#include "methods/rewrites/rotation.h"
#include "ops/matrix.h"
#include "ops/pointwise.h"
#include "ops/update.h"

namespace thimble {
namespace {

constexpr Option kOptions[] = {
    whole_number("block_size", 4, 0, 4096, "elements of the input that are turned together; 0: as `blocks` says"),
    whole_number("blocks", 0, 0, 65536, "blocks of a factor; 0: as `block_size` says"),
    whole_number("factors", 1, 1, 32, "butterfly factors; more than one turns elements of different blocks together"),
};
using Kind = PeftField::Kind;
constexpr PeftField kFields[] = {{"boft_block_size", "block_size", Kind::whole, {}, 4},
                                 {"boft_block_num", "blocks", Kind::whole},
                                 {"boft_n_butterfly_factor", "factors", Kind::whole, {}, 1, "boft_R"}};
constexpr PeftNote kTraining[] = {{"boft_dropout", "blocks are left out in training"}};

struct Sizes {
  int64_t factors, blocks, size;
};
Sizes sizes_of(const OptionValues& options, int64_t in) {
  const auto factors = static_cast<int64_t>(options["factors"]), size = static_cast<int64_t>(options["block_size"]);
  if (size > 0) return {factors, in / size, size};
  const auto blocks = static_cast<int64_t>(options["blocks"]);
  return {factors, blocks, in / blocks};
}

Result<void> check(const OptionValues& options, int64_t in, int64_t) {
  if ((options["block_size"] > 0) == (options["blocks"] > 0))
    return fail(ErrorCode::invalid_argument,
                "expected one of block_size (boft_block_size) and blocks (boft_block_num), and 0 for the other; found "
                "{} and {}",
                options["block_size"], options["blocks"]);
  const auto [factors, blocks, size] = sizes_of(options, in);
  if (blocks * size != in || size < 2)
    return fail(ErrorCode::invalid_argument,
                "{} inputs are not whole blocks of {}; give a block_size that divides them", in, size);
  const int64_t spread = int64_t{1} << (factors - 1);
  if (factors > 1 && (size % 2 != 0 || blocks % 2 != 0 || blocks % spread != 0))
    return fail(ErrorCode::invalid_argument,
                "{} factors need an even block_size and blocks in multiples of {}; found {} blocks of {}", factors,
                std::max<int64_t>(2, spread), blocks, size);
  return {};
}

// Element `a` of the permutation P_i of a factor: half blocks of a group of 2^i blocks, the even ones first.
int64_t butterfly(const Sizes& s, int64_t factor, int64_t a) {
  if (s.factors == 1) return a;
  const int64_t group = s.size << factor, half = s.size / 2, halves = group / half;
  const int64_t place = a % group / half;
  const int64_t from = place < (halves + 1) / 2 ? 2 * place : 2 * (place - (halves + 1) / 2) + 1;
  return a - a % group + from * half + a % half;
}

// x P_i (or x P_i^T).
ValueId permuted(ModuleRewrite& m, const Sizes& s, int64_t factor, ValueId x, bool back, const std::string& name) {
  if (s.factors == 1 || factor == 0) return x;  // the first permutation changes nothing
  const int64_t in = s.blocks * s.size;
  const std::string table =
      fmt::format("butterfly {}{} of {} blocks of {}", factor, back ? " back" : "", s.blocks, s.size);
  const auto fill = [=](int64_t first, int64_t count, float* to) {
    for (int64_t e = 0; e < in; ++e) {
      const int64_t at = back ? e : butterfly(s, factor, e), value = back ? butterfly(s, factor, e) : e;
      if (at >= first && at < first + count) to[at - first] = static_cast<float>(value);
    }
  };
  const ValueId at = m.constant(table, {in}, Initial::table(fill, table), &kI32);
  return m.graph.emit(kGather, GatherAttributes{GatherAttributes::Axis::columns}, {x, at}, name);
}

// All blocks, [factors * blocks * size, size].
ValueId rotations(ModuleRewrite& m, const Sizes& s) {
  return m.once("boft_rotations", [&] {
    const int64_t count = s.factors * s.blocks, area = s.size * s.size;
    const ValueId r = m.add("boft_R", {count * s.size, s.size}, Initial::constant(0),
                            {.stored = {s.factors, s.blocks, s.size, s.size}});
    const std::string table = fmt::format("transposed blocks of {}", s.size);
    const auto fill = [size = s.size](int64_t first, int64_t some, float* to) {
      for (int64_t e = first; e < first + some; ++e) to[e - first] = static_cast<float>(e % size * size + e / size);
    };
    const ValueId at = m.constant(table, {area}, Initial::table(fill, table), &kI32);
    PointwiseBuilder flat;
    flat.shape({count, area});
    flat.output(flat.tensor());
    const ValueId rows = m.graph.emit(kPointwise, flat.attributes(), {r}, m.name("boft_flat"));
    const GatherAttributes columns{GatherAttributes::Axis::columns};
    const ValueId transposed = m.graph.emit(kGather, columns, {rows, at}, m.name("boft_transposed"));
    PointwiseBuilder b;
    b.shape({count * s.size, s.size});
    const Expr one = b.tensor(), other = b.tensor();
    b.output(0.5 * (one - other));
    const ValueId q = m.graph.emit(kPointwise, b.attributes(), {rows, transposed}, m.name("boft_Q"));
    return cayley(m, q, count, m.name("boft_rotations"));
  });
}

// x M, or x M^T.
ValueId turned_by_all(ModuleRewrite& m, ValueId x, bool transposed, const Codec* codec, const std::string& name) {
  const Sizes s = sizes_of(m.module.options, m.in);
  const ValueId all = rotations(m, s);
  for (int64_t step = 0; step < s.factors; ++step) {
    const int64_t i = transposed ? step : s.factors - 1 - step, rows = s.blocks * s.size;
    const std::string part = fmt::format("{}_{}", name, i);
    ValueId r = all;
    if (s.factors > 1)
      r = m.once(fmt::format("boft_rotation_{}", i), [&] {
        return m.graph.emit(kSlice, SliceAttributes{SliceAttributes::Axis::rows, i * rows, rows}, {all},
                            m.name(fmt::format("boft_rotation_{}", i)));
      });
    x = permuted(m, s, i, x, false, part + ".permuted");
    x = turned(m, x, r, s.blocks, transposed, false, codec, part);
    x = permuted(m, s, i, x, true, part + ".back");
  }
  return x;
}

ValueId scale(ModuleRewrite& m) {
  return m.add("boft_s", {m.out}, Initial::constant(1), {.by_rows = true, .stored = {m.out, 1}});
}

void adapt(ModuleRewrite& m) {
  const ValueId s = scale(m);
  const ValueId x =
      m.once("boft_x", [&] { return turned_by_all(m, m.x, false, m.attributes.codec, m.name("boft_x")); });
  const ValueId product = m.linear(x, m.w, {}, kNone, kNone, m.module.name + ".boft_y");
  PointwiseBuilder b;
  const Expr value = b.tensor(), by = b.row();
  Expr y = value * by;
  std::vector<ValueId> in = {product, s};
  if (m.bias != kNone) y = y + b.row(), in.push_back(m.bias);
  if (m.addend != kNone) y = y + b.tensor(), in.push_back(m.addend);
  b.output(y, m.attributes.codec);
  m.y = m.graph.emit(kPointwise, b.attributes(), in, m.module.name);
}

ValueId weight(ModuleRewrite& m) {
  const ValueId w = turned_by_all(m, m.w, true, &kF32, m.name("boft_W"));
  PointwiseBuilder b;
  const Expr row = b.tensor(), by = b.column();
  b.output(row * by);
  return m.graph.emit(kPointwise, b.attributes(), {w, m.rows(scale(m))}, m.name("boft_W"));
}

}  // namespace

const Rewrite kBoft = {
    .name = "boft",
    .summary = "inputs of frozen layers are turned by butterflies of trained orthogonal blocks",
    .paper = "arXiv:2311.06243",
    .rate = 10,
    .options = kOptions,
    .adapt = adapt,
    .weight = weight,
    .check = check,
    .form = {.type = "BOFT", .fields = kFields, .training = kTraining, .init_field = "init_weights"}};

}  // namespace thimble
