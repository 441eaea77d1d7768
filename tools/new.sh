#!/usr/bin/env bash
# Called by `./dev new KIND NAME`: a technique's file, table row, CMake entry, page and test, as tools/templates/steps says.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

templates=tools/templates

die() {
  printf 'dev new: %s\n' "$*" >&2
  exit 1
}

mapfile -t kinds < <(sed -n 's/^\[\(.*\)\]$/\1/p' $templates/steps)

kind=${1:-}
name=${2:-}
if [[ $kind == --kinds ]]; then
  printf '%s\n' "${kinds[@]}"
  exit
fi
[[ -n $kind && -n $name ]] || die "usage: ./dev new KIND NAME; kinds: ${kinds[*]}"
[[ " ${kinds[*]} " == *" $kind "* ]] || die "there is no kind '$kind'; kinds: ${kinds[*]}"
[[ $name =~ ^[a-z][a-z0-9_]*$ ]] || die "a name is snake_case, not '$name'"

# snake_case to PascalCase.
pascal() {
  local word out=
  for word in ${1//_/ }; do out+=${word^}; done
  printf '%s' "$out"
}
pascal_name=$(pascal "$name")

trimmed() {
  local text=$1
  text=${text#"${text%%[![:space:]]*}"}
  printf '%s' "${text%"${text##*[![:space:]]}"}"
}

named() {
  local text=$1
  text=${text//@NAME@/"$name"}
  text=${text//@SYMBOL@/"k$pascal_name"}
  text=${text//@PASCAL@/"$pascal_name"}
  printf '%s' "${text//@UPPER@/"${name^^}"}"
}

contents() { # with the last line's end, which $(...) takes away, and an x behind it
  cat "$1"
  printf x
}

changed=()

# A step of each kind finds out whether it can be done; where `doing` is set it does it too.
step_make() { # template, destination
  [[ ! -e $2 ]] || die "$2 exists already"
  [[ $doing ]] || return 0
  local text
  text=$(contents "$templates/$1")
  mkdir -p "$(dirname "$2")"
  text=$(named "$text")
  printf '%s' "${text%x}" >"$2"
  printf 'made     %s\n' "$2"
  changed+=("$2")
}

step_row() { # file, beginning of the list
  local text before list entry
  text=$(contents "$1")
  [[ $text == *"$2"*"}"* ]] || die "$1 has another shape than expected: add &k$pascal_name to '$2' by hand"
  before=${text%%"$2"*}$2
  list=${text#"$before"}
  entry=${list%%\}*}
  [[ $entry, != *"&k$pascal_name",* ]] || die "$1 has &k$pascal_name already"
  [[ $doing ]] || return 0
  local row=", &k$pascal_name"
  [[ $(trimmed "$entry") != *, ]] || row="    &k$pascal_name,"$'\n'  # one a line
  write "$1" "$before$entry$row${list#"$entry"}"
}

step_change() { # file, text, new text
  local text
  text=$(contents "$1")
  [[ $text == *"$2"* ]] || die "$1 has another shape than expected: make it '${3//@HERE@/"$2"}' by hand"
  [[ $doing ]] || return 0
  local new=${3//'\n'/$'\n'}
  write "$1" "${text/"$2"/"${new//@HERE@/"$2"}"}"
}

write() { # file, its contents and an x
  printf '%s' "${2%x}" >"$1"
  [[ " ${changed[*]} " == *" $1 "* ]] || printf 'changed  %s\n' "$1"
  changed+=("$1")
}

hint=
step_then() { hint=$1; }

# Carries out the lines of the kind's section.
walk() {
  local section='' line field fields
  while IFS= read -r line; do
    case $line in
      '' | '#'*) continue ;;
      '['*) section=${line:1:-1} ;;
      *)
        [[ $section == "$kind" ]] || continue
        fields=()
        while IFS= read -r field; do fields+=("$(named "$(trimmed "$field")")"); done <<<"${line//' | '/$'\n'}"
        "step_${fields[0]}" "${fields[@]:1}"
        ;;
    esac
  done <$templates/steps
}

doing=
walk
doing=yes
walk
for file in "${changed[@]}"; do
  case $file in *.cpp | *.h) clang-format -i "$file" ;; esac
done
printf 'now: %s; then ./dev test\n' "$hint"
