#include "methods/stream.h"

#include <algorithm>

namespace thimble {

Result<Graph> rewrite_stream(const Graph& graph, const RewriteSpec& spec, RewriteUse use, const ModelTaps& taps,
                             std::map<std::string, AdapterTensor>& tensors, std::vector<ValueId>& losses) {
  const Rewrite& technique = *spec.rewrite;
  if (taps.streams.empty())
    return fail(ErrorCode::unsupported,
                "--method {}: it changes the residual stream of a whole model that has one stream; this has two, or is "
                "a part of a model",
                technique.name);
  std::map<std::string, ValueId> made;
  std::optional<StreamRewrite> stream;
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
                       use == RewriteUse::infer ? Role::weight : Role::parameter);
        stream->layers = layers;
        stream->attributes.codec = graph.value(out).type.codec, stream->training = use == RewriteUse::train;
      }
      const auto next = technique.stream(*stream, tap - taps.streams.begin(), left_out ? kNone : to.map(out));
      if (next)
        to.bind(out, *next);
      else
        failure = next.error();
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
  if (read < layers)
    std::erase_if(tensors, [&](const auto& tensor) { return copy.graph().find(tensor.first) == kNone; });
  return std::move(copy.graph());
}

}  // namespace thimble
