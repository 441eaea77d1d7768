// The rewrite socket: how a model is changed before it is trained or run, and what of it trains. One technique is one
// file in rewrites/ and one row of the table in rewrite.cpp; techniques stack.
//
//   adapt     a linear layer, as it is with the technique
//   weight    the weight that comes to the same: for merging, for the head, and for layers where there is no `adapt`
//   bias      what becomes of the layer's bias in that
//   embed     an embedding's rows, as they are with the technique
//   attend    keys and values of an attention, as they are with it
//   tap, join a network beside the model, which reads its residual stream and adds to what the head reads (side.h)
//   stream    what blocks and the head read of what the blocks before them made (stream.h)
//   form      how PEFT calls it: fields of adapter_config.json that are options, others that are harmless or refused
// What a technique adds are values with how they begin (Initial) and how they are called in an adapter's file; plan,
// ledger, checkpoint, export and loading walk over these and know no technique.
#pragma once

#include <algorithm>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/lead.h"
#include "graph/graph.h"
#include "graph/pass_log.h"
#include "graph/rewrite.h"
#include "methods/option.h"
#include "ops/table.h"

namespace thimble {

// A field of adapter_config.json that is an option of the technique.
struct PeftField {
  enum class Kind : uint8_t {
    whole,
    steps,  // a whole number of steps; 0: those of the run, which are written in its place
    number,
    flag,
    list,   // of whole numbers
    marks,  // by layer, under "<module>.<pattern>", a list of true and false: the option is how many are true; it is
            // left as it is for a layer without a list
    names   // a list of modules: the option is 1 for those
  };
  std::string_view field, option;
  Kind kind = Kind::whole;
  // The field with other values for modules by name: "rank_pattern". Of a list: with the lists of layers, by their
  // whole names.
  std::string_view pattern = {};
  double absent = 0;  // what a file without the field means
  // The end of the name of a tensor whose first extent says it, whatever the field does.
  std::string_view extent = {};
};
// Why a field changes nothing here, or cannot be honoured.
struct PeftNote {
  std::string_view field, why;
};
// Texts of a field that begin so, and why they are refused; without a reason they are taken. The first that fits
// counts.
struct PeftValue {
  std::string_view field, begins, why;
};
struct PeftForm {
  std::string_view type;  // "LORA"; empty: the technique has no adapter
  std::span<const PeftField> fields = {};
  std::span<const PeftNote> harmless = {};
  std::span<const PeftNote> refused = {};   // unless they are off: absent, null, false or empty
  std::span<const PeftNote> training = {};  // likewise where the adapter trains on; otherwise harmless
  std::span<const PeftValue> values = {};
  // The field that says how fresh values begin, with what is written there; both may be empty.
  std::string_view init_field = {};
  // A field that is true in files of this technique, of several of one type, or has this text.
  std::string_view marked = {}, marked_text = {};
  bool alias = false;  // files of its type are another technique's, which it is trained like
};

// Rows of a tensor of a file: [first, first + run), and as many after every `period` rows; run 0: all from `first` on.
struct RowsInFile {
  int64_t first = 0, run = 0, period = 0;
  int64_t of(int64_t row) const { return first + (run == 0 ? row : row / run * period + row % run); }
};

// Where row `row` of a value whose heads pair their elements in one way is in a file that pairs them in the other:
// `interleaved`, elements 2i and 2i + 1 of a head, else i and i + n/2.
constexpr int64_t row_among_heads(int64_t row, int64_t head_dim, bool interleaved) {
  const int64_t half = head_dim / 2, head = row / head_dim, e = row % head_dim;
  return head * head_dim + (interleaved ? e / 2 + (e % 2) * half : 2 * (e % half) + e / half);
}

// A value of the graph in an adapter's file.
struct AdapterTensor {
  std::string value;        // its name in the graph
  std::string stored;       // the tensor's, without "base_model."
  Shape whole;              // of the tensor in the file
  RowsInFile rows;          // that the value is of it
  bool transposed = false;  // the file has columns for rows
  int64_t head_dim = 0;     // not 0: its rows are those of heads that are rotated
  bool interleaved =
      false;  // and the model pairs element 2i of a head with 2i + 1, Hugging Face's files i with i + n/2
  bool trained = true;
  std::string_view technique = {};  // whose it is
  size_t place = 0;                 // of the technique in its stack
  double rate = 1;                  // of what trains, as a multiple of the learning rate
  bool saved = true;
  bool derived = false;         // begins with what Rewrite::begin makes of the weight
  bool optional = false;        // where the file has none, it is as it begins
  std::string_view alone = {};  // its whole name in the file, where that is not behind "base_model."

