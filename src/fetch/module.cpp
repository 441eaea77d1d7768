// The module's side of transfer.h: libcurl and OpenSSL's EVP. Nothing else of thimble is linked into it.
#include <curl/curl.h>
#include <openssl/evp.h>

#include <cstdlib>

#include "fetch/transfer.h"

namespace thimble {
namespace {

constexpr size_t kLargestErrorBody = 4096;

// One transfer, as libcurl's callbacks see it.
struct Exchange {
  CURL* curl;
  HttpSink& sink;
  HttpResponse response;
  uint64_t offset = 0;
  bool begun = false, stopped = false;

  bool begin() {
    begun = true;
    curl_off_t length = -1;
    curl_easy_getinfo(curl, CURLINFO_CONTENT_LENGTH_DOWNLOAD_T, &length);
    const uint64_t from = response.status == 206 ? offset : 0;
    std::optional<uint64_t> total;
    if (length >= 0) total = from + static_cast<uint64_t>(length);
    return sink.begin(from, total);
  }

  size_t take(std::span<const std::byte> bytes) {
    curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &response.status);
    if (response.status != 200 && response.status != 206) {
      const size_t room = kLargestErrorBody - std::min(kLargestErrorBody, response.body.size());
      response.body.append(reinterpret_cast<const char*>(bytes.data()), std::min(room, bytes.size()));
      return bytes.size();
    }
    if ((begun || begin()) && sink.write(bytes)) return bytes.size();
    stopped = true;
    return 0;
  }
};

size_t on_body(char* data, size_t size, size_t count, void* exchange) {
  return static_cast<Exchange*>(exchange)->take(std::as_bytes(std::span(data, size * count)));
}

class EvpHash : public Hash {
 public:
  explicit EvpHash(const EVP_MD* kind) : context_(EVP_MD_CTX_new()) { EVP_DigestInit_ex(context_, kind, nullptr); }
  ~EvpHash() override { EVP_MD_CTX_free(context_); }
  void update(std::span<const std::byte> bytes) override { EVP_DigestUpdate(context_, bytes.data(), bytes.size()); }
  std::string hex() override {
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned size = 0;
    EVP_DigestFinal_ex(context_, digest, &size);
    std::string text;
    for (unsigned i = 0; i < size; ++i) text += fmt::format("{:02x}", digest[i]);
    return text;
  }

 private:
  EVP_MD_CTX* context_;
};

class CurlTransfers : public Transfers {
 public:
  CurlTransfers() {
    curl_global_init(CURL_GLOBAL_DEFAULT);
    curl_ = curl_easy_init();
  }
  ~CurlTransfers() override { curl_easy_cleanup(curl_); }

  HttpResponse get(const HttpRequest& request, HttpSink& sink) override {
    curl_easy_reset(curl_);  // the connection stays
    Exchange exchange{.curl = curl_, .sink = sink, .response = {}, .offset = request.offset};
    char message[CURL_ERROR_SIZE] = "";
    curl_easy_setopt(curl_, CURLOPT_URL, request.url.c_str());
    curl_easy_setopt(curl_, CURLOPT_ERRORBUFFER, message);
    curl_easy_setopt(curl_, CURLOPT_USERAGENT, "thimble/0.1");
    curl_easy_setopt(curl_, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(curl_, CURLOPT_FOLLOWLOCATION, 1L);
    curl_easy_setopt(curl_, CURLOPT_MAXREDIRS, 10L);
    curl_easy_setopt(curl_, CURLOPT_PROTOCOLS_STR, "http,https");
    // From HTTPS there is no way back: whoever is in between could send us there.
    curl_easy_setopt(curl_, CURLOPT_REDIR_PROTOCOLS_STR, request.url.starts_with("https://") ? "https" : "http,https");
    if (const char* const authorities = std::getenv("SSL_CERT_FILE"); authorities && *authorities)
      curl_easy_setopt(curl_, CURLOPT_CAINFO, authorities);
    curl_easy_setopt(curl_, CURLOPT_CONNECTTIMEOUT, 30L);
    curl_easy_setopt(curl_, CURLOPT_LOW_SPEED_LIMIT, 1L);
    curl_easy_setopt(curl_, CURLOPT_LOW_SPEED_TIME, 60L);
    if (request.offset > 0) curl_easy_setopt(curl_, CURLOPT_RANGE, fmt::format("{}-", request.offset).c_str());
    if (!request.token.empty()) {
      curl_easy_setopt(curl_, CURLOPT_HTTPAUTH, static_cast<long>(CURLAUTH_BEARER));
      curl_easy_setopt(curl_, CURLOPT_XOAUTH2_BEARER, request.token.c_str());
    }
    curl_easy_setopt(curl_, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(curl_, CURLOPT_WRITEDATA, &exchange);
    const CURLcode code = curl_easy_perform(curl_);
    HttpResponse& response = exchange.response;
    curl_easy_getinfo(curl_, CURLINFO_RESPONSE_CODE, &response.status);
    if (code != CURLE_OK)
      response.error = exchange.stopped ? "stopped" : message[0] ? message : curl_easy_strerror(code);
    const bool success = response.status == 200 || response.status == 206;
    if (code == CURLE_OK && success && !exchange.begun) exchange.begin();  // an empty body
    return std::move(response);
  }

  std::unique_ptr<Hash> hash(HashKind kind) override {
    return std::make_unique<EvpHash>(kind == HashKind::sha256 ? EVP_sha256() : EVP_sha1());
  }

 private:
  CURL* curl_;
};

}  // namespace
}  // namespace thimble

// One object for the life of the process.
extern "C" thimble::Transfers* thimble_fetch_transfers() {
  static thimble::CurlTransfers transfers;
  return &transfers;
}
