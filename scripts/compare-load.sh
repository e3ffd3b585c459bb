#!/usr/bin/env bash
# Do `evenkeel bench` and wrk measure the same? Both ask the same server in turns; prints requests per
# second, median and 99th percentile of each round, and fails when the medians of the rates are more
# than a factor of 1.5 apart.
#
#   scripts/compare-load.sh [--rounds 5] [--seconds 2] [--connections 32] [--path /bytes/100]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

rounds=5 seconds=2 connections=32 path=/bytes/100
while [ $# -gt 0 ]; do
    case $1 in
    --rounds) rounds=$2 ;;
    --seconds) seconds=$2 ;;
    --connections) connections=$2 ;;
    --path) path=$2 ;;
    *)
        sed -n '2,6s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"
        exit 2
        ;;
    esac
    shift 2
done

for program in wrk python3 cargo; do
    command -v "$program" >/dev/null && continue
    echo "compare-load needs $program; on Debian: apt-get install wrk python3" >&2
    exit 1
done
cargo build --release --quiet
evenkeel=${CARGO_TARGET_DIR:-target}/release/evenkeel

work=$(mktemp -d)
"$evenkeel" testserver http >"$work/server" &
server=$!
trap 'kill "$server"; rm -rf "$work"' EXIT
until grep -q listening "$work/server"; do kill -0 "$server"; done
target=$(sed -n 's/^listening on //p' "$work/server")

for round in $(seq "$rounds"); do
    wrk -t 1 -c "$connections" -d "${seconds}s" --latency "http://$target$path" >"$work/wrk.$round"
    "$evenkeel" bench --target "$target" --http "$path" --connections "$connections" \
        --duration "${seconds}s" --json >"$work/bench.$round"
done

python3 - "$work" "$rounds" <<'PYTHON'
import json, re, statistics, sys

work, rounds = sys.argv[1], int(sys.argv[2])
factors = {"us": 1, "ms": 1e3, "s": 1e6}


def of_wrk(text):
    def latency(share):
        number, unit = re.search(rf"{share}%\s+([\d.]+)(us|ms|s)", text).groups()
        return float(number) * factors[unit]

    return float(re.search(r"Requests/sec:\s+([\d.]+)", text)[1]), latency(50), latency(99)


def of_bench(text):
    report = json.loads(text)
    latency = report["latency_us"]["service"]
    return report["operations"]["per_second"], latency["p50"], latency["p99"]


print(f"{'':>6} {'requests/s':>12} {'p50 us':>9} {'p99 us':>9}")
rates = {}
for name, read in (("wrk", of_wrk), ("bench", of_bench)):
    for round in range(1, rounds + 1):
        rate, median, tail = read(open(f"{work}/{name}.{round}").read())
        rates.setdefault(name, []).append(rate)
        print(f"{name:>6} {rate:12.0f} {median:9.0f} {tail:9.0f}")
ratio = statistics.median(rates["bench"]) / statistics.median(rates["wrk"])
print(f"bench / wrk, medians of requests/s: {ratio:.3f}")
sys.exit(not 1 / 1.5 <= ratio <= 1.5)
PYTHON
