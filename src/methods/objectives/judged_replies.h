// What objectives of replies that are judged one by one share.
#pragma once

#include "methods/objective.h"

namespace thimble {

inline constexpr Option kJudgedReplyOptions[] = {
    {"beta", 0.1, 0, 1e4, "how dearly a distance from the reference is paid for"},
    {"desirable_weight", 1, 0, 1e4, "of the losses of wanted replies"},
    {"undesirable_weight", 1, 0, 1e4, "of the losses of the others"},
};

// Of a reply with this label: 1 wanted, -1 not.
inline Expr reply_weight(const ObjectiveBuilder& o, const Expr& label) {
  const double wanted = o.option("desirable_weight"), unwanted = o.option("undesirable_weight");
  return unwanted + (wanted - unwanted) * greater(label, 0.0);
}

}  // namespace thimble
