// Values of a technique that begin with what is computed from the model's weights (Rewrite::begin), where no file has
// filled them.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "models/model_source.h"
#include "run/weights.h"

namespace thimble {

// Works in memory that `values` has to spare; over_budget where a row of a weight does not fit that. `before_each`
// layer: how many are done, and how many there are; its error ends the work.
Result<void> begin_from_weights(std::span<const RewriteSpec> stack, std::span<const AdapterTensor> tensors,
                                const ModelSource& source, Threads& threads, Values& values, const Loaded& loaded,
                                const std::function<Result<void>(int64_t done, int64_t layers)>& before_each = {});

// What that takes at least: the techniques that need whole weights say what is planned for them.
Result<int64_t> begin_bytes(std::span<const RewriteSpec> stack, const ModelSource& source);

// Of one layer, or of all that are one of the file, by suffix; `spare` is at least as large as begin_bytes() says.
using Begun = std::map<std::string, std::vector<float>, std::less<>>;
Result<Begun> begin_of(const Rewrite& technique, const AdaptedModule& module, const ModelSource& source,
                       Threads& threads, std::span<std::byte> spare);
// What a technique measures of a layer's weight (Settling::of_weight), in memory that is given back. over_budget where
// that does not fit `most` bytes.
Result<std::vector<float>> measure_weight(const Rewrite& technique, const AdaptedModule& module,
                                          const ModelSource& source, Threads& threads, int64_t most);
// Elements [first, first + to.size()) of this tensor of the layer, of a value of that shape; false: it is another
// layer's, or no derived one.
bool read_begun(const Begun& begun, const AdaptedModule& module, const AdapterTensor& tensor, const Shape& shape,
                int64_t first, std::span<float> to);
// Whether its derived values are made of some rows of the weight for the same rows of them; else of the whole weight.
bool begins_by_rows(const Rewrite& technique, const AdaptedModule& module);

}  // namespace thimble
