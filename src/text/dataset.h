// Training examples from files, streamed: only an index of line offsets is held, never the text.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "core/labels.h"
#include "core/lead.h"
#include "core/loss_term.h"
#include "text/chat.h"
#include "text/data_files.h"
#include "text/tokenizer.h"

namespace thimble {

// ids[i] is predicted (as the target of position i-1) where trained[i] is 1. The first of a document
// is where virtual tokens are before it, and never else.
struct Example {
  std::vector<int32_t> ids;
  std::vector<uint8_t> trained;
  size_t second = 0;  // of a preference pair: where the document of the rejected reply begins; 0: there is but one
  float label = 0;    // of a judged reply: 1 wanted, -1 not; of a labelled text: the id of its class, or its number
  void clear() { ids.clear(), trained.clear(), second = 0, label = 0; }
};

// What is done with an example of more tokens than the context.
enum class Truncate {
  leave_out,
  left,   // its beginning is cut off
  right,  // its end is
  split,  // it becomes several, each of which begins with the last token of the one before
};

// A column of the user's files that stands for a field of ours: {"prompt", "frage"}.
struct Column {
  std::string field, column;
};

struct DatasetOptions {
  int64_t context = 512;
  DataPart part = DataPart::train;
  Truncate truncate = Truncate::leave_out;
  std::vector<Column> columns;
  int64_t rows = 0;           // of the model's embedding; a token beyond makes a bad record. 0: not looked at
  bool bos = false;           // --bos
  bool strict = false;        // stop at the first bad line
  bool no_bos = false;        // --no-bos
  ModelTemplateOptions chat;  // which template, and what it is given; bos and no_bos are those above
  TrainOn train_on = TrainOn::assistant;
  bool all_tokens = false;  // loss on every token, not only on the assistant's
  // What examples are: texts; preference pairs, both replies; judged replies, of which a pair is two; or texts with one
  // of these labels. A record that is none is a bad one.
  LossTerm term = LossTerm::token;
  Labels labels;
  bool texts = false;             // examples are texts, all of which is learnt; another record is a bad one
  size_t longest_line = 1 << 20;  // bytes; a longer line is a bad line
};

struct DatasetReport {
  int64_t examples = 0;                   // usable
  int64_t bad_lines = 0;                  // not JSON, wrong fields, too long
  int64_t too_long = 0;                   // more tokens than the context
  int64_t untrained = 0;                  // no token to learn from (no assistant's token)
  int64_t dropped_tokens = 0;             // of a text's last, shorter window
  int64_t truncated = 0;                  // longer than the context, and cut or split
  int64_t largest_id = -1;                // of windows of token ids
  int64_t chats = 0;                      // of the examples, those that a chat template has made
  int64_t pairs = 0;                      // preference pairs, of which the chosen reply is learnt
  int64_t unpaired = 0;                   // preference pairs that became two judged replies
  int64_t wanted = 0;                     // judged replies that are said to be wanted
  std::map<std::string, int64_t> unused;  // fields of records that nothing is done with, and how often they stand there
  std::set<std::string> columns;          // fields for which a record has the column that the user names
  std::vector<std::string> notes;         // of what a file was taken for, and of columns that are nowhere
  std::vector<std::string> first_errors;  // "file.jsonl:12: ..." at most 10
  int64_t by_reply = 0;                   // chats that became an example for each reply
  std::string system;                     // the system message of all examples, where they share one
};

// Whether a file holds records, as JSON or as a table, and no plain text nor token ids.
Result<bool> holds_records(const std::string& path);

class Dataset {
 public:
  virtual ~Dataset() = default;

  // `files`: as data_files.h reads it. A file is JSONL, JSON values one after another, a JSON array, CSV or TSV, each
  // with `messages`, sharegpt (`conversations`), alpaca (`instruction`, `input`, `output`), `prompt`/`completion`,
  // `question`/`answer`, preference pairs (`chosen`, `rejected`) or `text`, recognised record by record; or safetensors
  // with token ids; any other text is plain, cut into consecutive windows of `context` tokens. Each may be compressed
  // by gzip or zstd. What a file is, its content says. Opening reads the files once, counts and checks every record.
  // `tokenizer` must outlive it.
  static Result<std::unique_ptr<Dataset>> open(const std::string& files, Tokenizer& tokenizer,
                                               const DatasetOptions& options);

  virtual int64_t size() const = 0;                 // usable examples (windows, for plain text)
  virtual int64_t tokens(int64_t index) const = 0;  // of an example, without reading it
  // Overwrites `example`. Allocates nothing of 4 KiB or more once opened.
  virtual Result<void> read(int64_t index, Example& example) = 0;
  virtual bool windows() const = 0;  // plain text: every example fills one window by itself
  // The messages of a chat example, for showing and for exact-match evaluation.
  virtual Result<std::vector<Message>> messages(int64_t index) = 0;
  virtual LossTerm term() const { return LossTerm::token; }  // DatasetOptions::term
  // The rejected reply of a preference pair, after the same prompt; refused where the example is none.
  virtual Result<void> read_rejected(int64_t index, Example& example);
  const DatasetReport& report() const { return report_; }
  // Of all tokens, where examples begin and what is learnt: two data sets of the same fingerprint train alike.
  uint64_t fingerprint() const { return fingerprint_; }

