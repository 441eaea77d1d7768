// One parameter and its optimizer, moved by the kernels over memory of their own, step by step as a plan would.
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <string>
#include <vector>

#include "core/threads.h"
#include "methods/optimizer.h"

namespace thimble {

class OptimizerRun {
 public:
  OptimizerRun(const Optimizer& optimizer, OptionValues options, Parameter parameter, double decay = 0,
               const Codec& states = kF32);

  // Step t from 1; clip below 0: not clipped.
  void step(double lr, int64_t t, double clip, const std::vector<float>& gradient, uint64_t seed = 0);

  // After step t: the gradient of drawn labels, of the mean loss of so many tokens.
  void measure_curvature(int64_t t, const std::vector<float>& gradient, int64_t tokens);

  std::vector<float> parameter() { return numbers("p", {parameter_.shape}); }
  void set_parameter(const std::vector<float>& values) { write("p", values); }
  std::vector<float> state(std::string_view name);
  int64_t state_bytes() const;

 private:
  std::vector<std::byte>& of(const std::string& name) { return memory_[name]; }
  void write(const std::string& name, const std::vector<float>& values);
  std::vector<float> numbers(const std::string& name, const Type& type);
  void reset(const StateSpec& state);

  Update begin(Graph& graph, bool clipped);

  void run(const Graph& graph, int64_t t, uint64_t seed);

  const Optimizer& optimizer_;
  OptionValues options_;
  Parameter parameter_;
  double decay_;
  std::vector<StateSpec> states_;
  std::map<std::string, std::vector<std::byte>> memory_;
  Threads threads_{2};
};

std::vector<float> normals(size_t count, uint64_t seed, double scale = 1);

// A matrix in double, for the equations written once more.
struct Dense {
  int64_t rows = 0, columns = 0;
  std::vector<double> at;
  Dense(int64_t r, int64_t c) : rows(r), columns(c), at(static_cast<size_t>(r * c), 0.0) {}
  Dense(int64_t r, int64_t c, const std::vector<float>& values)
      : rows(r), columns(c), at(values.begin(), values.end()) {}
  double& operator()(int64_t i, int64_t j) { return at[static_cast<size_t>(i * columns + j)]; }
  double operator()(int64_t i, int64_t j) const { return at[static_cast<size_t>(i * columns + j)]; }
  double norm() const {
    double sum = 0;
    for (double x : at) sum += x * x;
    return std::sqrt(sum);
  }
};
Dense operator*(const Dense& a, const Dense& b);
Dense transpose(const Dense& a);
void expect_near(const std::vector<float>& values, const std::vector<double>& expected, double tolerance);

// Adam's moments of a vector, with decays 0.9 and 0.999, in double.
struct AdamMoments {
  std::vector<double> m, v;
  double epsilon;
  explicit AdamMoments(size_t count, double epsilon = 1e-8) : m(count), v(count), epsilon(epsilon) {}
  // The direction of element e at step t, given its gradient.
  double step(size_t e, double g, int64_t t) {
    m[e] = 0.9 * m[e] + 0.1 * g, v[e] = 0.999 * v[e] + 0.001 * g * g;
    const double mean = m[e] / (1 - std::pow(0.9, static_cast<double>(t)));
    return mean / (std::sqrt(v[e] / (1 - std::pow(0.999, static_cast<double>(t)))) + epsilon);
  }
};

}  // namespace thimble
