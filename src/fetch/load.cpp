#include <dlfcn.h>

#include <filesystem>

#include "fetch/transfer.h"
#include "files/file.h"

namespace thimble {

Result<Transfers*> load_transfers() {
  namespace fs = std::filesystem;
  std::error_code ignored;
  const fs::path folder = fs::read_symlink("/proc/self/exe", ignored).parent_path();
  fs::path module = folder / "thimble_fetch.so";
  if (!is_file(module.string())) module = folder.parent_path() / "lib/thimble/thimble_fetch.so";
  void* const handle = ::dlopen(module.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (!handle) {
    return fail(ErrorCode::io, "loading the download module {}: {}; build the target thimble_fetch", module.string(),
                ::dlerror());
  }
  auto* const make = reinterpret_cast<Transfers* (*)()>(::dlsym(handle, "thimble_fetch_transfers"));
  if (!make) return fail(ErrorCode::io, "loading {}: it is no download module of thimble", module.string());
  return make();
}

}  // namespace thimble
