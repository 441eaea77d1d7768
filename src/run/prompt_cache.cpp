#include "run/prompt_cache.h"

#include <xxhash.h>

#include <algorithm>
#include <array>

#include "core/isa.h"
#include "core/warnings.h"
#include "models/mixer.h"
#include "run/resume.h"

namespace thimble {
namespace {

constexpr const char* kFormat = "1";
constexpr const char* kIds = "ids";

// In the order in which they are looked at, and what a difference means.
constexpr std::array<std::pair<const char*, const char*>, 5> kParts = {
    {{"form", "it was written in another form of the file"},
     {"program", "another version of thimble wrote it"},
     {"isa", "it was written with kernels of another level"},
     {"numerics", "its numbers were made by other operations: another model, --precision, --multiply or --cache-type"},
     {"weights", "it is of other weights: another model or adapter"}}};

}  // namespace

Result<std::unique_ptr<PromptCache>> PromptCache::open(const PromptCacheOptions& options, Inference& inference) {
  if (options.file.empty()) return std::unique_ptr<PromptCache>();
  if (inference.cache_policy().keep)
    return fail(ErrorCode::unsupported,
                "--prompt-cache: --cache {} forgets tokens, so that its places are not those of a prompt's first "
                "tokens; leave one of them out",
                inference.cache_policy().name);
  std::unique_ptr<PromptCache> cache(new PromptCache(options, inference, TRY(prompt_numerics(inference.spec()))));
  if (is_directory(options.file))
    return fail(ErrorCode::invalid_argument, "--prompt-cache {}: it is a folder; name a file", options.file);
  if (!options.read_only) TRY(OutputFile::create(options.file));  // so that what cannot be written is told at once
  if (!is_file(options.file)) {
    if (!options.read_only) return cache;
    return fail(ErrorCode::invalid_argument,
                "--prompt-cache {}: there is no such file, and --prompt-cache-ro forbids "
                "making one",
                options.file);
  }
  auto file = SafetensorsFile::open(options.file);
  if (file && metadata_text(*file, "kind") == kPromptCacheKind) {
    cache->file_ = *std::move(file);
    return cache;
  }
  // A file of another kind is never written over.
  return fail(ErrorCode::invalid_argument,
              "--prompt-cache {}: the file is no prompt cache{}; remove it or name another", options.file,
              file ? "" : ", or a damaged one (" + file.error().message + ")");
}

std::vector<PromptCache::State> PromptCache::states(int64_t tokens) {
  std::vector<State> states;
  for (const auto& [name, entry] : inference_.plan().layout.entries()) {
    if (entry.role != Role::state) continue;
    State state{name, inference_.value<std::byte>(name), 1, entry.type.bytes()};
    if (caches_positions(name)) state.rows = tokens, state.row_bytes /= entry.type.shape.rows();
    states.push_back(std::move(state));
  }
  return states;
}

// The weights are read as they lie in memory: an adapter's scale is among the operations.
Result<PromptCache::Metadata> PromptCache::identity() {
  BlockHashes all;  // which parts a value comes in says where it lives
  const auto add = [&](std::span<const std::byte> bytes) {
    all.add(bytes);
    return Result<void>();
  };
  Values values = inference_.values();
  for (const auto& [name, entry] : inference_.plan().layout.entries()) {
    const std::string what = fmt::format("{} {}", name, entry.initial.text());
    if (entry.role == Role::weight || entry.role == Role::constant) CHECK_OK(add(std::as_bytes(std::span(what))));
    if (entry.role == Role::weight) CHECK_OK(values.visit(entry, add));
  }
  const std::vector<uint64_t> hashes = all.finish();
  const uint64_t hash = XXH3_64bits(hashes.data(), hashes.size() * sizeof(uint64_t));
  return Metadata{{"kind", kPromptCacheKind},       {"form", kFormat},       {"program", THIMBLE_VERSION},
                  {"isa", std::string(isa_name())}, {"numerics", numerics_}, {"weights", fmt::format("{:016x}", hash)}};
}

// How many of the first tokens are the same.
Result<int64_t> PromptCache::common(std::span<const int32_t> wanted) const {
  const SafetensorsEntry& ids = *file_->find(kIds);
  const auto most = std::min(wanted.size(), static_cast<size_t>(ids.shape.count()));
  std::array<int32_t, 1024> part;
  for (size_t at = 0; at < most; at += part.size()) {
    const auto read = std::span(part).first(std::min(part.size(), most - at));
    CHECK_OK(file_->file().read(ids.offset + at * sizeof(int32_t), std::as_writable_bytes(read)));
    const auto differs = std::ranges::mismatch(read, wanted.subspan(at, read.size())).in1 - read.begin();
    if (differs < std::ssize(read)) return static_cast<int64_t>(at) + differs;
  }
  return static_cast<int64_t>(most);
}

// Every tensor is there, of the size that this model's states have.
Result<void> PromptCache::check_sizes() {
  const SafetensorsEntry* const ids = file_->find(kIds);
  if (!ids || ids->dtype != "I32" || ids->shape.rank() != 1)
    return fail(ErrorCode::corrupt, "it has no list of tokens");
  for (const State& state : states(ids->shape.count() + inference_.lead().rows)) {
    const SafetensorsEntry* const entry = file_->find(state.name);
    if (!entry || entry->dtype != "U8" || !(entry->shape == Shape{state.rows, state.row_bytes}))
      return fail(ErrorCode::corrupt, "'{}' is not as {} tokens need it", state.name, ids->shape.count());
  }
  return {};
}

Result<int64_t> PromptCache::restore(Generator& generator, std::span<const int32_t> wanted) {
  if (!file_) return 0;
  const auto ignore = [&](const std::string& why) {
    file_.reset();
    warn(fmt::format("--prompt-cache {} is not used{}: {}", options_.file, options_.read_only ? "" : ", and made anew",
                     why));
    return int64_t{0};
  };
  const Metadata expected = TRY(identity());
  for (const auto& [part, why] : kParts)
    if (metadata_text(*file_, part) != expected.at(part)) return ignore(why);
  std::span<std::byte> buffer = inference_.values().staging();
  const auto whole = verify_sealed(*file_, "this prompt cache", buffer.first(std::min<size_t>(buffer.size(), 1 << 20)));
  if (!whole) return ignore(whole.error().message);
  if (const auto sizes = check_sizes(); !sizes) return ignore(sizes.error().message);
  const int64_t same = TRY(common(wanted));
  // A recurrent state is that after all of its tokens.
  if (recurrent(inference_.architecture()) && same < file_->find(kIds)->shape.count()) return 0;
  for (const State& state : states(same + inference_.lead().rows)) {
    const auto bytes = static_cast<size_t>(state.rows * state.row_bytes);
    CHECK_OK(file_->file().read(file_->find(state.name)->offset, {state.memory, bytes}));
  }
  generator.resume(0, same);
  return same;
}

Result<void> PromptCache::save(std::span<const int32_t> ids) {
  const auto count = static_cast<int64_t>(ids.size());
  const std::vector<State> all = states(count + inference_.lead().rows);
  std::vector<SafetensorsTensor> tensors = {{kIds, "I32", Shape{count}}};
  for (const State& state : all) tensors.push_back({state.name, "U8", Shape{state.rows, state.row_bytes}});
  SealedWriter writer = TRY(SealedWriter::create(options_.file, std::move(tensors), TRY(identity())));
  CHECK_OK(writer.write(std::as_bytes(ids)));
  for (const State& state : all)
    CHECK_OK(writer.write({state.memory, static_cast<size_t>(state.rows * state.row_bytes)}));
  CHECK_OK(writer.sync());
  return writer.finish();
}

Result<int64_t> PromptCache::begin(Generator& generator, std::span<const int32_t> prompt) {
  const auto wanted = prompt.first(prompt.size() - 1);
  const auto read = static_cast<size_t>(TRY(restore(generator, wanted)));
  if (read == wanted.size()) return static_cast<int64_t>(read);
  const Generator::Prompt rest{0, wanted.subspan(read)};
  CHECK_OK(generator.append({&rest, 1}));
  if (!options_.read_only && !options_.all) CHECK_OK(save(wanted));
  return static_cast<int64_t>(read);
}

// Tokens of the reply went through the program of single tokens, whose bits may be others: they are computed once more
// as a prompt, as which they will be read.
Result<void> PromptCache::end(Generator& generator, std::span<const int32_t> ids, int64_t prompt) {
  if (!options_.all || options_.read_only || ids.size() < 2) return {};
  const auto kept = ids.first(ids.size() - 1);
  if (file_ && TRY(common(kept)) == std::ssize(kept)) return {};
  const int64_t held = generator.truncate(0, prompt - 1);
  const Generator::Prompt rest{0, kept.subspan(static_cast<size_t>(held))};
  if (!rest.ids.empty()) CHECK_OK(generator.append({&rest, 1}));
  return save(kept);
}

}  // namespace thimble
