#!/usr/bin/env bash
# The fast tests where a container gives little: no variable but PATH and TMPDIR (so no HOME), no /proc, and nothing that
# can be written to but one folder. What needs more has to say so: commands that plan memory are refused without /proc,
# and their tests fail by that refusal.
#
#   tools/check_bare.sh [BUILD] [REGEX]    as root; BUILD is build/release, REGEX chooses tests (ctest -R)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export build=$PWD/${1:-build/release} chosen=${2:-.}

unshare --mount bash -euo pipefail -c '
  mkdir -p "$build/bare"
  mount --make-rprivate /
  mount --bind "$build" "$build"
  mount -o remount,ro,bind /
  cd "$build"
  mount -t tmpfs -o ro none /proc
  exec env -i PATH=/usr/bin:/bin TMPDIR="$build/bare" \
    ctest --label-regex "^fast$" -R "$chosen" --output-on-failure --parallel 3 --no-tests=error
'
