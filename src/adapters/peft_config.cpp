#include "adapters/peft_config.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "core/nearest.h"

namespace thimble {
namespace {

using Ordered = nlohmann::ordered_json;
using Kind = PeftField::Kind;

// Fields of PeftConfig and of what most techniques have, beside those of a technique's own form.
constexpr std::string_view kHonoured[] = {
    "peft_type",      "task_type",       "target_modules", "exclude_modules",         "layers_to_transform",
    "layers_pattern", "modules_to_save", "bias",           "base_model_name_or_path", "trainable_token_indices"};
constexpr PeftNote kHarmless[] = {
    {"peft_version", "it says who wrote the file"},
    {"auto_mapping", "it says of which Python classes the base model is"},
    {"revision", "the base model is given by --model"},
    {"inference_mode", "whether it trains is said by the command"},
    {"fan_in_fan_out", "PEFT itself sets it by the kind of layer, which is known here"},
    {"ensure_weight_tying", "it ties copies of modules_to_save, which are refused where the model ties them"},
    {"block_size_pattern", "it is empty or refused"},
};

constexpr std::string_view kCausal = "CAUSAL_LM", kLabelled = "SEQ_CLS";

bool is_off(const Ordered& value) {
  return value.is_null() || (value.is_boolean() && !value.get<bool>()) || (value.is_structured() && value.empty()) ||
         (value.is_string() && value.get_ref<const std::string&>().empty());
}

template <class Notes>
const PeftNote* find_note(const Notes& notes, std::string_view field) {
  const auto found = std::find_if(std::begin(notes), std::end(notes), [&](const auto& n) { return n.field == field; });
  return found == std::end(notes) ? nullptr : &*found;
}

bool is_whole(Kind kind) { return kind == Kind::whole || kind == Kind::steps; }

Result<double> number_of(const Ordered& value, const PeftField& field, std::string_view name,
                         const std::string& source) {
  if (field.kind == Kind::flag && value.is_boolean()) return value.get<bool>() ? 1.0 : 0.0;
  if (field.kind == Kind::flag)
    return fail(ErrorCode::corrupt, "reading {}: '{}' should be true or false, found {}", source, name, value.dump());
  if (!value.is_number() || (is_whole(field.kind) && !value.is_number_integer()))
    return fail(ErrorCode::corrupt, "reading {}: '{}' should be {}, found {}", source, name,
                is_whole(field.kind) ? "an integer" : "a number", value.dump());
  return value.get<double>();
}

Result<std::vector<double>> numbers_of(const Ordered& value, std::string_view name, const std::string& source) {
  constexpr size_t kMost = 1 << 20;
  const bool whole =
      value.is_array() && value.size() <= kMost &&
      std::all_of(value.begin(), value.end(), [](const Ordered& one) { return one.is_number_integer(); });
  if (!whole)
    return fail(ErrorCode::corrupt, "reading {}: '{}' should be a list of up to {} integers", source, name, kMost);
  return value.get<std::vector<double>>();
}

Result<void> set(OptionValues& options, const Rewrite& rewrite, const PeftField& field, std::string_view name,
                 double value, const std::string& source) {
  if (options.set(rewrite.name, field.option, value)) return {};
  const auto option = std::find_if(rewrite.options.begin(), rewrite.options.end(),
                                   [&](const Option& o) { return o.name == field.option; });
  return fail(ErrorCode::corrupt, "reading {}: '{}' should be in {}..{}, found {}", source, name, option->least,
              option->most, value);
}

Result<void> set(OptionValues& options, const Rewrite& rewrite, const PeftField& field, std::string_view name,
                 std::vector<double> numbers, const std::string& source) {
  if (const auto fits = options.set(rewrite.name, field.option, std::move(numbers)); !fits)
    return fail(ErrorCode::corrupt, "reading {}: '{}': {}", source, name, fits.error().message);
  return {};
}

Result<void> check_value(const Rewrite& rewrite, std::string_view field, const Ordered& value,
                         const std::string& source) {
  if (!value.is_string()) return {};
  const auto known = std::ranges::find_if(rewrite.form.values, [&](const PeftValue& v) {
    return v.field == field && value.get_ref<const std::string&>().starts_with(v.begins);
  });
  if (known == rewrite.form.values.end() || known->why.empty()) return {};
  return fail(ErrorCode::unsupported, "reading {}: {} is '{}': {}", source, field, value.get<std::string>(),
              known->why);
}

// Fields of which another type would be passed over; the rest is checked where it is read.
Result<void> check_types(const Rewrite& rewrite, const Ordered& config, const std::string& source) {
  const auto is_text = [](const Ordered& value) { return value.is_string(); };
  for (const auto& [field, value] : config.items()) {
    if (value.is_null()) continue;
    const auto is_switch = [&](const Rewrite* r) {
      return r->form.type == rewrite.form.type && r->form.marked == field && r->form.marked_text.empty();
    };
    const char* expected = nullptr;
    if (field == "base_model_name_or_path" && !is_text(value)) expected = "a string";
    if (field == "modules_to_save" && !(value.is_array() && std::ranges::all_of(value, is_text)))
      expected = "a list of names";
    if (field == rewrite.form.init_field && !is_text(value) && !value.is_boolean())
      expected = "true, false or a string";
    if (std::ranges::any_of(rewrites(), is_switch) && !value.is_boolean()) expected = "true or false";
    if (expected)
      return fail(ErrorCode::corrupt, "reading {}: '{}' should be {}, found {}", source, field, expected,
                  value.dump(-1, ' ', false, Ordered::error_handler_t::replace));
  }
  return {};
}

Result<void> check_common(const Ordered& config, const std::string& source) {
  const auto text = [&](const char* field) {
    const auto found = config.find(field);
    return found == config.end() || found->is_null() ? std::string()
           : found->is_string()                      ? found->get<std::string>()
                                                     : found->dump();
  };
  if (const std::string task = text("task_type"); !task.empty() && task != kCausal && task != kLabelled)
    return fail(ErrorCode::unsupported, "reading {}: task_type is '{}'; expected {} or {}", source, task, kCausal,
                kLabelled);
  const std::string bias = text("bias");
  if (!bias.empty() && bias != "none" && bias != "all" && !bias.ends_with("_only"))
    return fail(ErrorCode::corrupt, "reading {}: bias is '{}'; expected none, all or lora_only", source, bias);
  return {};
}

// How many marks are true for a layer; nothing where the file has none for it.
Result<std::optional<int64_t>> marked_true(const PeftField& field, const Ordered& config, const ModelModule& module,
                                           const std::string& source) {
  const auto found = config.find(std::string(field.field));
  if (found == config.end() || found->is_null()) return std::nullopt;
  if (!found->is_object())
    return fail(ErrorCode::corrupt, "reading {}: {} should say lists by layer", source, field.field);
  const auto marks = found->find(module.owner + "." + std::string(field.pattern));
  if (marks == found->end()) return std::nullopt;
  const bool flags = marks->is_array() && std::ranges::all_of(*marks, [](const Ordered& m) { return m.is_boolean(); });
  if (!flags)
    return fail(ErrorCode::corrupt, "reading {}: {} of '{}' should be a list of true and false", source, field.field,
                module.owner);
  const int64_t count = std::ranges::count(*marks, Ordered(true));
  if (count == 0)
    return fail(ErrorCode::unsupported, "reading {}: {} leaves nothing of '{}'; leave that layer out of it", source,
                field.field, module.owner);
  return count;
}

}  // namespace

PeftMeaning peft_meaning(const Rewrite& rewrite, std::string_view field, std::string_view* why) {
  const PeftForm& form = rewrite.form;
  for (const PeftField& own : form.fields)
    if (own.field == field || own.pattern == field) return PeftMeaning::honoured;
  if (std::find(std::begin(kHonoured), std::end(kHonoured), field) != std::end(kHonoured)) return PeftMeaning::honoured;
  if (field == form.marked && !form.marked.empty()) return PeftMeaning::honoured;
  if (field == form.init_field) {
    if (why) *why = "it says how values began; those that change the base model are refused by their name";
    return PeftMeaning::harmless;
  }
  const PeftNote* note = find_note(form.refused, field);
  if (note) {
    if (why) *why = note->why;
    return PeftMeaning::refused;
  }
  note = find_note(form.harmless, field);
  if (!note) note = find_note(form.training, field);
  if (!note) note = find_note(kHarmless, field);
  if (note && why) *why = note->why;
  return note ? PeftMeaning::harmless : PeftMeaning::unknown;
}

Result<const Rewrite*> check_peft_config(const Ordered& config, const std::string& source) {
  if (!config.is_object()) return fail(ErrorCode::corrupt, "reading {}: expected a JSON object", source);
  const auto type = config.find("peft_type");
  if (type == config.end()) return fail(ErrorCode::corrupt, "reading {}: 'peft_type' is missing", source);
  const std::string name = type->is_string() ? type->get<std::string>() : type->dump();
  const auto is_set = [&](std::string_view field, std::string_view text) {
    const auto found = config.find(std::string(field));
    return found != config.end() && *found == (text.empty() ? Ordered(true) : Ordered(text));
  };
  const Rewrite* const rewrite = rewrite_of_peft(name, is_set);
  if (!rewrite) {
    std::string known;
    for (const Rewrite* r : rewrites())
      if (!r->form.type.empty() && !r->form.alias && r->form.marked.empty())
        known += (known.empty() ? "" : ", ") + std::string(r->form.type);
    return fail(ErrorCode::unsupported, "reading {}: peft_type is '{}'; thimble reads {}", source, name, known);
  }
  CHECK_OK(check_types(*rewrite, config, source));
  CHECK_OK(check_common(config, source));
  for (const auto& [field, value] : config.items()) {
    CHECK_OK(check_value(*rewrite, field, value, source));
    std::string_view why;
    switch (peft_meaning(*rewrite, field, &why)) {
      case PeftMeaning::honoured:
      case PeftMeaning::harmless:
        break;
      case PeftMeaning::refused:
        if (!is_off(value) && !(value.is_number() && value.get<double>() == 0))
          return fail(ErrorCode::unsupported, "reading {}: '{}' is set, which thimble does not support: {}", source,
                      field, why);
        break;
      case PeftMeaning::unknown:
        if (!is_off(value))
          return fail(
              ErrorCode::unsupported,
              "reading {}: '{}' is set to {}, a field of {} that thimble does not know; what it changes would be "
              "lost",
              source, field, value.dump(-1, ' ', false, Ordered::error_handler_t::replace), name);
    }
  }
  return rewrite;
}

Result<void> check_peft_training(const Rewrite& rewrite, const Ordered& config, const std::string& source) {
  for (const PeftNote& note : rewrite.form.training) {
    const auto found = config.find(std::string(note.field));
    if (found == config.end() || is_off(*found) || (found->is_number() && found->get<double>() == 0)) continue;
    return fail(ErrorCode::unsupported,
                "reading {}: '{}' is set, which thimble does not do: {}; set it to 0 to train on without it", source,
                note.field, note.why);
  }
  return {};
}

bool says_labels(const Ordered& config) {
  const auto task = config.find("task_type");
  return task != config.end() && *task == Ordered(kLabelled);
}

void set_labelled(Ordered& config, bool head) {
  config["task_type"] = kLabelled;
  if (head) config["modules_to_save"] = Ordered::array({kScoreModule});
}

Result<OptionValues> peft_options(const Rewrite& rewrite, const Ordered& config, const std::string& source) {
  OptionValues options(rewrite.options);
  for (const PeftField& field : rewrite.form.fields) {
    if (field.kind == Kind::names || field.kind == Kind::marks) continue;
    const auto found = config.find(std::string(field.field));
    const bool there = found != config.end() && !found->is_null();
    if (field.kind == Kind::list) {
      std::vector<double> numbers;
      if (there) numbers = TRY(numbers_of(*found, field.field, source));
      CHECK_OK(set(options, rewrite, field, field.field, std::move(numbers), source));
      continue;
    }
    const double value = there ? TRY(number_of(*found, field, field.field, source)) : field.absent;
    CHECK_OK(set(options, rewrite, field, field.field, value, source));
  }
  return options;
}

Result<OptionValues> peft_options_of(const Rewrite& rewrite, const Ordered& config, const OptionValues& all,
                                     const ModelModule& module, const std::string& source) {
  OptionValues options = all;
  for (const PeftField& field : rewrite.form.fields) {
    if (field.kind == Kind::names) {
      Ordered renamed;
      if (const auto found = config.find(std::string(field.field)); found != config.end())
        renamed["target_modules"] = *found;
      const bool named = !renamed.empty() && TRY(TRY(Selection::read(renamed, source)).takes(module));
      CHECK_OK(set(options, rewrite, field, field.field, named ? 1 : 0, source));
      continue;
    }
    if (field.kind == Kind::marks) {
      if (const auto count = TRY(marked_true(field, config, module, source)))
        CHECK_OK(set(options, rewrite, field, fmt::format("{} of '{}'", field.field, module.owner),
                     static_cast<double>(*count), source));
      continue;
    }
    const auto patterns = field.pattern.empty() ? config.end() : config.find(std::string(field.pattern));
    if (patterns == config.end() || patterns->is_null()) continue;
    if (!patterns->is_object())
      return fail(ErrorCode::corrupt, "reading {}: '{}' should be an object", source, field.pattern);
    const std::string place = fmt::format("{} of '{}'", field.pattern, module.owner);
    if (field.kind == Kind::list) {
      if (const auto found = patterns->find(module.owner); found != patterns->end())
        CHECK_OK(set(options, rewrite, field, place, TRY(numbers_of(*found, place, source)), source));
      continue;
    }
    const Ordered* const value =
        TRY(by_pattern(*patterns, module.owner, fmt::format("reading {}: '{}'", source, field.pattern)));
    if (value) CHECK_OK(set(options, rewrite, field, place, TRY(number_of(*value, field, place, source)), source));
  }
  return options;
}

namespace {

Ordered numbers_json(const std::vector<double>& numbers) {
  Ordered json = Ordered::array();
  for (const double number : numbers) json.push_back(static_cast<int64_t>(number));
  return json;
}

}  // namespace

void write_settled(const RewriteSpec& spec, Ordered& config) {
  for (const PeftField& field : spec.rewrite->form.fields) {
    if (field.pattern.empty() || field.kind == Kind::names || field.kind == Kind::marks) continue;
    Ordered by_layer = Ordered::object();
    for (const auto& [name, module] : spec.modules) {
      Ordered& own = by_layer[module.owner];
      if (field.kind == Kind::list)
        own = numbers_json(module.options.list(field.option));
      else if (field.kind == Kind::whole)
        own = static_cast<int64_t>(module.options[field.option]);
      else
        own = module.options[field.option];
    }
    config[std::string(field.pattern)] = by_layer;
  }
}

void write_steps(const Rewrite& rewrite, int64_t steps, Ordered& config) {
  for (const PeftField& field : rewrite.form.fields)
    if (field.kind == Kind::steps && config[std::string(field.field)] == 0) config[std::string(field.field)] = steps;
}

Ordered fresh_peft_config(const Rewrite& rewrite, const OptionValues& options, const std::string& base_model,
                          const Ordered& targets, bool transposed) {
  Ordered json;
  json["peft_type"] = rewrite.form.type;
  json["task_type"] = kCausal;
  json["base_model_name_or_path"] = base_model;
  for (const PeftField& field : rewrite.form.fields) {
    if (field.kind == Kind::names || field.kind == Kind::marks) continue;
    if (field.kind == Kind::list) {
      json[std::string(field.field)] = numbers_json(options.list(field.option));
      continue;
    }
    const double value = options[field.option];
    const bool whole = value == std::floor(value) && std::abs(value) < 1e15;
    const std::string name(field.field);
    if (field.kind == Kind::flag)
      json[name] = value != 0;
    else if (is_whole(field.kind) || (whole && field.absent == std::floor(field.absent) && field.absent != 0))
      json[name] = static_cast<int64_t>(value);  // PEFT declares it an integer
    else
      json[name] = value;
  }
  if (const auto& [field, text] = std::pair(rewrite.form.marked, rewrite.form.marked_text); !field.empty())
    json[std::string(field)] = text.empty() ? Ordered(true) : Ordered(text);
  if (rewrite.of_layers()) json["target_modules"] = targets;
  for (const PeftField& field : rewrite.form.fields)
    if (!field.pattern.empty() && field.kind != Kind::names && field.kind != Kind::marks)
      json[std::string(field.pattern)] = Ordered::object();
  if (transposed) json["fan_in_fan_out"] = true;
  json["modules_to_save"] = nullptr;
  json["inference_mode"] = true;
  if (!rewrite.form.init_field.empty()) json[std::string(rewrite.form.init_field)] = true;
  return json;
}

}  // namespace thimble
