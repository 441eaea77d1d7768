// The persistent values of a run, wherever they live: what loading, checkpoints and exports read and write.
#pragma once

#include <functional>
#include <span>

#include "disk/scratch.h"
#include "plan/plan.h"

namespace thimble {

class Values {
 public:
  // staging: memory of the arena that is not in use meanwhile; what lives on disk goes through it. At least 64 KiB.
  Values(const Layout& layout, std::byte* base, Scratch* scratch, std::span<std::byte> staging);
  // Of a plan in its arena, while none of its programs runs.
  Values(const Plan& plan, std::byte* base, Scratch* scratch = nullptr)
      : Values(plan.layout, base, scratch, {base + plan.layout.bytes(), static_cast<size_t>(plan.transient_bytes)}) {}

  const Layout& layout() const { return layout_; }
  // A value that lives in memory.
  std::byte* memory(const Layout::Entry& entry) const { return base_ + entry.offset; }

  // Memory that is in use only while a value is filled or read.
  std::span<std::byte> staging() const { return staging_; }

  // Calls make(first, count, to) for parts of the value that cover it in order: elements [first, first + count), a
  // multiple of `unit` (but the last), to be encoded at `to`. `spare` is memory that it may use meanwhile.
  using Make = std::function<Result<void>(int64_t first, int64_t count, std::byte* to, std::span<std::byte> spare)>;
  Result<void> fill(const Layout::Entry& entry, int64_t unit, const Make& make);

  // Calls see(bytes) for parts of the value in order.
  Result<void> visit(const Layout::Entry& entry,
                     const std::function<Result<void>(std::span<const std::byte> part)>& see);

  // Bytes [at, at + to.size()) of the value.
  Result<void> read(const Layout::Entry& entry, int64_t at, std::span<std::byte> to);

 private:
  const Layout& layout_;
  std::byte* base_;
  Scratch* scratch_;
  std::span<std::byte> staging_;  // on pages of the disk
};

}  // namespace thimble
