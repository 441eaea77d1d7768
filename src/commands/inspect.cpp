// inspect: what is in a file or folder, and what this CPU offers.
#include <cmath>
#include <nlohmann/json.hpp>

#include "commands/command.h"
#include "commands/command_line.h"
#include "commands/describe.h"
#include "commands/void_flags.h"
#include "core/cpus.h"
#include "core/isa.h"
#include "core/printable.h"
#include "kernels/cpu.h"
#include "kernels/dot/int8_dot.h"
#include "plan/machine.h"

namespace thimble {
namespace {

using Ordered = nlohmann::ordered_json;

std::string scalar(const Ordered& value) {
  return printable(value.is_string() ? value.get<std::string>()
                                     : value.dump(-1, ' ', false, Ordered::error_handler_t::replace));
}

// "key   value", deeper objects indented, lists of objects one a line.
void print_tree(const Ordered& object, int indent) {
  for (const auto& [key, value] : object.items()) {
    if (value.is_object()) {
      fmt::print("{:{}}{}\n", "", indent, printable(key));
      print_tree(value, indent + 2);
    } else if (value.is_array() && !value.empty() && value.front().is_object()) {
      fmt::print("{:{}}{}\n", "", indent, printable(key));
      for (const Ordered& item : value) {
        std::string line;
        for (const auto& [name, field] : item.items()) line += (line.empty() ? "" : "  ") + scalar(field);
        fmt::print("{:{}}{}\n", "", indent + 2, line);
      }
    } else {
      fmt::print("{:{}}{:<{}} {}\n", "", indent, printable(key), std::max(1, 28 - indent), scalar(value));
    }
  }
}

void print(const Ordered& description, bool json) {
  if (json)
    fmt::print("{}", json_text(description));
  else
    print_tree(description, 0);
}

double rounded(double value) { return std::round(value * 10) / 10; }

Ordered describe_cpu(int threads) {
  Threads team(threads);
  const Machine machine = probe_machine(team);
  const double f32 = machine.product_flops(Multiply::f32), bf16_flops = machine.product_flops(Multiply::bf16);
  Ordered json;
  json["threads"] = threads;
  Ordered& levels = json["--isa"] = Ordered::object();
  for (const IsaLevel& level : isa_levels())
    levels[std::string(level.name)] = fmt::format(
        "{}{}", level.description,
        level.isa == active_isa.level            ? (level.isa == Isa::baseline ? "; in use, which is slow" : "; in use")
        : this_cpu_levels() & isa_bit(level.isa) ? ""
                                                 : "; not on this CPU");
  json["weights fetched ahead in decoding"] = fetches_ahead();
  json["measured"] = {{"f32 products, GFLOP/s", rounded(f32 * 1e-9)},
                      {"bf16 products, GFLOP/s", rounded(bf16_flops * 1e-9)},
                      {"8 MB read again and again, GB/s", rounded(machine.bandwidth * 1e-9)},
                      {"q4_1 decoded, G elements/s", rounded(machine.decode * 1e-9)}};
  const bool bf16 = faster_multiply(machine) == Multiply::bf16;
  std::string why = "the CPU has no bf16 products (AVX512-BF16)";
  if (bf16_flops > 0) {
    why = fmt::format("bf16 is {:.2f} times as fast as f32 here, and is taken from 1.2 times on", bf16_flops / f32);
  }
  json["--multiply auto"] =
      fmt::format("{} under --precision bf16: {}; always f32 under --precision f32; {} {}", bf16 ? "bf16" : "f32", why,
                  int8_is_fast() && !bf16 ? "prompts and new tokens" : "new tokens",
                  int8_is_fast() ? "in int8 under --precision bf16 where the weights allow it" : "likewise");
  return json;
}

std::function<Result<void>()> add(FlagSet& command) {
  struct Options {
    std::string path;
    int threads = 0;
    bool tensors = false, cpu = false, json = false;
  };
  auto o = std::make_shared<Options>();
  command.add("PATH", o->path, "a GGUF, safetensors or llama2.c file, a Hugging Face, adapter or run folder");
  command.add("--tensors", o->tensors, "list the tensors too");
  command.add("--cpu", o->cpu, "instruction sets, measured speeds, and the products that --multiply auto takes");
  command.add("--threads", o->threads, "of the measurement; 0: one a CPU").in_range(0, 1024);
  command.add("--json", o->json, "as JSON");
  return [o, &command]() -> Result<void> {
    CHECK_OK(refuse_void(command, {{"--threads", !o->cpu, "it is of the measurement, which --cpu asks for"},
                                   {"--tensors", o->path.empty(), "there is no PATH to list them of"}}));
    if (o->path.empty() && !o->cpu)
      return fail(ErrorCode::invalid_argument, "PATH is missing: a file or folder to look into (or --cpu)");
    const int threads = o->threads > 0 ? o->threads : usable_cpus();
    if (o->cpu) print(describe_cpu(threads), o->json);
    if (!o->path.empty()) print(TRY(describe(o->path, o->tensors)), o->json);
    return {};
  };
}

}  // namespace

const Command kInspect = {"inspect", "show what is in a model, adapter or checkpoint, or what the CPU offers", add,
                          true};

}  // namespace thimble
