// Neuron specialization: the neurons of FFNs that the data activate train, as rows and columns of their weights; the
// others stay as they are stored.
//
//   Paper   Tan et al. 2024, arXiv:2404.11201, sections 3.1 (neurons), 4.1 (sparse networks); the authors' code
//           (Smu-Tan/Neuron-Specialization, toolbox/get_ns_masks.py)
//   Chosen  of an FFN S: the neurons by falling number of tokens that they are positive on, till their numbers reach
//           the threshold's part of all; once, from the first windows of the data
//   Graph   gate and up: y = x W^T, with x D^T added to its columns S; down: y = x W^T + x_S D^T
//   Adds    D [|S|, in] of gate and up, [out, |S|] of down, zeros: what the rows, or columns, S have moved by; of other
//           layers, and without a choice, D of the weight's shape
//   Names   "<module>.ns_D"; peft_type NEURON_SPECIALIZATION, which other tools do not read
//   Choice  the gradients of other neurons do not exist, where the authors mask them: no memory is for them. All layers
//           of an FFN train by S; the authors' masks are for its first, and its second trains whole. A neuron with a
//           gate is positive where the gate is
#include <algorithm>
#include <numeric>

#include "methods/rewrite.h"
#include "ops/matrix.h"
#include "ops/pointwise.h"
#include "ops/table.h"
#include "ops/update.h"

