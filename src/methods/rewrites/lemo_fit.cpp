// The fit of LeMo's predictors: ridge regression on the moments of features and informativeness.
//
//   Fit    (C + ridge I) w = c, with C the covariances of the features and c theirs with y
//   Score  w (z - mean z) / (standard deviation of w z)
#include <cmath>
#include <utility>

#include "core/count.h"
#include "methods/rewrites/lemo.h"

namespace thimble {

std::vector<std::pair<int64_t, int64_t>> lemo_moments(int64_t features) {
  std::vector<std::pair<int64_t, int64_t>> out;
  for (int64_t i = 0; i < features + 2; ++i)
    for (int64_t j = i; j < features + 2; ++j) out.emplace_back(i, j);
  return out;
}

namespace {

constexpr double kRidge = 1e-3;  // of the mean variance of the features

struct Fit {
  std::vector<double> factors;
  double constant = 0, explained = 0;
};

// Solves a x = b, a [n, n] symmetric and positive definite, by Cholesky's method; nothing where it is not.
std::vector<double> solve(std::vector<double> a, std::vector<double> b) {
  const size_t n = b.size();
  for (size_t i = 0; i < n; ++i)
    for (size_t j = 0; j <= i; ++j) {
      double sum = a[i * n + j];
      for (size_t k = 0; k < j; ++k) sum -= a[i * n + k] * a[j * n + k];
      if (i == j && !(sum > 0)) return {};
      a[i * n + j] = i == j ? std::sqrt(sum) : sum / a[j * n + j];
    }
  for (size_t i = 0; i < n; ++i) {
    for (size_t k = 0; k < i; ++k) b[i] -= a[i * n + k] * b[k];
    b[i] /= a[i * n + i];
  }
  for (size_t i = n; i-- > 0;) {
    for (size_t k = i + 1; k < n; ++k) b[i] -= a[k * n + i] * b[k];
    b[i] /= a[i * n + i];
  }
  return b;
}

Result<Fit> fit(const std::vector<float>& moments, int64_t features) {
  const auto n = static_cast<size_t>(features);
  std::vector<double> m((n + 2) * (n + 2));
  for (size_t at = 0; const auto& [i, j] : lemo_moments(features)) {
    const auto row = static_cast<size_t>(i), column = static_cast<size_t>(j);
    m[row * (n + 2) + column] = m[column * (n + 2) + row] = double{moments[at++]};
  }
  const double count = m[n * (n + 2) + n];
  const auto mean = [&](size_t i) { return m[i * (n + 2) + n] / count; };
  const auto covariance = [&](size_t i, size_t j) { return m[i * (n + 2) + j] / count - mean(i) * mean(j); };
  std::vector<double> a(n * n), b(n);
  double variance = 0;
  for (size_t i = 0; i < n; ++i) variance += covariance(i, i) / static_cast<double>(n);
  for (size_t i = 0; i < n; ++i) {
    b[i] = covariance(i, n + 1);
    for (size_t j = 0; j < n; ++j) a[i * n + j] = covariance(i, j) + (i == j ? kRidge * variance : 0);
  }
  Fit out{.factors = solve(a, b)};
  double spread = 0, shared = 0;
  for (size_t i = 0; i < out.factors.size(); ++i) {
    shared += out.factors[i] * b[i];
    for (size_t j = 0; j < n; ++j) spread += out.factors[i] * covariance(i, j) * out.factors[j];
  }
  if (!(count > 0 && spread > 0 && std::isfinite(spread)))
    return fail(
        ErrorCode::invalid_argument,
        "no predictor can be fitted to so little, or so uniform, text as the first windows of the data have; give "
        "a larger lemo.windows, fewer lemo.features, or --set lemo.windows=0, so that tokens are left out evenly");
  out.explained = 1 - (covariance(n + 1, n + 1) - 2 * shared + spread) / covariance(n + 1, n + 1);
  for (size_t i = 0; i < n; ++i) out.factors[i] /= std::sqrt(spread), out.constant -= out.factors[i] * mean(i);
  return out;
}

Result<std::string> settle(const Settling::Measured& measured, std::map<std::string, AdaptedModule>& modules) {
  OptionValues& options = modules.begin()->second.options;
  std::map<int, const std::vector<float>*> by_block;
  for (const auto& [name, moments] : measured) by_block[std::stoi(name.substr(name.rfind('.') + 1))] = &moments;
  std::vector<double> numbers;
  double least = 1, most = 0;
  for (const auto& [block, moments] : by_block) {
    Fit one = TRY(fit(*moments, static_cast<int64_t>(options["features"])));
    one.factors.push_back(one.constant);
    for (const double number : one.factors) numbers.push_back(std::round(number / kLemoUnit));
    least = std::min(least, one.explained), most = std::max(most, one.explained);
  }
  CHECK_OK(options.set(kLemo.name, kLemoPredictor, std::move(numbers)));
  return fmt::format(
      "{} say which tokens a block leaves out, {:.0f} % of them; of how much attention tokens have they explain {:.0f} "
      "to {:.0f} % on the windows that they were fitted to",
      counted(std::ssize(by_block), "predictor"), 100 * (1 - options["keep"]), 100 * least, 100 * most);
}

}  // namespace

const Settling kLemoSettling = {
    .windows =
        [](const OptionValues& o) { return o.list(kLemoPredictor).empty() ? static_cast<int64_t>(o["windows"]) : 0; },
    .settle = settle};

}  // namespace thimble
