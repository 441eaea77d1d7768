#include "methods/rewrites/kronecker.h"

namespace thimble {

ValueId selection(ModuleRewrite& m, int64_t rows, int64_t n, int64_t divisor) {
  const auto fill = [n, divisor](int64_t first, int64_t count, float* to) {
    for (int64_t e = first; e < first + count; ++e) to[e - first] = e / n / divisor % n == e % n ? 1.0f : 0.0f;
  };
  const std::string name = fmt::format("select {} of {} by {}", n, rows, divisor);
  return m.constant(name, {rows, n}, Initial::table(fill, name));
}

ValueId multiplied(ModuleRewrite& m, ValueId left, ValueId right, bool transposed, std::string name) {
  return m.graph.emit(kLinear, LinearAttributes{.terms = {{transposed, 1}}}, {left, right, kNone, kNone},
                      std::move(name));
}

}  // namespace thimble
