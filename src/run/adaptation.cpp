// Trainer: what is adapted, and the adapter that is saved.
#include <fmt/ranges.h>

#include <algorithm>
#include <charconv>
#include <nlohmann/json.hpp>
#include <set>

#include "adapters/modules.h"
#include "adapters/peft_config.h"
#include "models/untied_model.h"
#include "run/blocks.h"
#include "run/resume.h"
#include "run/trainer.h"

namespace thimble {
namespace {

using Ordered = nlohmann::ordered_json;

// What every optimizer has beside its own options: parts of names, and factors by them ("lora_B:16|embed:0.1").
constexpr Option kByNames[] = {
    {"no_decay", 0, 0, 0, "parts of the names of parameters that do not decay", Option::Kind::words},
    {"rate_of", 0, 0, 0, "factors of the learning rate", Option::Kind::words},
    {"decay_of", 0, 0, 0, "factors of the decay", Option::Kind::words}};

Result<std::vector<std::pair<std::string, double>>> factors(const OptionValues& by_names, std::string_view option) {
  std::vector<std::pair<std::string, double>> out;
  for (const std::string& one : by_names.words(option)) {
    const size_t colon = one.rfind(':');
    double factor = 0;
    const char* const from = one.data() + (colon == std::string::npos ? one.size() : colon + 1);
    const auto [end, error] = std::from_chars(from, one.data() + one.size(), factor);
    if (colon == 0 || error != std::errc{} || end != one.data() + one.size() || !(factor >= 0 && factor <= 1e6))
      return fail(
          ErrorCode::invalid_argument,
          "--set optimizer.{}: expected PART:FACTOR with a factor of 0 to 1000000, lora_B:16|embed:0.1 say; found '{}'",
          option, one);
    out.emplace_back(one.substr(0, colon), factor);
  }
  return out;
}

// The familiar flags of an option that several techniques have.
struct Spelling {
  const char* option;
  std::optional<double> value;
};
std::vector<Spelling> spellings(const Recipe& r) {
  const auto number = [](const auto& value) { return value ? std::optional<double>(*value) : std::nullopt; };
  return {{"rank", number(r.rank)}, {"alpha", number(r.alpha)}, {"dropout", r.dropout}};
}

// Of a technique: the familiar flags, then --set.
Result<OptionValues> options_of(const Rewrite& rewrite, const Recipe& r) {
  OptionValues options(rewrite.options);
  std::set<std::string, std::less<>> given;
  for (const Spelling& flag : spellings(r))
    if (flag.value && options.has(flag.option)) CHECK_OK(options.set(rewrite.name, flag.option, *flag.value));
  for (const std::string& text : r.set) {
    const Setting setting = TRY(parse_setting(text));
    if (setting.owner != rewrite.name) continue;
    for (const Spelling& flag : spellings(r))
      if (flag.value && setting.name == flag.option)
        return fail(ErrorCode::invalid_argument, "--{} and --set {} say the same; leave one of them out", flag.option,
                    text);
    CHECK_OK(options.set(setting.owner, setting.name, setting.value));
    given.insert(setting.name);
  }
  for (const auto& [option, by] : rewrite.voids)
    if (given.contains(option) && given.contains(by) && !(options.list(by).empty() && options.is_default(by)))
      return fail(ErrorCode::invalid_argument,
                  "--set {0}.{1}: it would have no effect: {0}.{2} says what is chosen by it; leave one of them out",
                  rewrite.name, option, by);
  if (options.has("alpha") && options["alpha"] == 0)
    return fail(ErrorCode::invalid_argument,
                "--method {}: with an alpha of 0 it adds nothing and does not learn; give another --alpha",
                rewrite.name);
  return options;
}

}  // namespace

// By themselves, as the data hang on them.
Result<OptionValues> Trainer::objective_options() const {
  OptionValues options(spec_.objective->options);
  for (const std::string& text : recipe_.set) {
    const Setting setting = TRY(parse_setting(text));
    if (setting.owner == "objective" || setting.owner == spec_.objective->name)
      CHECK_OK(options.set(setting.owner, setting.name, setting.value));
  }
  return options;
}

// Of the optimizer, and who else has options here.
Result<void> Trainer::set_options() {
  const Recipe& r = recipe_;
  const std::string optimizer(spec_.optimizer->name);
  spec_.estimator_options = OptionValues(spec_.estimator->options);
  std::vector<std::string> owners = {"optimizer", optimizer};
  for (const auto& [wrapper, options] : spec_.wrappers) owners.emplace_back(wrapper->name);
  spec_.objective_options = TRY(objective_options());
  spec_.selector_options = OptionValues(spec_.selector->options);
  OptionValues by_names(kByNames);
  // Sockets whose options are all their own, with the names that they are called by.
  struct Other {
    std::string_view socket, name;
    bool any;
    OptionValues& options;
  };
  std::vector<Other> others = {
      {"estimator", spec_.estimator->name, !spec_.estimator->options.empty(), spec_.estimator_options},
      {"objective", spec_.objective->name, !spec_.objective->options.empty(), spec_.objective_options},
      {"select", spec_.selector->name, !spec_.selector->options.empty(), spec_.selector_options}};
  for (auto& [keeper, options] : spec_.keepers)
    others.push_back({keeper->name, keeper->name, !keeper->options.empty(), options});
  for (const auto& other : others) {
    if (!other.any) continue;
    owners.emplace_back(other.name);
    if (other.socket != other.name) owners.emplace_back(other.socket);
  }
  for (const RewriteSpec& spec : spec_.rewrites)
    if (!spec.rewrite->options.empty()) owners.emplace_back(spec.rewrite->name);
  if (!r.size.empty()) owners.emplace_back(kBlocks);
  for (const std::string& text : r.set) {
    const Setting setting = TRY(parse_setting(text));
    if (std::find(owners.begin(), owners.end(), setting.owner) == owners.end())
      return fail(ErrorCode::invalid_argument, "--set {}: the sockets with options here are '{}'", text,
                  fmt::join(owners, "', '"));
    const auto other = std::ranges::find_if(
        others, [&](const auto& o) { return setting.owner == o.socket || setting.owner == o.name; });
    if (other != others.end()) {
      CHECK_OK(other->options.set(setting.owner, setting.name, setting.value));
      continue;
    }
    for (auto& [wrapper, options] : spec_.wrappers)
      if (setting.owner == wrapper->name) CHECK_OK(options.set(setting.owner, setting.name, setting.value));
    if (setting.owner != "optimizer" && setting.owner != optimizer) continue;
    OptionValues& options = by_names.has(setting.name) ? by_names : spec_.optimizer_options;
    CHECK_OK(options.set(setting.owner, setting.name, setting.value));
  }
  spec_.no_decay = by_names.words("no_decay");
  spec_.rate_of = TRY(factors(by_names, "rate_of"));
  spec_.decay_of = TRY(factors(by_names, "decay_of"));
  return {};
}

namespace {

Result<void> check_continues(const Adapter& adapter) {
  if (adapter.rewrite->not_continued.empty()) return {};
  return fail(ErrorCode::unsupported, "--adapter {}: no training goes on from one of {}: {}", adapter.path,
              adapter.rewrite->name, adapter.rewrite->not_continued);
}

}  // namespace

// The model that the adapter to begin with is for, or that the run began with.
Result<void> Trainer::open_adapted() {
  if (!recipe_.adapter.empty()) source_ = TRY(model_for(std::move(source_), TRY(open_adapters(recipe_.adapter))));
  const std::string began = recipe_.resume ? metadata_text(*checkpoint_, "adapter") : "";
  if (began.empty()) return {};
  for (const Ordered& config : TRY(parse_ordered_json(began, checkpoint_->path())))
    if (has_own_ends(config, source_->architecture())) source_ = with_own_head(std::move(source_));
  return {};
}

Result<void> Trainer::make_rewrites() {
  spec_.rewrites.clear();
  const bool given = !recipe_.method.empty();
  std::vector<const Rewrite*> stack;
  if (given) stack = TRY(rewrites_named(recipe_.method));
  if (!recipe_.adapter.empty()) {
    if (given && trains_weights(std::vector<RewriteSpec>{{.rewrite = stack.front()}}))
      return fail(ErrorCode::invalid_argument,
                  "--adapter goes with the method that made it; to train all weights, merge it first with convert "
                  "--adapter {}",
                  recipe_.adapter);
    return begin_with_adapter();
  }
  if (recipe_.resume && source_) {
    // A run that began with an adapter goes on as that said, wherever the adapter is now.
    const std::string began = metadata_text(*checkpoint_, "adapter");
    if (!began.empty()) return resume_adapted(began);
  }
  if (!given) stack = {source_ ? TRY(rewrites_named(lightest_method())).front() : &kFull};
  return make_fresh(stack);
}

// What the adapter says is what goes on: its technique, options and modules.
Result<void> Trainer::begin_with_adapter() {
  Recipe& r = recipe_;
  if (!source_)
    return fail(ErrorCode::invalid_argument, "--adapter {}: it needs the --model that it is for", r.adapter);
  adapters_ = TRY(open_adapters(r.adapter));
  std::string names;
  for (const Adapter& adapter : adapters_) names += (names.empty() ? "" : ",") + std::string(adapter.rewrite->name);
  const auto stack = r.method.empty() ? std::vector<const Rewrite*>() : TRY(rewrites_named(r.method));
  const bool like = stack.size() == 1 && adapters_.size() == 1 && stack[0]->form.alias &&
                    stack[0]->form.type == adapters_[0].rewrite->form.type && adapters_[0].rewrite->form.marked.empty();
  if (like) adapters_[0].rewrite = stack[0], names = r.method;
  if (!r.method.empty() && r.method != names)
    return fail(ErrorCode::invalid_argument, "--method {}: the adapter {} is one of {}; leave the flag out", r.method,
                r.adapter, names);
  r.method = names;
  for (const Spelling& flag : spellings(r))
    if (flag.value && std::string_view(flag.option) != "dropout")
      return fail(ErrorCode::invalid_argument,
                  "--{}: it would have no effect: the {} is that of the adapter {}; leave the flag out", flag.option,
                  flag.option, r.adapter);
  if (!r.target.empty())
    return fail(ErrorCode::invalid_argument,
                "--target: it would have no effect: the adapter {} says which layers it adapts; leave the flag out",
                r.adapter);
  for (Adapter& adapter : adapters_) {
    CHECK_OK(check_continues(adapter));
    CHECK_OK(check_peft_training(*adapter.rewrite, *adapter.config, adapter.path + kAdapterConfig));
    for (const std::string& text : r.set)
      if (TRY(parse_setting(text)).owner == adapter.rewrite->name)
        return fail(ErrorCode::invalid_argument, "--set {}: the options of {} are those of the adapter {}", text,
                    adapter.rewrite->name, r.adapter);
    if (r.dropout)
      for (const PeftField& field : adapter.rewrite->form.fields)
        if (field.option == "dropout") (*adapter.config)[std::string(field.field)] = *r.dropout;
    spec_.rewrites.push_back(TRY(rewrite_of(adapter, spec_.architecture)));
    CHECK_OK(check_complete(adapter, spec_.rewrites.back(), spec_.architecture));
    configs_->push_back(*adapter.config);
  }
  return {};
}

Result<void> Trainer::resume_adapted(const std::string& began) {
  const std::string& source = checkpoint_->path();
  const Ordered configs = TRY(parse_ordered_json(began, source));
  // Configurations do not tell methods that share a form (lora_plus) apart. What is asked for is compared by
  // check_same_run().
  const Ordered settings = settings_of(*checkpoint_);
  const auto recorded = settings.find("method");
  const std::string method =
      recorded != settings.end() && recorded->is_string() ? recorded->get<std::string>() : std::string();
  const auto stack = method.empty() ? std::vector<const Rewrite*>() : TRY(rewrites_named(method));
  std::string names;
  std::set<std::string> trained;
  for (size_t i = 0; configs.is_array() && i < configs.size(); ++i) {
    const Rewrite* rewrite = TRY(check_peft_config(configs[i], source));
    if (stack.size() == configs.size() && stack[i]->form.type == rewrite->form.type) rewrite = stack[i];
    names += (names.empty() ? "" : ",") + std::string(rewrite->name);
    spec_.rewrites.push_back(TRY(configured_rewrite(*rewrite, configs[i], spec_.architecture, source)));
    for (const AdapterTensor& tensor : spec_.rewrites.back().trained) trained.insert(tensor.value);
    configs_->push_back(configs[i]);
  }
  // What else the checkpoint has of the model's values, the adapter brought; the first of several takes all of it.
  const auto brought = [&](const std::string& value) { return checkpoint_->find(value) && !trained.contains(value); };
  if (RewriteSpec* const first = spec_.rewrites.empty() ? nullptr : &spec_.rewrites.front())
    *first = TRY(configured_rewrite(*first->rewrite, configs_->front(), spec_.architecture, source, brought));
  for (RewriteSpec& spec : spec_.rewrites) spec.given = true;
  if (recipe_.method.empty()) recipe_.method = names;
  return {};
}

Result<void> Trainer::make_fresh(const std::vector<const Rewrite*>& stack) {
  Recipe& r = recipe_;
  r.method.clear();
  for (const Rewrite* rewrite : stack) {
    r.method += (r.method.empty() ? "" : ",") + std::string(rewrite->name);
    const FreshAdapter asked{TRY(options_of(*rewrite, r)), r.target, r.model, rewrite == stack.front()};
    if (rewrite->trains_weights) {
      spec_.rewrites.push_back({.rewrite = rewrite, .options = asked.options});
      continue;
    }
    if (!source_) return fail(ErrorCode::invalid_argument, "--method {} needs a pretrained --model", rewrite->name);
    Ordered config;
    spec_.rewrites.push_back(TRY(fresh_rewrite(*rewrite, asked, spec_.architecture, config)));
    configs_->push_back(std::move(config));
  }
  if (!std::ranges::all_of(stack, &Rewrite::training_only)) return {};
  return fail(ErrorCode::invalid_argument,
              "--method {}: it changes how others train, and nothing of its own does; give what trains before it: "
              "--method {},{}",
              r.method, lightest_method(), stack.front()->name);
}

// The recipe says what is done, however it was asked for; what no technique has is not in it.
void Trainer::settle_options() {
  const auto value = [&](const char* option) -> std::optional<double> {
    for (const RewriteSpec& spec : spec_.rewrites)
      if (spec.options.has(option)) return spec.options[option];
    return std::nullopt;
  };
  recipe_.rank = value("rank"), recipe_.alpha = value("alpha"), recipe_.dropout = value("dropout");
}

namespace {

// Techniques whose names of tensors an adapter that was read has.
const Adapter* named_by(std::span<const Adapter> adapters, size_t i) {
  return i < adapters.size() ? &adapters[i] : nullptr;
}

// What PEFT writes of a head that is the embedding, under the head's name: the same numbers.
AdapterTensor under_the_head(const AdapterTensor& tensor, const Architecture& architecture) {
  const std::vector<ModelModule> modules = model_modules(architecture);
  const std::string embedding = "model." + modules.front().owner, head = "model." + modules.back().owner;
  AdapterTensor copy = tensor;
  if (copy.stored.starts_with(embedding + ".")) copy.stored = head + copy.stored.substr(embedding.size());
  return copy;
}

}  // namespace

// One technique into adapter/, several each into a folder of its own in it. Those that are for training alone leave
// nothing.
Result<void> Trainer::export_adapter(const std::string& folder) {
  Values all = values();
  std::vector<std::string> names;
  const auto leaves = [](const RewriteSpec& spec) { return !spec.rewrite->training_only; };
  const bool several = std::ranges::count_if(spec_.rewrites, leaves) > 1;
  for (size_t i = 0; i < configs_->size(); ++i) {
    if (!leaves(spec_.rewrites[i])) continue;
    AdapterToWrite out{.config = (*configs_)[i],
                       .system_prompt = data_->report().system,
                       .chat_template = tokenizer_->has_other_template() ? tokenizer_->chat_template() : "",
                       .tensors = {},
                       .names = named_by(adapters_, i),
                       .labels = i == 0 ? spec_.architecture.labels : std::nullopt};
    write_steps(*spec_.rewrites[i].rewrite, spec_.scheduled_steps, *out.config);
    for (const AdapterTensor& tensor : plan_.train.adapter)
      if (const Layout::Entry* const entry = plan_.layout.find(tensor.value);
          entry && tensor.saved && (!several || tensor.technique == spec_.rewrites[i].rewrite->name)) {
        out.tensors.emplace_back(tensor, entry->type.shape);
        if (spec_.rewrites[i].rewrite->with_tied_head && spec_.architecture.tied)
          out.tensors.emplace_back(under_the_head(tensor, spec_.architecture), entry->type.shape);
      }
    const std::string name(spec_.rewrites[i].rewrite->name);
    names.push_back(name);
    const std::string place = folder + "/adapter" + (several ? "/" + name : "");
    CHECK_OK(write_adapter(place, out, [&](const AdapterTensor& tensor, int64_t first, std::span<float> to) {
      return read_result(all, tensor.value, first, to);
    }));
  }
  if (names.size() > 1) return write_stack(folder + "/adapter", names);
  return remove_file(folder + "/adapter" + kAdapterStack);
}

}  // namespace thimble
