// compare: variants of one recipe side by side, each a run of its own.

#include "commands/command.h"
#include "commands/command_line.h"
#include "commands/comparison.h"
#include "core/nearest.h"
#include "files/file.h"
#include "run/interrupt.h"

namespace thimble {
namespace {

struct CompareFlags {
  std::vector<std::string> recipes, only;
  std::string out, model;
  int64_t steps = 0;
  bool quick = false, json = false;
};

Result<void> leave_only(const std::vector<std::string>& only, Comparison& comparison) {
  std::vector<std::string> names;
  for (const Variant& variant : comparison.variants) names.push_back(variant.name);
  for (const std::string& name : only)
    if (std::ranges::find(names, name) == names.end())
      return fail(ErrorCode::invalid_argument, "--only {}: {} has no such variant; the nearest are {}", name,
                  comparison.path, nearest_names(name, names));
  std::erase_if(comparison.variants,
                [&](const Variant& variant) { return std::ranges::find(only, variant.name) == only.end(); });
  return {};
}

Result<void> compare(const CompareFlags& flags) {
  Flags overrides;
  if (!flags.model.empty()) overrides["model"] = {flags.model};
  if (flags.steps > 0) overrides["steps"] = {std::to_string(flags.steps)};
  std::vector<Comparison> comparisons;
  for (const std::string& path : flags.recipes) {
    comparisons.push_back(TRY(read_comparison(path, overrides)));
    if (!flags.only.empty()) CHECK_OK(leave_only(flags.only, comparisons.back()));
    if (flags.quick) comparisons.back().rates = {1}, comparisons.back().seeds.resize(1);
  }
  CHECK_OK(make_directories(flags.out));
  watch_interrupts("\nstopping; what was done is kept\n");
  watch_terminations();
  std::vector<Outcomes> all;
  for (const Comparison& comparison : comparisons) {
    all.push_back(
        TRY(run_comparison(comparison, flags.out, [](const std::string& line) { fmt::print(stderr, "{}\n", line); })));
    if (!flags.json) fmt::print("{}\n", comparison_table(all.back()));
    // After every workload, so that a long comparison shows what it has.
    CHECK_OK(write_text_file(flags.out + "/compare.json", comparison_json(all)));
    CHECK_OK(write_comparison_page(all, flags.out + "/compare.html"));
  }
  if (flags.json) fmt::print("{}", comparison_json(all));
  fmt::print(stderr, "look at {}/compare.html\n", flags.out);
  const auto failed = [](const Outcomes& o) {
    return std::ranges::all_of(o.variants, [](const Outcome& v) { return !v.failed.empty(); });
  };
  if (std::ranges::any_of(all, failed)) return fail(ErrorCode::io, "of a recipe no variant ran");
  return {};
}

std::function<Result<void>()> add(FlagSet& command) {
  auto flags = std::make_shared<CompareFlags>();
  command.add("recipes", flags->recipes, "YAML files: a command, its flags, and variants").required();
  command.add("--out", flags->out, "folder for runs, compare.json and compare.html").required();
  command.add("--only", flags->only, "some of the variants: adamw,lion").delimiter(',');
  command.add("--model", flags->model, "of all variants, instead of the recipe's");
  command.add("--steps", flags->steps, "of all variants, instead of the recipe's").positive();
  command.add("--quick", flags->quick, "one seed, at each variant's own learning rate");
  command.add("--json", flags->json, "what compare.json holds on standard output, in place of tables");
  command.footer("Runs that are there already are not made again: the same command goes on where it was stopped.");
  return [flags] { return compare(*flags); };
}

}  // namespace

const Command kCompare = {"compare", "train variants of a recipe side by side: loss, memory, time", add};

}  // namespace thimble
