// What this machine does in a second, measured once and kept in the user's cache folder (XDG_CACHE_HOME/thimble, by
// default ~/.cache/thimble): plans are then the same from run to run, whatever else the machine is doing.
#pragma once

#include <string>

#include "plan/machine.h"

namespace thimble {

// folder: of the disk tier, made on demand; empty: the disk's speed is not asked for. anew: measures even what is
// known. Measuring takes a second. A cache that can not be read or written is done without.
Machine calibrated_machine(Threads& threads, const std::string& folder, bool anew = false);

// The user's cache folder of this program, and the file of measurements in it; "" where the user has no such place.
std::string cache_folder();
std::string calibration_path();

}  // namespace thimble
