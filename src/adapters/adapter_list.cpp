// Several adapters at once.
#include <algorithm>
#include <charconv>

#include "adapters/adapter.h"
#include "adapters/modules.h"
#include "core/split.h"
#include "models/labelled_model.h"
#include "models/untied_model.h"

namespace thimble {
namespace {

constexpr size_t kMost = 16;
constexpr double kLargest = 1000;

// One for each adapter.
Result<std::vector<double>> parse_scales(const std::string& text, size_t count) {
  if (text.empty()) return std::vector<double>(count, 1);
  std::vector<double> scales;
  for (const std::string& one : split(text, ',')) {
    double scale = 0;
    const auto [end, error] = std::from_chars(one.data(), one.data() + one.size(), scale);
    if (error != std::errc{} || end != one.data() + one.size() || !(scale >= -kLargest && scale <= kLargest))
      return fail(ErrorCode::invalid_argument, "--adapter-scale: expected numbers from {} to {}, found '{}'", -kLargest,
                  kLargest, one);
    scales.push_back(scale);
  }
  if (scales.size() == count) return scales;
  return fail(ErrorCode::invalid_argument, "--adapter-scale {}: expected {}, one for each --adapter, found {}", text,
              count, scales.size());
}

}  // namespace

std::vector<std::string> adapter_paths(const std::string& paths) {
  if (is_file(paths) || is_directory(paths)) return {paths};
  return split(paths, ',');
}

Result<std::vector<Adapter>> open_adapter_list(const std::string& paths, const std::string& scales) {
  const std::vector<std::string> all = adapter_paths(paths);
  if (all.size() > kMost)
    return fail(ErrorCode::invalid_argument, "--adapter: {} adapters, at most {} are applied at once", all.size(),
                kMost);
  if (std::ranges::find(all, "") != all.end())
    return fail(ErrorCode::invalid_argument, "--adapter {}: expected folders with commas between, found an empty name",
                paths);
  const std::vector<double> factors = TRY(parse_scales(scales, all.size()));
  std::vector<Adapter> out;
  for (size_t i = 0; i < all.size(); ++i) {
    for (Adapter& adapter : TRY(open_adapters(all[i]))) {
      if (factors[i] != 1 && !adapter.rewrite->scales)
        return fail(ErrorCode::unsupported,
                    "--adapter-scale {}: {} is of {}, which does not add to a layer: it has no half; leave its scale 1",
                    factors[i], all[i], adapter.rewrite->name);
      adapter.scale = factors[i];
      if (i > 0) adapter.scope = fmt::format("adapter_{}.", i);
      out.push_back(std::move(adapter));
    }
  }
  return out;
}

bool has_own_ends(const nlohmann::ordered_json& config, const Architecture& architecture) {
  return architecture.tied && !saved_ends(config, architecture).empty();
}

Result<std::unique_ptr<ModelSource>> model_for(std::unique_ptr<ModelSource> source, std::span<const Adapter> adapters) {
  for (const Adapter& adapter : adapters)
    if (adapter.labels && !source->architecture().labels)
      source = TRY(with_labels(std::move(source), *adapter.labels, std::nullopt));
  for (const Adapter& adapter : adapters)
    if (has_own_ends(*adapter.config, source->architecture())) source = with_own_head(std::move(source));
  return source;
}

}  // namespace thimble
