// Local learning (LocalModules in methods/estimator.h): the blocks of a model are cut into modules. Behind each but the
// last a loss of its own is read, through the model's last norm and head, and what goes on to the next module carries
// no gradient back. Each module's backward pass follows its loss at once, so that activations of one module at a time
// are kept.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "models/build.h"
#include "plan/gradients.h"

namespace thimble {

// What the loss of module m is called, from 1, where the model's is called `loss`.
std::string module_loss_name(std::string_view loss, int64_t module);

// Before the names of an auxiliary network's blocks: the average of the next block, and what learns beside it.
inline constexpr const char* kAverage = "man.average.";
inline constexpr const char* kBeside = "man.beside.";

// Cuts the model in the graph, whose loss is the result of that name; ids of `model` change. Errors where a
// technique runs beside the model, and where modules of this kind have no use for the objective.
Result<void> cut_into_modules(const TrainingSpec& spec, const BuildOptions& options, const std::string& loss,
                              Graph& graph, BuiltModel& model);

// Adds what techniques lose beside the objective to the losses of the modules whose layers lose it; what is left is of
// the last module, whose loss is the model's. Ids of the graph change.
std::vector<ValueId> add_to_modules(std::span<const ValueId> losses, double share, Graph& graph);

// Of a graph with such modules, whose last loss is read from `losses`: the backward pass of each behind its loss.
// Errors where a value that modules share has a gradient but is no parameter, and where nothing of what predicts
// trains.
Result<Gradients> backward_by_modules(const TrainingSpec& spec, std::span<const ValueId> trained,
                                      std::span<const ValueId> losses, Graph& graph);

// Emits the step of the averages of auxiliary networks, e <- momentum e + (1 - momentum) w, and returns their names.
std::vector<std::string> average_blocks(double momentum, Graph& graph);

}  // namespace thimble
