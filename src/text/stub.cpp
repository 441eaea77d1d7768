#include "text/readers.h"
#include "text/save.h"
namespace thimble {
Result<std::unique_ptr<Tokenizer>> read_tokenizer_json(const std::string&) { return fail(ErrorCode::unsupported, "later"); }
Result<std::unique_ptr<Tokenizer>> read_tokenizer_model(const std::string&) { return fail(ErrorCode::unsupported, "later"); }
Result<std::unique_ptr<Tokenizer>> read_tok512(const std::string&) { return fail(ErrorCode::unsupported, "later"); }
Result<std::unique_ptr<Tokenizer>> read_vocab_and_merges(const std::string&, const std::string&) { return fail(ErrorCode::unsupported, "later"); }
Result<void> save_byte_bpe(const std::string&, const Vocabulary&, const ByteBpeRules&, const std::string&) { return fail(ErrorCode::unsupported, "later"); }
Result<TokenizerTables> byte_bpe_tables(const Vocabulary&, const ByteBpeRules&, const std::string&) { return fail(ErrorCode::unsupported, "later"); }
Result<void> save_sentencepiece(const std::string&, const Vocabulary&, const SentencePieceRules&, const std::string&) { return fail(ErrorCode::unsupported, "later"); }
Result<TokenizerTables> sentencepiece_tables(const Vocabulary&, const SentencePieceRules&, const std::string&) { return fail(ErrorCode::unsupported, "later"); }
}
