#include "plan/denoising.h"

#include <algorithm>

#include "core/random.h"
#include "graph/op.h"
#include "models/denoising.h"
#include "ops/matrix.h"
#include "ops/pointwise.h"
#include "ops/table.h"
#include "ops/text_labels.h"
#include "ops/update.h"
#include "plan/modules.h"

namespace thimble {
namespace {

class DenoisingCutter {
 public:
  DenoisingCutter(const TrainingSpec& spec, const Graph& graph, const BuiltModel& model, const std::string& loss)
      : estimator_(spec.estimator->name),
        eta_(spec.estimator_options["eta"]),
        model_(model),
        loss_(loss),
        copy_(graph),
        blocks_(std::ssize(model.made)) {}

  GraphCopy cut() {
    copy_.copy_inputs();
    make_label();
    for (const Node& node : copy_.from().nodes()) {
      if (const int64_t t = place(model_.reads, node); t > 0) {
        // Of the block that reads it: what it is made of waits, as a block's inputs do.
        copy_.graph().set_block(t < blocks_ ? static_cast<int>(t) : -1);
        copy_.bind(model_.reads[static_cast<size_t>(t)], noisy(t));
        continue;
      }
      copy_.graph().set_block(node.block);
      copy_.copy(node);
      if (const int64_t block = place(model_.made, node); block >= 0) end_block(block + 1);
    }
    return std::move(copy_);
  }

 private:
  // Of the values, the place of one that the node makes; -1: it makes none.
  static int64_t place(const std::vector<ValueId>& values, const Node& node) {
    for (const ValueId out : node.out)
      if (const auto found = std::ranges::find(values, out); found != values.end()) return found - values.begin();
    return -1;
  }

  // e: f32 [rows, width], at every row of a text the row of the head that is its label's, of mean square 1.
  void make_label() {
    Graph& g = copy_.graph();
    const auto out =
        g.emit_all(kTextLabels, {}, {copy_.map(copy_.from().find(kLossTargets)), copy_.map(model_.starts)}, "labels");
    share_ = out[1];
    const ValueId rows = g.emit(kEmbedding, EmbeddingAttributes{}, {out[0], copy_.map(model_.head)}, "label.rows");
    const ValueId even = g.emit(kLayerNorm, NormAttributes{}, {rows, kNone, kNone}, "label.even");
    label_ = g.emit(kDetach, {}, {even}, "label");
  }

  // What is read behind step t: z_t of the right label and, but by the head, the text, as a number.
  ValueId noisy(int64_t t) {
    Graph& g = copy_.graph();
    const std::string name = fmt::format("noisy.{}", t);
    PointwiseBuilder n;
    n.of_tokens();
    const Expr like = n.tensor();
    n.output(n.normal_noise(name_hash(fmt::format("{}.{}", estimator_, name))) + 0 * like);
    const ValueId each = g.emit(kPointwise, n.attributes(), {label_}, name + ".noise");
    // A text's rows share their noise, lest they tell one another what is behind it.
    const ValueId noise = g.emit(kGather, GatherAttributes{}, {each, copy_.map(model_.starts)}, name + ".shared");
    const double signal = denoising_signal(t, blocks_);
    std::vector<ValueId> in{label_, noise};
    PointwiseBuilder b;
    const Expr e = b.tensor(), drawn = b.tensor();
    Expr z = std::sqrt(signal) * e + std::sqrt(1 - signal) * drawn;
    if (t < blocks_) {
      in.push_back(text());
      z = z + b.tensor();
    }
    b.output(z, copy_.from().value(model_.reads[static_cast<size_t>(t)]).type.codec);
    return g.emit(kPointwise, b.attributes(), in, name);
  }

  ValueId text() {
    if (text_ != kNone) return text_;
    const int block = copy_.graph().block();
    copy_.graph().set_block(-1);
    text_ = copy_.graph().emit(kDetach, {}, {copy_.map(model_.reads.front())}, "x.even.detached");
    copy_.graph().set_block(block);
    return text_;
  }

  // Li et al. 2025, eq. 8: w_t |u_t - e|^2, over the rows of a text their mean.
  void end_block(int64_t t) {
    Graph& g = copy_.graph();
    g.set_block(-1);
    const std::string name = module_loss_name(loss_, t);
    const ValueId made = copy_.map(model_.made[static_cast<size_t>(t - 1)]);
    const ValueId read = copy_.map(model_.reads[static_cast<size_t>(t - 1)]);
    PointwiseBuilder b;
    const Expr y = b.tensor(), x = b.tensor(), e = b.tensor(), off = y - x - e;
    b.output(off * off * (1 / static_cast<double>(g.value(label_).type.shape.columns())));
    const ValueId squares = g.emit(kPointwise, b.attributes(), {made, read, label_}, name + ".squares");
    const ValueId error =
        g.emit(kReduce, ReduceAttributes{Reduce::sum, ReduceOver::columns}, {squares}, name + ".error");
    const auto snr = [&](int64_t step) {
      const double signal = denoising_signal(step, blocks_);
      return signal / (1 - signal);
    };
    PointwiseBuilder l;
    const Expr rows = l.tensor(), share = l.tensor(), scale = l.scalar();
    l.output(eta_ / 2 * (snr(t) - snr(t - 1)) * scale * (rows * share));
    const ValueId loss =
        g.emit(kPointwise, l.attributes(), {error, share_, copy_.map(copy_.from().find(kLossScale))}, name);
    g.value(loss).role = Role::result;
  }

  const std::string_view estimator_;
  const double eta_;
  const BuiltModel& model_;
  const std::string loss_;
  GraphCopy copy_;
  const int64_t blocks_;
  ValueId label_ = kNone, share_ = kNone, text_ = kNone;
};

}  // namespace

GraphCopy cut_by_denoising(const TrainingSpec& spec, const Graph& graph, const BuiltModel& model,
                           const std::string& loss) {
  return DenoisingCutter(spec, graph, model, loss).cut();
}

}  // namespace thimble
