// pull: a model from Hugging Face, or from a server with its layout.
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>

#include "commands/command.h"
#include "commands/command_line.h"
#include "commands/void_flags.h"
#include "core/count.h"
#include "core/printable.h"
#include "fetch/download.h"
#include "fetch/hub.h"
#include "fetch/hub_cache.h"
#include "files/file.h"
#include "plan/ledger.h"
#include "report/events.h"

namespace thimble {
namespace {

struct PullOptions {
  std::string name, revision = "main", to, endpoint, token;  // endpoint, token: empty where they were not given
  std::vector<std::string> files;
  int retries = 5;
  bool cache = false;
};

constexpr uint64_t kLargestListing = 16u << 20;

// A bar on a terminal, one line a file elsewhere.
class Progress {
 public:
  explicit Progress(const std::string& name) : name_(printable(name)), terminal_(draws_on(2)) {}
  void show(uint64_t done, std::optional<uint64_t> all) {
    const auto now = std::chrono::steady_clock::now();
    if (!terminal_ || now - last_ < std::chrono::milliseconds(100)) return;
    if (first_bytes_ == kUnset) first_bytes_ = done, start_ = now;
    last_ = now;
    const double seconds = std::chrono::duration<double>(now - start_).count();
    const double rate = seconds > 0 ? static_cast<double>(done - std::min(first_bytes_, done)) / seconds : 0;
    const double part = all && *all > 0 ? static_cast<double>(done) / static_cast<double>(*all) : 0;
    fmt::print(stderr, "\r\x1b[K{} [{:<20}] {:3.0f} % {} {:.1f} MB/s", name_,
               std::string(static_cast<size_t>(part * 20), '#'), part * 100, megabytes(static_cast<int64_t>(done)),
               rate * 1e-6);
  }
  void line(const std::string& text) {
    fmt::print(stderr, "{}{}: {}\n", terminal_ ? "\r\x1b[K" : "", name_, printable(text));
  }

