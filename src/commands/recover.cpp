// recover: an adapter that was trained on a cut model, for the whole one.
//
//   Paper   Zhang et al. 2025 (LoRAM), arXiv:2502.13533, "recovered low-rank matrix generation"; the authors' code,
//           3_recovered_low_rank_matrix_generation.py with --lora_recover_type zeroA
//   Rows    of B, of layers that gave up outputs, and columns of A, of layers that gave up inputs, go where they were
//           in the whole matrix; zeros where something was cut. All else stays
#include <algorithm>
#include <charconv>
#include <nlohmann/json.hpp>

#include "adapters/adapter.h"
#include "commands/command.h"
#include "commands/command_line.h"
#include "core/count.h"
#include "core/split.h"
#include "models/cut_model.h"
#include "text/keep_files.h"

namespace thimble {
namespace {

struct RecoverFlags {
  std::string model, cut, adapter, out;
  bool json = false;
};

// A tensor of the adapter, and where its rows and columns go.
struct Recovered {
  const SafetensorsEntry* entry;
  Shape shape;
  const std::vector<int64_t>*rows = nullptr, *columns = nullptr;
};

// "layers.3.self_attn.q_proj.lora_B.weight" -> its places; none of a tensor outside the blocks.
KeptPlaces places_of(const KeptParts& kept, const std::string& key) {
  const std::vector<std::string> parts = split(key, '.');
  const auto module = std::ranges::find_if(parts, [](const std::string& part) { return part.starts_with("lora_"); });
  if (parts.size() < 4 || parts[0] != "layers" || module == parts.end()) return {};
  size_t layer = kept.layers.size();
  std::from_chars(parts[1].data(), parts[1].data() + parts[1].size(), layer);
  return layer < kept.layers.size() ? kept_places(kept, layer, *(module - 1)) : KeptPlaces();
}

class Job {
 public:
  explicit Job(const RecoverFlags& flags) : flags_(flags) {}

  Result<void> run() {
    CHECK_OK(open());
    for (const auto& [key, entry] : adapter_.tensors) CHECK_OK(add(key, entry));
    CHECK_OK(make_directories(flags_.out));
    CHECK_OK(write());
    for (const char* file : {kSystemPrompt, kAdapterTemplate, kAdapterLabels})
      if (is_file(flags_.adapter + file)) CHECK_OK(copy_file(flags_.adapter + file, flags_.out + file));
    nlohmann::ordered_json config = *adapter_.config;
    config["base_model_name_or_path"] = flags_.model;
    CHECK_OK(write_text_file(flags_.out + kAdapterConfig, json_text(config)));
    // What is read back fits the whole model.
    std::vector<Adapter> written = TRY(open_adapters(flags_.out));
    CHECK_OK(rewrite_of(written.front(), whole_));
    if (flags_.json) {
      const nlohmann::ordered_json told = {
          {"event", "done"}, {"output", flags_.out}, {"tensors", tensors_.size()}, {"grown", grown_}};
      fmt::print("{}\n", told.dump(-1, ' ', false, Json::error_handler_t::replace));
      return {};
    }
    fmt::print("{} of {}, {} of them in the whole model's shapes, written to {}\n", counted(tensors_.size(), "tensor"),
               flags_.adapter, grown_, flags_.out);
    return {};
  }

 private:
  Result<void> open() {
    CHECK_OK(check_output("--out", flags_.out, std::vector{flags_.model, flags_.cut, flags_.adapter}));
    kept_ = TRY(read_kept(flags_.cut));
    whole_ = TRY(ModelSource::open(flags_.model))->architecture();
    CHECK_OK(check_whole(kept_, whole_, flags_.model));
    std::vector<Adapter> adapters = TRY(open_adapters(flags_.adapter));
    if (adapters.size() != 1 || adapters.front().rewrite != &kLora || adapters.front().gguf)
      return fail(ErrorCode::unsupported,
                  "recovering {}: expected one LoRA adapter in PEFT's form, whose A and B have rows and columns of the "
                  "model's own",
                  flags_.adapter);
    adapter_ = std::move(adapters.front());
    CHECK_OK(rewrite_of(adapter_, TRY(ModelSource::open(flags_.cut))->architecture()));  // it is of the cut model
    return {};
  }

