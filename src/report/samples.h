// Replies before and after training, as a section of the report.
#pragma once

#include <string>
#include <vector>

#include "report/page.h"

namespace thimble {

// Whether the files are there and hold samples; at most two are taken.
Result<void> check_samples(const std::vector<std::string>& files);

// The section; nothing when there are no files.
void write_samples(Page& page, const std::vector<std::string>& files);

}  // namespace thimble
