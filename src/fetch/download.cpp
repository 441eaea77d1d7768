#include "fetch/download.h"

#include <chrono>
#include <thread>

#include "files/file.h"

namespace thimble {
namespace {

bool worth_another_try(long status) { return status == 0 || status == 408 || status == 429 || status >= 500; }

// 1, 2, 4, 8 ... seconds.
void wait_before(int attempt) { std::this_thread::sleep_for(std::chrono::seconds(1 << std::min(attempt - 1, 5))); }

Failure refused(const std::string& url, const HttpResponse& r) {
  std::string_view hint = "try again later";
  if (r.status == 404) hint = "is the name, revision or file right?";
  if (r.status == 401 || r.status == 403)
    hint = "the name may be wrong, or the model is private or gated: give an access token with --token FILE";
  std::string body = r.body.substr(0, 200);
  for (char& c : body) c = static_cast<unsigned char>(c) < 32 ? ' ' : c;
  return fail(ErrorCode::io, "fetching {}: the server answers {}{}{}; {}", url, r.status, body.empty() ? "" : ": ",
              body, hint);
}

Result<void> hash_file(const std::string& path, uint64_t bytes, Hash& hash) {
  const InputFile file = TRY(InputFile::open(path));
  std::vector<std::byte> piece(1 << 18);
  for (uint64_t at = 0; at < bytes;) {
    const auto part = std::span(piece).first(std::min<uint64_t>(piece.size(), bytes - at));
    CHECK_OK(file.read(at, part));
    hash.update(part);
    at += part.size();
  }
  return {};
}

// Bytes to the end of the file, and through the hash.
class FileSink : public HttpSink {
 public:
  FileSink(OutputFile& file, const Download& wanted, const DownloadEvents& events)
      : file_(file), wanted_(wanted), events_(events), total_(wanted.bytes) {}

  bool begin(uint64_t offset, std::optional<uint64_t> total) override {
    if (!total_) total_ = total;
    if (offset == 0 && file_.size() > 0) return keep(file_.restart());  // the server gives no ranges
    return true;
  }
  bool write(std::span<const std::byte> bytes) override {
    if (total_ && bytes.size() > *total_ - std::min(*total_, file_.size())) {
      return keep(
          fail(ErrorCode::io, "fetching {}: expected {} bytes, but more come; try again later", wanted_.url, *total_));
    }
    if (!total_ && bytes.size() > kMostUnannounced - std::min(kMostUnannounced, file_.size()))
      return keep(fail(ErrorCode::io,
                       "fetching {}: nobody says how large it is, and more than {} bytes come; nothing of it is kept",
                       wanted_.url, kMostUnannounced));
    if (!keep(file_.write(bytes))) return false;
    if (events_.progress) events_.progress(file_.size(), total_);
    return true;
  }
  const Result<void>& result() const { return result_; }
  std::optional<uint64_t> total() const { return total_; }

