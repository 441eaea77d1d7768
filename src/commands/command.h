// The commands of the `thimble` binary: one file each, one row of the table in main.cpp.
#pragma once

#include <functional>

#include "core/result.h"

namespace thimble {

class FlagSet;

struct Command {
  const char* name;
  const char* summary;
  // Adds its flags to `command`; returns what to run when the command was chosen.
  std::function<Result<void>()> (*add)(FlagSet& command);
  bool computes = false;  // with kernels: it has --isa
};

extern const Command kFinetune;
extern const Command kTrain;
extern const Command kPlan;
extern const Command kChat;
extern const Command kEval;
extern const Command kGenerate;
extern const Command kCompare;
extern const Command kReport;
extern const Command kCalibrate;
extern const Command kTokenize;
extern const Command kRender;
extern const Command kData;
extern const Command kConvert;
extern const Command kPrune;
extern const Command kQuantize;
extern const Command kCut;
extern const Command kRecover;
extern const Command kInspect;
extern const Command kPull;
extern const Command kMethods;

}  // namespace thimble
