#!/usr/bin/env bash
# Called by `./dev new KIND NAME`: a technique's file, table row, CMake entry, page and test, from tools/templates/.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

die() {
  printf 'dev new: %s\n' "$*" >&2
  exit 1
}

kinds=()
for template in tools/templates/*.cpp; do
  template=${template##*/}
  [[ $template == *_test.cpp ]] || kinds+=("${template%.cpp}")
done

kind=${1:-}
name=${2:-}
[[ -n $kind && -n $name ]] || die "usage: ./dev new KIND NAME; kinds: ${kinds[*]}"
[[ -f tools/templates/$kind.cpp ]] || die "there is no kind '$kind'; kinds: ${kinds[*]}"
[[ $name =~ ^[a-z][a-z0-9_]*$ ]] || die "a name is snake_case, not '$name'"

# snake_case to PascalCase, the constant's name without its k.
pascal() {
  local word out=
  for word in ${1//_/ }; do out+=${word^}; done
  printf '%s' "$out"
}
symbol=k$(pascal "$name")

fill() { # template, destination
  [[ ! -e $2 ]] || die "$2 exists already"
  mkdir -p "$(dirname "$2")"
  sed -e "s/@NAME@/$name/g" -e "s/@SYMBOL *@/$symbol/g" -e "s/@PASCAL@/${symbol#k}/g" "$1" >"$2"
  printf 'made     %s\n' "$2"
}

insert() { # file, sed script, what must then be there
  sed -i "$2" "$1"
  grep -qF -- "$3" "$1" || die "$1 has another shape than expected: add '$3' by hand"
  printf 'changed  %s\n' "$1"
}

new_codec() {
  fill tools/templates/codec.cpp "src/codecs/$name.cpp"
  fill tools/templates/codec_test.cpp "tests/codecs/${name}_test.cpp"
  fill tools/templates/codec.md "docs/methods/$name.md"
  insert src/codecs/CMakeLists.txt "s/^  codec\.cpp/  $name.cpp\n&/" "$name.cpp"
  insert src/codecs/codec.h "s/^extern const Codec kF32;/extern const Codec $symbol;\n&/" "extern const Codec $symbol;"
  insert src/codecs/codec.cpp "/^constexpr std::array kCodecs/,/};/s/};/, \&$symbol};/" ", &$symbol}"
  insert tests/codecs/CMakeLists.txt "s/SOURCES contract_test\.cpp/& ${name}_test.cpp/" "${name}_test.cpp"
  clang-format -i src/codecs/codec.cpp
  printf 'now: write the format in src/codecs/%s.cpp, then ./dev test\n' "$name"
}

new_optimizer() {
  fill tools/templates/optimizer.cpp "src/methods/optimizers/$name.cpp"
  fill tools/templates/optimizer_test.cpp "tests/methods/${name}_test.cpp"
  fill tools/templates/optimizer.md "docs/methods/$name.md"
  insert src/methods/CMakeLists.txt "s/ optimizers\/sgd\.cpp/ optimizers\/$name.cpp&/" "optimizers/$name.cpp"
  insert src/methods/optimizer.h "s/^extern const Optimizer kAdamw;/&\nextern const Optimizer $symbol;/" "extern const Optimizer $symbol;"
  insert src/methods/optimizer.cpp "/^constexpr std::array kOptimizers/,/};/s/};/, \&$symbol};/" ", &$symbol}"
  insert tests/methods/CMakeLists.txt "s/ optimizers_test\.cpp/ ${name}_test.cpp&/" "${name}_test.cpp"
  # Its equation in double, which the contract test wants of every optimizer.
  local equation
  equation=$(sed "s/@NAME@/$name/g" tools/templates/optimizer_equation.txt | sed 's/$/\\/')
  insert tests/methods/optimizers_test.cpp "/^\/\/ A new optimizer brings its equation here/i\\
${equation%\\}
" "void $name("
  insert tests/methods/optimizers_test.cpp "s/ kEquations = {/&{\"$name\", $name}, /" "{\"$name\", $name}"
  clang-format -i src/methods/optimizer.cpp
  printf 'now: write the update in src/methods/optimizers/%s.cpp, its equation in tests/methods/optimizers_test.cpp, then ./dev test\n' "$name"
}

new_op() {
  fill tools/templates/op.cpp "src/ops/$name.cpp"
  fill tools/templates/op_test.cpp "tests/ops/${name}_test.cpp"
  insert src/ops/CMakeLists.txt "s/^  table\.cpp/& $name.cpp/" " $name.cpp"
  insert src/ops/table.h "s/^extern const Op kAdd;/extern const Op $symbol;\n&/" "extern const Op $symbol;"
  insert src/ops/table.cpp "s/^constexpr std::array kOps = {/&\n    \&$symbol,/" "&$symbol,"
  insert tests/ops/CMakeLists.txt "s/SOURCES contract_test\.cpp/& ${name}_test.cpp/" "${name}_test.cpp"
  clang-format -i src/ops/table.cpp
  printf 'now: write the operation in src/ops/%s.cpp, then ./dev test\n' "$name"
}

new_transform() {
  fill tools/templates/transform.cpp "src/methods/transforms/$name.cpp"
  fill tools/templates/transform.md "docs/methods/$name.md"
  insert src/methods/CMakeLists.txt "s/ transforms\/wanda\.cpp/ transforms\/$name.cpp&/" "transforms/$name.cpp"
  insert src/methods/transform.h "s/^extern const Transform kMagnitude;/&\nextern const Transform $symbol;/" "extern const Transform $symbol;"
  insert src/methods/transform.cpp "/kTable\[\] = {/s/};/, \&$symbol};/" ", &$symbol}"
  clang-format -i src/methods/transform.cpp
  printf 'now: write the method in src/methods/transforms/%s.cpp, its equation in tests/run/transformation_test.cpp, then ./dev test\n' "$name"
}

"new_$kind"
