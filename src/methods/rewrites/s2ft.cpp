// S2FT: some input channels of a weight train, as a dense matrix; the others are frozen in whatever codec they are.
//
//   Paper   Yang et al. 2024 (S2FT: Structured Sparsity), arXiv:2412.06289, section 3
//   Graph   y = x W^T  becomes  y = x W^T + x_S D^T, one product, rounded once; x_S are the columns S of x, which the
//           backward pass keeps in place of x
//   Adds    D [out, |S|], zeros: what the columns S of W have moved by
//   Chosen  of down_proj, ratio of the channels between the matrices of the FFN; of o_proj, ratio of the heads, whole.
//           By chance (S2FT-R), from the key and the layer's name. Or channels of all layers by falling squared norm of
//           their gradient for a number, while `numbers` lasts: layers and channels that contribute (Lin et al. 2022,
//           arXiv:2206.15472, section 3.2; S2FT-G)
//   Names   "<module>.s2_D"; peft_type S2FT, which other tools do not read
//   Choice  S is gathered where the authors permute both sides of the coupled matrices so that S lies together: the
//           same numbers, and rows of quantised files stay as they are. What trains is the difference from W, where the
//           authors write over W: decay pulls towards the model instead of towards zero. Every layer has the same
//           number of channels, where the authors draw from those of all layers at once
#include "methods/rewrites/s2ft.h"

#include <algorithm>
#include <cmath>

#include "core/draws.h"
#include "ops/matrix.h"
#include "ops/pointwise.h"
#include "ops/update.h"