  std::string file_name() const { return alone.empty() ? "base_model." + stored : std::string(alone); }
};

// A layer that a technique is applied to. Several of thimble's layers may be one module of the file ("c_attn"): then
// they share what is not by rows, and each has its rows of the rest.
struct AdaptedModule {
  // Of the layers that are one module of the file, one.
  struct Part {
    std::string name;  // thimble's
    RowsInFile rows;
    int64_t head_dim = 0;
    bool interleaved = false;

    int64_t row_of_owner(int64_t row) const {
      return rows.of(head_dim > 0 && interleaved ? row_among_heads(row, head_dim, interleaved) : row);
    }
  };
  std::string name;      // thimble's: "model.layers.0.self_attn.q_proj", "lm_head", "model.embed_tokens"
  std::string owner;     // the file's
  RowsInFile rows;       // of the owner's output rows, those of this layer
  int64_t whole = 0;     // output rows of the owner
  int64_t head_dim = 0;  // as in AdapterTensor, of its output rows
  bool interleaved = false;
  int64_t largest_in = 0, largest_out = 0;  // extents of all that are adapted
  double scale = 1;                         // of what the technique adds (Rewrite::scales)
  std::string scope = {};                   // before the names of its values, where several adapters are of one kind
  OptionValues options = OptionValues();
  std::string kind = {};  // "self_attn.q_proj": the same for all layers with one place in a block and one shape
  int64_t alike = 1;      // adapted layers of that kind
  int64_t in_group = 1;   // input columns that belong together: those of a head, where the input is heads
  double row_scale = 1;   // of an embedding whose files multiply its rows by themselves: by what, later
  int64_t layer = -1, layers = 0;  // the block that it is of, and how many there are; -1: of none
  bool probed = false;             // options are being settled: what it does on data is measured (Settling)
  std::vector<Part> parts = {};    // all layers of the owner, where these are several

