#include "run/values.h"

#include <algorithm>
#include <cstring>

#include "core/round.h"

namespace thimble {
namespace {

constexpr int64_t kPartBytes = 4 << 20;

}  // namespace

Values::Values(const Layout& layout, std::byte* base, Scratch* scratch, std::span<std::byte> staging)
    : layout_(layout), base_(base), scratch_(scratch) {
  const auto address = reinterpret_cast<uintptr_t>(staging.data());
  const auto skip = static_cast<size_t>(round_up(static_cast<int64_t>(address), kDiskAlignment)) - address;
  staging_ = skip < staging.size() ? staging.subspan(skip) : std::span<std::byte>();
}

Result<void> Values::fill(const Layout::Entry& entry, int64_t unit, const Make& make) {
  const int64_t total = entry.type.shape.count();
  if (entry.tier != Tier::disk) return make(0, total, memory(entry), staging_);
  const Codec& codec = *entry.type.codec;
  const int64_t room = std::min(kPartBytes, static_cast<int64_t>(staging_.size()) / 2) - kChecksumBlock;
  const int64_t part = std::min(total, unit * std::max<int64_t>(1, room / codec.bytes(unit)));
  // Units are rows, the last block of which may be partly filled.
  const auto bytes_of = [&](int64_t count) { return count / unit * codec.bytes(unit) + codec.bytes(count % unit); };
  const int64_t most = round_up(kChecksumBlock + bytes_of(part), kDiskAlignment);
  if (most > static_cast<int64_t>(staging_.size()))
    return fail(ErrorCode::over_budget, "loading: {} bytes of a value that lives on disk do not fit the staging memory",
                most);
  // Whole blocks of the file are written; what is left over goes with the next part.
  int64_t held = 0, written = 0;
  for (int64_t first = 0; first < total; first += part) {
    const int64_t count = std::min(part, total - first);
    CHECK_OK(make(first, count, staging_.data() + held, staging_.subspan(static_cast<size_t>(most))));
    held += bytes_of(count);
    const bool last = first + count == total;
    const int64_t whole = last ? round_up(held, kDiskAlignment) : held / kChecksumBlock * kChecksumBlock;
    if (last) std::memset(staging_.data() + held, 0, static_cast<size_t>(whole - held));
    if (whole == 0) continue;
    CHECK_OK(scratch_->write(entry.offset + written, staging_.first(static_cast<size_t>(whole))));
    written += whole;
    held = std::max<int64_t>(0, held - whole);
    std::memmove(staging_.data(), staging_.data() + whole, static_cast<size_t>(held));
  }
  return {};
}

Result<void> Values::visit(const Layout::Entry& entry,
                           const std::function<Result<void>(std::span<const std::byte>)>& see) {
  const int64_t total = entry.type.bytes();
  if (entry.tier != Tier::disk) return see({memory(entry), static_cast<size_t>(total)});
  const int64_t room = std::min(kPartBytes, static_cast<int64_t>(staging_.size())) / kChecksumBlock * kChecksumBlock;
  for (int64_t at = 0; at < total; at += room) {
    const int64_t bytes = std::min(room, total - at);
    const auto part = staging_.first(static_cast<size_t>(round_up(bytes, kDiskAlignment)));
    CHECK_OK(scratch_->read(entry.offset + at, part));
    CHECK_OK(see(part.first(static_cast<size_t>(bytes))));
  }
  return {};
}

Result<void> Values::read(const Layout::Entry& entry, int64_t at, std::span<std::byte> to) {
  if (entry.tier != Tier::disk) {
    std::memcpy(to.data(), memory(entry) + at, to.size());
    return {};
  }
  const int64_t end = at + static_cast<int64_t>(to.size());
  const int64_t value_end = round_up(entry.type.bytes(), kDiskAlignment);
  const int64_t room = static_cast<int64_t>(staging_.size()) / kChecksumBlock * kChecksumBlock;
  for (int64_t begin = at / kChecksumBlock * kChecksumBlock; begin < end; begin += room) {
    const int64_t stop = std::min({round_up(end, kChecksumBlock), value_end, begin + room});
    CHECK_OK(scratch_->read(entry.offset + begin, staging_.first(static_cast<size_t>(stop - begin))));
    const int64_t from = std::max(at, begin), until = std::min(end, stop);
    std::memcpy(to.data() + (from - at), staging_.data() + (from - begin), static_cast<size_t>(until - from));
  }
  return {};
}

}  // namespace thimble
