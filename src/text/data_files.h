// Which files --data means.
#pragma once

#include <string>
#include <vector>

#include "core/result.h"

namespace thimble {

// What a data set is for; in a folder that has files for each, those of the others are left out.
enum class DataPart { train, evaluate };

struct DataFiles {
  std::vector<std::string> paths;
  std::vector<std::string> left_out;  // files of data in a folder that are of another part, or text beside records
};

// `spec`: paths with a line feed or, where no file has that name, a comma between them. A path may be a file, a pattern
// (*, ?, [...]; patterns that match nothing are refused) or a folder: its files of data, and those below, in the order
// of their names, without hidden files and README, LICENSE and the like, and without plain text where there are
// records. A folder with files of which some are called train, and others valid, dev, val, eval or test, or lie in
// folders of these names, is a split data set: train takes the first, evaluate the validation or else the test files.
Result<DataFiles> data_files(const std::string& spec, DataPart part);

}  // namespace thimble
