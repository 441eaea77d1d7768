// Writes a model as a GGUF file that llama.cpp opens.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "files/gguf.h"
#include "files/tokenizer_tables.h"
#include "models/row_stream.h"

namespace thimble {

struct GgufWriteOptions {
  const Codec* codec = nullptr;            // of matrices; nullptr: as they are
  const Codec* embedding_codec = nullptr;  // of the embedding and the head; nullptr: as `codec`
  std::string name;                        // general.name
  // At most one of the two; without either the file has no vocabulary.
  const GgufFile* tokenizer_source = nullptr;
  const TokenizerTables* tokenizer = nullptr;
  std::string chat_template = {};  // instead of that of tokenizer_source; empty: that
};

// A matrix whose rows are no whole blocks of the codec asked for.
struct GgufReplacement {
  std::string tensor;
  std::string_view wanted, used;  // names of codecs
};

struct GgufWriteReport {
  std::vector<GgufReplacement> replaced;
  uint64_t file_bytes = 0;
};

// Norms, biases and positions are written in f32, as llama.cpp wants them; q and k of the llama family in its
// interleaved order.
Result<GgufWriteReport> write_gguf_model(const std::string& path, const Architecture& architecture,
                                         std::span<const ModelTensor> tensors, const ReadRows& read,
                                         const GgufWriteOptions& options = {});

// What llama.cpp takes instead of a codec whose blocks do not fit rows of `columns`: q4_K -> q5_0, q5_K -> q5_1,
// q6_K -> q8_0, and f16 where nothing fits.
const Codec& codec_for_rows(const Codec& wanted, int64_t columns);

}  // namespace thimble
