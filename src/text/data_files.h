// Which files --data means.
#pragma once

#include <string>
#include <vector>

#include "core/result.h"

namespace thimble {

// What a data set is for; in a folder that has files for each, those of the others are left out.
enum class DataPart { train, evaluate };

// `spec`: paths with a line feed or, where no file has that name, a comma between them. A path may be a file, a pattern
// (*, ?, [...]; patterns that match nothing are refused) or a folder: its files of data, and those below, in the order
// of their names, without hidden files and README, LICENSE and the like. A folder with files train* and valid*, dev*,
// val* or test* is a split data set: train takes the first, evaluate valid* or else test*.
Result<std::vector<std::string>> data_files(const std::string& spec, DataPart part);

}  // namespace thimble
