// llama2.c's tokenizer: SentencePiece BPE in a small file.
//
//   i32 length of the longest token | for each token: f32 score, i32 length, bytes       little-endian
//
// There are no kinds: ids 0, 1 and 2 are unknown, beginning and end; <0x00> to <0xFF> are bytes; spaces are spaces.
#include <cstring>

#include "files/file.h"
#include "text/readers.h"
#include "text/sentencepiece.h"

namespace thimble {

Result<std::unique_ptr<Tokenizer>> read_tok512(const std::string& path) {
  const std::string file = TRY(read_text_file(path));
  size_t at = 0;
  const auto next = [&](void* to) {
    if (file.size() - at < 4) return false;
    std::memcpy(to, file.data() + at, 4);
    at += 4;
    return true;
  };
  int32_t longest = 0;
  if (!next(&longest) || longest < 1 || longest > UINT16_MAX) {
    return fail(ErrorCode::corrupt, "reading {}: expected the length of the longest token first, found {}", path,
                longest);
  }
  SentencePieceReader reader;
  reader.rules.prefix = SentencePieceRules::Prefix::every_stretch;
  reader.rules.marks_are_spaces = false;
  reader.vocabulary.unknown = 0;
  reader.vocabulary.bos = 1;
  reader.vocabulary.eos = 2;
  reader.vocabulary.adds_bos = true;
  constexpr std::string_view kNames[] = {"<unk>", "<s>", "</s>"};
  for (int32_t id = 0; at < file.size(); ++id) {
    float score = 0;
    int32_t length = 0;
    if (!next(&score) || !next(&length) || length < 0 || length > longest ||
        static_cast<size_t>(length) > file.size() - at) {
      return fail(ErrorCode::corrupt, "reading {}: token {} ends after the file or is longer than {} bytes", path, id,
                  longest);
    }
    std::string_view piece(file.data() + at, static_cast<size_t>(length));
    at += piece.size();
    TokenKind kind = byte_of_name(piece) >= 0 ? TokenKind::byte : TokenKind::normal;
    if (id < 3) {  // the file has them as text to print: "\n<s>\n"
      kind = id == 0 ? TokenKind::unknown : TokenKind::control;
      piece = kNames[id];
    }
    CHECK_OK(reader.add_piece(id, piece, score, kind));
  }
  if (reader.vocabulary.tokens.size() < 3) {
    return fail(ErrorCode::corrupt, "reading {}: it has {} tokens, expected at least 3", path,
                reader.vocabulary.tokens.size());
  }
  CHECK_OK(finish(reader.vocabulary, path));
  return make_sentencepiece(std::move(reader.vocabulary), std::move(reader.rules));
}

}  // namespace thimble
