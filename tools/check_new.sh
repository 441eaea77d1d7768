#!/usr/bin/env bash
# Tries the templates of `./dev new`: in a clone of the last commit it makes a technique of every kind, or of those that are
# named, each called example_KIND, and builds them and runs the fast tests.
#
#   tools/check_new.sh [--here] [KIND...]
#
# --here: in this tree, whose build is used; nothing may be changed in it, and it is as before when the check ends.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

die() {
  printf 'check_new: %s\n' "$*" >&2
  exit 1
}

here=
if [[ ${1:-} == --here ]]; then
  here=yes
  shift
fi
kinds=("$@")
((${#kinds[@]})) || mapfile -t kinds < <(tools/new.sh --kinds)

if [[ $here ]]; then
  [[ -z $(git status --porcelain) ]] || die "this tree has changes; commit them, or leave --here out"
  trap 'git checkout --quiet -- . && git clean --quiet -fd docs src tests' EXIT
else
  folder=$(mktemp -d)
  trap 'rm -rf "$folder"' EXIT
  git clone --quiet . "$folder/thimble"
  cd "$folder/thimble"
fi

for kind in "${kinds[@]}"; do
  ./dev new "$kind" "example_$kind"
  made=$(git status --porcelain | wc -l)
  if ./dev new "$kind" "example_$kind" >/dev/null 2>&1; then die "$kind: made twice"; fi
  [[ $(git status --porcelain | wc -l) -eq $made ]] || die "$kind: a refusal left changes"
done
mapfile -t sources < <(git ls-files --modified --others --exclude-standard | grep -E '\.(cpp|h)$')
clang-format --dry-run -Werror "${sources[@]}" || die "formatting: see above"

jobs=${THIMBLE_JOBS:-$(nproc)}
cmake --preset release
cmake --build --preset release -j "$jobs"
ctest --test-dir build/release --label-regex '^fast$' --parallel "$jobs" --output-on-failure --no-tests=error
printf 'made, built and tested: %s\n' "${kinds[*]}"
