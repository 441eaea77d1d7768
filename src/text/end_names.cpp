#include "text/end_names.h"

#include <algorithm>
#include <array>

namespace thimble {
namespace {

constexpr auto kNames = std::to_array<std::string_view>({"<|eot_id|>",
                                                         "<|im_end|>",
                                                         "<|end|>",
                                                         "<|return|>",
                                                         "<|call|>",
                                                         "<|flush|>",
                                                         "<|calls|>",
                                                         "<end_of_turn>",
                                                         "<|endoftext|>",
                                                         "</s>",
                                                         "<|eom_id|>",
                                                         "<EOT>",
                                                         "_<EOT>",
                                                         "[EOT]",
                                                         "[EOS]",
                                                         "<|end_of_text|>",
                                                         "<end_of_utterance>",
                                                         "<eos>",
                                                         "<turn|>",
                                                         "<|tool_response>",
                                                         "[e~[",
                                                         "<|ifm|im_end|>",
                                                         "<\xef\xbd\x9c"
                                                         "end\xe2\x96\x81of\xe2\x96\x81sentence\xef\xbd\x9c>"});

}  // namespace

std::vector<std::string_view> end_names(const std::function<bool(std::string_view)>& there) {
  std::vector<std::string_view> names;
  std::ranges::copy_if(kNames, std::back_inserter(names), there);
  const auto has = [&](std::string_view name) { return std::ranges::find(names, name) != names.end(); };
  // Where a message's parts end otherwise than the reply (gpt-oss, solar-open).
  const bool calls = has("<|call|>") || has("<|calls|>");
  if (calls && (has("<|return|>") || has("<|flush|>"))) std::erase(names, "<|end|>");
  // Where it is HTML (Gemma 4, PLaMo).
  if (has("<|tool_response>") || there("<|plamo:eos|>")) std::erase(names, "</s>");
  return names;
}

const std::vector<InfillEnd>& infill_ends() {
  static const std::vector<InfillEnd> ends = {
      {"tokenizer.ggml.fim_pad_token_id", {"<|fim_pad|>", "<fim-pad>", "<fim_pad>", "<PAD>", "[PAD]"}},
      {"tokenizer.ggml.fim_rep_token_id", {"<|fim_repo|>", "<|repo_name|>", "<fim-repo>", "<REPO>", "<reponame>"}},
      {"tokenizer.ggml.fim_sep_token_id", {"<|file_sep|>", "<|plamo:file_separator|>"}}};
  return ends;
}

}  // namespace thimble
