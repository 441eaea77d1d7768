#include "methods/observer.h"

namespace thimble {

std::span<const Observer* const> observers() {
  static constexpr const Observer* kTable[] = {&kColumnSquares, &kGram};
  return kTable;
}

}  // namespace thimble