namespace thimble {
namespace {

constexpr Option kOptions[] = {
    {"ratio", 0.05, 0, 1, "of the input channels that train, one at least"},
    whole_number("key", 0, 0, 4294967295, "that channels are drawn by"),
    whole_number("numbers", 0, 0, 1'000'000'000'000,
                 "that train at most, in layers and channels by contribution; 0: by chance"),
    whole_number("batches", 4, 1, 1024, "windows that contributions are measured on"),
    {"channels", 0, 0, 1 << 24, "that train, ascending, instead of a choice; of every layer",
     Option::Kind::whole_numbers},
};
constexpr VoidOption kVoid[] = {{"ratio", "channels"},   {"key", "channels"},  {"numbers", "channels"},
                                {"batches", "channels"}, {"ratio", "numbers"}, {"key", "numbers"}};
using Kind = PeftField::Kind;
constexpr PeftField kFields[] = {{"ratio", "ratio", Kind::number, {}, 0.05},
                                 {"key", "key", Kind::whole},
                                 {"numbers", "numbers", Kind::whole},
                                 {"batches", "batches", Kind::whole, {}, 4},
                                 {"channels", "channels", Kind::list, "channels_pattern"}};

// The channels that train, ascending: whole heads where the layer's input is heads.
std::vector<int64_t> chosen(const ModuleRewrite& m) {
  if (const std::vector<double>& list = m.module.options.list("channels"); !list.empty() || m.option("numbers") > 0) {
    std::vector<int64_t> channels;
    channels.reserve(list.size());
    for (const double channel : list) channels.push_back(std::min(static_cast<int64_t>(channel), m.in - 1));
    return channels;
  }
  const int64_t group = m.module.in_group, groups = m.in / group;
  const int64_t count = std::clamp<int64_t>(std::llround(m.option("ratio") * static_cast<double>(groups)), 1, groups);
  std::vector<int64_t> drawn =
      draw_places(Random(static_cast<uint64_t>(m.option("key")), "s2ft." + m.owner()), groups, count);
  std::ranges::sort(drawn);
  std::vector<int64_t> channels;
  for (const int64_t place : drawn)
    for (int64_t c = 0; c < group; ++c) channels.push_back(place * group + c);
  return channels;
}

ValueId channels_of(ModuleRewrite& m) {
  std::vector<int64_t> channels = chosen(m);
  const auto count = static_cast<int64_t>(channels.size());
  std::string content = fmt::format("s2ft {} of {} by {} key {}", count, m.in, m.module.in_group, m.option("key"));
  for (const double channel : m.module.options.list("channels")) content += fmt::format(" {}", channel);
  return m.constant(m.owner() + ".s2_channels", {count},
                    Initial::table(
                        [channels = std::move(channels)](int64_t first, int64_t n, float* to) {
                          for (int64_t i = 0; i < n; ++i)
                            to[i] = static_cast<float>(channels[static_cast<size_t>(first + i)]);
                        },
                        content),
                    &kI32);
}

ValueId difference(ModuleRewrite& m) {
  return m.add("s2_D", {m.out, static_cast<int64_t>(chosen(m).size())}, Initial::constant(0), {.by_rows = true});
}

// Of a layer whose channels do not train there is nothing.
void adapt(ModuleRewrite& m) {
  if (m.module.probed) {
    const ValueId all = m.add(kProbe.substr(1), {m.out, m.in}, Initial::constant(0), {.saved = false});
    const ModuleRewrite::Term term{m.x, all, 1};
    m.y = m.linear(m.x, m.w, {&term, 1}, m.bias, m.addend, m.module.name);
    return;
  }
  if (chosen(m).empty()) {
    m.y = m.linear(m.x, m.w, {}, m.bias, m.addend, m.module.name);
    return;
  }
  const ValueId selected = m.once("s2_x", [&] {
    return m.graph.emit(kGather, GatherAttributes{GatherAttributes::Axis::columns}, {m.x, channels_of(m)},
                        m.name("s2_x"));
  });
  const ModuleRewrite::Term term{selected, difference(m), m.module.scale};
  m.y = m.linear(m.x, m.w, {&term, 1}, m.bias, m.addend, m.module.name);
}

ValueId weight(ModuleRewrite& m) {
  if (chosen(m).empty()) return m.decoded();
  const GatherAttributes columns{GatherAttributes::Axis::columns, m.in};
  const ValueId moved = m.graph.emit(kScatter, columns, {m.rows(difference(m)), channels_of(m)}, m.name("s2_moved"));
  PointwiseBuilder b;
  const Expr own = b.tensor(), by = b.tensor();
  b.output(own + m.module.scale * by);
  return m.graph.emit(kPointwise, b.attributes(), {m.decoded(), moved}, m.name("s2_W"));
}

Result<void> check(const OptionValues& options, int64_t in, int64_t) {
  const bool measured = options["numbers"] > 0;
  if (measured && !(options.is_default("ratio") && options.is_default("key")))
    return fail(ErrorCode::invalid_argument,
                "numbers={}: channels are chosen by what they contribute, for which ratio and key mean nothing; leave "
                "these out",
                options["numbers"]);
  if (!measured && !options.is_default("batches"))
    return fail(ErrorCode::invalid_argument,
                "batches={}: nothing is measured without numbers; give them, or leave it out", options["batches"]);
  const std::vector<double>& list = options.list("channels");
  if (std::ranges::adjacent_find(list, std::greater_equal()) == list.end() &&
      (list.empty() || list.back() < static_cast<double>(in)))
    return {};
  return fail(ErrorCode::invalid_argument, "channels: expected numbers below {} that ascend, each once", in);
}

}  // namespace

const Rewrite kS2ft = {.name = "s2ft",
                       .summary = "some input channels and heads of frozen weights train, as dense matrices",
                       .paper = "arXiv:2412.06289",
                       .rate = 2,
                       .options = kOptions,
                       .voids = kVoid,
                       .adapt = adapt,
                       .weight = weight,
                       .targets = "o_proj,down_proj",
                       .scales = true,
                       .check = check,
                       .settling = &kS2ftChannels,
                       .form = {.type = "S2FT", .fields = kFields}};

}  // namespace thimble
