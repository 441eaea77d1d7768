// Texts whose middle is moved to their end, so that a decoder learns to fill in what is missing.
//
//   Paper   Bavarian et al. 2022, "Efficient Training of Language Models to Fill in the Middle", arXiv:2207.14255
//   Form    a text is cut at two places, drawn evenly among all between its tokens, the ends included:
//             PRE prefix SUF suffix MID middle        (PSM)
//             PRE SUF suffix MID prefix middle        (SPM, as in its appendix D)
//           A beginning of sequence stays the first token, an end of sequence the last; all are learnt
//   Choice  cuts lie between tokens, not characters; what becomes of an example hangs on the seed and its number alone,
//           and is the same in every epoch
#pragma once

#include "text/dataset.h"

namespace thimble {

struct InfillTokens {
  int32_t prefix = 0, suffix = 0, middle = 0;
  static constexpr int64_t kCount = 3;
};
// The tokenizer's, by the names that families of models have for them; refused where it has none, or where the model
// has no row for one of them.
Result<InfillTokens> infill_tokens(const Tokenizer& tokenizer, int64_t rows);

struct Infilling {
  InfillTokens tokens;
  double rate = 0;          // the part of the texts that is cut
  double suffix_first = 0;  // of those, the part in the second form
  uint64_t seed = 0;
  std::optional<int32_t> bos, eos;
};

// `data`: of texts alone, InfillTokens::kCount tokens shorter than the context at least.
std::unique_ptr<Dataset> infilled(std::unique_ptr<Dataset> data, const Infilling& how);

}  // namespace thimble
