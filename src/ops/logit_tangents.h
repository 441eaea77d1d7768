// The derivatives of the logits of a head along a direction, a tile of the vocabulary at a time, before their cap:
//   a'_v = x'.w_v + x.w'_v + bias'_v, of rows that cross_entropy_parts.h has gathered
#pragma once

#include <algorithm>
#include <cstring>

#include "ops/cross_entropy_parts.h"
#include "ops/shape_rule.h"

namespace thimble::cross_entropy {

// Derivatives of x, w and the bias, any of which may be absent.
inline Result<void> expect_direction(std::string_view op, const Type& x, const Type& w, std::span<const Type> moved) {
  const Type &dx = moved[0], &dw = moved[1], &dbias = moved[2];
  if (!absent(dx)) {
    CHECK_OK(expect_shape(op, "dx", dx, x.shape));
    if (dx.codec != x.codec) return fail(ErrorCode::shape, "{}: dx should be {}", op, x.codec->name);
  }
  if (!absent(dw)) {
    CHECK_OK(expect_numbers(op, "dw", dw));
    CHECK_OK(expect_shape(op, "dw", dw, w.shape));
  }
  if (absent(dbias)) return {};
  CHECK_OK(expect_shape(op, "dbias", dbias, {w.shape[0]}));
  return expect_f32(op, "dbias", dbias);
}

inline Type type_or_absent(const Operand& operand) { return operand ? type_of(operand) : Type{.codec = nullptr}; }

class LogitTangents {
 public:
  struct Head {
    const Operand &w, &dx, &dw, &dbias;
  };

  // dw: of the type of the derivative, which may be absent.
  LogitTangents(const Memory& m, const Type& w, const Type& dw, Multiply multiply, int threads, std::byte* base) {
    const auto take = [&](int64_t bytes) {
      std::byte* const at = base ? base + size : nullptr;
      size += (bytes + 63) / 64 * 64;
      return at;
    };
    dx_ = take(m.codec->bytes(m.rows * m.width));
    logits = reinterpret_cast<float*>(take(4 * m.rows * m.tile));
    gradient = reinterpret_cast<float*>(take(4 * threads * m.tile));
    int64_t most = 0;
    for (const bool rows : {false, true})
      for (const bool table : {false, true}) {
        LogitProduct all;
        if (rows) all.add(m.codec, nullptr, m.rows, {nullptr, {m.tile, m.width}, w.codec});
        if (table && !absent(dw)) all.add(m.codec, nullptr, m.rows, {nullptr, {m.tile, m.width}, dw.codec});
        if (all.count > 0)
          most = std::max(most, gemm_workspace_bytes(multiply, all.into(nullptr, m.rows, m.tile), threads));
      }
    std::byte* const at = take(most);
    product_ = {at, static_cast<size_t>(most)};
  }

  // Of the rows that are in `m`.
  void gather(const Operand& dx, const Memory& m, int64_t count) const noexcept {
    const int64_t bytes = m.codec->bytes(m.width);
    for (int64_t r = 0; dx && r < count; ++r)
      std::memcpy(dx_ + r * bytes, dx.data + m.index[r] * bytes, static_cast<size_t>(bytes));
  }

  // `logits` of a tile, rows of its columns one behind the other.
  void make(const Call& call, const Memory& m, const Head& head, int64_t count, const Tile& tile) const noexcept {
    LogitProduct product;
    if (head.dx) product.add(m.codec, dx_, count, rows_of(head.w, tile.first, tile.columns));
    if (head.dw) product.add(m.codec, m.x, count, rows_of(head.dw, tile.first, tile.columns));
    if (product.count > 0)
      gemm(call.run.threads, call.run.multiply, product.into(logits, count, tile.columns), product_);
    else
      std::fill(logits, logits + count * tile.columns, 0.0f);
    for (int64_t r = 0; head.dbias && r < count; ++r)
      add_scaled(logits + r * tile.columns, head.dbias.as<const float>() + tile.first, 1, tile.columns);
  }

  float* logits = nullptr;    // [rows, tile]
  float* gradient = nullptr;  // [threads, tile], of the loss by logits, for whoever makes the derivative of it
  int64_t size = 0;

 private:
  // The product that makes a tile: dx w^T + x dw^T, of what there is.
  struct LogitProduct {
    Term terms[2];
    size_t count = 0;

    void add(const Codec* codec, std::byte* rows, int64_t count_of_rows, const Operand& table) {
      terms[count++] = {{codec, rows, count_of_rows, table.shape[1], 0}, table.matrix(), false, true, 1};
    }
    Product into(float* c, int64_t rows, int64_t columns) const {
      return {.terms = {terms, count}, .codec = &kF32, .c = reinterpret_cast<std::byte*>(c), .m = rows, .n = columns};
    }
  };

  std::byte* dx_ = nullptr;  // [rows, width] in x's codec: of the gathered rows
  std::span<std::byte> product_;
};

}  // namespace thimble::cross_entropy
