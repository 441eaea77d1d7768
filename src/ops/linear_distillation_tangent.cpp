// linear_distillation_tangent: the derivative of the losses of linear_distillation along a direction of the student.
//
//   with the names of linear_distillation.cpp, a_v = x.w_v + bias_v and c_v the slope of the cap of logits where it is:
//     loss'_i = T sum_v (p_iv - q_iv) c_iv (x'_i.w_v + x_i.w'_v + bias'_v)
//
// The log-sum-exps are those of the forward pass; logits and their derivatives exist in tiles of the vocabulary.
#include "ops/distillation_parts.h"
#include "ops/logit_tangents.h"

namespace thimble {
namespace {

using namespace distillation;
using cross_entropy::expect_direction;
using cross_entropy::LogitTangents;
using cross_entropy::type_or_absent;

constexpr std::string_view kName = "linear_distillation_tangent";

enum In { kX, kW, kTargets, kLse, kBias, kDx, kDw, kDbias, kTeacherX, kTeacherW, kTeacherLse, kTeacherBias };

Result<std::vector<Type>> infer(const std::any&, std::span<const Type> in) {
  CHECK_OK(expect_operands(kName, in, 12));
  CHECK_OK(expect_models(kName, {in[kX], in[kW], in[kBias]}, {in[kTeacherX], in[kTeacherW], in[kTeacherBias]}));
  const int64_t rows = in[kX].shape[0];
  CHECK_OK(expect_indices(kName, "targets", in[kTargets], rows));
  for (const auto& [operand, index] : {std::pair{"lse", kLse}, {"lse of the teacher", kTeacherLse}}) {
    CHECK_OK(expect_shape(kName, operand, in[index], {rows}));
    CHECK_OK(expect_f32(kName, operand, in[index]));
  }
  CHECK_OK(expect_direction(kName, in[kX], in[kW], in.subspan(kDx, 3)));
  return std::vector{Type{{rows}, &kF32, in[kX].extent}};
}

// Both models' memory, and that of the derivatives.
struct Together {
  Memory student, teacher;
  LogitTangents moved;
  int64_t size;

