// A file system for tests: calls in a folder are counted, the one that is named fails, and what was written, synced and
// renamed is kept, so that what a loss of power leaves can be laid out.
#pragma once

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstring>
#include <functional>
#include <map>
#include <mutex>
#include <random>
#include <set>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "core/file_system.h"

namespace thimble {

// What becomes of call `at`, counted from 0.
struct DiskFault {
  int64_t at = -1;
  int error = 0;         // the call fails with it, and nothing is done
  bool lasts = false;    // and so do all calls that write after it: a disk that is full, or gone
  bool half = false;     // a transfer moves half of the bytes; with `error`, and fails then
  int milliseconds = 0;  // it is done that much later
  bool kills = false;    // the process is killed instead
};

class FaultyDisk final : public FileSystem {
 public:
  // `folder`: files elsewhere are not touched by faults, nor logged.
  explicit FaultyDisk(std::string folder, DiskFault fault = {}) : folder_(std::move(folder)), fault_(fault) {}

  int64_t calls() const { return calls_; }
  bool struck() const { return struck_; }
  const std::string& struck_at() const { return struck_at_; }  // "write run/checkpoint.safetensors.1.0.part"

  struct Operation {
    enum Kind { create, write, truncate, sync, rename, unlink, make_folder, sync_folder, mark } kind;
    std::string path, to;  // of names
    int64_t file = -1;     // of content
    int64_t offset = 0;    // of a write; size of a truncate; value of a mark
    std::string bytes;     // of a write
  };
  const std::vector<Operation>& log() const { return log_; }
  // In the log: what was promised by then.
  void mark(int64_t value) { log_.push_back({.kind = Operation::mark, .path = {}, .to = {}, .offset = value}); }

  int open(const std::string& path, int flags, unsigned mode) noexcept override {
    const std::lock_guard one(mutex_);
    if (!is_ours(path)) return FileSystem::open(path, flags, mode);
    if (const int error = strike("open " + path, (flags & O_CREAT) != 0)) return error;
    const bool there = ::access(path.c_str(), F_OK) == 0;
    const int descriptor = FileSystem::open(path, flags, mode);
    if (descriptor < 0) return descriptor;
    Open& open = open_[descriptor];
    open = {path, -1, 0, (flags & O_DIRECTORY) != 0};
    if (!open.folder) {
      if (!there) {
        files_[path] = next_file_;
        log_.push_back({.kind = Operation::create, .path = path, .to = {}, .file = next_file_++});
      }
      if (!files_.contains(path)) files_[path] = next_file_++;
      open.file = files_[path];
      if (there && flags & O_TRUNC) log_truncate(open, 0);
      struct stat status;
      if (flags & O_APPEND && ::fstat(descriptor, &status) == 0) open.end = status.st_size;
    }
    return descriptor;
  }
  int close(int descriptor) noexcept override {
    const std::lock_guard one(mutex_);
    open_.erase(descriptor);
    return FileSystem::close(descriptor);
  }
  int64_t read(int descriptor, void* to, size_t bytes, int64_t offset) noexcept override {
    const std::lock_guard one(mutex_);
    const Open* const open = found(descriptor);
    if (!open) return FileSystem::read(descriptor, to, bytes, offset);
    if (const int error = strike("read " + open->path, false)) return error;
    if (halves()) bytes = (bytes + 1) / 2;
    return FileSystem::read(descriptor, to, bytes, offset);
  }
  int64_t write(int descriptor, const void* from, size_t bytes, int64_t offset) noexcept override {
    const std::lock_guard one(mutex_);
    return transfer(descriptor, from, bytes, offset,
                    [&](size_t count) { return FileSystem::write(descriptor, from, count, offset); });
  }
  int64_t append(int descriptor, const void* from, size_t bytes) noexcept override {
    const std::lock_guard one(mutex_);
    return transfer(descriptor, from, bytes, -1,
                    [&](size_t count) { return FileSystem::append(descriptor, from, count); });
  }
  int truncate(int descriptor, int64_t bytes) noexcept override {
    const std::lock_guard one(mutex_);
    Open* const open = found(descriptor);
    if (!open) return FileSystem::truncate(descriptor, bytes);
    if (const int error = strike("truncate " + open->path, true)) return error;
    log_truncate(*open, bytes);
    return FileSystem::truncate(descriptor, bytes);
  }
  int sync(int descriptor) noexcept override {
    const std::lock_guard one(mutex_);
    const Open* const open = found(descriptor);
    if (!open) return FileSystem::sync(descriptor);
    if (const int error = strike("sync " + open->path, true)) {
      if (error != -EINTR && !open->folder) failed_syncs_.insert(open->file);
      return error;
    }
    if (!open->folder && failed_syncs_.contains(open->file)) synced_again_ = open->path;
    log_.push_back({.kind = open->folder ? Operation::sync_folder : Operation::sync,
                    .path = open->path,
                    .to = {},
                    .file = open->file});
    return 0;  // not waited for: the test's disk is in memory
  }
  int rename(const std::string& from, const std::string& to) noexcept override {
    const std::lock_guard one(mutex_);
    if (!is_ours(from)) return FileSystem::rename(from, to);
    if (const int error = strike("rename " + from, true)) return error;
    log_.push_back({.kind = Operation::rename, .path = from, .to = to});
    files_[to] = files_[from];
    files_.erase(from);
    return FileSystem::rename(from, to);
  }
  int unlink(const std::string& path) noexcept override {
    const std::lock_guard one(mutex_);
    if (!is_ours(path)) return FileSystem::unlink(path);
    if (const int error = strike("unlink " + path, false)) return error;
    log_.push_back({.kind = Operation::unlink, .path = path, .to = {}});
    files_.erase(path);
    return FileSystem::unlink(path);
  }
  int make_folder(const std::string& path) noexcept override {
    const std::lock_guard one(mutex_);
    if (!is_ours(path)) return FileSystem::make_folder(path);
    if (const int error = strike("make_folder " + path, true)) return error;
    const int error = FileSystem::make_folder(path);
    if (error == 0) log_.push_back({.kind = Operation::make_folder, .path = path, .to = {}});
    return error;
  }
  // The file that was synced again after its sync had failed; empty: none. Folders may be: their names go through the
  // file system's journal, and are not dropped as a file's pages are.
  const std::string& synced_again() const { return synced_again_; }

