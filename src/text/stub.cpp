#include "text/readers.h"
#include "text/save.h"
namespace thimble {
Result<void> save_byte_bpe(const std::string&, const Vocabulary&, const ByteBpeRules&, const std::string&) { return fail(ErrorCode::unsupported, "later"); }
Result<TokenizerTables> byte_bpe_tables(const Vocabulary&, const ByteBpeRules&, const std::string&) { return fail(ErrorCode::unsupported, "later"); }
Result<void> save_sentencepiece(const std::string&, const Vocabulary&, const SentencePieceRules&, const std::string&) { return fail(ErrorCode::unsupported, "later"); }
Result<TokenizerTables> sentencepiece_tables(const Vocabulary&, const SentencePieceRules&, const std::string&) { return fail(ErrorCode::unsupported, "later"); }
}
