// linear_distillation_dw: the gradient of the student's head, by a second pass over the vocabulary.
//
//   Paper    see linear_distillation.cpp, whose gradient emits it
//   Formula  dw_v += sum_i scale_i T (p_iv - q_iv) x_i, a granule of tokens after the other; where w is the embedding's
//            table too, the rows of that gradient follow after each granule
#include <cmath>

#include "ops/distillation_parts.h"

namespace thimble {
namespace {

using namespace distillation;

constexpr std::string_view kName = "linear_distillation_dw";

enum In { kSum, kX, kW, kTargets, kScale, kLse, kIds, kDy, kTeacherX, kTeacherW, kTeacherLse, kBias, kTeacherBias };

Result<std::vector<Type>> infer(const std::any&, std::span<const Type> in) {
  CHECK_OK(expect_operands(kName, in, 13));
  CHECK_OK(expect_models(kName, {in[kX], in[kW], in[kBias]}, {in[kTeacherX], in[kTeacherW], in[kTeacherBias]}));
  const int64_t rows = in[kX].shape[0];
  CHECK_OK(expect_shape(kName, "accumulator", in[kSum], in[kW].shape));
  CHECK_OK(expect_indices(kName, "targets", in[kTargets], rows));
  CHECK_OK(expect_shape(kName, "scale", in[kScale], {in[kScale].shape == Shape{1} ? 1 : rows}));
  CHECK_OK(expect_shape(kName, "lse", in[kLse], {rows}));
  CHECK_OK(expect_shape(kName, "lse of the teacher", in[kTeacherLse], {rows}));
  if (!absent(in[kIds])) {
    CHECK_OK(expect_indices(kName, "ids", in[kIds], rows));
    CHECK_OK(expect_shape(kName, "dy", in[kDy], in[kX].shape));
  }
  for (const auto& [operand, index] :
       {std::pair{"accumulator", kSum}, {"scale", kScale}, {"lse", kLse}, {"lse of the teacher", kTeacherLse}})
    CHECK_OK(expect_f32(kName, operand, in[index]));
  return std::vector{Type{in[kSum].shape, &kF32}};
}

int64_t workspace(const std::any&, std::span<const Type> in, std::span<const Type>, Multiply multiply, int threads) {
  return Memory({}, in[kX], in[kW], multiply, threads, nullptr).size +
         Memory({}, in[kTeacherX], in[kTeacherW], multiply, threads, nullptr).size;
}

// One tile of the vocabulary, of the rows that have been gathered.
void add_tile(const Call& call, const Memory& student, const Memory& teacher, int64_t count, int64_t first,
              int64_t columns) noexcept {
  const DistillationAttributes& a = call.as<DistillationAttributes>();
  const Tile own{first, columns, student.logits, columns}, teachers{first, columns, teacher.logits, columns};
  make_logits(call, student, call.in[kW], call.in[kBias], count, own, {a.cap, a.temperature});
  make_logits(call, teacher, call.in[kTeacherW], call.in[kTeacherBias], count, teachers,
              {a.teacher_cap, a.temperature});
  const float* const scales = call.in[kScale].as<const float>();
  const bool one_scale = call.in[kScale].shape == Shape{1};
  call.run.threads.split(count, 1, [&](int64_t begin, int64_t end, int) {
    alignas(64) float p[cross_entropy::kVocabTile], q[cross_entropy::kVocabTile];
    for (int64_t r = begin; r < end; ++r) {
      const float by = a.temperature * scales[one_scale ? 0 : student.index[r]], size = std::abs(by);
      const float* const z = own.logits + r * columns;
      softmax_row(z, student.sums[r], size, columns, p);
      softmax_row(teachers.logits + r * columns, teacher.sums[r], size, columns, q);
      add_scaled(p, q, -1, columns);
      if (a.cap > 0) multiply_cap_slope(p, z, a.cap / a.temperature, columns);
      if (by < 0) scale(p, -1, columns);
      encode_run(*student.codec, p, student.weights + student.codec->bytes(r * columns), columns);
    }
  });
  const Term term{{student.codec, student.weights, count, columns, 0},
                  {student.codec, student.x, count, student.width, 0},
                  true,
                  false,
                  1};
  gemm(call.run.threads, call.run.multiply,
       describe(term, call.out[0].data + first * student.width * 4, columns, student.width, true), student.product);
}

void run(const Call& call) noexcept {
  const int64_t rows = call.in[kX].shape[0], vocab = call.in[kW].shape[0];
  const int threads = call.run.threads.count();
  const Memory student({}, type_of(call.in[kX]), type_of(call.in[kW]), call.run.multiply, threads,
                       call.workspace.data());
  const Memory teacher({}, type_of(call.in[kTeacherX]), type_of(call.in[kTeacherW]), call.run.multiply, threads,
                       call.workspace.data() + student.size);
  const auto* const targets = call.in[kTargets].as<const int32_t>();
  for (int64_t granule = 0; granule < rows; granule += kGranule) {
    int64_t row = granule, of_teacher = granule;
    const int64_t end = std::min(rows, granule + kGranule);
    const int64_t count = gather(call.in[kX], targets, row, end, kGranule, student);
    gather(call.in[kTeacherX], targets, of_teacher, end, kGranule, teacher);
    for (int64_t r = 0; r < count; ++r) {
      student.sums[r] = call.in[kLse].as<const float>()[student.index[r]];
      teacher.sums[r] = call.in[kTeacherLse].as<const float>()[student.index[r]];
    }
    for (int64_t first = 0; count > 0 && first < vocab; first += student.tile)
      add_tile(call, student, teacher, count, first, std::min(student.tile, vocab - first));
    if (call.in[kIds])
      add_rows(call.run.threads, call.out[0].as<float>(), call.in[kIds].as<const int32_t>(), call.in[kDy], granule, end,
               student.width, student.buffers);
  }
}

[[gnu::cold]] void reference(const ReferenceCall& call) {
  const DistillationAttributes& a = call.as<DistillationAttributes>();
  const double t = static_cast<double>(a.temperature);
  const auto& w = call.in[kW];
  const int64_t width = w.shape[1];
  std::vector<double> z, zt;
  for (int64_t i = 0; i < w.shape.count(); ++i) call.out[0][i] = call.in[kSum][i];
  for (int64_t i = 0; i < call.in[kX].shape[0]; ++i) {
    if (call.in[kTargets][i] < 0) continue;
    log_sum_exp(call.in[kX], w, call.in[kBias], a.cap, i, z, t);
    log_sum_exp(call.in[kTeacherX], call.in[kTeacherW], call.in[kTeacherBias], a.teacher_cap, i, zt, t);
    const double scale = call.in[kScale][call.in[kScale].shape == Shape{1} ? 0 : i];
    for (int64_t v = 0; v < w.shape[0]; ++v) {
      const auto at = static_cast<size_t>(v);
      const double apart = std::exp(z[at] - call.in[kLse][i]) - std::exp(zt[at] - call.in[kTeacherLse][i]);
      for (int64_t d = 0; d < width; ++d)
        call.out[0][v * width + d] += scale * t * apart * cap_slope(a.cap, z[at] * t) * call.in[kX][i * width + d];
    }
  }
  for (int64_t i = 0; call.in[kIds] && i < call.in[kX].shape[0]; ++i)
    for (int64_t d = 0; d < width; ++d)
      call.out[0][static_cast<int64_t>(call.in[kIds][i]) * width + d] += call.in[kDy][i * width + d];
}

Cost cost(const std::any&, std::span<const Type> in, std::span<const Type> out) {
  const auto rows = static_cast<double>(in[kX].shape[0]), own = static_cast<double>(in[kW].shape.count());
  Cost cost{.bytes = moved_bytes(in, out), .decoded = in[kW].codec->block > 1 ? own : 0};
  cost.of(ProductUse::head_gradient) = 2 * rows * (2 * own + static_cast<double>(in[kTeacherW].shape.count()));
  return cost;
}

[[gnu::cold]] std::vector<Sample> samples() {
  const Type none{.codec = nullptr}, row{{5}}, ids{{5}, &kI32};
  return {{DistillationAttributes{},
           {Type{{11, 7}}, Type{{5, 7}}, Type{{11, 7}}, ids, Type{{1}}, row, ids, Type{{5, 7}}, Type{{5, 9}},
            Type{{11, 9}}, row, none, none},
           {{}, {}, {}, {3, -1, 10, 0, 0}, {}, {}, {2, 2, 10, 0, 7}}},
          {DistillationAttributes{.temperature = 2, .cap = 1.5, .teacher_cap = 3},
           {Type{{11, 7}}, Type{{5, 7}}, Type{{11, 7}}, ids, row, row, none, none, Type{{5, 9}}, Type{{11, 9}}, row,
            Type{{11}}, none},
           {{}, {}, {}, {3, -1, 10, 0, 0}}}};
}

constexpr InPlace kAccumulates[] = {{0, 0, true}};

}  // namespace

const Op kLinearDistillationDw = {.name = kName,
                                  .infer = infer,
                                  .text = text,
                                  .workspace = workspace,
                                  .cost = cost,
                                  .reference = reference,
                                  .run = run,
                                  .samples = samples,
                                  .in_place = kAccumulates,
                                  .alone = true};

}  // namespace thimble
