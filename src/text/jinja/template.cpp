#include "text/jinja/template.h"

#include <algorithm>

#include "text/jinja/evaluator.h"
#include "text/jinja/parser.h"
#include "text/jinja/unset_names.h"

namespace thimble::jinja {

Template::Template(std::unique_ptr<const Tree> tree) : tree_(std::move(tree)) {}
Template::Template(Template&&) noexcept = default;
Template& Template::operator=(Template&&) noexcept = default;
Template::~Template() = default;

Result<Template> Template::compile(std::string_view source) {
  constexpr size_t kLongest = 4u << 20;
  if (source.size() > kLongest)
    return fail(ErrorCode::corrupt, "the template has {} bytes, more than {}", source.size(), kLongest);
  Tree tree = TRY(parse(source));
  find_unset_names(tree);
  return Template(std::make_unique<const Tree>(std::move(tree)));
}

Result<Rendering> Template::render(std::span<const Variable> variables, const RenderOptions& options,
                                   bool* raised) const {
  Evaluator evaluator(*tree_, options);
  auto rendering = evaluator.run(variables);
  if (raised) *raised = evaluator.raised();
  return rendering;
}

bool Template::has_generation() const { return tree_->has_generation; }

bool Template::mentions(std::string_view word) const {
  const auto is_word = [&](const Value& value) { return value.is(Kind::text) && value.bytes() == word; };
  return std::ranges::find(tree_->names, word) != tree_->names.end() || std::ranges::any_of(tree_->constants, is_word);
}

std::tm today() {
  const std::time_t now = std::time(nullptr);
  std::tm date{};
  localtime_r(&now, &date);
  return date;
}

}  // namespace thimble::jinja
