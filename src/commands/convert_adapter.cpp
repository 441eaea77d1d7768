#include "commands/convert_adapter.h"

#include <filesystem>

#include "adapters/gguf_adapter.h"
#include "files/gguf.h"
#include "models/model_source.h"

namespace thimble {

Result<size_t> convert_adapter(const std::string& model, const std::string& path, const std::string& out) {
  const auto source = TRY(ModelSource::open(model));
  std::vector<Adapter> adapters = TRY(open_adapters(path));
  if (adapters.size() != 1)
    return fail(ErrorCode::unsupported,
                "--adapter-only: {} holds {} techniques, and a GGUF adapter one; merge them into the model instead",
                path, adapters.size());
  if (adapters.front().labels)
    return fail(ErrorCode::unsupported,
                "--adapter-only: {} says labels of texts, for which llama.cpp's adapters have no head; merge it into "
                "the model with --to safetensors",
                path);
  const std::filesystem::path folder = std::filesystem::path(out).parent_path();
  if (!folder.empty()) CHECK_OK(make_directories(folder.string()));
  CHECK_OK(write_gguf_adapter(out, adapters.front(), source->architecture()));
  return TRY(GgufFile::open(out)).tensors().size();
}

}  // namespace thimble
