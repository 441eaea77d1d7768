// The objective socket: what a step makes smaller. One objective is one file in objectives/ and one row of the table in
// objective.cpp.
//
// An objective is appended to the negative log likelihoods of tokens, which come from tiles of logits, one a row: it
// makes of them the loss of each row, by operations that have gradients. Those of preferences read pairs of documents,
// the reply that was chosen and the one that was rejected, each after the same prompt. Both lie in one window, so that
// a pass has the whole pair however small it is; of a pair, its first row carries the loss.
//
// What the reference model says is no second model in the plan: it is the model as the run begins, whose log
// probabilities are computed once, before the first step, for the pairs that the run will see.
//
// Others read replies that are said to be wanted or not, one document each, whose first row carries the loss. They may
// ask how far the model has gone from the reference (`drift`): that is measured before the passes of a step, by a
// program of its own, and is the same number for all of them, so that no pass needs another.
//
// Objectives of labelled texts read what a head for labels says at the last row of each text (models/architecture.h):
// of classes the targets are their ids, and of a number it is an input.
//
// An objective with a teacher reads the last hidden states and heads of two models in one plan.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "core/labels.h"
#include "core/loss_term.h"
#include "graph/graph.h"
#include "methods/option.h"
#include "ops/pointwise.h"
#include "ops/table.h"

namespace thimble {

// Inputs beside tokens, one number a row, by the end of their names; f32 unless it says otherwise.
// A judged reply is a pair of which there is one reply alone.
inline constexpr std::string_view kPairStarts = "pair.starts";  // i32: first row of the pair, or the row itself
inline constexpr std::string_view kPairSign = "pair.sign";      // of targets: 1 chosen, wanted; -1 not; 0 elsewhere
inline constexpr std::string_view kPairShare = "pair.share";    // of targets: 1 / targets of the reply; 0 elsewhere
inline constexpr std::string_view kPairFirst = "pair.first";    // 1 in the first row of a pair; 0 elsewhere
inline constexpr std::string_view kPairReference = "pair.reference";  // in the first row: the pair's reference margin
inline constexpr std::string_view kReplyLabel = "reply.label";        // in the first row of a reply: 1 wanted, -1 not
// f32 [1]: the mean over replies of log pi(y'|x) - log pi_ref(y'|x), y' a reply to another prompt.
inline constexpr std::string_view kReplyDrift = "reply.drift";
inline constexpr std::string_view kTextLabel = "text.label";  // in the last row of a text: the number it should have
inline constexpr std::string_view kTextLast = "text.last";    // 1 in the last row of a text; 0 elsewhere
// A result beside the loss: what an objective of pairs takes for the reward of the chosen reply beyond the other's,
// and one of judged replies for that of the reply.
inline constexpr std::string_view kPairReward = "pair.reward";

// The log probabilities of replies that an objective compares.
enum class Likelihood : uint8_t {
  sum,   // over the tokens of the reply
  mean,  // a token
};

class ObjectiveBuilder;

// A model as a loss reads it: its last hidden state [rows, width], its head [vocabulary, width] and the head's bias.
struct LossHead {
  ValueId hidden = kNone, head = kNone, bias = kNone;
  float cap = 0;  // of logits; 0: none
};

struct Objective {
  std::string_view name;
  std::string_view summary;  // one line
  std::string_view paper;
  std::span<const Option> options = {};
  LossTerm term = LossTerm::token;          // what the loss is the mean of
  bool reference = false;                   // the reference margin is read: Likelihood of both replies' difference
  bool drift = false;                       // kReplyDrift is read
  std::optional<Labels::Kind> labels = {};  // of texts: what the head says
  Likelihood likelihood = Likelihood::sum;  // of the margins
  bool infills = false;  // texts are rearranged by the options `rate` and `suffix_first` (text/infilled.h)
  bool teacher = false;  // a second model is read: ObjectiveBuilder::teacher()
  TokenTerms (*terms)(const OptionValues& options) = nullptr;  // of the losses of tokens; nullptr: their likelihoods
  bool (*reads_nll)(const OptionValues& options) = nullptr;    // of tokens; nullptr: always
  ValueId (*loss)(ObjectiveBuilder& builder) = nullptr;        // f32 [rows]; nullptr: the losses of tokens themselves
  double rate = 1;  // the learning rate that suits, as a multiple of the optimizer's

