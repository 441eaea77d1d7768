// embedding: y[i] = table[first + ids[i]], decoded from whatever codec the table is in.
//
//   Gradient  dtable[first + ids[i]] += dy[i], rows in order
#include "ops/backward.h"
#include "ops/rows.h"
#include "ops/shape_rule.h"
#include "ops/table.h"
#include "ops/tangents.h"

namespace thimble {
namespace {

int64_t first_of(const std::any& any) { return std::any_cast<EmbeddingAttributes>(&any)->first; }

Result<std::vector<Type>> infer(const std::any& attributes, std::span<const Type> in) {
  CHECK_OK(expect_operands("embedding", in, 2));
  CHECK_OK(expect_indices("embedding", "ids", in[0]));
  CHECK_OK(expect_rank("embedding", "table", in[1], 2));
  if (first_of(attributes) < 0 || first_of(attributes) >= in[1].shape[0])
    return fail(ErrorCode::shape, "embedding: the first row should be one of the table's {}, found {}", in[1].shape[0],
                first_of(attributes));
  return std::vector{
      Type{{in[0].shape[0], in[1].shape[1]}, std::any_cast<EmbeddingAttributes>(&attributes)->codec, in[0].extent}};
}

int64_t workspace(const std::any&, std::span<const Type> in, std::span<const Type>, Multiply, int threads) {
  return row_buffer_bytes(in[1].shape[1], 1, threads);
}

void run(const Call& call) noexcept {
  const int64_t width = call.in[1].shape[1];
  call.run.threads.split(call.in[0].shape[0], 1, [&](int64_t begin, int64_t end, int thread) {
    for (int64_t i = begin; i < end; ++i)
      write_row(call.out[0], i, width,
                read_row(call.in[1], first_of(call.attributes) + call.in[0].as<int32_t>()[i], width,
                         row_buffer(call, width, 1, thread, 0)));
  });
}

[[gnu::cold]] void reference(const ReferenceCall& call) {
  const int64_t width = call.in[1].shape[1];
  for (int64_t i = 0; i < call.in[0].shape[0]; ++i)
    for (int64_t j = 0; j < width; ++j)
      call.out[0][i * width + j] =
          call.in[1][(first_of(call.attributes) + static_cast<int64_t>(call.in[0][i])) * width + j];
}

Result<void> gradient(Backward& backward, const Node& node) {
  const ValueId dy = backward.gradient_of(node.out[0]);
  if (dy != kNone && backward.wanted(node.in[1])) backward.accumulate_lookup(node.in[1], node, dy);
  return {};
}

Cost cost(const std::any&, std::span<const Type>, std::span<const Type> out) {
  return {.bytes = 2.0 * static_cast<double>(out[0].bytes())};
}

[[gnu::cold]] std::vector<Sample> samples() {
  return {{EmbeddingAttributes{}, {Type{{5}, &kI32}, Type{{7, 6}}}, {{3, 0, 6, 3, 1}}},
          {EmbeddingAttributes{&kBf16}, {Type{{3}, &kI32}, Type{{9, 64}, &kF16}}, {{8, 8, 2}}},
          {EmbeddingAttributes{&kF32, 2}, {Type{{3}, &kI32}, Type{{9, 6}}}, {{6, 0, 2}}}};
}

Result<std::vector<Type>> infer_grad(const std::any&, std::span<const Type> in) {
  CHECK_OK(expect_operands("embedding_grad", in, 3));
  CHECK_OK(expect_rank("embedding_grad", "accumulator", in[0], 2));
  CHECK_OK(expect_f32("embedding_grad", "accumulator", in[0]));
  CHECK_OK(expect_indices("embedding_grad", "ids", in[1]));
  CHECK_OK(expect_shape("embedding_grad", "dy", in[2], {in[1].shape[0], in[0].shape[1]}));
  return std::vector{Type{in[0].shape, &kF32}};
}

void run_grad(const Call& call) noexcept {
  const int64_t width = call.in[0].shape[1];
  add_rows(call.run.threads, call.out[0].as<float>() + first_of(call.attributes) * width,
           call.in[1].as<const int32_t>(), call.in[2], 0, call.in[1].shape[0], width,
           reinterpret_cast<float*>(call.workspace.data()));
}

int64_t workspace_grad(const std::any&, std::span<const Type> in, std::span<const Type>, Multiply, int threads) {
  return row_buffer_bytes(in[0].shape[1], 1, threads);
}

[[gnu::cold]] void reference_grad(const ReferenceCall& call) {
  const int64_t width = call.in[0].shape[1];
  for (int64_t i = 0; i < call.in[0].shape.count(); ++i) call.out[0][i] = call.in[0][i];
  for (int64_t i = 0; i < call.in[1].shape[0]; ++i)
    for (int64_t j = 0; j < width; ++j)
      call.out[0][(first_of(call.attributes) + static_cast<int64_t>(call.in[1][i])) * width + j] +=
          call.in[2][i * width + j];
}

Cost cost_grad(const std::any&, std::span<const Type> in, std::span<const Type>) {
  return {.bytes = 3.0 * static_cast<double>(in[2].bytes())};
}

[[gnu::cold]] std::vector<Sample> samples_grad() {
  return {{EmbeddingAttributes{}, {Type{{7, 33}}, Type{{5}, &kI32}, Type{{5, 33}, &kBf16}}, {{}, {3, 0, 6, 3, 3}}},
          {EmbeddingAttributes{&kF32, 2}, {Type{{7, 6}}, Type{{3}, &kI32}, Type{{3, 6}}}, {{}, {3, 0, 4}}}};
}

std::string text(const std::any& any) {
  const std::string_view codec = std::any_cast<EmbeddingAttributes>(&any)->codec->name;
  return first_of(any) > 0 ? fmt::format("{{{} from {}}}", codec, first_of(any)) : fmt::format("{{{}}}", codec);
}

constexpr InPlace kAccumulates[] = {{0, 0, true}};

}  // namespace

const Op kEmbedding = {.name = "embedding",
                       .infer = infer,
                       .text = text,
                       .gradient = gradient,
                       .tangent = linear_tangent<1>,
                       .workspace = workspace,
                       .cost = cost,
                       .reference = reference,
                       .run = run,
                       .samples = samples};
const Op kEmbeddingGrad = {.name = "embedding_grad",
                           .infer = infer_grad,
                           .text = text,
                           .workspace = workspace_grad,
                           .cost = cost_grad,
                           .reference = reference_grad,
                           .run = run_grad,
                           .samples = samples_grad,
                           .in_place = kAccumulates};

}  // namespace thimble
