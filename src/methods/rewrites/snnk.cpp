// SNNK: beside a frozen layer stands a scalable neural network kernel: random features of the input, times a trained
// matrix that stands in place of the features of weights.
//
//   Paper   Sehanobish et al. 2023, arXiv:2310.13225, section 3 (eq. 3, 4 and the ReLU variant), section 4.2 (adapters)
//   Graph   f = max(x G^T, constant) / sqrt(features);  y = x W^T + f P^T
//   Adds    P [out, features], zeros; G [features, largest in], standard normal, drawn from the key: one for all
//           layers, each of which takes its first columns
//   Names   "<module>.snnk_P"; peft_type SNNK, which other tools do not read
//   Choice  the authors' adapters stand behind a block and begin with features of random weights times a vector of
//           zeros; here one is beside each layer and P begins at zero, which is the same class of functions. G is kept
//           as a table of the run and drawn again by whoever reads the file
#include <cmath>

#include "core/random.h"
#include "methods/rewrite.h"
#include "ops/matrix.h"
#include "ops/pointwise.h"
#include "ops/update.h"

namespace thimble {
namespace {

constexpr Option kOptions[] = {
    whole_number("features", 16, 1, 65536, "random features of an input"),
    {"constant", 0, -1e3, 1e3, "that features are cut off at from below"},
    whole_number("key", 0, 0, 4294967295, "that the random directions are drawn from"),
};
using Kind = PeftField::Kind;
constexpr PeftField kFields[] = {{"num_random_features", "features", Kind::whole, {}, 16},
                                 {"constant", "constant", Kind::number},
                                 {"projection_key", "key", Kind::whole}};

int64_t features_of(const ModuleRewrite& m) { return static_cast<int64_t>(m.option("features")); }

// [features, in]
ValueId directions(ModuleRewrite& m) {
  const int64_t features = features_of(m), widest = m.module.largest_in;
  const auto key = static_cast<uint64_t>(m.option("key"));
  const std::string name = fmt::format("snnk_G.{}.{}.{}", features, widest, key);
  const auto fill = [key](int64_t first, int64_t count, float* to) {
    const Random random(key, "snnk");
    for (int64_t i = 0; i < count; ++i) to[i] = static_cast<float>(random.normal(static_cast<uint64_t>(first + i)));
  };
  const ValueId all = m.constant(name, {features, widest}, Initial::table(fill, name));
  if (widest == m.in) return all;
  return m.graph.emit(kSlice, SliceAttributes{SliceAttributes::Axis::columns, 0, m.in}, {all}, m.name("snnk_G"));
}

ValueId features(ModuleRewrite& m) {
  const ValueId dots = m.product(m.x, directions(m), m.name("snnk_dots"));
  PointwiseBuilder b;
  const Expr dot = b.tensor();
  b.output(max(dot, m.option("constant")) * (1 / std::sqrt(static_cast<double>(features_of(m)))), m.attributes.codec);
  return m.graph.emit(kPointwise, b.attributes(), {dots}, m.name("snnk_features"));
}

void adapt(ModuleRewrite& m) {
  const ValueId f = m.once("snnk_features", [&] { return features(m); });
  const ValueId p = m.add("snnk_P", {m.out, features_of(m)}, Initial::constant(0), {.by_rows = true});
  const ModuleRewrite::Term term{f, p, m.module.scale};
  m.y = m.linear(m.x, m.w, {&term, 1}, m.bias, m.addend, m.module.name);
}

}  // namespace

const Rewrite kSnnk = {.name = "snnk",
                       .summary = "random features of a layer's input, times a trained matrix, beside the frozen layer",
                       .paper = "arXiv:2310.13225",
                       .rate = 5,
                       .options = kOptions,
                       .adapt = adapt,
                       .scales = true,
                       .not_merged = "adds what is not linear in a layer's input, which no weight does",
                       .form = {.type = "SNNK", .fields = kFields}};

}  // namespace thimble
