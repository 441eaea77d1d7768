#include "models/presets.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdlib>
#include <nlohmann/json.hpp>

#include "files/file.h"
#include "files/json.h"
#include "models/hf_config.h"

namespace thimble {
namespace {

constexpr int64_t kLargest = 100'000'000'000;
constexpr uint64_t kLargestConfig = 1u << 20;

Architecture shaped(int64_t width, int64_t layers, int64_t vocab, int64_t context) {
  const int64_t head_dim = width >= 512 ? 64 : 32, heads = width / head_dim;
  return llama({.vocab = vocab,
                .width = width,
                .layers = layers,
                .heads = heads,
                // Three or four query heads share one of keys and values, where that comes out even.
                .kv_heads = heads % 3 == 0   ? heads / 3
                            : heads % 4 == 0 ? heads / 4
                                             : heads,
                .head_dim = head_dim,
                .ffn_width = (width * 8 / 3 + 63) / 64 * 64,
                .context = context});
}

bool shares_keys(const Architecture& a) {
  const Attention& attention = a.blocks.front().attention;
  return attention.kv_heads < attention.heads;
}

}  // namespace

Result<int64_t> parse_size(std::string_view text) {
  double number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number, std::chars_format::fixed);
  const std::string_view suffix(end, text.data() + text.size());
  double unit = 0;
  if (suffix.empty()) unit = 1;
  if (suffix == "K" || suffix == "k") unit = 1e3;
  if (suffix == "M" || suffix == "m") unit = 1e6;
  if (suffix == "B" || suffix == "b") unit = 1e9;
  const double size = number * unit;
  if (error != std::errc() || !(size >= 1) || size > static_cast<double>(kLargest)) {
    return fail(ErrorCode::invalid_argument,
                "size '{}': expected a number of parameters up to 100B such as 800K, 15M or 1.5B", text);
  }
  return std::llround(size);
}

int64_t parameter_count(const Architecture& architecture) {
  int64_t count = 0;
  for (const TensorSpec& spec : tensor_specs(architecture)) count += spec.shape.count();
  return count;
}

// Deep and narrow, as small models do best (Liu et al. 2024, arXiv:2402.14905). For every width the number of layers
// that comes nearest to the aim; of these the one that misses it least and has about the usual depth for its width.
Result<Architecture> preset(int64_t parameters, int64_t vocab, int64_t context) {
  if (parameters < 1 || parameters > kLargest) {
    return fail(ErrorCode::invalid_argument, "a model of {} parameters: expected 1 to {}", parameters, kLargest);
  }
  Architecture best;
  double best_cost = HUGE_VAL;
  for (int64_t width = 32; width <= 16384; width += width < 512 ? 32 : 64) {
    const Architecture one = shaped(width, 1, vocab, context);
    CHECK_OK(check(one, "the vocabulary and context asked for"));
    const int64_t outside = vocab * width + width;
    const int64_t block = parameter_count(one) - outside;
    // Published small models: width 576 with 30 layers, 2048 with 22: layers about 2 sqrt(width / 3).
    const double usual = std::clamp(2 * std::sqrt(static_cast<double>(width) / 3), 4.0, 128.0);
    const double room = static_cast<double>(parameters - outside) / static_cast<double>(block);
    const int64_t layers = std::clamp<int64_t>(std::llround(room), 1, 256);
    const double size = static_cast<double>(outside + layers * block);
    const double miss = std::abs(std::log(size / static_cast<double>(parameters)));
    const double cost =
        4 * miss + std::abs(std::log(static_cast<double>(layers) / usual)) + (shares_keys(one) ? 0.0 : 0.1);
    if (cost < best_cost) best_cost = cost, best = shaped(width, layers, vocab, context);
  }
  return best;
}

Result<Architecture> architecture_like(const std::string& path, int64_t tokens) {
  const std::string file = is_directory(path) ? path + "/config.json" : path;
  const std::string text = TRY(read_text_file(file, kLargestConfig));
  const Architecture architecture = TRY(parse_config(text, file));
  if (const Json json = TRY(parse_json(text, file)); !json.value("quantization_config", Json()).is_null())
    return fail(ErrorCode::unsupported,
                "--architecture {}: 'quantization_config' is of weights that there are; take it out, as those from "
                "scratch are f32",
                path);
  if (architecture.labels)
    return fail(
        ErrorCode::unsupported,
        "--architecture {}: it is of a model that says labels; leave its 'architectures' out, and an --objective "
        "of labels takes them from the data",
        path);
  if (tokens <= architecture.vocab) return architecture;
  return fail(ErrorCode::invalid_argument,
              "--architecture {}: expected a vocab_size of {} or more, as there are so many tokens; found {}", path,
              tokens, architecture.vocab);
}

}  // namespace thimble
