// What is read again of runs and servers: event logs, and a hub's list of files.
#include "fetch/hub.h"
#include "fuzz_file.h"
#include "report/run_log.h"
#include "text/grammar/grammar.h"
#include "text/grammar/json_schema.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace thimble;
  static const FuzzFolder folder;
  const std::string_view text = text_of(data, size);
  (void)read_run_log(folder.write("events.jsonl", text));
  (void)parse_listing(text, "a list");
  if (const auto gbnf = gbnf_of_json_schema(text)) (void)Grammar::parse(*gbnf);
  return 0;
}
