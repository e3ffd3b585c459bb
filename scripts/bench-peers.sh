#!/usr/bin/env bash
# evenkeel beside HAProxy and nginx: CPU per connection, per request, per GiB and per size of
# response, latency, memory of idle connections. Prints a Markdown report and says which of
# evenkeel's own targets it meets.
#
#   scripts/bench-peers.sh [--rounds 5] [--seconds 3] [--workloads LIST] [--peers LIST]
#                          [--json FILE] [--svg FILE]           --help has the rest
#   scripts/bench-peers.sh --from-json FILE [--svg FILE]        measures nothing, reports again
#
# As root it runs in a network namespace of its own and, on Debian and its kin, installs what is
# missing. All traffic stays on loopback.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
PATH="$PATH:/usr/sbin:/sbin"

packages=""
for entry in haproxy:haproxy nginx:nginx wrk:wrk iperf3:iperf3 strace:strace ip:iproute2 \
    taskset:util-linux python3:python3; do
    command -v "${entry%%:*}" >/dev/null || packages+=" ${entry##*:}"
done
# Debian keeps nginx's TCP proxy in a package of its own.
if [ -e /etc/debian_version ] && ! [ -e /usr/lib/nginx/modules/ngx_stream_module.so ]; then
    packages+=" libnginx-mod-stream"
fi

case " $* " in
*" --from-json"* | *" --help "* | *" -h "*) exec python3 scripts/bench_peers.py "$@" ;;
esac
if [ -n "$packages" ]; then
    if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
        echo "bench-peers needs, by their Debian names:$packages" >&2
        exit 1
    fi
    echo "installing with apt-get:$packages" >&2
    apt-get update -qq >&2
    # shellcheck disable=SC2086 # one word per package
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $packages >&2
fi

case " $* " in
*" --program"*) exec python3 scripts/bench_peers.py "$@" ;;
esac
cargo build --release --quiet
exec python3 scripts/bench_peers.py --built "${CARGO_TARGET_DIR:-target}/release/evenkeel" "$@"
