// eval: four metrics over one set of flags, one file each.
#pragma once

#include <string>

#include "commands/inference_flags.h"
#include "report/events.h"
#include "text/dataset.h"

namespace thimble {

struct EvalFlags {
  InferenceFlags inference;
  std::string metric = "perplexity", convention = "windows", data, logits, out;
  std::vector<std::string> files;                                         // --data
  int64_t context = 0, batch = 0, limit = 0, max_tokens = 0, stride = 0;  // 0: as the metric wants
  bool bos = false, strict = false, json = false;

  // At most --limit of what there is.
  int64_t count(int64_t size) const { return limit > 0 ? std::min(limit, size) : size; }
  // How the data is read: the run's template and beginnings.
  DatasetOptions dataset(const Inference& inference, int64_t context) const {
    return {.context = context,
            .part = DataPart::evaluate,
            .rows = inference.architecture().vocab,
            .bos = bos,
            .strict = strict,
            .no_bos = inference.no_bos(),
            .chat = inference.template_options()};
  }
};

// --context, or what windows of token ids have, or `otherwise`.
Result<int64_t> eval_context(const EvalFlags& flags, const Inference& inference, int64_t otherwise);

Result<void> eval_perplexity(const EvalFlags& flags, Inference& inference, Events& events);
// By a convention that is not `windows`, of a plain text.
Result<void> eval_convention(const EvalFlags& flags, Inference& inference, Events& events);
Result<void> eval_choice(const EvalFlags& flags, Inference& inference, Events& events);
Result<void> eval_exact(const EvalFlags& flags, Inference& inference, Events& events);
Result<void> eval_label(const EvalFlags& flags, Inference& inference, Events& events);
// Logits of all rows of the data, as f32 safetensors.
Result<void> write_logits(const EvalFlags& flags, Inference& inference, Events& events);

// The event that ends every evaluation: memory and time.
void eval_done(Events& events, const Inference& inference, double seconds, int64_t tokens);

}  // namespace thimble
