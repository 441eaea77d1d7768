// Models in GGUF files as llama.cpp writes them: the families whose row says what their files are like (families.h).
//
//   Source  llama.cpp, convert_hf_to_gguf.py and src/llama-arch.cpp
//   Choice  q and k of "llama" are stored with interleaved rows and are put back into Hugging Face's order when read
#include <set>

#include "models/gguf_config.h"
#include "models/gguf_fields.h"
#include "models/stored_model.h"
#include "models/tensor_names.h"

namespace thimble {
namespace {

Result<void> add_tensor(const GgufFile& gguf, const Family& family, const TensorSpec& spec,
                        std::set<std::string_view>& used, StoredModel& model) {
  const Architecture& a = model.architecture;
  const FilePlace place = place_in_gguf(family, a, spec);
  const GgufTensor* tensor = gguf.find_tensor(place.name);
  if (!tensor) return fail(ErrorCode::corrupt, "reading {}: tensor '{}' is missing", gguf.path(), place.name);
  const bool vector = spec.shape.rank() == 1;
  const Shape expected = vector ? Shape{place.rows} : Shape{place.rows, spec.shape[1]};
  if (tensor->shape != expected) {
    return fail(ErrorCode::corrupt, "reading {}: tensor '{}' should have shape {} by the metadata, found {}",
                gguf.path(), place.name, expected.text(), tensor->shape.text());
  }
  const Codec* codec = find_codec_gguf(static_cast<int>(tensor->type));
  if (!codec) {
    return fail(ErrorCode::unsupported, "reading {}: tensor '{}' is of type {}, which thimble has no codec for",
                gguf.path(), place.name, gguf_tensor_type_name(tensor->type));
  }
  if (vector && codec->block != 1) {
    return fail(ErrorCode::unsupported, "reading {}: vector '{}' is quantised to {}; expected f32, bf16 or f16",
                gguf.path(), place.name, codec->name);
  }
  const float shift = gguf_shift(a, spec);
  if (shift != 0 && codec != &kF32) {
    return fail(ErrorCode::unsupported, "reading {}: gains '{}' are in {}; expected f32, as llama.cpp writes them",
                gguf.path(), place.name, codec->name);
  }
  StoredTensor stored{.file = tensor->part,
                      .offset = tensor->offset,
                      .first = place.first,
                      .run = place.run,
                      .period = place.period,
                      .shift = -shift};
  if (is_q_or_k(spec.name) && family.gguf.pairs) stored.pairs_of = head_dim_of(a, spec.name);
  used.insert(tensor->name);
  model.tensors.push_back({spec.name, codec, spec.shape});
  model.stored.push_back(stored);
  return {};
}

Result<StoredModel> open_gguf(const std::string& path) {
  const GgufFile gguf = TRY(GgufFile::open(path));
  StoredModel model;
  const Family& family = *TRY(gguf_family(gguf));
  model.architecture = TRY(gguf_architecture(gguf, family));
  CHECK_OK(check_gguf_fields(gguf, family, model.architecture));
  std::set<std::string_view> used = {kRopeFactors, kShortFactors, kLongFactors};
  for (const TensorSpec& spec : tensor_specs(model.architecture)) CHECK_OK(add_tensor(gguf, family, spec, used, model));
  // A tensor that nobody reads is a part of the model that would silently be left out.
  for (const GgufTensor& tensor : gguf.tensors()) {
    if (!used.contains(tensor.name)) {
      return fail(ErrorCode::unsupported, "reading {}: tensor '{}' has no place in a model of family {}", path,
                  tensor.name, model.architecture.family);
    }
  }
  for (size_t part = 0; part < gguf.parts(); ++part)
    model.files.push_back(TRY(InputFile::open(gguf.file(part).path())));
  return model;
}

}  // namespace

const ModelFormat kGgufModel = {
    .name = "gguf", .description = "a .gguf file", .recognises = GgufFile::recognises, .open = open_gguf};

}  // namespace thimble