 private:
  struct Open {
    std::string path;
    int64_t file = -1, end = 0;
    bool folder = false;
  };

  bool is_ours(const std::string& path) const { return path.starts_with(folder_); }
  Open* found(int descriptor) {
    const auto open = open_.find(descriptor);
    return open == open_.end() ? nullptr : &open->second;
  }
  void log_truncate(Open& open, int64_t bytes) {
    open.end = bytes;
    log_.push_back({.kind = Operation::truncate, .path = {}, .to = {}, .file = open.file, .offset = bytes});
  }
  bool halves() const { return striking_ && fault_.half; }
  // -errno where the call fails without doing anything; else 0.
  int strike(const std::string& what, bool writes) {
    const int64_t call = calls_++;
    striking_ = call == fault_.at;
    if (striking_) struck_ = true, struck_at_ = what;
    if (striking_ && fault_.kills) ::raise(SIGKILL);
    if (striking_ && fault_.milliseconds > 0)
      std::this_thread::sleep_for(std::chrono::milliseconds(fault_.milliseconds));
    const bool after = fault_.lasts && writes && fault_.at >= 0 && call > fault_.at;
    if (striking_ && fault_.half && what.starts_with("write ")) return 0;
    return striking_ || after ? -fault_.error : 0;
  }
  template <class Transfer>
  int64_t transfer(int descriptor, const void* from, size_t bytes, int64_t offset, const Transfer& move) {
    Open* const open = found(descriptor);
    if (!open) return move(bytes);
    if (const int error = strike("write " + open->path, true)) return error;
    const bool half = halves();
    const int64_t moved = move(half ? (bytes + 1) / 2 : bytes);
    if (moved > 0) {
      const int64_t at = offset >= 0 ? offset : open->end;
      log_.push_back({.kind = Operation::write,
                      .path = {},
                      .to = {},
                      .file = open->file,
                      .offset = at,
                      .bytes = std::string(static_cast<const char*>(from), static_cast<size_t>(moved))});
      if (offset < 0) open->end += moved;
    }
    return half && fault_.error ? -fault_.error : moved;
  }

