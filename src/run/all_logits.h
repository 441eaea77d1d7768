// Logits of every row of a sequence.
#pragma once

#include <memory>
#include <span>

#include "run/inference.h"

namespace thimble {

class AllLogits {
 public:
  // Plans sequences of at most `context` tokens, and the logits of all of them at once: 4 * context * vocab bytes.
  static Result<std::unique_ptr<AllLogits>> prepare(Inference& inference, int64_t context);
  Result<void> load() { return inference_.load(); }

  // [ids, vocab], without virtual tokens; valid until the next call.
  Result<std::span<const float>> run(std::span<const int32_t> ids);

 private:
  AllLogits(Inference& inference, int64_t context) : inference_(inference), context_(context) {}
  Inference& inference_;
  int64_t context_;
};

}  // namespace thimble
