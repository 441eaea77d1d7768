// methods: what the tables of thimble's sockets hold.

#include <nlohmann/json.hpp>

#include "commands/command.h"
#include "commands/command_line.h"
#include "core/nearest.h"
#include "files/json.h"
#include "methods/cache_policy.h"
#include "methods/decoder.h"
#include "methods/keeper.h"
#include "methods/objective.h"
#include "methods/observer.h"
#include "methods/optimizer.h"
#include "methods/rewrite.h"
#include "methods/selector.h"
#include "methods/transform.h"
#include "models/channel_mixer.h"
#include "models/mixer.h"
#include "models/norm.h"
#include "models/router.h"
#include "ops/table.h"
#include "run/blocks.h"

namespace thimble {
namespace {

using Ordered = nlohmann::ordered_json;

Ordered options_json(std::span<const Option> options) {
  Ordered list = Ordered::array();
  for (const Option& o : options) {
    list.push_back({{"name", o.name}, {"default", o.initial}, {"least", o.least}, {"most", o.most}, {"help", o.help}});
  }
  return list;
}

// Rows of one table. All have a name and a summary; the rest depends on the socket.
struct Socket {
  std::string_view name, plural;
  Ordered (*rows)();
};

// Of a socket whose entries have no more to tell.
template <auto kTable>
Ordered rows_of() {
  Ordered rows = Ordered::array();
  for (const auto* entry : kTable()) {
    Ordered row = {{"name", entry->name}, {"summary", entry->summary}, {"paper", entry->paper}};
    if constexpr (requires { entry->options; }) row["options"] = options_json(entry->options);
    rows.push_back(std::move(row));
  }
  return rows;
}

constexpr Socket kSockets[] = {
    {"method", "methods",
     [] {
       Ordered rows = Ordered::array();
       for (const Rewrite* m : rewrites()) {
         Ordered row = {{"name", m->name}, {"summary", m->summary}, {"paper", m->paper}};
         if (!m->form.type.empty() && !m->training_only) row["peft_type"] = m->form.type;
         if (!m->options.empty()) row["options"] = options_json(m->options);
         rows.push_back(std::move(row));
       }
       return rows;
     }},
    {"optimizer", "optimizers",
     [] {
       Ordered rows = Ordered::array();
       for (const Optimizer* o : optimizers()) {
         rows.push_back({{"name", o->name},
                         {"summary", o->summary},
                         {"paper", o->paper},
                         {"learning_rate", o->learning_rate},
                         {"options", options_json(o->options)}});
       }
       return rows;
     }},
    {"objective", "objectives", rows_of<objectives>},
    {"estimator", "estimators", rows_of<estimators>},
    {"decoder", "decoders", rows_of<decoders>},
    {"cache", "cache policies", rows_of<cache_policies>},
    {"keeper", "keepers", rows_of<keepers>},
    {"selector", "selectors", rows_of<selectors>},
    {"wrapper", "wrappers", rows_of<wrappers>},
    {"transform", "transforms",
     [] {
       Ordered rows = Ordered::array();
       for (const Transform* t : transforms()) {
         Ordered row = {{"name", t->name}, {"summary", t->summary}, {"paper", t->paper}};
         row["command"] = t->kind == TransformKind::prune ? "prune" : "quantize";
         if (t->observer) row["observer"] = t->observer->name;
         if (!t->options.empty()) row["options"] = options_json(t->options);
         rows.push_back(std::move(row));
       }
       return rows;
     }},
    {"observer", "observers", rows_of<observers>},
    {"mixer", "mixers", rows_of<mixers>},
    {"channel_mixer", "channel mixers", rows_of<channel_mixers>},
    {"norm", "norms", rows_of<norms>},
    {"router", "routers", rows_of<routers>},
    {"block", "blocks",
     [] {
       return Ordered::array({{{"name", kBlocks},
                               {"summary", "what a model that is trained from scratch is made of"},
                               {"options", options_json(block_options())}}});
     }},
    {"codec", "codecs",
     [] {
       Ordered rows = Ordered::array();
       std::vector<const Codec*> all(codecs().begin(), codecs().end());
       all.insert(all.end(), read_only_codecs().begin(), read_only_codecs().end());
       for (const Codec* c : all) {
         const double bits = 8.0 * static_cast<double>(c->block_bytes) / static_cast<double>(c->block);
         Ordered row = {{"name", c->name},
                        {"summary", c->description},
                        {"bits", bits},
                        {"block", c->block},
                        {"block_bytes", c->block_bytes}};
         if (c->writes())
           row["max_error"] = c->max_error;
         else
           row["read_only"] = true;
         if (c->gguf_type >= 0) row["gguf_type"] = c->gguf_type;
         if (!c->safetensors.empty()) row["safetensors"] = c->safetensors;
         rows.push_back(std::move(row));
       }
       return rows;
     }},
    {"op", "operations",
     [] {
       Ordered rows = Ordered::array();
       for (const Op* op : ops()) {
         rows.push_back({{"name", op->name}, {"summary", op->gradient ? "differentiable" : "not differentiable"}});
       }
       return rows;
     }},
};

std::string scalar(const Ordered& value) { return value.is_string() ? value.get<std::string>() : value.dump(); }

void print_row(const Socket& socket, const Ordered& row) {
  fmt::print("{} {}: {}\n", socket.name, scalar(row["name"]), scalar(row["summary"]));
  for (const auto& [key, value] : row.items()) {
    if (key == "name" || key == "summary" || value.is_structured()) continue;
    fmt::print("  {:<14} {}\n", key, scalar(value));
  }
  if (!row.contains("options")) return;
  const std::string owner = scalar(row["name"]);
  for (const Ordered& o : row["options"]) {
    fmt::print("  --set {}.{}={}   {} to {}: {}\n", owner, scalar(o["name"]), scalar(o["default"]), scalar(o["least"]),
               scalar(o["most"]), scalar(o["help"]));
  }
}

Result<void> list_all(bool json) {
  Ordered all;
  for (const Socket& socket : kSockets) {
    all[socket.plural] = socket.rows();
    if (json) continue;
    fmt::print("{}\n", socket.plural);
    for (const Ordered& row : all[socket.plural]) {
      const std::string paper = row.value("paper", "");
      fmt::print("  {:<24} {}{}\n", scalar(row["name"]), scalar(row["summary"]),
                 paper.empty() ? "" : " (" + paper + ")");
    }
  }
  if (json) fmt::print("{}", json_text(all));
  return {};
}

Result<void> show(const std::string& name, bool json) {
  Ordered found = Ordered::array();
  std::vector<std::string> names;
  for (const Socket& socket : kSockets) {
    for (Ordered& row : socket.rows()) {
      names.push_back(scalar(row["name"]));
      if (names.back() != name) continue;
      if (!json) print_row(socket, row);
      row["socket"] = socket.name;
      found.push_back(std::move(row));
    }
  }
  if (found.empty()) {
    return fail(ErrorCode::invalid_argument, "there is nothing called '{}'; the nearest are {}", name,
                nearest_names(name, names));
  }
  if (json) fmt::print("{}", json_text(found));
  return {};
}

std::function<Result<void>()> add(FlagSet& command) {
  struct Options {
    std::string name;
    bool json = false;
  };
  auto o = std::make_shared<Options>();
  command.add("NAME", o->name, "one method, optimizer, codec or operation");
  command.add("--json", o->json, "as JSON");
  return [o] { return o->name.empty() ? list_all(o->json) : show(o->name, o->json); };
}

}  // namespace

const Command kMethods = {"methods", "list methods, optimizers, codecs and operations with their options", add};

}  // namespace thimble
