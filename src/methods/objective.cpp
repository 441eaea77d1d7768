#include "methods/objective.h"

#include "core/nearest.h"
#include "ops/matrix.h"
#include "ops/update.h"

namespace thimble {

std::span<const Objective* const> objectives() {
  static constexpr const Objective* kTable[] = {
      &kNextToken,      &kDpo,        &kIpo,         &kHinge, &kSimpo, &kOrpo, &kKto, &kApoZeroUnpaired, &kInfill,
      &kClassification, &kRegression, &kDistillation};
  return kTable;
}

Result<const Objective*> objective_named(std::string_view name) {
  return find_named("--objective", "objective", objectives(), name);
}

ObjectiveBuilder::ObjectiveBuilder(Graph& graph, const Objective& objective, const OptionValues& options,
                                   std::string prefix, LossInputs inputs)
    : graph_(graph), objective_(objective), options_(options), prefix_(std::move(prefix)), in_(inputs) {}

ValueId ObjectiveBuilder::input(std::string_view name, const Codec* codec) {
  const ValueId there = graph_.find(named(name));
  const Type& rows = graph_.value(in_.starts).type;
  return there != kNone ? there : graph_.add_value(named(name), {rows.shape, codec, rows.extent}, Role::input);
}

ValueId ObjectiveBuilder::pointwise(const PointwiseBuilder& builder, std::vector<ValueId> operands,
                                    std::string_view name) {
  return graph_.emit(kPointwise, builder.attributes(), std::move(operands), named(name));
}

ValueId ObjectiveBuilder::sum(const std::vector<ValueId>& factors, double by, ValueId starts, std::string_view name) {
  PointwiseBuilder b;
  Expr product = b.tensor() * by;
  for (size_t i = 1; i < factors.size(); ++i) product = product * b.tensor();
  b.output(product);
  const ValueId each = pointwise(b, factors, std::string(name) + ".each");
  return graph_.emit(kSegmentSum, {}, {each, starts}, named(name));
}

ValueId ObjectiveBuilder::margin() {
  std::vector<ValueId> factors{in_.nll, input(kPairSign)};
  if (objective_.likelihood == Likelihood::mean) factors.push_back(input(kPairShare));
  const ValueId margin = sum(factors, -1, input(kPairStarts, &kI32), "margin");
  if (!objective_.reference) return margin;
  PointwiseBuilder b;
  const Expr own = b.tensor(), reference = b.tensor();
  b.output(own - reference);
  return pointwise(b, {margin, input(kPairReference)}, "margin.beyond");
}

ValueId ObjectiveBuilder::mean_likelihood() { return sum({in_.nll, input(kPairShare)}, -1, in_.starts, "likelihood"); }

ValueId ObjectiveBuilder::difference(ValueId of_reply, std::string_view name) {
  return sum({of_reply, input(kPairSign), input(kPairShare)}, 1, input(kPairStarts, &kI32), name);
}

ValueId ObjectiveBuilder::chosen_nll() {
  PointwiseBuilder b;
  const Expr nll = b.tensor(), sign = b.tensor(), share = b.tensor();
  b.output(nll * share * max(sign, 0.0));
  const ValueId each = pointwise(b, {in_.nll, input(kPairSign), input(kPairShare)}, "chosen.each");
  return graph_.emit(kSegmentSum, {}, {each, input(kPairStarts, &kI32)}, named("chosen"));
}

ValueId ObjectiveBuilder::divergence(double temperature) {
  const auto t = static_cast<float>(temperature);
  const bool wanted[] = {true, in_.gradient, true, true};
  const LossHead &s = in_.student, &teacher = in_.teacher;
  return graph_.emit_all(kLinearDistillation, DistillationAttributes{t, s.cap, teacher.cap},
                         {s.hidden, s.head, in_.targets, in_.scale, s.bias, teacher.hidden, teacher.head, teacher.bias},
                         named("divergence"), wanted)[0];
}

ValueId ObjectiveBuilder::finish(std::span<const std::pair<ValueId, double>> terms) {
  PointwiseBuilder b;
  std::vector<ValueId> operands;
  Expr sum = b.tensor() * terms.front().second;
  for (const auto& [value, factor] : terms) {
    operands.push_back(value);
    if (operands.size() > 1) sum = sum + b.tensor() * factor;
  }
  b.output(sum);
  const ValueId loss = pointwise(b, operands, "loss");
  graph_.value(loss).role = Role::result;
  return loss;
}

ValueId ObjectiveBuilder::emit(const PointwiseBuilder& builder, std::vector<ValueId> operands) {
  operands.push_back(input(kPairFirst));
  const auto out = graph_.emit_all(kPointwise, builder.attributes(), operands, named("loss"));
  graph_.value(out[1]).name = named(kPairReward);
  for (const ValueId id : out) graph_.value(id).role = Role::result;
  return out[0];
}

ValueId ObjectiveBuilder::drift() {
  const std::string name = named(kReplyDrift);
  const ValueId there = graph_.find(name);
  return there != kNone ? there : graph_.add_value(name, {{1}, &kF32}, Role::input);
}

ValueId ObjectiveBuilder::scores() {
  const LossHead& head = in_.student;
  return graph_.emit(kLinear, LinearAttributes{.codec = &kF32}, {head.hidden, head.head, head.bias, kNone},
                     named("loss.scores"));
}

ValueId ObjectiveBuilder::finish_squared(ValueId scores) {
  PointwiseBuilder b;
  const Expr x = b.tensor(), label = b.tensor(), last = b.tensor(), scale = b.scalar();
  const Expr off = last * (x - label), squared = off * off;
  b.output(squared);
  b.output(scale * squared);
  const std::vector<ValueId> operands{scores, input(kTextLabel), input(kTextLast), in_.scale};
  const auto out = graph_.emit_all(kPointwise, b.attributes(), operands, named("loss"));
  graph_.value(out[1]).name = named("loss") + std::string(kScaledLoss);
  for (const ValueId id : out) graph_.value(id).role = Role::result;
  return out[0];
}

Expr minus_log_sigmoid(Expr x) {
  const Expr half = x * -0.5, size = abs(half);
  return half + size + log(1 + exp(-2 * size));
}

ValueId add_objective(Graph& graph, const Objective& objective, const OptionValues& options, const std::string& prefix,
                      const LossInputs& inputs) {
  if (!objective.loss) return inputs.nll;
  ObjectiveBuilder builder(graph, objective, options, prefix, inputs);
  return objective.loss(builder);
}

const Objective& evaluated_objective(const Objective& objective) { return objective.teacher ? kNextToken : objective; }

std::string loss_name(const Objective& objective, const std::string& prefix) {
  return prefix + (objective.loss ? "loss" : "nll");
}

}  // namespace thimble
