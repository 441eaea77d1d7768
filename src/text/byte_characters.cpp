#include "text/byte_characters.h"

#include <array>
#include <cstdint>

#include "text/utf8.h"

namespace thimble {
namespace {

struct Tables {
  std::array<uint16_t, 256> character{};
  std::array<int16_t, 256 + 68> byte{};  // -1: none
};

constexpr Tables make_tables() {
  Tables tables;
  for (auto& byte : tables.byte) byte = -1;
  uint16_t next = 256;
  for (int byte = 0; byte < 256; ++byte) {
    const bool printable = (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
    const uint16_t character = printable ? static_cast<uint16_t>(byte) : next++;
    tables.character[static_cast<size_t>(byte)] = character;
    tables.byte[character] = static_cast<int16_t>(byte);
  }
  return tables;
}

constexpr Tables kTables = make_tables();

}  // namespace

bool bytes_of_characters(std::string_view characters, std::string& bytes) {
  bytes.clear();
  for (size_t at = 0; at < characters.size();) {
    const Utf8Char c = decode_utf8(characters, at);
    if (!c.valid || c.code >= kTables.byte.size() || kTables.byte[c.code] < 0) return false;
    bytes += static_cast<char>(kTables.byte[c.code]);
    at += c.length;
  }
  return true;
}

void append_characters_of_bytes(std::string_view bytes, std::string& characters) {
  for (char byte : bytes) append_utf8(characters, kTables.character[static_cast<unsigned char>(byte)]);
}

}  // namespace thimble
