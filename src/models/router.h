// The router socket: which experts of a mixture a token goes to, and with what weight. A router is one file in routers/
// and one row of the table in router.cpp.
//
// A router makes gates, f32 [tokens, experts]: what an expert's result is multiplied with, 0 where a token does not go
// there, and not 0 in at most `chosen` experts of a token. What is made of them (places, products, sums) is the same
// for all routers (routed_ffn.h).
#pragma once

#include <functional>
#include <string>
#include <string_view>

#include "graph/graph.h"
#include "models/architecture.h"

namespace thimble {

struct RouterContext {
  Graph& graph;
  const Routing& routing;
  std::string name;     // of the FFN: "model.layers.3.mlp."
  ValueId x = kNone;    // what experts read, [tokens, width]
  ValueId ids = kNone;  // i32 [tokens]
  int64_t vocab = 0;
  bool trains = false;  // capacity and balance count
  std::function<ValueId(const std::string& name)> weight;

  ValueId scores() const;  // x times "router.weight" in f32, [tokens, experts]
};

struct Routes {
  ValueId gates = kNone;    // f32 [tokens, experts]
  ValueId balance = kNone;  // f32 [tokens]: a loss of every token, where the model trains; kNone: there is none
};

struct Router {
  std::string_view name;
  std::string_view summary;  // one line
  std::string_view paper;
  bool learnt = true;  // has a matrix "router.weight" [experts, width]
  // What a new model may say otherwise: how many experts a token has, the bound of an expert, the weight of the loss
  // that balances them.
  bool any_chosen = false, bounded = false, balanced = false;
  int64_t chosen = 1;
  double capacity = 0, balance = 0;
  Routes (*routes)(const RouterContext& context);
};

std::span<const Router* const> routers();
const Router* find_router(std::string_view name);  // nullptr: there is none

// balance x experts x sum over experts of (part of the granule's tokens that choose it) x (probability of the token);
// its mean over tokens is the loss of Fedus et al. 2022, equation 4. kNone where nothing trains or balance is 0.
ValueId balance_loss(const RouterContext& context, ValueId probabilities);

extern const Router kSwitchRouter, kHashRouter, kTopKRouter, kSoftmaxTopKRouter;

}  // namespace thimble
