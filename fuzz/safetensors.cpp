// Safetensors, as any file and as a checkpoint.
#include "files/safetensors.h"

#include "fuzz_file.h"
#include "run/checkpoint_files.h"
#include "run/resume.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace thimble;
  static const FuzzFolder folder;
  const auto file = SafetensorsFile::open(folder.write("checkpoint.safetensors", text_of(data, size)));
  if (!file) return 0;
  (void)verify_checkpoint(*file);
  (void)metadata_number(*file, "step");
  return 0;
}
