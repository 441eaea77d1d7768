// What this machine does in a second, measured once and kept in the user's cache folder (XDG_CACHE_HOME/thimble, by
// default ~/.cache/thimble): plans are then the same from run to run, whatever else the machine is doing.
#pragma once

#include <string>

#include "plan/machine.h"

namespace thimble {

enum class Measure {
  missing,  // what the cache does not know
  anew,     // everything
  no_disk   // what the cache does not know, but nothing is written to a disk: its speed may be a guess
};

// folder: of the disk tier, made on demand; empty: the disk's speed is not asked for. Measuring takes a second. A cache
// that cannot be read or written is done without.
Machine calibrated_machine(Threads& threads, const std::string& folder, Measure measure = Measure::missing);

// The user's cache folder of this program, and the file of measurements in it; "" where the user has no such place.
std::string cache_folder();
std::string calibration_path();

}  // namespace thimble
