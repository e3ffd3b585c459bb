"""The work of bench-sizes.sh: three proxies, one nginx, many short runs of wrk, one table.

Every round visits all sizes and, for each, all modes in an order that moves on by one, so that a
slow minute of the machine hits all modes alike. The CPU time is that of the proxy's threads, from
/proc/PID/task/*/schedstat: user and system time, to the nanosecond, of this process alone.
"""

import argparse
import json
import os
import statistics
import sys

sys.dont_write_bytecode = True

from bench import accounting, backends, load, measure, peers  # noqa: E402
from bench.lab import Lab, free_ports, machine  # noqa: E402

MODES = ("auto", "always", "never")
SIZES = "64,256,1024,4096,16384,65536,262144,1048576"


def main():
    options = parse_options()
    sizes = [int(size) for size in options.sizes.split(",")]
    with Lab("sizes") as lab:
        (backend,), _ = backends.start_nginx(lab, {str(size): size for size in sizes})
        proxies = {mode: start_proxy(lab, options.program, mode, backend) for mode in MODES}
        samples = all_samples(options, sizes, proxies, lab)
    report(options, sizes, samples, lab)


def parse_options():
    parser = argparse.ArgumentParser(prog="bench-sizes.sh", description=__doc__.splitlines()[0])
    parser.add_argument("--program", help=argparse.SUPPRESS, required=True)
    parser.add_argument("--rounds", type=int, default=5, help="runs per size and mode (default 5)")
    parser.add_argument("--seconds", type=int, default=2, help="length of a run (default 2)")
    parser.add_argument("--connections", type=int, default=32, help="of wrk (default 32)")
    parser.add_argument("--sizes", default=SIZES, help=f"bytes per response (default {SIZES})")
    parser.add_argument("--json", metavar="FILE", help="write every sample there")
    return parser.parse_args()


def start_proxy(lab, program, mode, backend):
    port, = free_ports(1)
    # Each mode has a folder, and so a configuration, of its own: all three live at once.
    folder = f"{lab.folder}/{mode}"
    os.mkdir(folder)
    plan = peers.Plan([peers.Front("front", port, [backend])], lab.workers, lab.descriptors,
                      folder, os.path.abspath(program))
    process = peers.start(lab, peers.evenkeel("auto", mode)(plan), folder)
    lab.await_listening(process, [port])
    return process.pid, port


def all_samples(options, sizes, proxies, lab):
    samples = {size: {mode: [] for mode in MODES} for size in sizes}
    for number in range(options.rounds):
        for place, size in enumerate(sizes):
            turn = (number + place) % len(MODES)
            for mode in MODES[turn:] + MODES[:turn]:
                pid, port = proxies[mode]
                sample = run(options, pid, f"http://127.0.0.1:{port}/{size}", lab)
                samples[size][mode].append(sample)
                print(
                    f"round {number + 1}/{options.rounds} {size:>8} B {mode:>6}: "
                    f"{sample['cpu_us']:9.2f} us/response, {sample['responses']} responses",
                    file=sys.stderr,
                )
    return samples


def run(options, pid, url, lab):
    before = accounting.cpu_ns(pid)
    result = load.wrk(lab, url, options.connections, options.seconds)
    measure.settle(pid)
    spent = accounting.cpu_ns(pid) - before
    if result["errors"]:
        sys.exit(f"wrk met errors: {'; '.join(result['errors'])}")
    return {
        "cpu_us": spent / result["units"] / 1000,
        "responses": result["units"],
        "proxy_busy": spent / 1e9 / options.seconds,
    }


def report(options, sizes, samples, lab):
    facts = machine()
    print(f"Proxy CPU per response in us: median (lowest to highest) of {options.rounds} runs of "
          f"{options.seconds} s, {options.connections} keep-alive connections.")
    print(f"Placement: {lab.placement()}; {facts['cpu']}, Linux {facts['kernel']}; "
          f"{lab.network}.\n")
    print("| response | auto | always | never | auto / better fixed mode |")
    print("|---:|---:|---:|---:|---:|")
    rows = []
    for size in sizes:
        runs = {mode: [sample["cpu_us"] for sample in samples[size][mode]] for mode in MODES}
        medians = {mode: statistics.median(runs[mode]) for mode in MODES}
        ratio = medians["auto"] / min(medians["always"], medians["never"])
        cells = [f"{medians[m]:.2f} ({min(runs[m]):.2f} to {max(runs[m]):.2f})" for m in MODES]
        print(f"| {human(size)} | {' | '.join(cells)} | {ratio:.3f} |")
        rows.append({"size": size, "median_us": medians, "ratio": ratio, "samples": samples[size]})
    worst = max(rows, key=lambda row: row["ratio"])
    print(f"\nWorst ratio: {worst['ratio']:.3f}, at {human(worst['size'])}.")
    if options.json:
        with open(options.json, "w") as file:
            json.dump({
                "rounds": options.rounds, "seconds": options.seconds,
                "connections": options.connections, "proxy_cpu": lab.proxy_cpu,
                "load_cpu": lab.load_cpu, "network": lab.network,
                "cpu": facts["cpu"], "kernel": facts["kernel"], "rows": rows,
            }, file, indent=1)


def human(size):
    for unit, factor in (("MiB", 1 << 20), ("KiB", 1 << 10)):
        if size >= factor and size % factor == 0:
            return f"{size // factor} {unit}"
    return f"{size} B"


if __name__ == "__main__":
    main()