  bool is_embedding() const { return name == "model.embed_tokens"; }
  // Row `row` of the layer among the owner's output rows, as the file has them.
  int64_t row_of_owner(int64_t row) const { return Part{name, rows, head_dim, interleaved}.row_of_owner(row); }
  bool is_in_file_order(int64_t out) const { return whole == out && (head_dim == 0 || !interleaved); }
};

struct Rewrite;

// A technique as it is applied to a model.
struct RewriteSpec {
  const Rewrite* rewrite = nullptr;
  OptionValues options = OptionValues();
  std::map<std::string, AdaptedModule> modules = {};  // by thimble's name; of `full` none
  std::vector<AdapterTensor> trained = {};            // values of the model that train and are saved whole
  bool given = false;                                 // by an adapter: its options are not the user's
};

// A linear layer while a technique is applied to it; it emits nodes, nothing is computed here.
class ModuleRewrite {
 public:
  struct How {
    bool by_rows = false;         // one row an output row of the layer
    bool trained = true;          // else it stays as it begins
    bool transposed = false;      // in the file
    bool saved = true;            // an adapter's file holds it
    bool derived = false;         // it begins with what Rewrite::begin makes of the weight
    bool optional = false;        // a file may have none
    bool shared = false;          // one for all layers: `suffix` is its whole name
    double rate = 1;              // as in AdapterTensor
    std::string_view alone = {};  // likewise
    bool computed = false;        // a state that Rewrite::end_step adds: here there is none yet
    Shape stored = {};            // in the file, of this layer; rank 0: as it is
  };
  // A value that the technique adds, called "<module>.<suffix>" in the graph and in the file; the same again where it
  // is there already. `shape` is of this layer.
  ValueId add(std::string_view suffix, const Shape& shape, const Initial& initial, How how);
  ValueId add(std::string_view suffix, const Shape& shape, const Initial& initial);
  // A table that is computed, not trained and not saved: f32, or whole numbers below 2^24.
  ValueId constant(const std::string& name, const Shape& shape, const Initial& initial, const Codec* codec = &kF32);
  // Rows of a value by rows, or of one of the layer's shape, that belong to the part of the weight that is merged.
  ValueId rows(ValueId value);
  // Of a matrix with a row for each output row of the owner, as the file has them, the rows of this layer.
  ValueId rows_of_owner(ValueId value);
  std::string rows_name() const;  // the same for all layers whose rows are at the same places of an owner
  // Values of the technique are made once for all layers of one owner: `make` is called for the first of them.
  template <class Make>
  ValueId once(const std::string& suffix, Make make) {
    const auto found = made_.find(owner() + "." + suffix);
    return found != made_.end() ? found->second : made_[owner() + "." + suffix] = make();
  }

  // Whether what the technique adds is there to be trained; otherwise it is read as an adapter's file has it.
  bool trains() const { return role_ == Role::parameter; }
  const std::string& owner() const { return module.owner; }
  double option(std::string_view name) const { return module.options[name]; }
  double option_or(std::string_view name, double otherwise) const {
    return module.options.has(name) ? module.options[name] : otherwise;
  }
  std::string name(std::string_view suffix) const { return module.scope + module.owner + "." + std::string(suffix); }

  Graph& graph;
  const AdaptedModule& module;
  int64_t in = 0, out = 0;  // the layer's extents
  bool embedding = false;   // its rows are looked up: [vocabulary, width]
  bool training = false;    // dropout and the like are wanted
  // The node as it is; y is what it becomes.
  LinearAttributes attributes = {};
  ValueId x = kNone;
  ValueId positions = kNone;  // of the rows of an embedding or an attention, i32 [rows], from 0 in each sequence
  ValueId w = kNone;          // [out, in], in whatever codec; to merge: f32, of `merged` rows from `first` on
  ValueId bias = kNone, addend = kNone;
  std::vector<ValueId> terms = {};  // x, w of further terms that are there already
  ValueId y = kNone;
  int64_t first = 0, merged = -1;  // rows of the weight that are wanted; -1: all

  // The weight in f32.
  ValueId decoded();
  // linear(x, w, terms..., bias, addend) with further terms: operand and weight [out, depth], and its scale.
  struct Term {
    ValueId x, w;
    double scale;
  };
  ValueId linear(ValueId x, ValueId w, std::span<const Term> more, ValueId bias, ValueId addend, std::string name);
  // Where the layer is the last of an FFN: what the others made of x, before the activation (up kNone: there is none).
  struct Inner {
    ValueId x, gate, up;
    ActivationAttributes activation;
  };
  std::optional<Inner> inner() const;
  // f32 [rows]: what every token loses beside the objective, where the model trains by derived gradients.
  void add_loss(ValueId rows) {
    if (losses_) losses_->push_back(rows);
  }
  // While the layer is probed: the sum of these rows, [rows, n], over the data is what is measured of it, or of a part
  // of that name. It comes as the gradient of zeros that they are multiplied with, so that passes add it up as they do
  // gradients.
  void probe(ValueId rows, std::string_view part = {});
  // A product of its own, x w^T, with the precision of the layer's.
  ValueId product(ValueId x, ValueId w, std::string name, double scale = 1, ValueId addend = kNone);

