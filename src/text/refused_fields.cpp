#include "text/refused_fields.h"

#include <algorithm>
#include <array>

namespace thimble {
namespace {

struct Refused {
  std::string_view field, why;
};

constexpr std::string_view kPartly = "parts of a reply are not trained apart; give train or weight";
constexpr std::string_view kEnd = "the end of a reply is trained with the reply; give train or weight";
constexpr std::string_view kMedia = "models of text see and hear nothing: leave the record out, or the field";
constexpr std::string_view kVerdict =
    "whether a completion is wanted or not is looked at by --objective kto and apo_zero_unpaired alone, and of "
    "what class a text is by classification; leave such records out";
constexpr std::string_view kPair =
    "the text is one of two; name both: --columns text=sentence1,text_pair=sentence2, say";

constexpr std::string_view kTokens =
    "a record is tokenized here; tokens that are there already come as a safetensors file with ids";
constexpr std::string_view kMask =
    "which tokens are learnt is said in words, not by a mask: write prompt and completion, or messages with train";
constexpr std::string_view kShare = "examples are learnt or not: weight takes 0 and 1";

constexpr std::array kRecord{
    Refused{"system", "a system message has no place beside a prompt that is no chat; write the record as messages"},
    Refused{"system_prompt", "it is a system message where it is named: --columns system=system_prompt"},
    Refused{"rejected", "it goes with 'chosen'"},
    Refused{"functions", "write them as 'tools', a list of {\"type\":\"function\",\"function\":...}"},
    Refused{"input_ids", kTokens},
    Refused{"labels", kMask},
    Refused{"completion_mask", kMask},
    Refused{"assistant_masks", kMask},
    Refused{"assistant_mask", kMask},
    Refused{"loss_mask", kMask},
    Refused{"loss_weight", kShare},
    Refused{"loss_weights", kShare},
    Refused{"loss_scale", kShare},
    Refused{"sample_weight", kShare},
    Refused{"example_weight", kShare},
};
constexpr std::string_view kDistance = "no objective looks at how much better a reply is; take the field out";
constexpr std::array kPairs{Refused{"margin", kDistance}, Refused{"chosen_weight", kDistance},
                            Refused{"rejected_weight", kDistance}};
constexpr std::array kVerdicts{Refused{"label", kVerdict}, Refused{"kto_tag", kVerdict}};
constexpr std::array kLabelled{
    Refused{"sentence1", kPair},  Refused{"sentence2", kPair}, Refused{"premise", kPair},
    Refused{"hypothesis", kPair}, Refused{"question", kPair},  Refused{"question1", kPair},
    Refused{"passage", kPair},    Refused{"text2", kPair},     Refused{"text_b", kPair},
};
constexpr std::array kMessage{
    Refused{"train_detail", kPartly},
    Refused{"training_detail", kPartly},
    Refused{"train_on_eot", kEnd},
    Refused{"train_on_eos", kEnd},
    Refused{"loss_weight", kShare},
    Refused{"loss_scale", kShare},
    Refused{"prefix", "a reply that is only begun is no example; complete it, or give weight 0"},
};

// Beside the text, of a record or of a message.
constexpr auto kMediaFields =
    std::to_array<std::string_view>({"images", "image", "videos", "video", "audios", "audio"});
// Types of the parts of a content that are no text.
constexpr auto kMediaTypes = std::to_array<std::string_view>(
    {"image", "image_url", "input_image", "video", "video_url", "audio", "audio_url", "input_audio", "file"});

std::span<const Refused> list_of(RecordPart part) {
  switch (part) {
    case RecordPart::verdicts:
      return kVerdicts;
    case RecordPart::pair:
      return kPairs;
    case RecordPart::labelled:
      return kLabelled;
    case RecordPart::message:
      return kMessage;
    default:
      return kRecord;
  }
}

// Why the field is refused; empty if it is not.
std::string_view why_refused(std::string_view field, RecordPart part) {
  const bool media = part == RecordPart::record || part == RecordPart::message;
  if (media && std::ranges::find(kMediaFields, field) != kMediaFields.end()) return kMedia;
  const std::span<const Refused> all = list_of(part);
  const auto found = std::ranges::find(all, field, &Refused::field);
  return found == all.end() ? "" : found->why;
}

}  // namespace

bool is_refused(std::string_view field, RecordPart part) { return !why_refused(field, part).empty(); }

Result<void> refuse_fields(const RecordFields& fields, RecordPart part) {
  for (const std::string_view name : fields.unused())
    if (const std::string_view why = why_refused(name, part); !why.empty())
      return fail(ErrorCode::unsupported, "{}the field '{}': {}", fields.where(), name, why);
  return {};
}

Result<void> refuse_media(const simdjson::dom::array& parts, std::string_view where) {
  for (const simdjson::dom::element part : parts) {
    std::string_view type;
    if (part.is_object() && part["type"].get(type) == simdjson::SUCCESS &&
        std::ranges::find(kMediaTypes, type) != kMediaTypes.end())
      return fail(ErrorCode::unsupported, "{}a part of its content is of type '{}': {}", where, type, kMedia);
  }
  return {};
}

}  // namespace thimble
