// replace_rows: rows of some tokens are those of a small table; the others stay.
//
//   Gradient  of the table: sums of dy over the rows of each token, in order; of the rows: dy, zeros at the tokens
#include <algorithm>
#include <cstring>

#include "ops/backward.h"
#include "ops/matrix.h"
#include "ops/rows.h"
#include "ops/shape_rule.h"
#include "ops/table.h"
#include "ops/tangents.h"

namespace thimble {
namespace {

const ReplaceRowsAttributes& of(const std::any& attributes) {
  return *std::any_cast<ReplaceRowsAttributes>(&attributes);
}

// Row of the table, or -1.
int64_t slot_of(const ReplaceRowsAttributes& a, int64_t token) {
  const auto found = std::find(a.tokens.begin(), a.tokens.end(), token);
  return found == a.tokens.end() ? -1 : found - a.tokens.begin();
}

Result<void> expect_table(const char* op, const char* operand, const ReplaceRowsAttributes& a, const Type& type) {
  CHECK_OK(expect_rank(op, operand, type, 2));
  CHECK_OK(expect_f32(op, operand, type));
  if (type.shape[0] == static_cast<int64_t>(a.tokens.size())) return {};
  return fail(ErrorCode::shape, "{}: {} {} is for {} tokens", op, operand, type.shape.text(), a.tokens.size());
}

// in: x, ids, table
Result<std::vector<Type>> infer(const std::any& any, std::span<const Type> in) {
  CHECK_OK(expect_operands("replace_rows", in, 3));
  CHECK_OK(expect_rank("replace_rows", "x", in[0], 2));
  CHECK_OK(expect_numbers("replace_rows", "x", in[0]));
  CHECK_OK(expect_indices("replace_rows", "ids", in[1], in[0].shape[0]));
  CHECK_OK(expect_table("replace_rows", "table", of(any), in[2]));
  CHECK_OK(expect_shape("replace_rows", "table", in[2], {in[2].shape[0], in[0].shape[1]}));
  return std::vector{Type{in[0].shape, of(any).codec, in[0].extent}};
}

int64_t workspace(const std::any&, std::span<const Type> in, std::span<const Type>, Multiply, int threads) {
  return row_buffer_bytes(in[0].shape[1], 1, threads);
}

void run(const Call& call) noexcept {
  const int64_t n = call.in[0].shape[1];
  const int32_t* const ids = call.in[1].as<const int32_t>();
  call.run.threads.split(call.in[0].shape[0], 1, [&](int64_t begin, int64_t end, int thread) {
    float* const buffer = row_buffer(call, n, 1, thread, 0);
    for (int64_t r = begin; r < end; ++r) {
      const int64_t slot = slot_of(of(call.attributes), ids[r]);
      const float* const row = slot < 0 ? read_row(call.in[0], r, n, buffer) : call.in[2].as<const float>() + slot * n;
      write_row(call.out[0], r, n, row);
    }
  });
}

[[gnu::cold]] void reference(const ReferenceCall& call) {
  const int64_t n = call.in[0].shape[1];
  for (int64_t r = 0; r < call.in[0].shape[0]; ++r) {
    const int64_t slot = slot_of(of(call.attributes), static_cast<int64_t>(call.in[1][r]));
    for (int64_t j = 0; j < n; ++j)
      call.out[0][r * n + j] = slot < 0 ? call.in[0][r * n + j] : call.in[2][slot * n + j];
  }
}

// The operation is linear in both.
Result<void> tangent(Tangents& tangents, const Node& node) {
  Graph& g = tangents.graph();
  const std::string name = tangents.name(node.out[0]);
  std::vector<ValueId> in = node.in;
  for (const size_t i : {size_t{0}, size_t{2}}) {
    const ValueId moved = tangents.of(node.in[i]);
    in[i] =
        moved != kNone ? moved : g.emit(kZeros, ZerosAttributes{g.value(node.in[i]).type.shape}, {}, name + ".zero");
  }
  tangents.set(node.out[0], g.emit(kReplaceRows, node.attributes, in, name));
  return {};
}

Result<void> gradient(Backward& backward, const Node& node) {
  const ValueId dy = backward.gradient_of(node.out[0]), x = node.in[0], table = node.in[2];
  if (dy == kNone) return {};
  ReplaceRowsAttributes attributes = of(node.attributes);
  Graph& graph = backward.graph();
  const ValueId ids = backward.saved(node.in[1]);
  if (backward.wanted(table)) backward.accumulate(table, kReplaceRowsGrad, attributes, {ids, dy}, ".sum");
  if (!backward.wanted(x)) return {};
  attributes.codec = graph.value(x).type.codec;
  const ValueId zeros =
      graph.emit(kZeros, ZerosAttributes{graph.value(table).type.shape}, {}, backward.name(x) + ".zeros");
  backward.add(x, graph.emit(kReplaceRows, attributes, {dy, ids, zeros}, backward.name(x)));
  return {};
}

std::string text(const std::any& any) {
  std::string out = "{";
  for (const int64_t token : of(any).tokens) out += fmt::format("{}{}", out.size() > 1 ? " " : "", token);
  return out + "}";
}

[[gnu::cold]] std::vector<Sample> samples() {
  return {{ReplaceRowsAttributes{{7, 2}}, {Type{{5, 3}}, Type{{5}, &kI32}, Type{{2, 3}}}, {{}, {1, 2, 7, 2, 0}, {}}},
          {ReplaceRowsAttributes{{3}, &kBf16},
           {Type{{4, 33}, &kBf16}, Type{{4}, &kI32}, Type{{1, 33}}},
           {{}, {3, 4, 5, 3}, {}}}};
}

// in: accumulator, ids, dy
Result<std::vector<Type>> infer_grad(const std::any& any, std::span<const Type> in) {
  CHECK_OK(expect_operands("replace_rows_grad", in, 3));
  CHECK_OK(expect_table("replace_rows_grad", "accumulator", of(any), in[0]));
  CHECK_OK(expect_rank("replace_rows_grad", "dy", in[2], 2));
  CHECK_OK(expect_numbers("replace_rows_grad", "dy", in[2]));
  CHECK_OK(expect_indices("replace_rows_grad", "ids", in[1], in[2].shape[0]));
  CHECK_OK(expect_shape("replace_rows_grad", "accumulator", in[0], {in[0].shape[0], in[2].shape[1]}));
  return std::vector{Type{in[0].shape}};
}

int64_t workspace_grad(const std::any&, std::span<const Type> in, std::span<const Type>, Multiply, int threads) {
  return row_buffer_bytes(in[2].shape[1], 1, threads);
}

// Threads share the rows of the table; each goes through all of dy.
void run_grad(const Call& call) noexcept {
  const ReplaceRowsAttributes& a = of(call.attributes);
  const int64_t n = call.in[2].shape[1], rows = call.in[2].shape[0];
  const int32_t* const ids = call.in[1].as<const int32_t>();
  call.run.threads.split(call.out[0].shape[0], 1, [&](int64_t begin, int64_t end, int thread) {
    for (int64_t slot = begin; slot < end; ++slot)
      for (int64_t r = 0; r < rows; ++r)
        if (ids[r] == a.tokens[static_cast<size_t>(slot)])
          add_scaled(call.out[0].as<float>() + slot * n, read_row(call.in[2], r, n, row_buffer(call, n, 1, thread, 0)),
                     1, n);
  });
}

[[gnu::cold]] void reference_grad(const ReferenceCall& call) {
  const int64_t n = call.in[2].shape[1];
  for (int64_t i = 0; i < call.in[0].shape.count(); ++i) call.out[0][i] = call.in[0][i];
  for (int64_t r = 0; r < call.in[2].shape[0]; ++r) {
    const int64_t slot = slot_of(of(call.attributes), static_cast<int64_t>(call.in[1][r]));
    for (int64_t j = 0; slot >= 0 && j < n; ++j) call.out[0][slot * n + j] += call.in[2][r * n + j];
  }
}

[[gnu::cold]] std::vector<Sample> samples_grad() {
  return {
      {ReplaceRowsAttributes{{7, 2}}, {Type{{2, 3}}, Type{{5}, &kI32}, Type{{5, 3}}}, {{}, {1, 2, 7, 2, 0}, {}}},
      {ReplaceRowsAttributes{{3}}, {Type{{1, 33}}, Type{{4}, &kI32}, Type{{4, 33}, &kBf16}}, {{}, {3, 4, 5, 3}, {}}}};
}

constexpr InPlace kAccumulates[] = {{0, 0, true}};

}  // namespace

const Op kReplaceRows = {.name = "replace_rows",
                         .infer = infer,
                         .text = text,
                         .gradient = gradient,
                         .tangent = tangent,
                         .workspace = workspace,
                         .cost = pointwise_cost,
                         .reference = reference,
                         .run = run,
                         .samples = samples};
const Op kReplaceRowsGrad = {.name = "replace_rows_grad",
                             .infer = infer_grad,
                             .text = text,
                             .workspace = workspace_grad,
                             .cost = pointwise_cost,
                             .reference = reference_grad,
                             .run = run_grad,
                             .samples = samples_grad,
                             .in_place = kAccumulates};

}  // namespace thimble
