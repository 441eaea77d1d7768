// svd: the largest singular triplets of a matrix, in double: by the eigenvectors of its products of rows (or columns,
// whichever are fewer), and then by one-sided Jacobi rotations, which make exact what squaring has lost.
//
//   Source    Hestenes 1958; Golub and Van Loan, Matrix Computations, 4th ed., section 8.6.3; the largest vectors first
//             (de Rijk 1989)
//   Order     vectors are turned in the rounds of a tournament: the pairs of a round share no vector, and threads share
//             the pairs
//   Ends      when no two vectors of a sweep were further from orthogonal than kOrthogonal, after 40 sweeps at most
//   Gradient  none: bases are not differentiated
#include <algorithm>
#include <cmath>
#include <numeric>

#include "ops/matrix.h"
#include "ops/rows.h"
#include "ops/shape_rule.h"
#include "ops/symmetric.h"

namespace thimble {
namespace {

constexpr int kMostSweeps = 40;
constexpr double kOrthogonal = 1e-12;  // of the product of two lengths
constexpr double kNothing = 1e-12;     // singular values that are so small beside the largest have no vectors

int64_t count_of(const std::any& attributes) { return std::any_cast<SvdAttributes>(&attributes)->count; }

Result<std::vector<Type>> infer(const std::any& any, std::span<const Type> in) {
  CHECK_OK(expect_operands("svd", in, 1));
  CHECK_OK(expect_rank("svd", "a", in[0], 2));
  const int64_t m = in[0].shape[0], n = in[0].shape[1], count = count_of(any);
  if (count < 1 || count > std::min(m, n))
    return fail(ErrorCode::shape, "svd: a {} has {} singular values, asked for {}", in[0].shape.text(), std::min(m, n),
                count);
  return std::vector{Type{{m, count}}, Type{{count}}, Type{{count, n}}};
}

// `few` vectors of `length` elements: the columns of a, or its rows.
struct Memory {
  int64_t few, length;
  double *vectors, *squares;  // [few, length]; [few]
  int64_t* order;             // players of the tournament, then vectors by length
  char* turned;               // by pair of a round
  static int64_t players(int64_t few) { return few + few % 2; }
  static int64_t bytes(const Shape& a) {
    const int64_t few = std::min(a[0], a[1]);
    return 8 * (few * std::max(a[0], a[1]) + few + players(few)) + (players(few) + 63) / 64 * 64;
  }
  Memory(std::byte* base, const Shape& a) : few(std::min(a[0], a[1])), length(std::max(a[0], a[1])) {
    vectors = reinterpret_cast<double*>(base), squares = vectors + few * length;
    order = reinterpret_cast<int64_t*>(squares + few);
    turned = reinterpret_cast<char*>(order + players(few));
  }
};

// Makes two vectors orthogonal; returns whether they were not.
bool turn(const Memory& m, int64_t p, int64_t q, double floor) noexcept {
  double *x = m.vectors + p * m.length, *y = m.vectors + q * m.length;
  const double xy = dot(x, y, m.length), xx = m.squares[p], yy = m.squares[q];
  if (std::abs(xy) <= kOrthogonal * std::max(std::sqrt(xx * yy), floor)) return false;
  const double tau = (yy - xx) / (2 * xy);
  const double t = (tau >= 0 ? 1 : -1) / (std::abs(tau) + std::sqrt(1 + tau * tau));
  const double c = 1 / std::sqrt(1 + t * t), s = t * c;
  rotate(x, y, c, s, m.length);
  m.squares[p] = dot(x, x, m.length), m.squares[q] = dot(y, y, m.length);
  return true;
}

constexpr int64_t kColumns = 64;  // of the vectors, that are turned together

int64_t precondition_bytes(const Shape& a, int threads) {
  const int64_t few = std::min(a[0], a[1]);
  return SymmetricMemory::bytes(few) + 8 * threads * few * kColumns;
}

// The vectors become combinations of themselves that are orthogonal but for rounding of their squares.
template <class Split>
void precondition(const Memory& m, Threads& threads, std::byte* workspace, const Split& split) noexcept {
  const int64_t few = m.few, length = m.length;
  const SymmetricMemory squares(workspace, few);
  double* const rooms = reinterpret_cast<double*>(workspace + SymmetricMemory::bytes(few));
  split(few, 2 * few * length, [&](int64_t i) {
    for (int64_t j = 0; j < few; ++j)
      squares.a[i * few + j] = dot(m.vectors + std::min(i, j) * length, m.vectors + std::max(i, j) * length, length);
  });
  solve_symmetric(squares, few, split);
  threads.split((length + kColumns - 1) / kColumns, 1, [&](int64_t begin, int64_t end, int thread) {
    double* const room = rooms + thread * few * kColumns;
    for (int64_t part = begin; part < end; ++part) {
      const int64_t from = part * kColumns, count = std::min(kColumns, length - from);
      for (int64_t i = 0; i < few; ++i) {
        std::copy_n(m.vectors + i * length + from, count, room + i * kColumns);
        std::fill_n(m.vectors + i * length + from, count, 0.0);
      }
      for (int64_t i = 0; i < few; ++i)
        for (int64_t j = 0; j < few; ++j)
          add_scaled(m.vectors + i * length + from, room + j * kColumns, squares.vectors[squares.order[i] * few + j],
                     count);
    }
  });
}

template <class Split>
void solve(const Memory& m, const Split& split) noexcept {
  const int64_t players = Memory::players(m.few), pairs = players / 2;
  double all = 0;
  for (int64_t i = 0; i < m.few; ++i) {
    m.squares[i] = dot(m.vectors + i * m.length, m.vectors + i * m.length, m.length);
    all = std::max(all, m.squares[i]);
  }
  std::iota(m.order, m.order + players, int64_t{0});
  std::stable_sort(m.order, m.order + m.few, [&](int64_t x, int64_t y) { return m.squares[x] > m.squares[y]; });
  for (int sweep = 0; sweep < kMostSweeps; ++sweep) {
    bool any = false;
    for (int64_t round = 0; round + 1 < players; ++round) {
      split(pairs, 12 * m.length, [&](int64_t i) {
        const int64_t p = std::min(m.order[i], m.order[players - 1 - i]);
        const int64_t q = std::max(m.order[i], m.order[players - 1 - i]);
        m.turned[i] = q < m.few && turn(m, p, q, kNothing * kNothing * all);
      });
      any |= std::any_of(m.turned, m.turned + pairs, [](char turned) { return turned != 0; });
      std::rotate(m.order + 1, m.order + players - 1, m.order + players);  // the first stays, the others move on
    }
    if (!any) break;
  }
  std::iota(m.order, m.order + m.few, int64_t{0});
  std::stable_sort(m.order, m.order + m.few, [&](int64_t x, int64_t y) { return m.squares[x] > m.squares[y]; });
}

int64_t buffer_bytes(const Shape& a, int64_t count) {
  return row_buffer_bytes(a[1], 1, 1) + 8 * count * std::min(a[0], a[1]);
}

int64_t workspace(const std::any& any, std::span<const Type> in, std::span<const Type>, Multiply, int threads) {
  return Memory::bytes(in[0].shape) +
         std::max(buffer_bytes(in[0].shape, count_of(any)), precondition_bytes(in[0].shape, threads));
}

// Rows of a as the vectors, or spread over them.
void read(const Memory& m, const Operand& a, float* buffer) noexcept {
  const int64_t rows = a.shape[0], columns = a.shape[1];
  for (int64_t i = 0; i < rows; ++i) {
    const float* const row = read_row(a, i, columns, buffer);
    for (int64_t j = 0; j < columns; ++j)
      (rows <= columns ? m.vectors[i * columns + j] : m.vectors[j * rows + i]) = static_cast<double>(row[j]);
  }
}

// The long vector of triplet k is its turned vector; the short one has, of every row (or column) of a, the product with
// it. `short_vector` [few].
void short_side(const Memory& m, const Operand& a, int64_t k, double by, float* buffer, double* short_vector) noexcept {
  const double* const turned = m.vectors + m.order[k] * m.length;
  const int64_t rows = a.shape[0], columns = a.shape[1];
  std::fill_n(short_vector, m.few, 0.0);
  for (int64_t i = 0; i < rows; ++i) {
    const float* const row = read_row(a, i, columns, buffer);
    for (int64_t j = 0; j < columns; ++j) {
      if (rows <= columns)
        short_vector[i] += by * static_cast<double>(row[j]) * turned[j];
      else
        short_vector[j] += by * static_cast<double>(row[j]) * turned[i];
    }
  }
}

// Of v, the first element that is no smaller than the others beyond rounding is positive.
template <class Vector>
double sign_of(const Vector& v, int64_t n) noexcept {
  int64_t most = 0;
  for (int64_t i = 1; i < n; ++i)
    if (std::abs(v[i]) > std::abs(v[most]) * (1 + 1e-7)) most = i;
  return v[most] < 0 ? -1 : 1;
}

void write(const Memory& m, const Call& call, float* buffer, double* short_vector) noexcept {
  const int64_t rows = call.in[0].shape[0], columns = call.in[0].shape[1], count = count_of(call.attributes);
  const double largest = std::sqrt(m.squares[m.order[0]]);
  for (int64_t k = 0; k < count; ++k) {
    const double s = std::sqrt(m.squares[m.order[k]]);
    const bool none = !(s > kNothing * largest);
    const double* const turned = m.vectors + m.order[k] * m.length;
    short_side(m, call.in[0], k, none ? 0 : 1 / (s * s), buffer, short_vector);
    const double by = none ? 0 : 1 / s;
    const bool rows_are_short = rows <= columns;
    const double sign = rows_are_short ? sign_of(turned, columns) : sign_of(short_vector, columns);
    if (call.out[0])
      for (int64_t i = 0; i < rows; ++i)
        call.out[0].as<float>()[i * count + k] =
            static_cast<float>(sign * (rows_are_short ? short_vector[i] : by * turned[i]));
    if (call.out[1]) call.out[1].as<float>()[k] = static_cast<float>(s);
    if (call.out[2])
      for (int64_t j = 0; j < columns; ++j)
        call.out[2].as<float>()[k * columns + j] =
            static_cast<float>(sign * (rows_are_short ? by * turned[j] : short_vector[j]));
  }
}

void run(const Call& call) noexcept {
  const Shape& shape = call.in[0].shape;
  const Memory m(call.workspace.data(), shape);
  float* const buffer = reinterpret_cast<float*>(call.workspace.data() + Memory::bytes(shape));
  double* const short_vector = reinterpret_cast<double*>(buffer + row_buffer_bytes(shape[1], 1, 1) / 4);
  const auto split = [&](int64_t count, int64_t flops, const auto& each) {
    call.run.threads.split(count, 1 + kWorthAThread / flops, [&](int64_t begin, int64_t end, int) {
      for (int64_t i = begin; i < end; ++i) each(i);
    });
  };
  read(m, call.in[0], buffer);
  precondition(m, call.run.threads, call.workspace.data() + Memory::bytes(shape), split);
  solve(m, split);
  write(m, call, buffer, short_vector);
}

// Power iteration on a^T a, what was found taken away.
[[gnu::cold]] void reference(const ReferenceCall& call) {
  const int64_t m = call.in[0].shape[0], n = call.in[0].shape[1], count = count_of(call.attributes);
  std::vector<double> a(static_cast<size_t>(m * n));
  for (int64_t i = 0; i < m * n; ++i) a[static_cast<size_t>(i)] = call.in[0][i];
  for (int64_t k = 0; k < count; ++k) {
    std::vector<double> v(static_cast<size_t>(n)), u;
    for (int64_t j = 0; j < n; ++j) v[static_cast<size_t>(j)] = std::cos(static_cast<double>((k + 2) * (j + 1)));
    double s = 0;
    for (int step = 0; step < 20'000; ++step) {
      const double length = std::sqrt(std::inner_product(v.begin(), v.end(), v.begin(), 0.0));
      for (double& x : v) x /= length;
      u.assign(static_cast<size_t>(m), 0.0);
      std::vector<double> next(static_cast<size_t>(n), 0.0);
      for (int64_t i = 0; i < m; ++i)
        for (int64_t j = 0; j < n; ++j)
          u[static_cast<size_t>(i)] += a[static_cast<size_t>(i * n + j)] * v[static_cast<size_t>(j)];
      for (int64_t i = 0; i < m; ++i)
        for (int64_t j = 0; j < n; ++j)
          next[static_cast<size_t>(j)] += a[static_cast<size_t>(i * n + j)] * u[static_cast<size_t>(i)];
      s = std::sqrt(std::inner_product(u.begin(), u.end(), u.begin(), 0.0));
      double moved = 0;
      for (size_t j = 0; j < v.size(); ++j) moved = std::max(moved, std::abs(next[j] / (s * s) - v[j]));
      if (moved < 1e-13) break;
      v = next;
    }
    const double sign = sign_of(v, n);
    for (int64_t i = 0; i < m; ++i)
      for (int64_t j = 0; j < n; ++j)
        a[static_cast<size_t>(i * n + j)] -= u[static_cast<size_t>(i)] * v[static_cast<size_t>(j)];
    if (call.out[1]) call.out[1][k] = s;
    for (int64_t i = 0; call.out[0] && i < m; ++i) call.out[0][i * count + k] = sign * u[static_cast<size_t>(i)] / s;
    for (int64_t j = 0; call.out[2] && j < n; ++j) call.out[2][k * n + j] = sign * v[static_cast<size_t>(j)];
  }
}

// Some eight sweeps over all pairs.
Cost cost(const std::any&, std::span<const Type> in, std::span<const Type>) {
  const auto few = static_cast<double>(std::min(in[0].shape[0], in[0].shape[1]));
  return {.bytes = 8 * 8 * few * static_cast<double>(in[0].shape.count())};
}

std::string text(const std::any& any) { return fmt::format("{{{}}}", count_of(any)); }

[[gnu::cold]] std::vector<Sample> samples() {
  return {{SvdAttributes{2}, {Type{{3, 2}}}},
          {SvdAttributes{3}, {Type{{5, 8}}}},
          {SvdAttributes{7}, {Type{{7, 7}}}},
          {SvdAttributes{4}, {Type{{33, 6}, &kBf16}}}};
}

}  // namespace

const Op kSvd = {.name = "svd",
                 .infer = infer,
                 .text = text,
                 .workspace = workspace,
                 .cost = cost,
                 .reference = reference,
                 .run = run,
                 .samples = samples,
                 .alone = true};

}  // namespace thimble
