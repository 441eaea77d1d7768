#include "text/keep_files.h"

#include <vector>

#include "files/file.h"

namespace thimble {

Result<void> copy_file(const std::string& from, const std::string& to) {
  const InputFile source = TRY(InputFile::open(from));
  OutputFile file = TRY(OutputFile::create(to));
  std::vector<std::byte> piece(64 << 10);
  for (uint64_t at = 0; at < source.size(); at += piece.size()) {
    const std::span<std::byte> bytes(piece.data(), std::min<uint64_t>(piece.size(), source.size() - at));
    CHECK_OK(source.read(at, bytes));
    CHECK_OK(file.write(bytes));
  }
  return file.commit();
}

Result<void> keep_tokenizer(const Tokenizer& tokenizer, const std::string& from, const std::string& model,
                            const std::string& to) {
  const std::string generation = model + "/" + kGenerationConfig;
  if (is_file(generation)) CHECK_OK(copy_file(generation, to + "/" + kGenerationConfig));
  if (!is_directory(from)) return tokenizer.save(to);
  for (const char* name : kTokenizerFiles) {
    const std::string path = from + "/" + name;
    if (is_file(path)) CHECK_OK(copy_file(path, to + "/" + name));
  }
  if (!tokenizer.has_other_template()) return {};
  return write_text_file(to + "/" + kChatTemplate, tokenizer.chat_template());
}

}  // namespace thimble