  ModuleRewrite(Graph& graph, const AdaptedModule& module, std::map<std::string, ValueId>& made,
                std::map<std::string, AdapterTensor>& tensors, Role role, std::vector<ValueId>* losses = nullptr)
      : graph(graph), module(module), made_(made), tensors_(tensors), role_(role), losses_(losses) {}

 protected:
  std::map<std::string, ValueId>& made_;
  std::map<std::string, AdapterTensor>& tensors_;
  Role role_;  // of what trains
  std::vector<ValueId>* losses_;
};

// The end of the name of what a layer is probed with.
inline constexpr std::string_view kProbe = ".probe";

// Options of single layers that are settled before a run is planned, by what is measured of the data or of the weights.
// They are saved with the adapter: fields with a pattern.
struct Settling {
  // Windows of the data that are looked at, in passes in which layers are `probed`; 0: there is nothing to settle.
  int64_t (*windows)(const OptionValues& options) = nullptr;
  // Or the value to be measured of a layer's whole weight, f32; nullptr: of data.
  ValueId (*of_weight)(ModuleRewrite& m) = nullptr;
  bool (*wanted)(const OptionValues& options) = nullptr;  // of_weight
  // Sets options of layers, given by their names what was measured; says for people what was chosen.
  using Measured = std::map<std::string, std::vector<float>, std::less<>>;
  Result<std::string> (*settle)(const Measured& measured, std::map<std::string, AdaptedModule>& modules) = nullptr;
  // Sets them to what takes most memory of all that may be chosen, for a refusal before anything is measured; nullptr:
  // options that are not settled take as much.
  Result<void> (*widest)(std::map<std::string, AdaptedModule>& modules) = nullptr;
};

class SideRewrite;    // methods/side.h
class StreamRewrite;  // methods/stream.h
struct Wrapper;       // methods/optimizer.h

// Where the option `by` is set, `option` has no effect.
struct VoidOption {
  std::string_view option, by;
};

struct Rewrite {
  std::string_view name;
  std::string_view summary;
  std::string_view paper;
  bool trains_weights = false;  // the model's own weights are parameters (f32 masters)
  double rate = 1;              // the learning rate that suits, as a multiple of the optimizer's
  std::span<const Option> options = {};
  std::span<const VoidOption> voids = {};
  void (*adapt)(ModuleRewrite& m) = nullptr;
  ValueId (*weight)(ModuleRewrite& m) = nullptr;  // nullptr: not for heads and experts, which are read as weights
  ValueId (*bias)(ModuleRewrite& m) = nullptr;    // nullptr: as it was
  ValueId (*embed)(ModuleRewrite& m, ValueId ids, ValueId rows) = nullptr;  // nullptr: not for embeddings
  // Writes over the keys and values [rows, width] of attention `layer` of `layers`; m is of the embedding.
  void (*attend)(ModuleRewrite& m, int64_t layer, int64_t layers, ValueId& keys, ValueId& values) = nullptr;
  // A network beside the model: `tap` sees the residual stream behind so many blocks (0: behind the embedding), `join`
  // makes what the head reads. Its blocks are the model's, `narrower` times as narrow. It stands alone in a stack.
  void (*tap)(SideRewrite& side, int64_t blocks, ValueId stream) = nullptr;
  ValueId (*join)(SideRewrite& side, ValueId hidden) = nullptr;
  int64_t (*narrower)(const OptionValues& options) = nullptr;
  // What is read of the residual stream behind so many blocks (0: the embedding, at last: the head's), given what the
  // last of them made of what it read.
  Result<ValueId> (*stream)(StreamRewrite& streams, int64_t blocks, ValueId made) = nullptr;
  // Of a model with so many blocks, how many are read: those behind are left out with all that was adapted in them, and
  // `stream` is asked for what the head reads without anything made. nullptr: all.
  int64_t (*blocks)(const OptionValues& options, int64_t layers) = nullptr;
  // It has nothing of its own that trains, changes how others train, and is known to training programs alone: blocks
  // read some rows of what they would (`stream`), so that passes are of one size. It is the last of a stack, and no
  // adapter is written for it.
  bool training_only = false;
  std::string_view keeper = {};  // how activations wait while it trains, where a run does not say
  // Rows that it puts before every sequence (Lead): what writes tokens leaves room for them. nullptr: none. With
  // `embed` they are tokens like those of the text, and predict it.
  int64_t (*virtual_tokens)(const OptionValues& options) = nullptr;
  std::string_view targets = {};  // ends of names with commas between that it is for; empty: every linear of the blocks
  // FFNs become mixtures of experts: a model without one that ModuleRewrite::inner() finds is refused.
  bool mixes_ffns = false;
  bool scales = false;          // what it adds is a term of its own, which --adapter-scale may multiply
  bool by_rows = true;          // layers that are one module of a file may be adapted one by one
  bool with_tied_head = false;  // where the head is the embedding, what is for that is for both
  bool shared = false;          // adapters have no tensors of single layers: their targets alone say which they are for
  bool whole = false;           // not so, though rows may lie in another order
  std::string_view not_continued = {};  // why no training goes on from its adapters; empty: it does
  std::string_view not_merged = {};     // why no weights of the model come to the same; empty: some do
  // What options mean to a layer [out, in] that they cannot be for; nullptr: they suit every layer.
  Result<void> (*check)(const OptionValues& options, int64_t in, int64_t out) = nullptr;
  // What they mean to a run of so many steps (0: not known) that they cannot be for; nullptr: they suit every run.
  Result<void> (*check_run)(const OptionValues& options, int64_t steps) = nullptr;
  const Wrapper* wrapper = nullptr;  // what goes around the optimizer while it trains, with the technique's options
  const Settling* settling = nullptr;
  // What derived values begin with, of the weight `w` of a layer: by their suffixes. Of all rows of the weight, of an
  // owner of several layers those of all of them as its file has them; where begins_by_rows, of some of its rows, for
  // the same rows of vectors, but of an embedding all.
  std::vector<std::pair<std::string_view, ValueId>> (*begin)(ModuleRewrite& m) = nullptr;
  bool begins_by_rows = false;
  std::vector<int64_t> (*begin_rows)(const AdaptedModule& module) = nullptr;  // rows of `w` there; nullptr: all
  bool merges_embedding_whole = false;  // an embedding's rows as they are with it hang on each other
  // Emits nodes that end a step, when all that trains has moved: what adapters hold and parameters make.
  void (*end_step)(Graph& graph, const AdaptedModule& module) = nullptr;
  // Values of the model that it trains as they are (none: nullptr), and how an adapter calls them.
  bool (*trains)(std::string_view value) = nullptr;
  std::string_view trained_as = {};  // between module and "weight": "ln_tuning_layers"
  PeftForm form = {};

