# Shared by the scripts of this folder: plain words, a log per step, the end of that log when a step fails.
# shellcheck shell=bash
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
logs=$root/build/log

say() { printf '==> %s\n' "$*"; }

# fail STATUS SENTENCE: what is wrong and what to do, in one sentence, then the end.
fail() {
    local status=$1
    shift
    printf 'wardpost: %s\n' "$*" >&2
    exit "$status"
}

# show_end FILE LINES: the end of a log, indented.
show_end() {
    printf -- '--- end of %s\n' "${1#"$root"/}" >&2
    tail -n "$2" "$1" | sed 's/^/    /' >&2
}

# The Debian python: another one may come first in PATH and lack Debian's python3-* packages.
python=/usr/bin/python3