 protected:
  void add_to_fingerprint(uint64_t word);
  DatasetReport report_;

 private:
  uint64_t fingerprint_ = 0;
};

// The labels that records of these files have, in an order that does not hang on that of the records: whole numbers
// are ids, from 0 to the largest there is; names get ids in alphabetical order. Reads the files once.
Result<Labels> labels_in(const std::string& files, const DatasetOptions& options);

// A part of the examples, apart from the others for evaluation: `part` of them (0 < part < 1), at least one and not
// all, drawn by `seed`, or of plain text the last windows. Both views share `all`, and are read one at a time.
struct SplitDataset {
  std::unique_ptr<Dataset> train, held_out;
};
Result<SplitDataset> split_dataset(const std::shared_ptr<Dataset>& all, double part, uint64_t seed);

// Rows of one micro-batch: `batch` windows of `context` tokens, flattened. Documents packed into one window do not
// see each other.
struct Rows {
  std::vector<int32_t> ids;        // [batch * context]; unused rows hold 0
  std::vector<int32_t> targets;    // id to predict after this row, or -1
  std::vector<int32_t> positions;  // within its document
  std::vector<int32_t> starts;     // row where its document starts: row t may see rows starts[t]..t
  int64_t predicted = 0;           // targets that are not -1
  int64_t windows = 0;             // that hold something

  // A preference pair, a judged reply or a labelled text: which example, its first row and its last, and
  // Example::label.
  struct Term {
    int64_t example, row;
    int64_t last = 0;
    float label = 0;
  };
  std::vector<Term> terms;
  // Of pairs and replies, else empty: the row where its pair or reply starts, or the row itself; and of targets 1 where
  // the reply is the chosen or a wanted one, -1 where it is not, and 1 / targets of the reply.
  std::vector<int32_t> pair_starts;
  std::vector<float> sign, share;

  // All unused, of `count` rows.
  void clear(int64_t count, LossTerm term);
  // The tokens of an example from this row on; returns rows_of() it.
  int64_t place(const Example& example, int64_t index, int64_t row, LossTerm term, Lead lead);
  static int64_t rows_of(int64_t tokens, LossTerm term, Lead lead) {
    return tokens + lead.rows * (term == LossTerm::pair ? 2 : 1);
  }

 private:
  // Tokens [first, end) of the example, a document, from this row on; returns how many are predicted.
  int64_t place(const Example& example, int64_t row, size_t first, size_t end, Lead lead);
  // The same of a reply of a pair that starts at row `pair`; sign: as above.
  void place_reply(const Example& example, int64_t pair, int64_t row, size_t first, size_t end, float sign, Lead lead);
};

// Fills windows with whole examples in a seeded order (or the file's order). An epoch holds every example exactly once:
// after its last example windows stay empty until begin_step() turns to the next epoch. The state is two numbers.
class Packer {
 public:
  struct State {
    int64_t epoch = 0;
    int64_t next = 0;  // position in this epoch's order
    bool operator==(const State&) const = default;
  };
  // lead: before every document.
  Packer(Dataset& dataset, int64_t batch, int64_t context, uint64_t seed, bool shuffle, Lead lead = {});

  Result<void> next(Rows& rows);  // rows are resized once; after that only rendering a chat takes memory, of its size
  // All rows unused, in columns of the size that next() fills.
  void clear(Rows& rows) const;
  // The micro-batches from here on belong to a new step, which may begin the next epoch.
  void begin_step() { epoch_is_over_ = false; }
  bool finished() const { return state_.epoch > 0; }  // every example was given once
  // Windows that an epoch fills.
  int64_t windows(int64_t epoch);
  const State& state() const { return state_; }
  // Examples that were given between two states of this run, as the data set counts them from 0; the first `most`.
  std::vector<int64_t> examples(State from, const State& to, size_t most);
  // The first of them, after which `from` is set; nothing where both are one.
  std::optional<int64_t> example(State& from, const State& to);
  Result<void> restore(const State& state);  // refuses a place that this data set does not have

 private:
  void order(int64_t epoch);
  Result<void> load();  // the example at state_
  int64_t rows_of(int64_t tokens) const { return Rows::rows_of(tokens, dataset_.term(), lead_); }  // of an example
  int64_t index() const;  // of the example at state_, in the data set
  Dataset& dataset_;
  int64_t batch_, context_;
  Lead lead_;
  uint64_t seed_;
  bool shuffle_;
  State state_;
  int64_t order_epoch_ = -1;
  std::vector<uint32_t> order_;  // permutation of this epoch
  Example example_;
  bool epoch_is_over_ = false;
  bool loaded_ = false;  // example_ is the one at loaded_state_
  State loaded_state_;
};

}  // namespace thimble