  // Examples are counted, not tokens.
  bool of_examples() const { return term != LossTerm::token; }
};

std::span<const Objective* const> objectives();
Result<const Objective*> objective_named(std::string_view name);

extern const Objective kNextToken;
extern const Objective kDpo;
extern const Objective kIpo;
extern const Objective kSimpo;
extern const Objective kOrpo;
extern const Objective kHinge;
extern const Objective kKto;
extern const Objective kApoZeroUnpaired;
extern const Objective kDistillation;
extern const Objective kInfill;
extern const Objective kClassification;
extern const Objective kRegression;

// What of a program an objective is appended to.
struct LossInputs {
  ValueId nll = kNone;      // f32 [rows]; kNone where the objective reads none
  ValueId starts = kNone;   // i32 [rows]: where the document of a row begins
  ValueId targets = kNone;  // i32 [rows], -1: none
  ValueId scale = kNone;    // f32 [1]: what the sum of losses is multiplied with
  LossHead student = {}, teacher = {};
  bool gradient = true;  // one of the loss will be derived
};

// What an objective is made from; it emits nodes.
class ObjectiveBuilder {
 public:
  ObjectiveBuilder(Graph& graph, const Objective& objective, const OptionValues& options, std::string prefix,
                   LossInputs inputs);

  double option(std::string_view name) const { return options_[name]; }
  // What the chosen reply is likelier than the rejected one, and where the objective reads a reference, less what that
  // finds; right in the first row of every pair. Of a judged reply: its log likelihood, negative where it is not
  // wanted.
  ValueId margin();
  // Of a judged reply: 1 wanted, -1 not, in its first row.
  ValueId label() { return input(kReplyLabel); }
  // kReplyDrift.
  ValueId drift();
  // Of the reply that a row is in: its log likelihood a token.
  ValueId mean_likelihood();
  // A number that is the same in all rows of a reply: of the chosen one less of the rejected, in every row of the pair.
  ValueId difference(ValueId of_reply, std::string_view name);
  // Of the chosen reply the mean negative log likelihood of a token, in every row of the pair.
  ValueId chosen_nll();
  // A new value [rows] of others.
  ValueId pointwise(const PointwiseBuilder& builder, std::vector<ValueId> operands, std::string_view name);
  // T^2 KL(teacher || student) of the predictions of every row with a target, both softened by the temperature T.
  ValueId divergence(double temperature);
  // Ends an objective of tokens: the values' sum, each times its factor.
  ValueId finish(std::span<const std::pair<ValueId, double>> terms);
  ValueId nll() const { return in_.nll; }
  // What the head says, f32 [rows, outputs].
  ValueId scores();
  // Ends one of texts with numbers: (x - label)^2 in the last row of every text, of the scores x.
  ValueId finish_squared(ValueId scores);
  // Ends one of pairs or replies: f32 [rows] as the loss, and the reward, in the first row of every pair; 0 elsewhere.
  //   make(x) gives both for the operands x, which are [rows] or [1].
  struct Terms {
    Expr loss, reward;
  };
  template <class Make>
  ValueId finish(const std::vector<ValueId>& operands, Make make) {
    PointwiseBuilder b;
    std::vector<Expr> x;
    x.reserve(operands.size());
    for (const ValueId operand : operands)
      x.push_back(graph_.value(operand).type.extent == Extent::fixed ? b.scalar() : b.tensor());
    const Expr first = b.tensor();
    const Terms terms = make(x);
    b.output(first * terms.loss);
    b.output(first * terms.reward);
    return emit(b, operands);
  }

 private:
  ValueId input(std::string_view name, const Codec* codec = &kF32);
  // Over the documents or pairs that begin at `starts`, of the product of the factors, times `by`.
  ValueId sum(const std::vector<ValueId>& factors, double by, ValueId starts, std::string_view name);
  ValueId emit(const PointwiseBuilder& builder, std::vector<ValueId> operands);
  std::string named(std::string_view name) const { return prefix_ + std::string(name); }

  Graph& graph_;
  const Objective& objective_;
  const OptionValues& options_;
  std::string prefix_;  // of names: "train."
  LossInputs in_;
};

// -log sigmoid(x), without overflow; its slope at 0 is -1/2.
Expr minus_log_sigmoid(Expr x);

// Appends the objective to the graph of one program: the loss and, of pairs, the reward become results called
// "<prefix>loss" and "<prefix>pair.reward".
ValueId add_objective(Graph& graph, const Objective& objective, const OptionValues& options, const std::string& prefix,
                      const LossInputs& inputs);
// What an evaluation counts: of objectives with a teacher, which is not there, the likelihood of tokens.
const Objective& evaluated_objective(const Objective& objective);
// The result that holds the loss.
std::string loss_name(const Objective& objective, const std::string& prefix);
// Behind its name: the result that is differentiated in its place, where the loss does not carry its scale by itself.
inline constexpr std::string_view kScaledLoss = ".scaled";

}  // namespace thimble
