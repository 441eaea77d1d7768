#include "models/routed_ffn.h"

#include "models/channel_mixer.h"
#include "ops/experts.h"
#include "ops/table.h"

namespace thimble {
namespace {

class Builder {
 public:
  Builder(const RouterContext& context, const FeedForward& ffn) : c_(context), f_(ffn), g_(context.graph) {}

  RoutedFfn build(ValueId stream) {
    const Routes routes = f_.routing.router->routes(c_);
    const PlacesAttributes places{f_.routing.chosen};
    const auto routed = g_.emit_all(kRoute, places, {routes.gates}, c_.name + "route");
    gates_ = routed[0], tokens_ = routed[1], offsets_ = routed[2];
    codec_ = g_.value(c_.x).type.codec;
    const ValueId x = g_.emit(kDispatch, places, {c_.x, tokens_}, c_.name + "dispatched");
    const ChannelMixerContext context{
        .graph = g_, .ffn = f_, .name = c_.name, .x = x, .linear = [this](ValueId in, const std::string& module) {
          return linear(in, module);
        }};
    const ValueId down = linear(f_.mixer->mix(context), "down_proj");
    return {g_.emit(kCombine, places, {down, gates_, tokens_, stream}, c_.name + "sum"), routes.balance};
  }

 private:
  ValueId linear(ValueId x, const std::string& name) {
    std::vector<ValueId> in{x, tokens_, offsets_};
    for (int64_t e = 0; e < f_.routing.experts; ++e)
      in.push_back(c_.weight(fmt::format("{}experts.{}.{}.weight", c_.name, e, name)));
    const ExpertLinearAttributes attributes{.count = f_.routing.chosen, .codec = codec_};
    return g_.emit(kExpertLinear, attributes, in, c_.name + name);
  }

  const RouterContext& c_;
  const FeedForward& f_;
  Graph& g_;
  ValueId gates_ = kNone, tokens_ = kNone, offsets_ = kNone;
  const Codec* codec_ = nullptr;
};

}  // namespace

RoutedFfn add_routed_ffn(const RouterContext& context, const FeedForward& ffn, ValueId stream) {
  return Builder(context, ffn).build(stream);
}

}  // namespace thimble
