// main() of a target without libFuzzer: runs it on every file of the folders that are named, and on simple variations
// of each: cut short, with bits flipped, with numbers made large. ./dev test does so with the corpora.
#include <algorithm>
#include <fstream>
#include <iterator>
#include <random>
#include <vector>

#include "fuzz_file.h"

namespace {

constexpr int kVariations = 40;  // of each file

std::string varied(std::string bytes, std::mt19937& random) {
  if (bytes.empty()) return bytes;
  const size_t at = random() % bytes.size();
  switch (random() % 4) {
    case 0:
      return bytes.substr(0, at);
    case 1:
      bytes[at] = static_cast<char>(bytes[at] ^ (1 << random() % 8));
      return bytes;
    case 2:
      for (size_t i = at; i < std::min(bytes.size(), at + 8); ++i) bytes[i] = '\xff';
      return bytes;
    default:
      return bytes.substr(0, at) + bytes.substr(at / 2);
  }
}

void run(const std::string& bytes) {
  LLVMFuzzerTestOneInput(reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size());
}

}  // namespace

int main(int argc, char** argv) {
  std::vector<std::string> paths;
  for (int i = 1; i < argc; ++i)
    for (const auto& entry : std::filesystem::directory_iterator(argv[i])) paths.push_back(entry.path().string());
  if (paths.empty()) {
    std::fprintf(stderr, "expected folders of files to run the target on\n");
    return 2;
  }
  std::sort(paths.begin(), paths.end());
  std::mt19937 random(1);
  run("");
  for (const std::string& path : paths) {
    std::ifstream stream(path, std::ios::binary);
    const std::string bytes{std::istreambuf_iterator<char>(stream), {}};
    run(bytes);
    for (int i = 0; i < kVariations; ++i) run(varied(bytes, random));
  }
  std::printf("%zu files and %d variations of each\n", paths.size(), kVariations);
}
