// PEFT's adapter_config.json beside weights that are sound.
#include "adapters/adapter.h"

#include "fuzz_file.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace thimble;
  static const FuzzFolder folder;
  static const std::string kWeights = [] {
    const std::string header = R"({"base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight":)"
                               R"({"dtype":"F32","shape":[1,2],"data_offsets":[0,8]}})";
    const uint64_t length = header.size();
    return folder.write("adapter_model.safetensors",
                        std::string(reinterpret_cast<const char*>(&length), 8) + header + std::string(8, '\0'));
  }();
  folder.write("adapter_config.json", text_of(data, size));
  (void)open_adapters(folder.path());
  return 0;
}
