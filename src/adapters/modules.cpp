#include "adapters/modules.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "adapters/name_pattern.h"
#include "models/families.h"
#include "models/tensor_names.h"

namespace thimble {
namespace {

using Ordered = nlohmann::ordered_json;

bool ends_with_part(std::string_view name, std::string_view end) {
  return name == end || (name.size() > end.size() && name.ends_with(end) && name[name.size() - end.size() - 1] == '.');
}

ModelModule describe(const Architecture& a, const TensorSpec& spec) {
  ModelModule m;
  m.tensor = spec.name;
  const size_t dot = spec.name.rfind('.');
  m.name = spec.name.substr(0, dot), m.suffix = spec.name.substr(dot + 1);
  m.owner = m.name;
  m.shape = spec.shape;
  m.whole = spec.shape[0];
  const bool in_block = spec.name.starts_with("model.layers.");
  m.linear = spec.shape.rank() == 2 && (in_block || m.name == "lm_head");
  m.by_default = m.linear && in_block && !spec.scores && m.name.find(".experts.") == std::string::npos;
  Rope::Layout of_files = Rope::Layout::halves;
  if (const Family* const family = find_family(a.family)) {
    of_files = family->rope_layout;
    const FilePlace place = place_in_file(*family, a, spec);
    m.owner = place.name.substr(0, place.name.rfind('.'));
    m.transposed = place.transposed;
    m.whole = place.rows;
    m.rows = {place.first, place.run == place.period || place.run == spec.shape[0] ? 0 : place.run, place.period};
  }
  if (in_block && m.name.ends_with(".self_attn.o_proj")) m.in_group = head_dim_of(a, spec.name);
  const Attention* const attention = is_q_or_k(spec.name) ? &a.blocks[block_of(spec.name)].attention : nullptr;
  if (!attention || attention->rope < 0) return m;
  const Rope& rope = a.ropes[static_cast<size_t>(attention->rope)];
  // Where not all of a head turns, no file has another order of its elements.
  if (rope.rotated == attention->head_dim) m.head_dim = attention->head_dim;
  m.interleaved = rope.layout == Rope::Layout::interleaved && of_files == Rope::Layout::halves;
  return m;
}

// A name, a list of names, or a regular expression.
Result<std::vector<std::string>> names_of(const Ordered& value, const char* field, const std::string& source) {
  std::vector<std::string> names;
  const auto wrong = [&] {
    return fail(ErrorCode::corrupt, "reading {}: '{}' should be a list of names or a string", source, field);
  };
  if (!value.is_array()) return wrong();
  for (const Ordered& name : value) {
    if (!name.is_string()) return fail(ErrorCode::corrupt, "reading {}: '{}' should hold strings only", source, field);
    names.push_back(name.get<std::string>());
  }
  return names;
}

}  // namespace

std::vector<ModelModule> model_modules(const Architecture& architecture) {
  std::vector<ModelModule> modules;
  for (const TensorSpec& spec : tensor_specs(architecture)) modules.push_back(describe(architecture, spec));
  if (!architecture.tied) return modules;
  Architecture apart = architecture;
  apart.tied = false;
  for (const TensorSpec& spec : tensor_specs(apart))
    if (spec.name == "lm_head.weight") modules.push_back(describe(apart, spec));
  modules.back().tensor = modules.front().tensor;
  return modules;
}

struct Selection::Names {
  std::vector<std::string> names;
  std::optional<NamePattern> pattern;
  bool all_linear = false;
};

Result<Selection> Selection::read(const Ordered& config, const std::string& source) {
  Selection selection;
  selection.source_ = source;
  const auto read_names = [&](const char* field) -> Result<std::shared_ptr<const Names>> {
    const auto found = config.find(field);
    if (found == config.end() || found->is_null()) return std::shared_ptr<const Names>();
    auto names = std::make_shared<Names>();
    if (found->is_string()) {
      std::string text = found->get<std::string>(), lower = text;
      std::transform(lower.begin(), lower.end(), lower.begin(), [](unsigned char c) { return std::tolower(c); });
      names->all_linear = lower == "all-linear";
      if (!names->all_linear)
        names->pattern = TRY(NamePattern::compile(text, fmt::format("reading {}: '{}'", source, field)));
    } else {
      names->names = TRY(names_of(*found, field, source));
    }
    return names;
  };
  selection.targets_ = TRY(read_names("target_modules"));
  selection.excluded_ = TRY(read_names("exclude_modules"));
  const auto layers = config.find("layers_to_transform");
  const bool every = layers == config.end() || layers->is_null() || (layers->is_array() && layers->empty());
  if (!every) {
    selection.layers_.emplace();
    const Ordered list = layers->is_array() ? *layers : Ordered::array({*layers});
    for (const Ordered& layer : list) {
      if (!layer.is_number_integer())
        return fail(ErrorCode::corrupt, "reading {}: 'layers_to_transform' should be numbers of layers", source);
      selection.layers_->push_back(layer.get<int64_t>());
    }
  }
  const auto pattern = config.find("layers_pattern");
  if (pattern != config.end() && pattern->is_string() && !pattern->get_ref<const std::string&>().empty()) {
    selection.layer_patterns_.push_back(pattern->get<std::string>());
  } else if (pattern != config.end() && !pattern->is_null() && !pattern->is_string()) {
    selection.layer_patterns_ = TRY(names_of(*pattern, "layers_pattern", source));
  }
  return selection;
}

Result<bool> Selection::takes(const ModelModule& module) const {
  if (excluded_) {
    if (excluded_->pattern && TRY(excluded_->pattern->matches(module.owner))) return false;
    for (const std::string& name : excluded_->names)
      if (ends_with_part(module.owner, name)) return false;
  }
  return targeted(module);
}

Result<bool> Selection::targeted(const ModelModule& module) const {
  if (targets_ && targets_->pattern) return targets_->pattern->matches(module.owner);
  bool named = module.by_default;
  if (targets_ && !targets_->all_linear) {
    const auto& names = targets_->names;
    if (std::find(names.begin(), names.end(), module.owner) != names.end()) return true;
    named = std::any_of(names.begin(), names.end(),
                        [&](const std::string& name) { return ends_with_part(module.owner, name); });
  }
  if (!named || !layers_) return named;
  std::string layer;  // the first number: behind it an expert's may stand
  if (layer_patterns_.empty()) {
    const NamePattern any = TRY(NamePattern::compile(".*?\\.[^.]*\\.(\\d+)\\.", source_));
    layer = TRY(any.group(module.owner, 1));
  }
  for (const std::string& pattern : layer_patterns_) {
    if (!layer.empty()) break;
    const NamePattern one = TRY(NamePattern::compile("(?:^|.*?\\.)(?:" + pattern + ")\\.(\\d+)\\.", source_));
    layer = TRY(one.group(module.owner, 1));
  }
  if (layer.empty() || layer.size() > 9) return false;
  return std::find(layers_->begin(), layers_->end(), std::stoll(layer)) != layers_->end();
}

Result<const Ordered*> by_pattern(const Ordered& patterns, const std::string& name, const std::string& source) {
  for (const auto& [key, value] : patterns.items()) {
    const NamePattern pattern = TRY(NamePattern::compile("(?:.*\\.)?(?:" + key + ")", source));
    if (TRY(pattern.matches(name))) return &value;
  }
  return nullptr;
}

bool is_saved(const Ordered& modules_to_save, const ModelModule& module) {
  if (!modules_to_save.is_array()) return false;
  for (const Ordered& saved : modules_to_save) {
    if (!saved.is_string()) continue;
    const std::string& end = saved.get_ref<const std::string&>();
    for (size_t length = module.owner.size(); length != std::string::npos && length > 0;
         length = module.owner.rfind('.', length - 1)) {
      if (std::string_view(module.owner).substr(0, length).ends_with(end)) return true;
      if (length == 0) break;
    }
  }
  return false;
}

std::vector<ModelModule> saved_ends(const Ordered& config, const Architecture& architecture) {
  const auto saved = config.is_object() ? config.find("modules_to_save") : config.end();
  std::vector<ModelModule> ends;
  if (!config.is_object() || saved == config.end()) return ends;
  for (ModelModule& module : model_modules(architecture))
    if ((module.name == "model.embed_tokens" || module.name == "lm_head") && is_saved(*saved, module))
      ends.push_back(std::move(module));
  return ends;
}

}  // namespace thimble
