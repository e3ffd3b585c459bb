#!/usr/bin/env bash
# How much CPU the proxy spends per response, by size of the response and by zero_copy mode: does
# `auto` choose as well as the better fixed mode? Prints a Markdown table.
#
#   scripts/bench-sizes.sh [--rounds 5] [--seconds 2] [--sizes 64,256,...] [--json FILE]
#
# wrk, with keep-alive connections, asks nginx for files in /dev/shm through evenkeel with one worker
# and no access log. The proxy has the first CPU this process may use, load and nginx have the second.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

PATH="$PATH:/usr/sbin:/sbin"
for program in nginx wrk taskset ip python3 cargo; do
    command -v "$program" >/dev/null && continue
    echo "bench-sizes needs $program; on Debian: apt-get install nginx wrk util-linux iproute2 python3" >&2
    exit 1
done

case " $* " in *" --help "* | *" -h "*) ;; *) cargo build --release --quiet ;; esac
target=${CARGO_TARGET_DIR:-target}
exec python3 scripts/bench_sizes.py --program "$target/release/evenkeel" "$@"
