// What a technique is applied to where there is no adapter yet: a user's names of layers as those of the model's files.
#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "adapters/adapter.h"
#include "adapters/modules.h"
#include "adapters/peft_config.h"
#include "core/split.h"

namespace thimble {
namespace {

using Ordered = nlohmann::ordered_json;

// The end of a module's name that says what it is: "q_proj" of "model.layers.0.self_attn.q_proj".
std::string last_part(const std::string& name) { return name.substr(name.rfind('.') + 1); }

bool ends_with_part(std::string_view name, std::string_view end) {
  return name == end || (name.size() > end.size() && name.ends_with(end) && name[name.size() - end.size() - 1] == '.');
}

// What target_modules says without a user's names: the layers that are adapted by default, or those of them that
// `wanted` names, by ends of names as short as no other layer has: "gate_proj", or "mlp.gate_proj" where experts have
// one too. Empty where `wanted` is of no such layers.
std::vector<std::string> default_targets(const std::vector<std::string>& wanted,
                                         const std::vector<ModelModule>& modules) {
  std::set<std::string> owners;
  for (const ModelModule& m : modules) {
    const auto names = [&](const std::string& end) {
      return ends_with_part(m.owner, end) || ends_with_part(m.name, end);
    };
    if (m.by_default && m.suffix == "weight" && (wanted.empty() || std::ranges::any_of(wanted, names)))
      owners.insert(m.owner);
  }
  std::map<std::string, bool> alone;  // by end: no other layer has it
  const auto is_alone = [&](const std::string& end) {
    const auto [found, fresh] = alone.try_emplace(end, true);
    if (fresh)
      found->second = std::ranges::none_of(modules, [&](const ModelModule& m) {
        return m.shape.rank() == 2 && ends_with_part(m.owner, end) && !owners.contains(m.owner);
      });
    return found->second;
  };
  std::set<std::string> out;
  for (const std::string& owner : owners) {
    size_t dot = owner.rfind('.');
    while (dot != std::string::npos && dot > 0 && !is_alone(owner.substr(dot + 1))) dot = owner.rfind('.', dot - 1);
    out.insert(dot == std::string::npos ? owner : owner.substr(dot + 1));
  }
  return {out.begin(), out.end()};
}

// What target_modules says of a user's names: the same where they are the file's, else the file's for thimble's.
Result<Ordered> targets_of(const Rewrite& rewrite, const std::vector<std::string>& asked,
                           const std::vector<ModelModule>& modules) {
  const std::vector<std::string> wanted = asked.empty() ? split(rewrite.targets, ',') : asked;
  std::vector<std::string> out;
  if (asked.empty()) out = default_targets(wanted, modules);
  if (!out.empty()) return Ordered(out);
  const auto take = [&](const std::string& name) {
    if (std::find(out.begin(), out.end(), name) == out.end()) out.push_back(name);
  };
  for (const std::string& name : wanted) {
    bool found = false;
    for (const ModelModule& m : modules) {
      if (m.suffix != "weight" || m.shape.rank() != 2) continue;
      if (ends_with_part(m.owner, name)) {
        found = true;
        take(name);
      } else if (ends_with_part(m.name, name)) {
        if (m.whole != m.shape[0] && !asked.empty())
          return fail(ErrorCode::unsupported,
                      "--target {}: in this model's files it is a part of '{}' and cannot be adapted alone; name that",
                      name, last_part(m.owner));
        found = true;
        take(name.find('.') == std::string::npos ? last_part(m.owner) : m.owner);
      }
    }
    if (!found && !asked.empty())
      return fail(
          ErrorCode::invalid_argument,
          "--target {}: no linear layer of the model is named so; try q_proj, k_proj, v_proj, o_proj, gate_proj, "
          "up_proj, down_proj",
          name);
  }
  return Ordered(out);
}

// The same of a technique that trains values of the model.
Result<Ordered> trained_targets(const Rewrite& rewrite, const std::vector<std::string>& asked,
                                const std::vector<ModelModule>& modules) {
  std::vector<std::string> out;
  for (const ModelModule& m : modules) {
    if (!rewrite.trains || !rewrite.trains(m.tensor)) continue;
    for (const std::string& name : asked)
      if (ends_with_part(m.owner, name) && std::find(out.begin(), out.end(), name) == out.end()) out.push_back(name);
    const std::string last = last_part(m.owner);
    if (asked.empty() && std::find(out.begin(), out.end(), last) == out.end()) out.push_back(last);
  }
  for (const std::string& name : asked)
    if (std::find(out.begin(), out.end(), name) == out.end())
      return fail(ErrorCode::invalid_argument,
                  "--target {}: no module of the model that --method {} trains is named so", name, rewrite.name);
  if (out.empty())
    return fail(ErrorCode::invalid_argument, "--method {}: this model has nothing that it trains", rewrite.name);
  return Ordered(out);
}

}  // namespace

Result<RewriteSpec> fresh_rewrite(const Rewrite& rewrite, const FreshAdapter& asked, const Architecture& architecture,
                                  Ordered& config) {
  const std::vector<ModelModule> modules = model_modules(architecture);
  const bool transposed = std::any_of(modules.begin(), modules.end(), [](const auto& m) { return m.transposed; });
  Ordered targets = rewrite.adapts() ? TRY(targets_of(rewrite, asked.targets, modules))
                                     : TRY(trained_targets(rewrite, asked.targets, modules));
  config = fresh_peft_config(rewrite, asked.options, asked.base_model, targets, transposed);
  if (architecture.labels) set_labelled(config, asked.head);
  for (const PeftField& field : rewrite.form.fields)
    if (field.kind == PeftField::Kind::names) {
      // Of what is adapted, the layers that are named so.
      Ordered named = Ordered::array();
      const std::vector<std::string> wanted = split(field.pattern, ',');
      const Ordered names =
          asked.targets.empty() ? Ordered(default_targets(wanted, modules)) : TRY(targets_of(rewrite, wanted, modules));
      for (const std::string name : names)
        if (std::find(targets.begin(), targets.end(), name) != targets.end()) named.push_back(name);
      config[std::string(field.field)] = named;
    }
  return configured_rewrite(rewrite, config, architecture, "--method " + std::string(rewrite.name));
}

}  // namespace thimble
