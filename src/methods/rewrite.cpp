#include "methods/rewrite.h"

#include <algorithm>
#include <array>

#include "core/nearest.h"

namespace thimble {
namespace {

constexpr std::array kRewrites = {&kFull,
                                  &kLora,
                                  &kLoraPlus,
                                  &kLoraFa,
                                  &kDora,
                                  &kVera,
                                  &kIa3,
                                  &kLoha,
                                  &kLokr,
                                  &kLnTuning,
                                  &kBitfit,
                                  &kOft,
                                  &kBoft,
                                  &kPissa,
                                  &kOlora,
                                  &kVblora,
                                  &kTrainableTokens,
                                  &kAdalora,
                                  &kLotr,
                                  &kMos,
                                  &kPromptTuning,
                                  &kPTuning,
                                  &kPrefixTuning,
                                  &kS2ft,
                                  &kLst,
                                  &kQst,
                                  &kMola,
                                  &kLamda,
                                  &kSnnk,
                                  &kTaps,
                                  &kSara,
                                  &kElalora,
                                  &kDsee,
                                  &kMixlora,
                                  &kMeft,
                                  &kEarlybird,
                                  &kMole,
                                  &kHyperformer,
                                  &kNeuronSpecialization,
                                  &kSherl,
                                  &kMixphm,
                                  &kUnipt,
                                  &kLemo};

}  // namespace

std::string_view lightest_method() { return kLora.name; }

std::span<const Rewrite* const> rewrites() { return kRewrites; }

Result<std::vector<const Rewrite*>> rewrites_named(std::string_view names) {
  std::vector<const Rewrite*> stack;
  std::vector<std::string_view> known;
  for (const Rewrite* rewrite : kRewrites) known.push_back(rewrite->name);
  for (size_t begin = 0; begin <= names.size();) {
    const size_t end = std::min(names.find(',', begin), names.size());
    std::string_view name = names.substr(begin, end - begin);
    while (name.starts_with(' ')) name.remove_prefix(1);
    while (name.ends_with(' ')) name.remove_suffix(1);
    const auto found = std::find_if(kRewrites.begin(), kRewrites.end(), [&](const auto* r) { return r->name == name; });
    if (found == kRewrites.end())
      return fail(ErrorCode::invalid_argument, "--method: there is no method '{}'; the nearest are {}", name,
                  nearest_names(name, known));
    if (std::find(stack.begin(), stack.end(), *found) != stack.end())
      return fail(ErrorCode::invalid_argument, "--method {}: {} is there twice; leave one of the two out", names, name);
    stack.push_back(*found);
    begin = end + 1;
  }
  if (stack.size() > 1)
    for (const Rewrite* rewrite : stack)
      if (rewrite->trains_weights)
        return fail(
            ErrorCode::invalid_argument,
            "--method {}: {} trains every weight of the model, so that nothing is left for the others to adapt; "
            "give it alone",
            names, rewrite->name);
  return stack;
}

const Rewrite* rewrite_of_peft(std::string_view type, const PeftMark& is_set) {
  const Rewrite* plain = nullptr;
  for (const Rewrite* rewrite : kRewrites) {
    const PeftForm& form = rewrite->form;
    if (form.type.empty() || form.type != type || form.alias) continue;
    if (form.marked.empty())
      plain = rewrite;
    else if (is_set && is_set(form.marked, form.marked_text))
      return rewrite;
  }
  return plain;
}

bool trains_weights(std::span<const RewriteSpec> stack) {
  return std::any_of(stack.begin(), stack.end(), [](const RewriteSpec& s) { return s.rewrite->trains_weights; });
}

Lead lead_of(std::span<const RewriteSpec> stack) {
  for (const RewriteSpec& spec : stack)
    if (spec.rewrite->virtual_tokens)
      return {spec.rewrite->virtual_tokens(spec.options), spec.rewrite->embed != nullptr};
  return {};
}

std::string keepers_of(std::span<const Rewrite* const> stack) {
  std::string names;
  for (const Rewrite* rewrite : stack)
    if (!rewrite->keeper.empty()) names += fmt::format("{}{}", names.empty() ? "" : ",", rewrite->keeper);
  return names.empty() ? "exact" : names;
}

double rate_of(std::span<const RewriteSpec> stack) {
  double least = stack.empty() ? 1 : stack.front().rewrite->rate;
  for (const RewriteSpec& spec : stack)
    if (!spec.rewrite->training_only) least = std::min(least, spec.rewrite->rate);
  return least;
}

}  // namespace thimble