 private:
  static constexpr uint64_t kUnset = ~uint64_t{0};
  std::string name_;
  bool terminal_;
  uint64_t first_bytes_ = kUnset;
  std::chrono::steady_clock::time_point start_, last_;
};

Result<void> fetch(Transfers& transfers, const HubFile& file, const Download& wanted) {
  const std::filesystem::path folder = std::filesystem::path(wanted.path).parent_path();
  CHECK_OK(make_directories(folder.string()));
  Progress progress(file.name);
  const DownloadEvents events{.progress = [&](uint64_t done, std::optional<uint64_t> all) { progress.show(done, all); },
                              .note = [&](const std::string& text) { progress.line(text); }};
  const DownloadOutcome outcome = TRY(download(transfers, wanted, events));
  constexpr const char* kWords[] = {"fetched", "fetched the rest", "already there"};
  const uint64_t bytes = TRY(InputFile::open(wanted.path)).size();
  progress.line(fmt::format("{}, {} bytes{}", kWords[static_cast<int>(outcome)], bytes,
                            !file.sha256.empty()     ? ", SHA-256 verified"
                            : !file.git_blob.empty() ? ", git blob verified"
                                                     : ""));
  return {};
}

// A server's answer is not what the user gave.
Error of_network(Error error) {
  error.code = ErrorCode::io;
  return error;
}

// A file, so that the token is in no list of processes.
Result<std::string> read_token(const std::string& path) {
  if (path.empty()) return std::string();
  std::string token = TRY(read_text_file(path, 4096));
  while (!token.empty() && static_cast<unsigned char>(token.back()) <= 32) token.pop_back();
  const bool plain = std::all_of(token.begin(), token.end(), [](char c) { return c > 32 && c < 127; });
  if (token.empty() || !plain)
    return fail(ErrorCode::invalid_argument, "--token {}: expected a file that holds one access token", path);
  return token;
}

std::string endpoint_of(const PullOptions& o) { return o.endpoint.empty() ? hub_endpoint() : o.endpoint; }

// --token; or else, for the server that they are meant for, HF_TOKEN or the file of a login. Never where others could
// read it on its way.
Result<std::string> token_for(const PullOptions& o, const std::string& endpoint) {
  if (!o.token.empty()) {
    std::string token = TRY(read_token(o.token));
    if (is_private(endpoint)) return token;
    return fail(ErrorCode::invalid_argument,
                "--token {}: it is not sent to {}, which is not HTTPS: everyone on the way could read it", o.token,
                endpoint);
  }
  const char* const disabled = std::getenv("HF_HUB_DISABLE_IMPLICIT_TOKEN");
  const bool meant = o.endpoint.empty() && is_private(endpoint) && !(disabled && *disabled);
  return meant ? hub_token() : Result<std::string>(std::string());
}

// Folders of a name that the server gave must not be links that lead elsewhere.
Result<void> check_no_links(const std::string& folder, const std::string& name) {
  namespace fs = std::filesystem;
  fs::path at = folder;
  std::error_code ignored;
  for (const fs::path& part : fs::path(name).parent_path()) {
    at /= part;
    if (fs::is_symlink(at, ignored))
      return fail(ErrorCode::invalid_argument, "writing {}/{}: {} is a link; remove it", folder, name, at.string());
  }
  return {};
}

// What is to be fetched, from which commit, to where.
struct Picked {
  HubRepository repository;
  std::string commit;  // empty where the server does not say
  std::string to;
  std::vector<HubFile> files;
};

Result<Picked> pick(const PullOptions& o, Transfers& transfers, const std::string& token) {
  Picked picked{TRY(HubRepository::parse(endpoint_of(o), o.name, o.revision)), "", o.to, {}};
  const std::string url = picked.repository.listing_url();
  const std::string text = TRY(get_text(transfers, url, token, kLargestListing, o.retries));
  HubListing listing = TRY(parse_listing(text, url).map_error(of_network));
  picked.files = TRY(pick_files(listing.files, o.files, o.name));
  picked.commit = std::move(listing.commit);
  if (o.to.empty()) picked.to = std::filesystem::path(o.name).filename().string();
  if (!o.cache) return picked;
  if (picked.commit.empty())
    return fail(ErrorCode::corrupt, "reading {}: the server does not say which commit it is, which --cache needs", url);
  picked.to = snapshot_folder(hub_cache_folder(), o.name, picked.commit);
  return picked;
}

Result<void> pull(const PullOptions& o) {
  TRY(HubRepository::parse(endpoint_of(o), o.name, o.revision));
  const std::string token = TRY(token_for(o, endpoint_of(o)));
  Transfers& transfers = *TRY(load_transfers());
  const Picked picked = TRY(pick(o, transfers, token));
  const std::string& to = picked.to;
  uint64_t all = 0;
  for (const HubFile& file : picked.files) all += file.bytes.value_or(0);
  fmt::print(stderr, "{}, {}, to {}\n", counted(picked.files.size(), "file"), megabytes(static_cast<int64_t>(all)), to);
  CHECK_OK(make_directories(to));
  for (const HubFile& file : picked.files) {
    CHECK_OK(check_no_links(to, file.name));
    CHECK_OK(fetch(transfers, file,
                   {.url = picked.repository.file_url(file.name, picked.commit),
                    .path = to + "/" + file.name,
                    .token = token,
                    .bytes = file.bytes,
                    .sha256 = file.sha256,
                    .git_blob = file.git_blob,
                    .attempts = o.retries}));
  }
  if (o.cache) CHECK_OK(write_ref(hub_cache_folder(), o.name, o.revision, picked.commit));
  // Of a split GGUF file the first part is what --model takes.
  const bool gguf = std::ranges::all_of(picked.files, [](const HubFile& f) { return f.name.ends_with(".gguf"); });
  fmt::print("{}\n", gguf ? to + "/" + std::ranges::min(picked.files, {}, &HubFile::name).name : to);
  return {};
}

std::function<Result<void>()> add(FlagSet& command) {
  auto o = std::make_shared<PullOptions>();
  command.add("MODEL", o->name, "org/name").required();
  command.add("--revision", o->revision, "branch, tag or commit").shows_default();
  command.add("--to", o->to, "folder to write; the model's name without it");
  command.add("--cache", o->cache, "into the cache of Hugging Face's tools, where --model org/name finds it");
  command.add("--file", o->files, "exactly this file, or the end of a GGUF's name (Q4_K_M); may be given again");
  command.add("--endpoint", o->endpoint, "server; HF_ENDPOINT, or https://huggingface.co, without it");
  command.add("--token", o->token,
              "a file with an access token, for private and gated models; without it and --endpoint HF_TOKEN, or "
              "that of hf auth login");
  command.add("--retries", o->retries, "attempts without progress before it gives up").shows_default().in_range(1, 100);
  return [o, &command]() -> Result<void> {
    CHECK_OK(refuse_void(command, {{"--to", o->cache, "--cache says where"}}));
    return pull(*o);
  };
}

}  // namespace

const Command kPull = {"pull", "fetch a model from Hugging Face", add};

}  // namespace thimble
