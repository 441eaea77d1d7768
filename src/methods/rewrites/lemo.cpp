// LeMo: while others train, each block works on the tokens that a predictor takes for informative; the rest pass by it
// on the residual stream.
//
//   Paper   Wang et al. 2025, arXiv:2501.09767, and USENIX ATC 2025 as "Jenga": token elimination and pattern
//           prediction; the authors' code (Pairshoe/Jenga-AE, modeling_llama.py)
//   Graph   of the rows x that block l would read, rows r are chosen by score (ops/choose_rows.cpp);
//           x' = x, with x'[r] = block(x[r]), where attention has the positions and sequences of r
//   Score   w relu(R n(x)) + b of the token's own row (lemo_predictor.cpp)
//   Blocks  in the middle; those at both ends work on all rows, as the first half and the last block do in the
//           authors' code
//   Choice  single tokens, where theirs are blocks of 64: rows, not CUDA tiles, are the unit here. A block's FFN
//           works on the same rows as its attention; theirs leaves neurons of the FFN out. How many stay is fixed, as
//           in their code, not by a threshold that is tuned
#include "methods/rewrites/lemo.h"

#include <algorithm>
#include <cmath>

#include "ops/fewer_rows.h"
#include "ops/matrix.h"
#include "ops/table.h"

namespace thimble {
namespace {

constexpr double kMost = 1 << 30;
constexpr Option kOptions[] = {
    {"keep", 0.6, 0.01, 1, "of a window's tokens, the part that a block works on"},
    {"first", 0.25, 0, 1, "of the blocks, the part at the beginning that works on every token"},
    {"last", 0.25, 0, 1, "likewise at the end; at least one block"},
    whole_number("windows", 4, 0, 1024, "of the data that predictors are fitted to; 0: tokens are left out evenly"),
    whole_number("features", 64, 4, 256, "numbers that a predictor reads of a token"),
    {kLemoPredictor, 0, -kMost, kMost, "of the blocks that leave tokens out, instead of fitted ones",
     Option::Kind::whole_numbers},
};
using Kind = PeftField::Kind;
constexpr PeftField kFields[] = {
    {"keep", "keep", Kind::number, {}, 0.6},       {"first", "first", Kind::number, {}, 0.25},
    {"last", "last", Kind::number, {}, 0.25},      {"windows", "windows", Kind::whole, {}, 4},
    {"features", "features", Kind::whole, {}, 64}, {"predictor", kLemoPredictor, Kind::list, "predictor_pattern"}};

int64_t whole(const StreamRewrite& s, std::string_view option) { return static_cast<int64_t>(s.option(option)); }

// Blocks [begin, end) leave rows out.
struct Blocks {
  int64_t begin, end;
};
Blocks some_blocks(const StreamRewrite& s) {
  const auto part = [&](std::string_view option) {
    return static_cast<int64_t>(s.option(option) * static_cast<double>(s.layers));
  };
  return {part("first"), s.layers - std::max<int64_t>(1, part("last"))};
}
bool leaves_out(const StreamRewrite& s, int64_t l) { return l >= some_blocks(s).begin && l < some_blocks(s).end; }

int64_t kept_of(const StreamRewrite& s) {
  const auto kept = std::llround(s.option("keep") * static_cast<double>(s.inputs.window));
  return std::clamp<int64_t>(kept, 1, s.inputs.window);
}

Result<void> check_options(const StreamRewrite& s) {
  const auto [begin, end] = some_blocks(s);
  const int64_t some = end - begin;
  if (some < 1)
    return fail(ErrorCode::invalid_argument,
                "--set lemo.first={} with lemo.last={}: of {} blocks the first {} and the last {} work on every token, "
                "so that none leaves any out; give less",
                s.option("first"), s.option("last"), s.layers, begin, s.layers - end);
  const auto there = std::ssize(s.module.options.list(kLemoPredictor)), wanted = some * (whole(s, "features") + 1);
  if (there == 0 || there == wanted) return {};
  return fail(ErrorCode::invalid_argument,
              "lemo.predictor: {} blocks with {} features and a constant each need {} numbers, found {}; leave it out, "
              "so that predictors are fitted",
              some, whole(s, "features"), wanted, there);
}

// A table of numbers of this block's predictor, from the one at `first` of it on; zeros where there is none.
ValueId predictor(StreamRewrite& s, int64_t l, std::string_view what, int64_t first, const Shape& shape) {
  const std::vector<double>& all = s.module.options.list(kLemoPredictor);
  const int64_t own = (l - some_blocks(s).begin) * (whole(s, "features") + 1) + first;
  std::vector<float> numbers(static_cast<size_t>(shape.count()), 0.0f);
  std::string content = "predictor";
  for (size_t i = 0; i < numbers.size(); ++i) {
    if (!all.empty()) numbers[i] = static_cast<float>(all[static_cast<size_t>(own) + i] * kLemoUnit);
    content += fmt::format(" {}", numbers[i]);
  }
  const auto fill = [numbers = std::move(numbers)](int64_t begin, int64_t n, float* to) {
    std::copy_n(numbers.begin() + begin, n, to);
  };
  return s.constant(fmt::format("lemo.{}.{}", l, what), shape, Initial::table(fill, content));
}

// What block `l` reads of x; the rows are kept for what it makes of them.
ValueId some_rows(StreamRewrite& s, ValueId x, int64_t l) {
  s.graph.set_block(static_cast<int>(l));
  const std::string name = fmt::format("lemo.{}.", l);
  const int64_t features = whole(s, "features");
  const ValueId w = predictor(s, l, "factors", 0, {1, features}), b = predictor(s, l, "constant", features, {1});
  const ValueId score =
      s.graph.emit(kLinear, LinearAttributes{}, {lemo_features(s, x, l), w, b, kNone}, name + "score");
  const ChooseRowsAttributes attributes{s.inputs.window, kept_of(s)};
  const auto chosen =
      s.graph.emit_all(kChooseRows, attributes, {score, s.inputs.starts, s.inputs.positions}, name + "rows");
  s.first.high = x, s.rows = {chosen[0]};
  s.block_starts = chosen[1], s.block_positions = chosen[2];
  return s.graph.emit(kGather, GatherAttributes{}, {x, chosen[0]}, name + "x");
}

Result<ValueId> probed(StreamRewrite& s, int64_t blocks, ValueId made) {
  if (blocks > 0 && leaves_out(s, blocks - 1)) CHECK_OK(lemo_probe(s, s.first.high, blocks - 1));
  s.first.high = made;
  return made;
}

Result<ValueId> stream(StreamRewrite& s, int64_t blocks, ValueId made) {
  if (blocks == 0) CHECK_OK(check_options(s));
  if (s.module.probed) return probed(s, blocks, made);
  ValueId x = made;
  if (!s.rows.empty())
    x = s.graph.emit(kPutRows, {}, {s.first.high, made, s.rows.front()}, fmt::format("lemo.{}.put", blocks - 1));
  s.rows.clear();
  s.block_starts = s.inputs.starts, s.block_positions = s.inputs.positions;
  return leaves_out(s, blocks) && kept_of(s) < s.inputs.window ? some_rows(s, x, blocks) : x;
}

}  // namespace

const Rewrite kLemo = {.name = "lemo",
                       .summary = "blocks leave out tokens that say little, while others train",
                       .paper = "arXiv:2501.09767",
                       .options = kOptions,
                       .stream = stream,
                       .training_only = true,
                       .targets = "embed_tokens",
                       .settling = &kLemoSettling,
                       .form = {.type = "LEMO", .fields = kFields}};

}  // namespace thimble