  // A of the inputs [rank, in], B of the outputs [out, rank] or, as its bias, [out].
  Result<void> add(const std::string& key, const SafetensorsEntry& entry) {
    KeptPlaces& places = places_[key] = places_of(kept_, key);
    Recovered recovered{&entry, entry.shape};
    if (places.rows && key.find(".lora_B") != std::string::npos) {
      recovered.rows = &*places.rows;
      recovered.shape = entry.shape.with_first(places.whole_rows);
    } else if (places.columns && key.find(".lora_A") != std::string::npos && entry.shape.rank() == 2) {
      recovered.columns = &*places.columns;
      recovered.shape = {entry.shape[0], places.whole_columns};
    }
    const auto* const stayed = recovered.rows ? recovered.rows : recovered.columns;
    const int64_t extent = recovered.rows ? entry.shape[0] : entry.shape.columns();
    if (stayed && extent != std::ssize(*stayed))
      return fail(ErrorCode::invalid_argument,
                  "recovering {}: tensor '{}' has {} {}, the layer of {} {}: it is an adapter of another model",
                  flags_.adapter, entry.name, extent, recovered.rows ? "rows" : "columns", flags_.cut, stayed->size());
    grown_ += stayed != nullptr;
    tensors_.push_back(recovered);
    return {};
  }

  Result<void> write() {
    std::vector<SafetensorsTensor> list;
    for (const Recovered& one : tensors_) list.push_back({one.entry->name, one.entry->dtype, one.shape});
    SafetensorsWriter writer = TRY(SafetensorsWriter::create(flags_.out + kAdapterWeights, list));
    for (const Recovered& one : tensors_) CHECK_OK(write_tensor(one, writer));
    return writer.finish();
  }

  // Adapters are small: a tensor at a time.
  Result<void> write_tensor(const Recovered& one, SafetensorsWriter& writer) const {
    std::vector<std::byte> from(one.entry->bytes);
    CHECK_OK(adapter_.weights->read(one.entry->offset, from));
    const int64_t count = one.entry->shape.count(),
                  element = static_cast<int64_t>(from.size()) / std::max<int64_t>(1, count);
    std::vector<std::byte> to(static_cast<size_t>(one.shape.count() * element));
    const int64_t old_columns = one.entry->shape.rank() == 1 ? 1 : one.entry->shape.columns(),
                  columns = one.shape.rank() == 1 ? 1 : one.shape.columns();
    for (int64_t i = 0; i < count; ++i) {
      const int64_t row = i / old_columns, column = i % old_columns;
      const int64_t at = (one.rows ? (*one.rows)[static_cast<size_t>(row)] : row) * columns +
                         (one.columns ? (*one.columns)[static_cast<size_t>(column)] : column);
      std::copy_n(from.begin() + i * element, element, to.begin() + at * element);
    }
    return writer.write(to);
  }

  const RecoverFlags& flags_;
  KeptParts kept_;
  Architecture whole_;
  Adapter adapter_;
  std::map<std::string, KeptPlaces> places_;
  std::vector<Recovered> tensors_;
  size_t grown_ = 0;
};

std::function<Result<void>()> add(FlagSet& command) {
  auto flags = std::make_shared<RecoverFlags>();
  command.add("--model", flags->model, "the whole model, which was cut").required();
  command.add("--cut", flags->cut, "folder that 'thimble cut' wrote, with its kept.json").required();
  command.add("--adapter", flags->adapter, "PEFT folder of a LoRA that was trained on the cut model").required();
  command.add("--out", flags->out, "folder for the adapter of the whole model").required();
  command.add("--json", flags->json, "one JSON object");
  return [flags] { return Job(*flags).run(); };
}

}  // namespace

const Command kRecover = {"recover", "fit an adapter of a cut model to the whole one", add};

}  // namespace thimble
