// Training examples from files, streamed: only an index of line offsets is held, never the text.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "text/chat.h"
#include "text/tokenizer.h"

namespace thimble {

// ids[i] is predicted (as the target of position i-1) where trained[i] is 1. trained[0] is never used.
struct Example {
  std::vector<int32_t> ids;
  std::vector<uint8_t> trained;
  void clear() { ids.clear(), trained.clear(); }
};

struct DatasetOptions {
  int64_t context = 512;
  bool bos = false;           // --bos
  bool strict = false;        // stop at the first bad line
  bool no_bos = false;        // --no-bos
  ModelTemplateOptions chat;  // which template, and what it is given; bos and no_bos are those above
  TrainOn train_on = TrainOn::assistant;
  bool all_tokens = false;        // loss on every token, not only on the assistant's
  size_t longest_line = 1 << 20;  // bytes; a longer line is a bad line
};

struct DatasetReport {
  int64_t examples = 0;                   // usable
  int64_t bad_lines = 0;                  // not JSON, wrong fields, too long
  int64_t too_long = 0;                   // more tokens than the context
  int64_t untrained = 0;                  // no token to learn from (no assistant's token)
  int64_t dropped_tokens = 0;             // of a text's last, shorter window
  std::vector<std::string> first_errors;  // "file.jsonl:12: ..." at most 10
  int64_t by_reply = 0;                   // chats that became an example for each reply
  std::string system;                     // the system message of all examples, where they share one
};

class Dataset {
 public:
  virtual ~Dataset() = default;

  // JSONL or a JSON array with `messages`, sharegpt (`conversations`), alpaca (`instruction`, `input`, `output`),
  // `prompt`/`completion`, `question`/`answer` or `text`, recognised line by line; any other file is plain text, cut
  // into consecutive windows of `context` tokens. Opening reads the file once, counts and checks every line.
  // `tokenizer` must outlive it.
  static Result<std::unique_ptr<Dataset>> open(const std::string& path, Tokenizer& tokenizer,
                                               const DatasetOptions& options);

  virtual int64_t size() const = 0;  // usable examples (windows, for plain text)
  // Overwrites `example`. Allocates nothing of 4 KiB or more once opened.
  virtual Result<void> read(int64_t index, Example& example) = 0;
  virtual bool windows() const = 0;  // plain text: every example fills one window by itself
  // The messages of a chat example, for showing and for exact-match evaluation.
  virtual Result<std::vector<Message>> messages(int64_t index) = 0;
  const DatasetReport& report() const { return report_; }
  // Of all tokens, where examples begin and what is learnt: two data sets of the same fingerprint train alike.
  uint64_t fingerprint() const { return fingerprint_; }

 protected:
  void add_to_fingerprint(uint64_t word);
  DatasetReport report_;

 private:
  uint64_t fingerprint_ = 0;
};

// Rows of one micro-batch: `batch` windows of `context` tokens, flattened. Documents packed into one window do not
// see each other.
struct Rows {
  std::vector<int32_t> ids;        // [batch * context]; unused rows hold 0
  std::vector<int32_t> targets;    // id to predict after this row, or -1
  std::vector<int32_t> positions;  // within its document
  std::vector<int32_t> starts;     // row where its document starts: row t may see rows starts[t]..t
  int64_t predicted = 0;           // targets that are not -1
};

// Fills windows with whole examples in a seeded order (or the file's order), forever. The state is two numbers.
class Packer {
 public:
  struct State {
    int64_t epoch = 0;
    int64_t next = 0;  // position in this epoch's order
    bool operator==(const State&) const = default;
  };
  Packer(Dataset& dataset, int64_t batch, int64_t context, uint64_t seed, bool shuffle);

  Result<void> next(Rows& rows);  // Rows are resized once; no allocation after
  // Every example once, in order, for evaluation: windows after the last example stay empty (predicted is 0).
  void once() { once_ = true; }
  bool finished() const { return once_ && state_.epoch > 0; }
  const State& state() const { return state_; }
  Result<void> restore(const State& state);  // refuses a place that this data set does not have

 private:
  void order();
  Result<void> load();  // the example at state_
  void place(Rows& rows, int64_t row) const;
  Dataset& dataset_;
  int64_t batch_, context_;
  uint64_t seed_;
  bool shuffle_;
  State state_;
  int64_t order_epoch_ = -1;
  std::vector<uint32_t> order_;  // permutation of this epoch
  Example example_;
  bool once_ = false;
  bool loaded_ = false;  // example_ is the one at loaded_state_
  State loaded_state_;
};

}  // namespace thimble
