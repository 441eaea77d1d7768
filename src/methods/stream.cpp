#include "methods/stream.h"

#include <algorithm>

#include "ops/table.h"

namespace thimble {
namespace {

// Blocks read some of the rows of a pass: what a block makes of them is for the block alone, but for the residual
// stream, and rows meet by their sequences and positions, not by how far apart they are in the pass.
Result<void> check_fewer_rows(const Graph& graph, const Rewrite& technique, const ModelTaps& taps,
                              std::span<const ValueId> losses) {
  const auto refuse = [&](std::string_view why) {
    return fail(ErrorCode::unsupported, "--method {}: it leaves rows out of blocks, and {}; leave it out",
                technique.name, why);
  };
  const auto block_of = [&](ValueId value) {
    const int producer = graph.producer(value);
    return producer < 0 ? -1 : graph.nodes()[static_cast<size_t>(producer)].block;
  };
  const auto is_tap = [&](ValueId value) { return std::ranges::find(taps.streams, value) != taps.streams.end(); };
  if (taps.positions == kNone || taps.starts == kNone) return refuse("this program does not say where sequences begin");
  for (const ValueId loss : losses)
    if (block_of(loss) >= 0) return refuse("another technique has losses of tokens in blocks");
  for (const Node& node : graph.nodes()) {
    if (node.op == &kAttention && node.block >= 0) {
      const int64_t window = node.as<AttentionAttributes>().window;
      if (window > 0 && window < taps.window)
        return refuse("attention in this model counts how many rows back it sees (sliding windows)");
      if (node.in.back() != kNone) return refuse("scores of this model go by how many rows back a key is (ALiBi)");
    }
    for (const ValueId in : node.in) {
      if (in == kNone || graph.value(in).type.extent == Extent::fixed || block_of(in) == node.block) continue;
      if (is_tap(in) || in == taps.positions || in == taps.starts) continue;
      if (node.block >= 0) return refuse(fmt::format("a block reads '{}' of every token", graph.value(in).name));
      if (block_of(in) >= 0) return refuse(fmt::format("'{}' is read behind its block", graph.value(in).name));
    }
  }
  return {};
}

}  // namespace

Result<Graph> rewrite_stream(const Graph& graph, const RewriteSpec& spec, RewriteUse use, const ModelTaps& taps,
                             std::map<std::string, AdapterTensor>& tensors, std::vector<ValueId>& losses) {
  const Rewrite& technique = *spec.rewrite;
  if (taps.streams.empty())
    return fail(ErrorCode::unsupported,
                "--method {}: it changes the residual stream of a whole model that has one stream; this has two, or is "
                "a part of a model",
                technique.name);
  if (spec.modules.empty())
    return fail(ErrorCode::unsupported,
                "--method {}: it adapts {}, and no layer of this model is one (those of experts are left alone)",
                technique.name, technique.targets);
  if (technique.training_only) CHECK_OK(check_fewer_rows(graph, technique, taps, losses));
  std::map<std::string, ValueId> made;
  std::optional<StreamRewrite> stream;
  std::vector<ValueId> added;  // losses of the technique
  Error failure;
  const int64_t layers = std::ssize(taps.streams) - 1;
  const int64_t read = technique.blocks ? technique.blocks(spec.modules.begin()->second.options, layers) : layers;
  GraphCopy copy = rewrite(graph, [&](GraphCopy& to, const Node& node) {
    const bool left_out = node.block >= read;
    if (!left_out) to.copy(node);
    for (const ValueId out : node.out) {
      const auto tap = out == kNone ? taps.streams.end() : std::ranges::find(taps.streams, out);
      if (tap == taps.streams.end() || !failure.message.empty()) continue;
      if (left_out && out != taps.streams.back()) continue;
      if (!stream) {
        stream.emplace(to.graph(), spec.modules.begin()->second, made, tensors,
                       use == RewriteUse::infer ? Role::weight : Role::parameter, &added);
        stream->layers = layers;
        stream->inputs = {.positions = to.map(taps.positions), .starts = to.map(taps.starts), .window = taps.window};
        stream->block_positions = stream->inputs.positions, stream->block_starts = stream->inputs.starts;
        stream->attributes.codec = graph.value(out).type.codec, stream->training = use == RewriteUse::train;
      }
      const auto next = technique.stream(*stream, tap - taps.streams.begin(), left_out ? kNone : to.map(out));
      if (!next) {
        failure = next.error();
        continue;
      }
      to.bind(out, *next);
      if (taps.positions != kNone) to.substitute(taps.positions, stream->block_positions);
      if (taps.starts != kNone) to.substitute(taps.starts, stream->block_starts);
    }
    return true;
  });
  if (!failure.message.empty()) return Failure(failure);
  const auto is_gone = [&](ValueId value) {
    const int64_t node = graph.producer(value);
    return node >= 0 && graph.nodes()[static_cast<size_t>(node)].block >= read;
  };
  std::erase_if(losses, is_gone);
  for (ValueId& loss : losses) loss = copy.map(loss);
  losses.insert(losses.end(), added.begin(), added.end());
  if (read < layers)
    std::erase_if(tensors, [&](const auto& tensor) { return copy.graph().find(tensor.first) == kNone; });
  return std::move(copy.graph());
}

}  // namespace thimble
