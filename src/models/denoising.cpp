#include "models/denoising.h"

#include "ops/pointwise.h"
#include "ops/table.h"
#include "ops/update.h"

namespace thimble {

ValueId begin_denoising(Graph& graph, BuiltModel& model, ValueId x, const std::string& scope) {
  model.reads = {graph.emit(kLayerNorm, NormAttributes{}, {x, kNone, kNone}, scope + "x.even")};
  return model.reads[0];
}

ValueId denoised(Graph& graph, BuiltModel& model, ValueId& z, int64_t steps, ValueId made, const Codec& codec,
                 const std::string& scope) {
  const auto t = static_cast<int64_t>(model.reads.size());
  const DenoisingStep step = denoising_step(t, steps);
  PointwiseBuilder b;
  std::vector<ValueId> in{made, model.reads.back()};
  const Expr y = b.tensor(), read = b.tensor(), found = step.a * (y - read);
  Expr next = found;
  if (t > 1) {
    in.push_back(z);
    next = found + step.b * b.tensor();
  }
  const bool last = t == steps;
  b.output(next, last ? &codec : &kF32);
  if (!last) {
    in.push_back(model.reads.front());
    const Expr x = b.tensor();
    b.output(x + next, &codec);
  }
  const auto out = graph.emit_all(kPointwise, b.attributes(), in, scope + fmt::format("denoised.{}", t));
  z = out[0];
  model.made.push_back(made), model.reads.push_back(out.back());
  return out.back();
}

}  // namespace thimble
