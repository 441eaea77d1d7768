// The fields of a config.json in either direction: a family lists each field once, with transformers' default, and the
// list reads and writes it.
//
//   void config(HfFields& f, Architecture& a) {
//     f.field("hidden_size", a.width);
//     f.field("logit_scale", a.logit_scale, 0.0625);
//   }
//
// Reading, a field that is absent (or null) is its default, and is an error where it has none. Writing, every field is
// written. The first error stays; what follows does nothing.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "files/field_notes.h"
#include "files/json.h"
#include "models/architecture.h"

namespace thimble {

// Names and defaults of the sizes that all families have. An empty name: the family has no such field, and the default
// holds.
struct SizeFields {
  std::string_view width = "hidden_size", other_width = {};  // and an older name of the same
  std::string_view layers = "num_hidden_layers", heads = "num_attention_heads", kv_heads = "num_key_value_heads";
  std::string_view head_dim = "head_dim", ffn = "intermediate_size";
  std::string_view context = "max_position_embeddings", other_context = {};
  int64_t default_kv_heads = 0;  // 0: as many as heads
  int64_t default_head_dim = 0;  // 0: width / heads
  int64_t default_ffn = 0;       // 0: the file must say; -1: four times the width
  int64_t default_context = 2048;
};

struct RopeFields {
  double base = 10000;
  double partial = 1;                // of a head that turns
  std::string_view layer_type = {};  // where each kind of layer has a rope of its own: "sliding_attention"
  std::string_view base_field = "rope_theta";
  // Empty: whole heads turn, whatever a file says; transformers reads the part in some families only.
  std::string_view partial_field = {};
  // "original_max_position_embeddings" beside the rope, where the file does not say it; 0: the one in the rope holds.
  int64_t original_context = 0;
};

constexpr std::string_view kPartialRotary = "partial_rotary_factor";

class HfFields {
 public:
  // Reads; `fields` must outlive this.
  HfFields(const SizeFields& sizes, const JsonFields& fields) : sizes_(sizes), fields_(&fields) {}
  // Writes.
  explicit HfFields(const SizeFields& sizes) : sizes_(sizes) {}

  bool reads() const { return fields_ != nullptr; }
  // Reading: whether the file says anything of it.
  bool says(std::string_view key) const { return reads() && fields_->has(key); }

  // T: int64_t, double, bool, std::string, or a vector of int64_t, double or std::string.
  template <class T>
  void field(std::string_view key, T& value) {
    transfer(key, value, static_cast<const T*>(nullptr));
  }
  template <class T>
  void field(std::string_view key, T& value, const std::type_identity_t<T>& otherwise) {
    transfer(key, value, &otherwise);
  }
  // A field that must be `value`, as thimble knows no other; absent it is `otherwise`.
  template <class T>
  void only(std::string_view key, const T& value, const std::type_identity_t<T>& otherwise) {
    T found = value;
    field(key, found, otherwise);
    if (reads() && error_ && found != value)
      refuse(fmt::format("'{}' is {}; this family is supported with {} only", key, text(found), text(value)));
  }
  template <class T>
  void only(std::string_view key, const T& value) {
    only(key, value, value);
  }
  // Fields of the family that change nothing that thimble computes, and why.
  void harmless(std::initializer_list<std::string_view> keys, std::string_view why) {
    for (const std::string_view key : keys)
      if (!known_.contains(key)) note(key, why);
  }
  void refuse(std::string why);

  // Vocabulary, width, context, tying; heads and FFN of the block; how many blocks repeat() makes.
  void sizes(Architecture& a, Block& block);
  void activation(std::string_view key, FeedForward& ffn, std::string_view otherwise);
  // Appends a rope that turns the block's heads when read; written, the first one.
  void rope(Architecture& a, const Block& block, const RopeFields& fields = {}, size_t which = 0);
  // Copies of the block, when read.
  void repeat(Architecture& a, const Block& block);
  // "layer_types": sets sliding and full blocks apart; absent, `slides` says it of each block, counted from 0.
  void layer_types(Architecture& a, const std::function<bool(int64_t)>& slides,
                   const std::function<void(Block&, bool slides)>& set, const std::function<bool(const Block&)>& is);
  // "sliding_window" of tokens, for all blocks; `otherwise` where the field is absent (null means none).
  void window(Architecture& a, int64_t otherwise);
  // The same of the blocks that slide, by layer_types().
  void windows(Architecture& a, int64_t otherwise, const std::function<bool(int64_t)>& slides);

  // Once the family has listed its fields: what becomes of one in this file.
  FieldNote meaning(std::string_view key) const;
  // Reading: warns of fields that nobody knows.
  void warn_of_unknown(std::string_view family) const;
  Result<void> result() const { return error_; }
  const JsonFields& source() const { return *fields_; }
  nlohmann::ordered_json& json() { return *json_; }

 private:
  template <class T>
  void transfer(std::string_view key, T& value, const T* otherwise);
  template <class T>
  static std::string text(const T& value);
  int64_t read_window(const Architecture& a, int64_t otherwise);
  void note(std::string_view key, std::string_view why) { known_[std::string(key)] = why; }
  void write_rope(const Rope& rope, int64_t head_dim, const RopeFields& fields);

  const SizeFields sizes_;
  const JsonFields* fields_ = nullptr;
  JsonBox<nlohmann::ordered_json> json_;
  std::map<std::string, std::string_view, std::less<>> known_;  // and why it is harmless; empty: it is honoured
  Result<void> error_;
  int64_t layers_ = 0;
};

Activation activation_named(std::string_view name);  // of transformers' names, which must be known

// The block that all others are like: what reading begins with, and the first one when writing.
inline Block first_block(const Architecture& a) { return a.blocks.empty() ? Block() : a.blocks.front(); }

}  // namespace thimble
