// cut: a model with fewer heads and FFN units, to train an adapter on (LoRAM, models/cut_model.h).

#include <nlohmann/json.hpp>

#include "commands/command.h"
#include "commands/command_line.h"
#include "commands/model_output.h"
#include "commands/void_flags.h"
#include "core/count.h"
#include "files/json.h"
#include "models/cut_model.h"
#include "plan/ledger.h"
#include "run/one_of.h"

namespace thimble {
namespace {

struct CutFlags {
  ModelOutput output;
  std::string codec, by = "random";
  double ratio = 0.5;
  uint64_t key = 0;
  bool json = false;
};

Result<void> cut(CutFlags& flags) {
  ModelOutput& o = flags.output;
  o.to = "safetensors";
  CHECK_OK(one_of("--by", flags.by, {"magnitude", "random"}));
  if (!(flags.ratio > 0 && flags.ratio < 1))
    return fail(ErrorCode::invalid_argument, "--ratio: expected a part between 0 and 1, found {}", flags.ratio);
  CHECK_OK(check_model_output(o));
  std::unique_ptr<ModelSource> source = TRY(ModelSource::open(o.model));
  const KeptParts kept =
      TRY(choose_kept(*source, flags.ratio, flags.by == "random" ? CutBy::random : CutBy::magnitude, flags.key));
  source = TRY(cut_model(std::move(source), kept));
  const auto in_safetensors = [](const ModelTensor& tensor) { return !tensor.codec->safetensors.empty(); };
  if (!flags.codec.empty())
    o.codec = TRY(codec_named(flags.codec));
  else if (!std::ranges::all_of(source->tensors(), in_safetensors))
    o.codec = &kBf16;
  CHECK_OK(open_output_tokenizer(o));
  CHECK_OK(check_output_tokens(o, source->architecture().vocab));
  CHECK_OK(write_model_output(o, source->architecture(), source->tensors(), rows_of(*source)));
  CHECK_OK(write_kept(o.out, kept));
  const KeptParts::Layer& layer = kept.layers.front();
  if (flags.json) {
    const nlohmann::ordered_json told = {{"event", "done"},
                                         {"output", o.out},
                                         {"bytes", bytes_at(o.out)},
                                         {"blocks", kept.layers.size()},
                                         {"kv_heads", layer.kv_heads.size()},
                                         {"kv_heads_before", kept.kv_heads},
                                         {"ffn_units", layer.units.size()},
                                         {"ffn_units_before", kept.units},
                                         {"notes", o.notes}};
    fmt::print("{}\n", told.dump(-1, ' ', false, Json::error_handler_t::replace));
    return {};
  }
  for (const std::string& note : o.notes) fmt::print("{}\n", note);
  fmt::print("{} of {} of keys and {} of {} FFN units stay in each of {}; {} written to {}\n", layer.kv_heads.size(),
             counted(kept.kv_heads, "head"), layer.units.size(), kept.units, counted(kept.layers.size(), "block"),
             megabytes(bytes_at(o.out)), o.out);
  return {};
}

std::function<Result<void>()> add(FlagSet& command) {
  auto flags = std::make_shared<CutFlags>();
  ModelOutput& o = flags->output;
  command.add("--model", o.model, "model: a GGUF file, a Hugging Face folder or a llama2.c .bin").required();
  command.add("--tokenizer", o.tokenizer, "tokenizer, when the model brings none");
  command.add("--ratio", flags->ratio, "part of the heads, and of the units of FFNs, that goes").shows_default();
  command.add("--by", flags->by, "which stay: random, as --key draws; magnitude, the largest").shows_default();
  command.add("--key", flags->key, "of the draw").shows_default();
  command.add("--codec", flags->codec, "of the folder: f32, bf16, f16; as stored without it, or bf16");
  command.add("--out", o.out, "the folder to write").required();
  command.add("--json", flags->json, "one JSON object");
  return [flags, &command]() -> Result<void> {
    CHECK_OK(refuse_void(command, {{"--key", flags->by != "random", "--by magnitude draws nothing"}}));
    return cut(*flags);
  };
}

}  // namespace

const Command kCut = {"cut", "leave out heads and FFN units, to train an adapter on what stays", add};

}  // namespace thimble