  Together(std::span<const Type> in, Multiply multiply, int threads, std::byte* base)
      : student({}, in[kX], in[kW], multiply, threads, base),
        teacher({}, in[kTeacherX], in[kTeacherW], multiply, threads, base ? base + student.size : nullptr),
        moved(student, in[kW], in[kDw], multiply, threads, base ? base + student.size + teacher.size : nullptr),
        size(student.size + teacher.size + moved.size) {}
};

int64_t workspace(const std::any&, std::span<const Type> in, std::span<const Type>, Multiply multiply, int threads) {
  return Together(in, multiply, threads, nullptr).size;
}

void add_tile(const Call& call, const Together& m, int64_t count, int64_t first, int64_t columns) noexcept {
  const DistillationAttributes& a = call.as<DistillationAttributes>();
  const Tile own{first, columns, m.student.logits, columns}, teachers{first, columns, m.teacher.logits, columns};
  make_logits(call, m.student, call.in[kW], call.in[kBias], count, own, {a.cap, a.temperature});
  make_logits(call, m.teacher, call.in[kTeacherW], call.in[kTeacherBias], count, teachers,
              {a.teacher_cap, a.temperature});
  m.moved.make(call, m.student, {call.in[kW], call.in[kDx], call.in[kDw], call.in[kDbias]}, count, own);
  call.run.threads.split(count, 1, [&](int64_t begin, int64_t end, int thread) {
    float* const p = m.moved.gradient + thread * m.student.tile;
    alignas(64) float q[cross_entropy::kVocabTile];
    for (int64_t r = begin; r < end; ++r) {
      const float* const z = own.logits + r * columns;
      softmax_row(z, m.student.sums[r], a.temperature, columns, p);
      softmax_row(teachers.logits + r * columns, m.teacher.sums[r], a.temperature, columns, q);
      add_scaled(p, q, -1, columns);
      if (a.cap > 0) multiply_cap_slope(p, z, a.cap / a.temperature, columns);
      m.student.picked[r] += dot(p, m.moved.logits + r * columns, columns);
    }
  });
}

void run(const Call& call) noexcept {
  const int64_t rows = call.in[kX].shape[0], vocab = call.in[kW].shape[0];
  Type types[kTeacherBias + 1];
  for (size_t i = 0; i < std::size(types); ++i) types[i] = type_or_absent(call.in[i]);
  const Together m(types, call.run.multiply, call.run.threads.count(), call.workspace.data());
  const auto* const targets = call.in[kTargets].as<const int32_t>();
  float* const out = call.out[0].as<float>();
  std::fill(out, out + rows, 0.0f);
  for (int64_t row = 0; row < rows;) {
    int64_t of_teacher = row;
    gather(call.in[kTeacherX], targets, of_teacher, rows, m.teacher.rows, m.teacher);
    const int64_t count = gather(call.in[kX], targets, row, rows, m.student.rows, m.student);
    for (int64_t r = 0; r < count; ++r) {
      m.student.sums[r] = call.in[kLse].as<const float>()[m.student.index[r]], m.student.picked[r] = 0;
      m.teacher.sums[r] = call.in[kTeacherLse].as<const float>()[m.student.index[r]];
    }
    m.moved.gather(call.in[kDx], m.student, count);
    for (int64_t first = 0; count > 0 && first < vocab; first += m.student.tile)
      add_tile(call, m, count, first, std::min(m.student.tile, vocab - first));
    for (int64_t r = 0; r < count; ++r) out[m.student.index[r]] = m.student.picked[r];
  }
}

[[gnu::cold]] void reference(const ReferenceCall& call) {
  const DistillationAttributes& a = call.as<DistillationAttributes>();
  const double t = static_cast<double>(a.temperature);
  const auto& w = call.in[kW];
  const int64_t vocab = w.shape[0], width = w.shape[1];
  std::vector<double> z, zt;
  for (int64_t i = 0; i < call.in[kX].shape[0]; ++i) {
    call.out[0][i] = 0;
    if (call.in[kTargets][i] < 0) continue;
    log_sum_exp(call.in[kX], w, call.in[kBias], a.cap, i, z, t);
    log_sum_exp(call.in[kTeacherX], call.in[kTeacherW], call.in[kTeacherBias], a.teacher_cap, i, zt, t);
    for (int64_t v = 0; v < vocab; ++v) {
      double moved = call.in[kDbias] ? call.in[kDbias][v] : 0.0;
      for (int64_t d = 0; d < width; ++d) {
        if (call.in[kDx]) moved += call.in[kDx][i * width + d] * w[v * width + d];
        if (call.in[kDw]) moved += call.in[kX][i * width + d] * call.in[kDw][v * width + d];
      }
      const auto at = static_cast<size_t>(v);
      const double apart = std::exp(z[at] - call.in[kLse][i]) - std::exp(zt[at] - call.in[kTeacherLse][i]);
      call.out[0][i] += t * apart * cap_slope(a.cap, z[at] * t) * moved;
    }
  }
}

Cost cost(const std::any&, std::span<const Type> in, std::span<const Type> out) {
  const auto rows = static_cast<double>(in[kX].shape[0]), own = static_cast<double>(in[kW].shape.count());
  const int products = 1 + !absent(in[kDx]) + !absent(in[kDw]), reads = 1 + !absent(in[kDx]);
  Cost cost{.bytes = moved_bytes(in, out), .decoded = in[kW].codec->block > 1 ? reads * own : 0};
  cost.of(ProductUse::head) = 2 * rows * (products * own + static_cast<double>(in[kTeacherW].shape.count()));
  return cost;
}

[[gnu::cold]] std::vector<Sample> samples() {
  const Type none{.codec = nullptr}, x{{5, 7}}, w{{11, 7}}, ids{{5}, &kI32}, rows{{5}}, bias{{11}};
  const Type teacher_x{{5, 9}}, teacher_w{{11, 9}}, narrow{{3, 8}, &kBf16}, wide{{1500, 8}};
  const std::vector<std::vector<int32_t>> targets{{}, {}, {3, -1, 10, 0, 0}};
  const DistillationAttributes capped{.temperature = 2, .cap = 1.5, .teacher_cap = 3};
  return {{DistillationAttributes{}, {x, w, ids, rows, none, x, w, none, teacher_x, teacher_w, rows, none}, targets},
          {capped, {x, w, ids, rows, bias, none, w, bias, teacher_x, teacher_w, rows, bias}, targets},
          {capped, {x, w, ids, rows, bias, none, none, bias, teacher_x, teacher_w, rows, none}, targets},
          {capped,
           {narrow, wide, Type{{3}, &kI32}, Type{{3}}, none, narrow, wide, none, Type{{3, 5}, &kBf16}, Type{{1500, 5}},
            Type{{3}}, Type{{1500}}},
           {{}, {}, {1400, 3, 1024}}}};
}

}  // namespace

const Op kLinearDistillationTangent = {.name = kName,
                                       .infer = infer,
                                       .text = text,
                                       .workspace = workspace,
                                       .cost = cost,
                                       .reference = reference,
                                       .run = run,
                                       .samples = samples,
                                       .alone = true};

}  // namespace thimble