  bool adapts() const { return changes_layers() || join || stream; }
  bool changes_layers() const { return adapt || weight || embed || attend; }
  // Otherwise its adapters are of the whole model and name no layers.
  bool of_layers() const { return !virtual_tokens && (changes_layers() || !(join || stream)); }
  // Other weights of the model come to the same.
  bool merges() const { return not_merged.empty(); }
};

std::span<const Rewrite* const> rewrites();
// What is advised where every weight trains and that does not fit.
std::string_view lightest_method();
// "lora", or several with commas between, applied in that order; refuses what means nothing.
Result<std::vector<const Rewrite*>> rewrites_named(std::string_view names);
// The technique of an adapter's `peft_type`, where `is_set` says which fields are true, or have a text; nullptr: there
// is none.
using PeftMark = std::function<bool(std::string_view field, std::string_view text)>;  // text empty: the field is true
const Rewrite* rewrite_of_peft(std::string_view type, const PeftMark& is_set = nullptr);

bool trains_weights(std::span<const RewriteSpec> stack);
// Of the technique with virtual tokens, if there is one.
Lead lead_of(std::span<const RewriteSpec> stack);
// How activations wait while they train, where a run does not say: names of keepers.
std::string keepers_of(std::span<const Rewrite* const> stack);
// The rate that suits all of them, as a multiple of the optimizer's.
double rate_of(std::span<const RewriteSpec> stack);

struct Rewritten {
  Graph graph;
  std::vector<AdapterTensor> tensors;  // by the names of their values
  std::vector<ValueId> losses = {};    // of tokens, f32 [rows]: ModuleRewrite::add_loss
};
enum class RewriteUse : uint8_t { train, evaluate, infer };  // infer: nothing is trained, all are weights

// Blocks like the model's that are narrower, for a network beside it: appended to one graph with the weights that they
// need, each of which is called as the model's behind "side.".
struct NarrowBlocks {
  int64_t width = 0;                                          // of their rows
  std::function<ValueId(int64_t layer, ValueId rows)> block;  // the one beside block `layer`
  std::function<ValueId(ValueId rows)> norm;                  // as before the head
};
// Where a graph has what a network beside the model reads.
struct ModelTaps {
  std::vector<ValueId> streams;  // residual streams [rows, width]: behind the embedding, then behind every block
  ValueId hidden = kNone;        // what the head reads
  // Inputs, i32 [rows]; kNone where the model has none. Rows are windows of so many, each of whole sequences.
  ValueId positions = kNone, starts = kNone;
  int64_t window = 0;
  // Their weights are f32 and of this role. Errors where an extent of the model cannot be divided.
  std::function<Result<NarrowBlocks>(Graph& graph, int64_t narrower, Role role)> blocks;
};
// Every technique is a pass of the log. Errors where a module is not there, is none that a technique can change, or two
// want one value or the first rows; and where a technique that runs beside the model is not alone, or `taps` are
// missing for it.
Result<Rewritten> rewrite_model(Graph graph, std::span<const RewriteSpec> stack, RewriteUse use, PassLog& log,
                                ModelTaps taps = {});

extern const Rewrite kFull;
extern const Rewrite kLora;
extern const Rewrite kLoraPlus;
extern const Rewrite kLoraFa;
extern const Rewrite kDora;
extern const Rewrite kVera;
extern const Rewrite kIa3;
extern const Rewrite kLoha;
extern const Rewrite kLokr;
extern const Rewrite kLnTuning;
extern const Rewrite kBitfit;
extern const Rewrite kOft;
extern const Rewrite kBoft;
extern const Rewrite kPissa;
extern const Rewrite kOlora;
extern const Rewrite kVblora;
extern const Rewrite kTrainableTokens;
extern const Rewrite kAdalora;
extern const Rewrite kLotr;
extern const Rewrite kMos;
extern const Rewrite kPromptTuning;
extern const Rewrite kPTuning;
extern const Rewrite kPrefixTuning;
extern const Rewrite kS2ft;
extern const Rewrite kLst;
extern const Rewrite kQst;
extern const Rewrite kMola;
extern const Rewrite kLamda;
extern const Rewrite kSnnk;
extern const Rewrite kTaps;
extern const Rewrite kSara;
extern const Rewrite kElalora;
extern const Rewrite kDsee;
extern const Rewrite kMixlora;
extern const Rewrite kMeft;
extern const Rewrite kEarlybird;
extern const Rewrite kMole;
extern const Rewrite kHyperformer;
extern const Rewrite kNeuronSpecialization;
extern const Rewrite kSherl;
extern const Rewrite kUnipt;
extern const Rewrite kMixphm;
extern const Rewrite kLemo;

}  // namespace thimble
