// Rows before every sequence that the model fills itself, with virtual tokens: at the first positions, of id 0.
#pragma once

#include <cstddef>
#include <cstdint>

namespace thimble {

struct Lead {
  int64_t rows = 0;
  bool predicts = false;  // the last of them predicts the first token of the text

  bool is_text(size_t row) const { return row >= static_cast<size_t>(rows); }
  // The token of the text after row `row` of a sequence, for rows that may have a target.
  size_t next_token(size_t row) const { return row + 1 - static_cast<size_t>(rows); }
  bool may_predict(size_t row) const { return is_text(row) || (predicts && row + 1 == static_cast<size_t>(rows)); }
};

}  // namespace thimble
