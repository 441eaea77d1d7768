// Values that wait on disk: their stays in memory, and the transfers between.
#pragma once

#include "disk/scratch.h"
#include "plan/schedule.h"

namespace thimble {

// Gives every value of options.disk residences of its own around its uses, replaces the operands of the steps by them,
// and adds the transfers. Uses that lie closer together than the disk could follow share one stay. The future is known,
// so a read is begun just early enough to be there in time, and the memory of a write is held just until it is done;
// both within options.eagerness.
void add_disk_stays(const Graph& graph, const GraphTables& tables, const std::vector<NodeCost>& costs,
                    const ScheduleOptions& options, Schedule& schedule);

}  // namespace thimble
