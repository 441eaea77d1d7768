// A model on its way into a file or folder, with its tokenizer: what convert, prune and quantize share.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "files/gguf.h"
#include "files/tokenizer_tables.h"
#include "models/gguf_writer.h"
#include "text/tokenizer.h"

namespace thimble {

struct ModelOutput {
  std::string model;      // that is read
  std::string tokenizer;  // --tokenizer; "": the model's own
  std::string to;         // gguf, safetensors
  std::string out;
  const Codec* codec = nullptr;            // nullptr: as stored
  const Codec* embedding_codec = nullptr;  // nullptr: as `codec`
  std::vector<std::string> notes;          // for whoever asked
  std::string chat_template = {};          // instead of the tokenizer's own; "": that

  // Set by the functions below.
  std::optional<GgufFile> gguf_tokenizer;  // whose metadata are copied
  std::unique_ptr<Tokenizer> opened;       // otherwise
  TokenizerTables tables;

  bool is_gguf() const { return to == "gguf"; }
};

// --to and --out fit each other, and nothing that is read is written over. `inputs`: besides model and tokenizer.
Result<void> check_model_output(const ModelOutput& o, std::vector<std::string> inputs = {});

// The codec of the embedding and the head where none was named: finer than a coarse codec of the others, as llama.cpp's
// quantize does.
void choose_embedding_codec(ModelOutput& o, int64_t width);

// Opens the tokenizer that the result gets. `apart`: as text, not as a GGUF file's metadata.
Result<void> open_output_tokenizer(ModelOutput& o, bool apart = false);
// Tokens that a model of `rows` rows has no row for: noted, and refused where the result could not do without them.
Result<void> check_output_tokens(ModelOutput& o, int64_t rows);
// Tables of the vocabulary as GGUF keeps them, made to fit `rows`.
Result<void> make_tokenizer_tables(ModelOutput& o, int64_t rows);

// What writing takes of the heap, beside the tables: buffers, and small things on the way.
int64_t output_bytes(const ModelOutput& o, const Architecture& architecture);
int64_t output_small_bytes(size_t tensors);

// Writes it. Notes tell what was written in another codec than was asked for.
Result<void> write_model_output(ModelOutput& o, const Architecture& architecture, std::span<const ModelTensor> tensors,
                                const ReadRows& rows);

// Of a file, or of the files of a folder.
int64_t bytes_at(const std::string& path);

}  // namespace thimble
