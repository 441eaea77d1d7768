#include "methods/stream.h"

#include <algorithm>

namespace thimble {

Result<Graph> rewrite_stream(const Graph& graph, const RewriteSpec& spec, RewriteUse use, const ModelTaps& taps,
                             std::map<std::string, AdapterTensor>& tensors) {
  const Rewrite& technique = *spec.rewrite;
  if (taps.streams.empty())
    return fail(ErrorCode::unsupported,
                "--method {}: it changes the residual stream of a whole model that has one stream; this has two, or is "
                "a part of a model",
                technique.name);
  std::map<std::string, ValueId> made;
  std::optional<StreamRewrite> stream;
  Error failure;
  GraphCopy copy = rewrite(graph, [&](GraphCopy& to, const Node& node) {
    to.copy(node);
    for (const ValueId out : node.out) {
      const auto tap = out == kNone ? taps.streams.end() : std::ranges::find(taps.streams, out);
      if (tap == taps.streams.end() || !failure.message.empty()) continue;
      if (!stream) {
        stream.emplace(to.graph(), spec.modules.begin()->second, made, tensors,
                       use == RewriteUse::infer ? Role::weight : Role::parameter);
        stream->layers = std::ssize(taps.streams) - 1;
        stream->attributes.codec = graph.value(out).type.codec, stream->training = use == RewriteUse::train;
      }
      const auto next = technique.stream(*stream, tap - taps.streams.begin(), to.map(out));
      if (next)
        to.bind(out, *next);
      else
        failure = next.error();
    }
    return true;
  });
  if (!failure.message.empty()) return Failure(failure);
  return std::move(copy.graph());
}

}  // namespace thimble
