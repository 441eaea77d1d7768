#!/usr/bin/env bash
# Called by `./dev check`: formatting, layering, file lengths, clang-tidy on changed files.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

longest=400
failures=0

fail() {
  printf '%s\n' "$*"
  failures=$((failures + 1))
}

mapfile -t sources < <(find src tests bench include fuzz -name '*.cpp' -o -name '*.h' 2>/dev/null | sort)

check_format() {
  clang-format --dry-run -Werror "${sources[@]}" || fail "formatting: run clang-format -i on the files above"
}

# Folders that `$1` may include, itself first: the closure of the thimble_folder lines of src/CMakeLists.txt.
declare -A allowed
read_layers() {
  local name dependencies dependency
  while read -r name dependencies; do
    allowed[$name]=" $name "
    for dependency in $dependencies; do
      [[ $dependency == thimble_* ]] || continue
      allowed[$name]+="${allowed[${dependency#thimble_}]:-} "
    done
  done < <(sed -n 's/^thimble_folder(\([a-z_]*\) *\([^)]*\)).*/\1 \2/p' src/CMakeLists.txt)
}

check_layers() {
  local file folder included
  read_layers
  for file in "${sources[@]}"; do
    [[ $file == src/*/* ]] || continue
    folder=${file#src/}
    folder=${folder%%/*}
    [[ -n ${allowed[$folder]:-} ]] || continue
    while read -r included; do
      [[ -d src/$included ]] || continue
      [[ ${allowed[$folder]} == *" $included "* ]] || fail "layering: $file includes $included/, which it may not use"
    done < <(sed -n 's/^#include "\([a-z_]*\)\/.*/\1/p' "$file" | sort -u)
  done
}

check_headers() {
  local file
  for file in "${sources[@]}"; do
    [[ $file != *.h ]] || grep -q '^#pragma once' "$file" || fail "headers: $file lacks #pragma once"
  done
}

# clang-format leaves comments as they are: rewrapped, their columns would be lost.
check_comments() {
  local wide
  wide=$(LC_ALL=C.UTF-8 grep -nE '^ *//.*$' "${sources[@]}" | LC_ALL=C.UTF-8 grep -E '^[^:]*:[0-9]+:.{121,}$' || true)
  [[ -z $wide ]] || fail "comments: wider than 120 columns"$'\n'"$wide"
}

report_lengths() {
  local file lines
  for file in "${sources[@]}"; do
    lines=$(wc -l <"$file")
    if ((lines > longest)); then printf 'length: %s has %d lines (aim: %d)\n' "$file" "$lines" "$longest"; fi
  done
}

# Changed against the main branch where there is one, and in the working tree.
changed_sources() {
  {
    git diff --name-only --diff-filter=d HEAD
    if git rev-parse --verify --quiet main >/dev/null; then git diff --name-only --diff-filter=d main...HEAD; fi
  } | sort -u | grep -E '^src/.*\.cpp$' || true
}

# Generated data that is kept must be what its generator makes.
check_generated() {
  local folder
  folder=$(mktemp -d)
  python3 examples/receipts/generate.py --out "$folder"
  diff -q -r -x '*.py' -x '*.md' -x __pycache__ examples/receipts "$folder" ||
    fail "examples/receipts: run generate.py again"
  rm -rf "$folder"
}

check_tidy() {
  command -v clang-tidy >/dev/null || return 0
  [[ -f build/release/compile_commands.json ]] || {
    printf 'clang-tidy: skipped, as build/release is not configured\n'
    return 0
  }
  # Those of another architecture are no part of that build.
  local changed
  mapfile -t changed < <(changed_sources | while IFS= read -r file; do
    if grep -q "/$file\"" build/release/compile_commands.json; then printf '%s\n' "$file"; fi
  done)
  ((${#changed[@]})) || return 0
  # GCC's precompiled headers mean nothing to clang.
  local database
  database=$(mktemp -d)
  sed -E 's/ -Winvalid-pch| -include [^ ]*cmake_pch\.hxx//g' build/release/compile_commands.json \
    >"$database/compile_commands.json"
  clang-tidy --quiet -p "$database" "${changed[@]}" 2>/dev/null || fail "clang-tidy: see above"
  rm -rf "$database"
}

check_format
check_comments
check_layers
check_headers
report_lengths
check_generated
check_tidy
if ((failures)); then
  printf '%d checks failed\n' "$failures"
  exit 1
fi
printf 'all checks passed\n'
