#include "api/settle.h"
#include "run/completion.h"
#include "run/evaluator.h"
#include "thimble/thimble.h"

namespace thimble {

struct Model::Session {
  std::unique_ptr<Inference> inference;
  Sampler sampler;
  std::unique_ptr<Generator> generator;
};

Model::Model(std::unique_ptr<Session> session) : session_(std::move(session)) {}
Model::Model(Model&&) noexcept = default;
Model::~Model() = default;

Result<Model> Model::open(const InferenceOptions& options, int64_t context, const SamplingOptions& sampling) {
  settle_process();
  auto inference = TRY(Inference::open(options));
  auto sampler = TRY(Sampler::create(sampling, inference->architecture().vocab));
  auto generator = TRY(Generator::prepare(*inference, 1, TRY(inference->context(context))));
  CHECK_OK(generator->load());
  return Model(std::unique_ptr<Session>(new Session{std::move(inference), std::move(sampler), std::move(generator)}));
}

const Ledger& Model::ledger() const { return session_->inference->plan().ledger; }

Result<std::string> Model::generate(const Prompt& prompt, int64_t max_tokens,
                                    const std::function<void(std::string_view)>& say) {
  if (max_tokens < 1) return fail(ErrorCode::invalid_argument, "max_tokens: expected at least 1, found {}", max_tokens);
  Completion completion;
  completion.prompt_ids = TRY(encode_prompt(prompt, *session_->inference));
  CHECK_OK(complete(*session_->generator, session_->sampler, *session_->inference, {.max_tokens = max_tokens}, say,
                    completion));
  return std::move(completion.text);
}

Result<Score> evaluate(const InferenceOptions& options, const std::string& data, int64_t context) {
  settle_process();
  auto inference = TRY(Inference::open(options));
  context = TRY(inference->context(context));
  DatasetOptions data_options{.context = context};
  data_options.no_bos = options.no_bos;
  data_options.chat = inference->template_options();
  auto examples = TRY(Dataset::open(data, inference->tokenizer(), data_options));
  if (examples->size() == 0) return fail(ErrorCode::invalid_argument, "{}: there is nothing in it to evaluate", data);
  Score all;
  auto evaluator = TRY(Evaluator::prepare(*inference, context, 1, [&](const Score& score) {
    all.nll += score.nll;
    all.tokens += score.tokens;
  }));
  CHECK_OK(evaluator->load());
  CHECK_OK(evaluator->add_all(*examples, examples->size()));
  return all;
}

std::string_view version() { return THIMBLE_VERSION; }

}  // namespace thimble
