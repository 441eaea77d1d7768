// The observer socket: which statistics of a layer's inputs a program gathers while it runs. One observer is one file
// in observers/ and one row of the table in observer.cpp.
//
// A statistic is a value like others: planned, in f32, zeros before the first pass. A pass adds to it in granules of
// 512 rows, in order, so that it has the same bits for any number of threads.
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "graph/graph.h"

namespace thimble {

struct Observer {
  std::string_view name;
  std::string_view summary;  // one line
  std::string_view paper;
  // Of inputs so wide.
  Shape (*shape)(int64_t width);
  // Emits what adds the rows of x [t, width] to the statistic, over which the result lies.
  ValueId (*add)(Graph& graph, ValueId statistic, ValueId x, const std::string& name);
};

std::span<const Observer* const> observers();

extern const Observer kColumnSquares;
extern const Observer kGram;

}  // namespace thimble
