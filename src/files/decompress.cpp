#include "files/decompress.h"

#include <zlib.h>
#include <zstd.h>

#include <memory>
#include <vector>

#include "core/warnings.h"

namespace thimble {
namespace {

constexpr size_t kPiece = 64 << 10;
constexpr uint64_t kMost = uint64_t{1} << 40;  // bytes; nobody fine-tunes on more, a bomb does
constexpr int kLargestWindow = 23;             // of zstd, as a power of two

Failure damaged(const InputFile& packed, std::string_view why) {
  return fail(ErrorCode::corrupt, "unpacking {}: it is damaged: {}", packed.path(), why);
}

// Hands over the packed bytes piece by piece.
class Packed {
 public:
  explicit Packed(const InputFile& file) : file_(file), bytes_(kPiece) {}

  // Nothing when the file is over.
  Result<std::span<std::byte>> next() {
    const std::span piece(bytes_.data(), std::min<uint64_t>(kPiece, file_.size() - at_));
    CHECK_OK(file_.read(at_, piece));
    at_ += piece.size();
    return piece;
  }

 private:
  const InputFile& file_;
  std::vector<std::byte> bytes_;
  uint64_t at_ = 0;
};

Result<void> put(const InputFile& packed, TemporaryFile& to, std::span<const std::byte> bytes) {
  if (to.size() + bytes.size() > kMost)
    return fail(ErrorCode::unsupported, "unpacking {}: it holds more than {} bytes", packed.path(), kMost);
  return to.write(bytes);
}

// Several gzip members may follow each other, as pigz and bgzip write them.
Result<void> gunzip(const InputFile& packed, TemporaryFile& to) {
  z_stream stream{};
  if (inflateInit2(&stream, 15 + 16) != Z_OK) return fail(ErrorCode::io, "unpacking {}: no memory", packed.path());
  const std::unique_ptr<z_stream, int (*)(z_stream*)> closes(&stream, inflateEnd);
  Packed source(packed);
  std::vector<std::byte> out(kPiece);
  bool ended = false;
  for (std::span<std::byte> piece; !(piece = TRY(source.next())).empty();) {
    stream.next_in = reinterpret_cast<Bytef*>(piece.data());
    stream.avail_in = static_cast<uInt>(piece.size());
    while (stream.avail_in > 0 || stream.avail_out == 0) {
      if (ended && *stream.next_in != 0x1f) {  // padding after the last member, or what gzip calls garbage
        if (*stream.next_in != 0)
          warn(fmt::format("{}: what stands behind its last gzip member is not read", packed.path()));
        return {};
      }
      if (ended && inflateReset(&stream) != Z_OK) return damaged(packed, "a second member");
      ended = false;
      stream.next_out = reinterpret_cast<Bytef*>(out.data());
      stream.avail_out = static_cast<uInt>(out.size());
      const int status = inflate(&stream, Z_NO_FLUSH);
      if (status != Z_OK && status != Z_STREAM_END && status != Z_BUF_ERROR)
        return damaged(packed, stream.msg ? stream.msg : "no gzip data");
      CHECK_OK(put(packed, to, std::span(out).first(out.size() - stream.avail_out)));
      ended = status == Z_STREAM_END;
      if (ended && stream.avail_in == 0) break;
      if (status == Z_BUF_ERROR) break;
    }
  }
  return ended ? Result<void>() : damaged(packed, "it ends too early");
}

Result<void> unzstd(const InputFile& packed, TemporaryFile& to) {
  const std::unique_ptr<ZSTD_DCtx, size_t (*)(ZSTD_DCtx*)> context(ZSTD_createDCtx(), ZSTD_freeDCtx);
  if (!context) return fail(ErrorCode::io, "unpacking {}: no memory", packed.path());
  ZSTD_DCtx_setParameter(context.get(), ZSTD_d_windowLogMax, kLargestWindow);
  Packed source(packed);
  std::vector<std::byte> out(kPiece);
  size_t left = 1;  // 0: a frame is over
  for (std::span<std::byte> piece; !(piece = TRY(source.next())).empty();) {
    ZSTD_inBuffer in{piece.data(), piece.size(), 0};
    for (bool full = false; in.pos < in.size || full;) {
      ZSTD_outBuffer to_buffer{out.data(), out.size(), 0};
      left = ZSTD_decompressStream(context.get(), &to_buffer, &in);
      if (ZSTD_isError(left)) return damaged(packed, ZSTD_getErrorName(left));
      CHECK_OK(put(packed, to, std::span(out).first(to_buffer.pos)));
      full = left > 0 && to_buffer.pos == to_buffer.size;  // of a frame that is over nothing is held back
    }
  }
  return left == 0 ? Result<void>() : damaged(packed, "it ends too early");
}

}  // namespace

Result<InputFile> decompress(const InputFile& packed, const FileKind& kind) {
  TemporaryFile to = TRY(TemporaryFile::create(packed.path()));
  CHECK_OK(kind.form == FileKind::gzip ? gunzip(packed, to) : unzstd(packed, to));
  return std::move(to).finish();
}

}  // namespace thimble
