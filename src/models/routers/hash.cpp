// hash: the expert of a token is a fixed random function of its id.
//
//   Paper   Roller et al. 2021, "Hash Layers For Large Sparse Models", arXiv:2106.04426, section 3.1 (random hash)
//   Gates   1 for the expert of the id, else 0: there is nothing to learn or to balance
//   Choice  the same function in every layer, made anew from the number of experts: no file holds it. In memory it is a
//           table of 2 bytes for every id and expert
#include "core/random.h"
#include "models/router.h"
#include "ops/table.h"

namespace thimble {
namespace {

// [vocab, experts]: 1 at the expert of the id, else 0.
Initial gates_of_ids(int64_t experts) {
  const auto fill = [experts](int64_t first, int64_t count, float* to) {
    const Random random(0, "hash layer");
    for (int64_t i = first; i < first + count; ++i) {
      const uint64_t expert = random.below(static_cast<uint64_t>(i / experts), static_cast<uint64_t>(experts));
      to[i - first] = expert == static_cast<uint64_t>(i % experts) ? 1 : 0;
    }
  };
  return Initial::table(fill, fmt::format("random hash to {} experts", experts));
}

Routes routes(const RouterContext& c) {
  const std::string name = fmt::format("hash.{}.table", c.routing.experts);
  const ValueId table = c.graph.constant(name, {{c.vocab, c.routing.experts}, &kBf16}, gates_of_ids(c.routing.experts));
  return {c.graph.emit(kEmbedding, EmbeddingAttributes{&kF32}, {c.ids, table}, c.name + "gates"), kNone};
}

}  // namespace

const Router kHashRouter = {.name = "hash",
                            .summary = "the expert of a token is a fixed random function of its id",
                            .paper = "Roller et al. 2021",
                            .learnt = false,
                            .routes = routes};

}  // namespace thimble
