#!/usr/bin/env bash
# The fast tests where a container gives little: no variable but PATH and TMPDIR (so no HOME), no /proc, and nothing that
# can be written to but one folder. Commands that plan memory are refused without /proc: a test that stops at that
# refusal has ended in clear words; any other failure is one.
#
#   tools/check_bare.sh [BUILD] [REGEX]    as root; BUILD is build/release, REGEX chooses tests (ctest -R)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export build=$PWD/${1:-build/release} chosen=${2:-.}
report=$build/bare/tests.xml
mkdir -p "$build/bare"
rm -f "$report"

unshare --mount bash -euo pipefail -c '
  mount --make-rprivate /
  mount --bind "$build" "$build"
  mount -o remount,ro,bind /
  cd "$build"
  mount -t tmpfs -o ro none /proc
  exec env -i PATH=/usr/bin:/bin TMPDIR="$build/bare" \
    ctest --label-regex "^fast$" -R "$chosen" --quiet --parallel 3 --no-tests=error --output-junit "$0"
' "$report" || true

exec python3 - "$report" <<'END'
import sys
import xml.etree.ElementTree as ElementTree

counts = {"passed": 0, "skipped": 0, "refused": 0, "failed": 0}
for case in ElementTree.parse(sys.argv[1]).getroot().iter("testcase"):
    output = case.findtext("system-out") or ""
    if case.get("status") == "run":
        kind = "passed"
    elif case.find("skipped") is not None:
        kind = "skipped"
    elif "/proc/meminfo cannot be read" in output:
        kind = "refused"
    else:
        kind = "failed"
        print(case.get("name"), output[-2000:], sep="\n")
    counts[kind] += 1
print(", ".join(f"{count} {kind}" for kind, count in counts.items()))
sys.exit(counts["failed"] > 0)
END
