// A model on disk, whatever the format: its architecture, and its tensors under thimble's names (architecture.h).
// Nothing is kept of the weights; they are read by pread into memory that the plan owns.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "codecs/codec.h"
#include "core/shape.h"
#include "models/architecture.h"

namespace thimble {

struct ModelTensor {
  std::string name;    // thimble's name
  const Codec* codec;  // as stored in the file
  Shape shape;         // [out, in] for matrices
  int64_t bytes() const { return shape.rows() * codec->bytes(shape.columns()); }
};

class ModelSource {
 public:
  virtual ~ModelSource() = default;

  // A Hugging Face folder (config.json + *.safetensors, sharded or not), a .gguf file, or a llama2.c .bin file.
  static Result<std::unique_ptr<ModelSource>> open(const std::string& path);

  const std::string& path() const { return path_; }
  const Architecture& architecture() const { return architecture_; }
  // In a fixed order: embedding, blocks, final norm, head.
  std::span<const ModelTensor> tensors() const { return tensors_; }
  const ModelTensor* find(std::string_view name) const;

  // Reads rows [row, row + rows) of a tensor (a vector is one row), in its stored codec, in thimble's layout: rows of q
  // and k put back into Hugging Face's order (GGUF permutes them), fused projections split, GPT-2's [in, out] matrices
  // transposed. `to` has exactly the bytes of those rows. Needs at most 1 MiB of its own memory.
  virtual Result<void> read(const ModelTensor& tensor, int64_t row, int64_t rows, std::span<std::byte> to) const = 0;

  // Of names, shapes, codecs and the middle row of every tensor: another model has another one, the same model has the
  // same one wherever it lies.
  Result<uint64_t> fingerprint() const;

 protected:
  void set_tensors(std::vector<ModelTensor> tensors);

  std::string path_;
  Architecture architecture_;

 private:
  std::vector<ModelTensor> tensors_;
  std::vector<size_t> by_name_;  // numbers of tensors, in the order of their names
};

}  // namespace thimble
