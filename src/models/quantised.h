// Matrices of Hugging Face folders that another tool has quantised, as "quantization_config" of config.json says. They
// are read as the numbers that the tool computes with, rounded where it rounds, in the type that it computes in. A
// method is one file in quantised/ and one row of the table in quantised.cpp.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "files/file.h"
#include "files/json.h"
#include "files/safetensors.h"

namespace thimble {

// One matrix of a file: [rows, columns], whatever the order and the number of tensors that it is packed into.
class PackedRows {
 public:
  explicit PackedRows(const Codec* codec) : codec_(codec) {}
  virtual ~PackedRows() = default;

  const Codec* codec() const { return codec_; }  // of what read() gives
  // Rows [row, row + rows), which exist; `to` has exactly their bytes. Needs at most 1 MiB of its own memory. An error
  // names the matrix.
  virtual Result<void> read(std::span<const InputFile> files, int64_t row, int64_t rows,
                            std::span<std::byte> to) const = 0;

 private:
  const Codec* codec_;
};

// A tensor of a folder: its entry, and in which file it is.
struct PackedPart {
  size_t file = 0;
  SafetensorsEntry entry;
};

// What a method reads one matrix from.
struct PackedSource {
  std::string name;               // of the module, with its folder: "m: model.layers.0.mlp.up_proj"
  int64_t rows = 0, columns = 0;  // by config.json
  std::span<const InputFile> files;
  // The tensor called as the module, followed by ".qweight", say; a part that is asked for counts as used. nullptr when
  // there is none.
  std::function<const PackedPart*(std::string_view suffix)> find;
};

struct Quantisation;

// Warned of once, however it is known.
inline constexpr std::string_view kFullActivations =
    "the model's activations are quantised elsewhere; thimble computes them in full";

struct QuantMethod {
  std::string_view name;         // quant_method
  std::string_view description;  // one line
  // Refuses, by the names of its fields, a configuration that open() could not honour.
  Result<void> (*check)(const JsonFields& config);
  // nullptr when the matrix is stored plainly, as modules are that the tool left out.
  Result<std::shared_ptr<const PackedRows>> (*open)(const Quantisation& quantisation, const PackedSource& source);
};

struct Quantisation {
  const QuantMethod* method = nullptr;
  JsonBox<Json> config;          // quantization_config
  std::string source;            // the file that has it
  const Codec* dtype = nullptr;  // "dtype" of config.json, in which the model computes; nullptr when it does not say
};

std::span<const QuantMethod* const> quant_methods();

// Of the config.json of a folder, or of the quantize_config.json beside it that older tools write; nothing when the
// model is not quantised. A method that thimble does not read is refused by its name.
Result<std::optional<Quantisation>> quantisation_of(const std::string& folder);

extern const QuantMethod kQuantAwq, kQuantBitsandbytes, kQuantCompressedTensors, kQuantFbgemmFp8, kQuantFp8, kQuantGptq,
    kQuantModelopt;

}  // namespace thimble
