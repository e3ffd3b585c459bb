#!/usr/bin/env bash
# Checks everything: format, lints, build, all tests, documentation. CI runs this, and so should you.
#
# On Debian and its kin it installs what the tests need and says so; with nothing missing it needs no
# root. Elsewhere it says what to install; without those programs their tests are skipped, loudly.
#
#   EVENKEEL_TEST_BULK_MIB=64 scripts/test.sh    shorter bulk transfers (default 1024)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# Programs the tests start, and the Debian package each comes from. PostgreSQL keeps its server
# programs out of PATH.
programs="nginx:nginx wrk:wrk h2load:nghttp2-client curl:curl iperf3:iperf3 strace:strace
redis-server:redis-server redis-benchmark:redis-tools initdb:postgresql psql:postgresql-client
ip:iproute2 nft:nftables setpriv:util-linux prlimit:util-linux unshare:util-linux cc:gcc
python3:python3"

main() {
    find_cargo
    install_missing
    # Thousands of connections are held at once; take what this machine allows.
    ulimit -n "$(ulimit -Hn)" 2>/dev/null || true
    step "format" cargo fmt --all --check
    step "clippy" cargo clippy --workspace --all-targets --quiet -- -D warnings
    step "build" cargo build --workspace --quiet
    step "tests" cargo test --workspace --no-fail-fast
    # Where `auto` took io_uring, everything that runs the program runs on epoll as well.
    if [ "$(uname -s)" = Linux ]; then
        EVENKEEL_TEST_POLLER=epoll step "tests on epoll" cargo test --no-fail-fast \
            --test relay --test real_servers --test failover --test syscalls --test memory
    fi
    step "benches, once" cargo test --workspace --quiet --bench '*'
    step "benchmarks" check_benchmarks
    RUSTDOCFLAGS="-D warnings" step "documentation" cargo doc --workspace --no-deps --quiet
    summary
}

find_cargo() {
    PATH="$PATH:${CARGO_HOME:-$HOME/.cargo}/bin"
    if ! command -v cargo >/dev/null; then
        echo "cargo is not installed: see https://rustup.rs" >&2
        exit 1
    fi
    local component
    for component in fmt:rustfmt clippy:clippy; do
        cargo "${component%%:*}" --version >/dev/null 2>&1 && continue
        echo "adding the ${component##*:} component to the Rust toolchain"
        rustup component add "${component##*:}"
    done
}

install_missing() {
    local missing
    missing=$(missing_packages)
    [ -n "$missing" ] || return 0
    if [ "$(uname -s)" != Linux ]; then
        echo "tests with real servers run on Linux only; nothing to install"
    elif ! command -v apt-get >/dev/null; then
        echo "missing here, by their Debian names:$missing" >&2
        echo "install them to run the tests that need them" >&2
    elif [ "$(id -u)" -eq 0 ]; then
        apt_install "" "$missing"
    elif command -v sudo >/dev/null && sudo -n true 2>/dev/null; then
        apt_install "sudo" "$missing"
    else
        echo "cannot install without root: sudo apt-get install$missing" >&2
    fi
}

apt_install() {
    local sudo=$1 missing=$2
    echo "installing with apt-get:$missing"
    $sudo apt-get update -qq
    # shellcheck disable=SC2086 # one word per package
    $sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing
}

missing_packages() {
    local entry missing=""
    for entry in $programs; do
        is_installed "${entry%%:*}" && continue
        case " $missing " in
        *" ${entry##*:} "*) ;;
        *) missing+=" ${entry##*:}" ;;
        esac
    done
    echo "$missing"
}

is_installed() {
    PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin" command -v "$1" >/dev/null && return 0
    compgen -G "/usr/lib/postgresql/*/bin/$1" >/dev/null
}

# What the benchmark scripts compute; they are not run.
# shellcheck disable=SC2317 # "step" calls it
check_benchmarks() {
    if command -v python3 >/dev/null; then
        python3 scripts/test_bench.py
    else
        echo "SKIPPED: there is no python3" >&2
        [ "${CI:-}" != true ]
    fi
}

results=""
failed=0

# Runs one step and goes on when it fails, so that one run tells everything.
step() {
    local name=$1 start=$SECONDS verdict="ok"
    shift
    echo
    echo "== $name: $*"
    "$@" || { verdict="FAILED" failed=1; }
    results+=$(printf '%-15s %-7s %5d s' "$name" "$verdict" $((SECONDS - start)))$'\n'
}

summary() {
    echo
    echo "== summary"
    printf '%s' "$results"
    printf '%-15s %-7s %5d s\n' "in all" "$([ $failed -eq 0 ] && echo ok || echo FAILED)" "$SECONDS"
    exit $failed
}

main "$@"