namespace thimble {
namespace {

constexpr Option kOptions[] = {
    {"threshold", 0.95, 0.001, 1, "of all activations, what the neurons that train have"},
    whole_number("batches", 4, 1, 1024, "windows that activations are counted on"),
    {"neurons", 0, 0, 1 << 24, "that train, ascending, instead of a choice; of every layer",
     Option::Kind::whole_numbers},
};
constexpr VoidOption kVoid[] = {{"threshold", "neurons"}, {"batches", "neurons"}};
using Kind = PeftField::Kind;
constexpr PeftField kFields[] = {{"threshold", "threshold", Kind::number, {}, 0.95},
                                 {"batches", "batches", Kind::whole, {}, 4},
                                 {"neurons", "neurons", Kind::list, "neurons_pattern"}};

// Whether the neurons are what a layer reads.
bool reads_neurons(const ModuleRewrite& m) { return m.module.name.ends_with(".down_proj"); }
const std::vector<double>& chosen(const ModuleRewrite& m) { return m.module.options.list("neurons"); }

ValueId difference(ModuleRewrite& m) {
  const auto count = static_cast<int64_t>(chosen(m).size());
  const Initial zeros = Initial::constant(0);
  if (count == 0) return m.add("ns_D", {m.out, m.in}, zeros);
  return reads_neurons(m) ? m.add("ns_D", {m.out, count}, zeros) : m.add("ns_D", {count, m.in}, zeros);
}

// Their numbers, those of the layer: what a file says beyond them shows in the shape of D.
ValueId neurons(ModuleRewrite& m) {
  const auto extent = static_cast<double>(reads_neurons(m) ? m.in : m.out);
  std::vector<float> numbers;
  for (const double number : chosen(m)) numbers.push_back(static_cast<float>(std::min(number, extent - 1)));
  std::string content = "neurons";
  for (const float number : numbers) content += fmt::format(" {}", number);
  const auto count = static_cast<int64_t>(numbers.size());
  const auto fill = [numbers = std::move(numbers)](int64_t first, int64_t n, float* to) {
    std::copy_n(numbers.begin() + first, n, to);
  };
  return m.constant(m.owner() + ".ns_neurons", {count}, Initial::table(fill, content), &kI32);
}

void count_positive(ModuleRewrite& m, ValueId gate) {
  PointwiseBuilder b;
  b.output(greater(b.tensor(), 0), m.attributes.codec);
  m.probe(m.graph.emit(kPointwise, b.attributes(), {gate}, m.name("ns_positive")));
}

void adapt(ModuleRewrite& m) {
  if (m.module.probed) {
    if (const auto inner = m.inner()) count_positive(m, inner->gate);
    m.y = m.linear(m.x, m.w, {}, m.bias, m.addend, m.module.name);
    return;
  }
  ValueId x = m.x, addend = m.addend;
  const bool all = chosen(m).empty();
  if (!all && !reads_neurons(m)) {
    const ValueId moved = m.product(m.x, difference(m), m.name("ns_moved"), m.module.scale);
    const GatherAttributes columns{GatherAttributes::Axis::columns, m.out};
    ValueId sum = m.graph.emit(kScatter, columns, {moved, neurons(m)}, m.name("ns_scattered"));
    if (addend != kNone) sum = m.graph.emit(kAdd, {}, {sum, addend}, m.name("ns_sum"));
    m.y = m.linear(m.x, m.w, {}, m.bias, sum, m.module.name);
    return;
  }
  if (!all)
    x = m.graph.emit(kGather, GatherAttributes{GatherAttributes::Axis::columns}, {m.x, neurons(m)}, m.name("ns_x"));
  const ModuleRewrite::Term term{x, difference(m), m.module.scale};
  m.y = m.linear(m.x, m.w, {&term, 1}, m.bias, addend, m.module.name);
}

ValueId weight(ModuleRewrite& m) {
  ValueId moved = difference(m);
  if (!chosen(m).empty()) {
    const bool columns = reads_neurons(m);
    const auto axis = columns ? GatherAttributes::Axis::columns : GatherAttributes::Axis::rows;
    moved = m.graph.emit(kScatter, GatherAttributes{axis, columns ? m.in : m.out}, {moved, neurons(m)},
                         m.name("ns_scattered"));
  }
  PointwiseBuilder b;
  const Expr own = b.tensor(), by = b.tensor();
  b.output(own + m.module.scale * by);
  return m.graph.emit(kPointwise, b.attributes(), {m.decoded(), m.rows(moved)}, m.name("ns_W"));
}

Result<void> check(const OptionValues& options, int64_t in, int64_t out) {
  const std::vector<double>& list = options.list("neurons");
  if (std::ranges::adjacent_find(list, std::greater_equal()) != list.end())
    return fail(ErrorCode::invalid_argument, "neurons: expected numbers that ascend, each once");
  if (list.empty() || list.back() < static_cast<double>(std::max(in, out))) return {};
  return fail(ErrorCode::invalid_argument, "neurons: a layer [{}, {}] has no neuron {}; they are counted from 0", out,
              in, list.back());
}

// The neurons with the most activations that have the threshold's part of them together.
std::vector<double> most_active(const std::vector<float>& counts, double threshold) {
  std::vector<size_t> order(counts.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::ranges::stable_sort(order, std::greater(), [&](size_t j) { return counts[j]; });
  const double wanted = threshold * std::accumulate(counts.begin(), counts.end(), 0.0);
  size_t taken = 0;
  for (double sum = 0; taken < order.size() && (taken == 0 || sum < wanted); ++taken)
    sum += double{counts[order[taken]]};
  std::vector<double> out(order.begin(), order.begin() + static_cast<std::ptrdiff_t>(taken));
  std::ranges::sort(out);
  return out;
}

Result<std::string> settle(const Settling::Measured& measured, std::map<std::string, AdaptedModule>& modules) {
  size_t all = 0, trained = 0;
  double least = 1, most = 0;
  for (const auto& [name, counts] : measured) {
    const std::string ffn = name.substr(0, name.rfind('.') + 1);
    const std::vector<double> list = most_active(counts, modules.at(name).options["threshold"]);
    for (auto& [other, module] : modules)
      if (other.starts_with(ffn)) CHECK_OK(module.options.set(kNeuronSpecialization.name, "neurons", list));
    all += counts.size(), trained += list.size();
    const double part = static_cast<double>(list.size()) / static_cast<double>(counts.size());
    least = std::min(least, part), most = std::max(most, part);
  }
  return fmt::format(
      "{} of {} neurons are trained, {:.0f} to {:.0f} % of a layer's, which the first windows activate most", trained,
      all, 100 * least, 100 * most);
}

// All neurons, each named: those of a layer are as many as another one of its FFN has rows.
Result<void> widest(std::map<std::string, AdaptedModule>& modules) {
  std::map<std::string, std::vector<double>> all;  // by FFN
  for (const auto& [name, module] : modules) {
    if (name.ends_with(".down_proj")) continue;
    std::vector<double>& numbers = all[name.substr(0, name.rfind('.'))];
    numbers.resize(static_cast<size_t>(module.whole));
    std::iota(numbers.begin(), numbers.end(), 0.0);
  }
  for (auto& [name, module] : modules)
    CHECK_OK(module.options.set(kNeuronSpecialization.name, "neurons", all[name.substr(0, name.rfind('.'))]));
  return {};
}

constexpr Settling kSettling = {
    .windows = [](const OptionValues& o) { return o.list("neurons").empty() ? static_cast<int64_t>(o["batches"]) : 0; },
    .settle = settle,
    .widest = widest};

}  // namespace

const Rewrite kNeuronSpecialization = {.name = "neuron_specialization",
                                       .summary = "the neurons of FFNs train that the data activate",
                                       .paper = "arXiv:2404.11201",
                                       .rate = 2,
                                       .options = kOptions,
                                       .voids = kVoid,
                                       .adapt = adapt,
                                       .weight = weight,
                                       .targets = "gate_proj,up_proj,down_proj,fc1,fc2",
                                       .scales = true,
                                       .by_rows = false,
                                       .check = check,
                                       .settling = &kSettling,
                                       .form = {.type = "NEURON_SPECIALIZATION", .fields = kFields}};

}  // namespace thimble