 private:
  bool keep(Result<void> result) {
    result_ = std::move(result);
    return result_.has_value();
  }
  OutputFile& file_;
  const Download& wanted_;
  const DownloadEvents& events_;
  std::optional<uint64_t> total_;
  Result<void> result_;
};

// Until the file is whole.
Result<void> transfer(Transfers& transfers, const Download& wanted, const DownloadEvents& events, OutputFile& file) {
  FileSink sink(file, wanted, events);
  uint64_t furthest = file.size();
  for (int attempt = 1;;) {
    if (wanted.bytes && file.size() == *wanted.bytes) return {};
    const HttpResponse response = transfers.get({wanted.url, file.size(), wanted.token}, sink);
    CHECK_OK(sink.result());
    const bool success = response.status == 200 || response.status == 206;
    const bool whole = success && response.error.empty() && (!sink.total() || file.size() == *sink.total());
    if (whole) return {};
    if (response.status == 416) {  // what is there is no beginning of the server's file
      CHECK_OK(file.restart());
    } else if (!success && !worth_another_try(response.status)) {
      return refused(wanted.url, response);
    }
    if (file.size() > furthest) attempt = 1;
    furthest = std::max(furthest, file.size());
    const std::string why =
        !response.error.empty() ? response.error : fmt::format("the server answers {}", response.status);
    if (attempt == wanted.attempts) {
      return fail(ErrorCode::io,
                  "fetching {}: {}, {} times without progress; {} bytes are kept in {}, run it again to go on",
                  wanted.url, why, attempt, file.size(), file.temporary());
    }
    if (events.note) events.note(fmt::format("{}; going on from byte {}", why, file.size()));
    wait_before(attempt++);
  }
}

// What of a file tells whether its content is right; "" where nothing is known.
struct Check {
  const char* name;
  HashKind kind;
  std::string expected, prefix;  // hashed before the content
};
Check check_of(const Download& wanted, uint64_t bytes) {
  if (!wanted.sha256.empty()) return {"SHA-256", HashKind::sha256, wanted.sha256, ""};
  return {"git blob", HashKind::sha1, wanted.git_blob, fmt::format("blob {}", bytes) + '\0'};
}

// The hash of so many bytes, as the check has it.
Result<std::string> found_hash(Transfers& transfers, const Check& check, const std::string& path, uint64_t bytes) {
  const auto hash = transfers.hash(check.kind);
  hash->update(std::as_bytes(std::span(check.prefix)));
  CHECK_OK(hash_file(path, bytes, *hash));
  return hash->hex();
}

Result<bool> is_there(Transfers& transfers, const Download& wanted) {
  if (!is_file(wanted.path) || !wanted.bytes) return false;
  if (TRY(InputFile::open(wanted.path)).size() != *wanted.bytes) return false;
  const Check check = check_of(wanted, *wanted.bytes);
  return !check.expected.empty() && TRY(found_hash(transfers, check, wanted.path, *wanted.bytes)) == check.expected;
}

class TextSink : public HttpSink {
 public:
  explicit TextSink(uint64_t limit) : limit_(limit) {}
  bool begin(uint64_t, std::optional<uint64_t>) override { return text.clear(), true; }
  bool write(std::span<const std::byte> bytes) override {
    if (text.size() + bytes.size() > limit_) return !(too_long = true);
    text.append(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    return true;
  }
  std::string text;
  bool too_long = false;

 private:
  uint64_t limit_;
};

}  // namespace

Result<DownloadOutcome> download(Transfers& transfers, const Download& wanted, const DownloadEvents& events) {
  if (TRY(is_there(transfers, wanted))) return DownloadOutcome::already_there;
  const bool checked = !wanted.sha256.empty() || !wanted.git_blob.empty();
  for (bool anew = !checked;; anew = true) {
    OutputFile file = TRY(OutputFile::resume(wanted.path));
    if (anew || (wanted.bytes && file.size() > *wanted.bytes)) CHECK_OK(file.restart());
    const bool resumed = file.size() > 0;
    if (const Result<void> came = transfer(transfers, wanted, events, file); !came) {
      if (!checked) file.discard();
      return Failure(came.error());
    }
    const Check check = check_of(wanted, file.size());
    const std::string found =
        checked ? TRY(found_hash(transfers, check, file.temporary(), file.size())) : std::string();
    if (found != check.expected) {
      file.discard();
      if (resumed) {
        if (events.note) events.note("what was there of it is of another version; fetching it anew");
        continue;
      }
      return fail(ErrorCode::io,
                  "fetching {}: expected {} {}, found {}; what came was removed, run it again to fetch it anew",
                  wanted.url, check.name, check.expected, found);
    }
    CHECK_OK(file.commit());
    return resumed ? DownloadOutcome::resumed : DownloadOutcome::fetched;
  }
}

Result<std::string> get_text(Transfers& transfers, const std::string& url, const std::string& token,
                             uint64_t limit_bytes, int attempts) {
  for (int attempt = 1;; ++attempt) {
    TextSink sink(limit_bytes);
    const HttpResponse response = transfers.get({url, 0, token}, sink);
    if (sink.too_long) return fail(ErrorCode::io, "fetching {}: the answer is longer than {} bytes", url, limit_bytes);
    if (response.status == 200 && response.error.empty()) return std::move(sink.text);
    if (response.status != 200 && !worth_another_try(response.status)) return refused(url, response);
    if (attempt < attempts) {
      wait_before(attempt);
      continue;
    }
    if (response.error.empty()) return refused(url, response);
    return fail(ErrorCode::io, "fetching {}: {}, {} times; is the network there, and --endpoint right?", url,
                response.error, attempt);
  }
}

}  // namespace thimble
