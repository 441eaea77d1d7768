// Models whose modules learn by losses of their own, straight from their plans.
#pragma once

#include "plan/tiny_training.h"

namespace thimble {

// Plain gradient descent in f32 on a tiny model of so many blocks.
TrainingSpec local_spec(const Estimator& estimator, int64_t layers,
                        const std::vector<std::pair<std::string_view, double>>& options = {},
                        const Rewrite& method = kFull);

using Numbers = std::map<std::string, std::vector<float>>;

// Of every weight, those that do not train too.
Numbers weights_at_the_beginning(const TrainingSpec& spec);

// What one step leaves of every parameter, and of the results of its last pass by their names; weights of that name
// begin as `begin` says.
Numbers after_a_step(const TrainingSpec& spec, double rate, const Numbers& begin = {});

// What plain gradient descent takes for some elements of a parameter against central differences of the result `own`,
// the loss that the parameter is trained by.
void expect_gradient(const TrainingSpec& spec, const std::string& parameter, const std::string& own);

// Bytes that live where a forward pass turns into its backward pass, at most.
int64_t kept_bytes(const TrainingPlan& plan);

}  // namespace thimble