  std::mutex mutex_;  // checkpoints are written by a thread of their own
  std::string folder_;
  DiskFault fault_;
  int64_t calls_ = 0, next_file_ = 0;
  bool striking_ = false, struck_ = false;
  std::string struck_at_, synced_again_;
  std::vector<Operation> log_;
  std::map<int, Open> open_;
  std::map<std::string, int64_t> files_;  // by path
  std::set<int64_t> failed_syncs_;        // numbers of files
};

// What may be on a disk that lost its power after the first `count` operations of a log: what was synced, and of the
// rest what chance says. Of a file any of the later writes, the last of them torn at a sector; of a folder the first
// few of the later changes of names. `before`: files that were there, by path.
class PowerLoss {
 public:
  using Log = std::vector<FaultyDisk::Operation>;
  PowerLoss(const Log& log, size_t count, uint64_t seed) : random_(seed) {
    for (size_t i = 0; i < count; ++i) add(log[i]);
    for (auto& [id, file] : files_) lose(file);
    for (auto& [path, folder] : folders_) settle(folder, random_() % (folder.later.size() + 1));
  }
  int64_t marked() const { return marked_; }  // the last mark
  // What is in a folder, by name.
  std::map<std::string, std::string> names(const std::string& folder) const {
    std::map<std::string, std::string> all;
    const auto found = folders_.find(folder);
    if (found == folders_.end()) return all;
    for (const auto& [name, file] : found->second.names)
      if (file >= 0) all[name] = files_.contains(file) ? files_.at(file).content : "";
    return all;
  }

 private:
  using Operation = FaultyDisk::Operation;
  struct File {
    std::string content;  // on disk
    std::vector<Operation> later;
  };
  struct Folder {
    std::map<std::string, int64_t> names;  // on disk
    std::vector<Operation> later;
  };
  static std::string folder_of(const std::string& path) { return path.substr(0, path.rfind('/')); }
  static std::string name_of(const std::string& path) { return path.substr(path.rfind('/') + 1); }

  static void apply(std::string& content, const Operation& o, size_t bytes) {
    if (o.kind == Operation::truncate) return content.resize(static_cast<size_t>(o.offset));
    const auto at = static_cast<size_t>(o.offset);
    if (content.size() < at + bytes) content.resize(at + bytes);
    content.replace(at, bytes, o.bytes, 0, bytes);
  }
  static void settle(Folder& folder, size_t count) {
    for (size_t i = 0; i < count; ++i) {
      const Operation& o = folder.later[i];
      const std::string name = name_of(o.path);
      if (o.kind == Operation::create) folder.names[name] = o.file;
      if (o.kind == Operation::rename) folder.names[name_of(o.to)] = folder.names[name];
      if (o.kind == Operation::rename || o.kind == Operation::unlink) folder.names.erase(name);
    }
    folder.later.clear();
  }
  void lose(File& file) {
    for (const Operation& o : file.later) {
      if (random_() % 2) continue;
      const bool torn = random_() % 4 == 0;
      apply(file.content, o, torn ? random_() % (o.bytes.size() + 1) / 512 * 512 : o.bytes.size());
    }
  }
  void add(const Operation& o) {
    switch (o.kind) {
      case Operation::write:
      case Operation::truncate:
        files_[o.file].later.push_back(o);
        return;
      case Operation::sync: {
        File& file = files_[o.file];
        for (const Operation& later : file.later) apply(file.content, later, later.bytes.size());
        file.later.clear();
        return;
      }
      case Operation::sync_folder:
        settle(folders_[o.path], folders_[o.path].later.size());
        return;
      case Operation::mark:
        marked_ = o.offset;
        return;
      default:
        folders_[folder_of(o.path)].later.push_back(o);
    }
  }

  std::mt19937_64 random_;
  std::map<int64_t, File> files_;
  std::map<std::string, Folder> folders_;
  int64_t marked_ = -1;
};

}  // namespace thimble
