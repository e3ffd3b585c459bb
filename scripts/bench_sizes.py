"""The work of bench-sizes.sh: three proxies, one nginx, many short runs of wrk, one table.

Every round visits all sizes and, for each, all modes in an order that moves on by one, so that a
slow minute of the machine hits all modes alike. The CPU time is that of the proxy's threads, from
/proc/PID/task/*/schedstat: user and system time, to the nanosecond, of this process alone.
"""

import argparse
import glob
import json
import os
import platform
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time

MODES = ("auto", "always", "never")
SIZES = "64,256,1024,4096,16384,65536,262144,1048576"


def main():
    options = parse_options()
    sizes = [int(size) for size in options.sizes.split(",")]
    cpus = sorted(os.sched_getaffinity(0))
    if len(cpus) < 2:
        sys.exit("two CPUs are needed: one for the proxy, one for the load")
    proxy_cpu, load_cpu = cpus[0], cpus[1]
    folder = tempfile.mkdtemp(prefix="evenkeel-sizes-", dir="/dev/shm")
    processes = []
    try:
        for size in sizes:
            with open(f"{folder}/{size}", "wb") as file:
                file.write(os.urandom(size))
        nginx_port = start_nginx(folder, load_cpu, processes)
        proxies = {
            mode: start_proxy(options.program, mode, nginx_port, folder, proxy_cpu, processes)
            for mode in MODES
        }
        samples = measure(options, sizes, proxies, load_cpu)
    finally:
        for process in reversed(processes):
            process.send_signal(signal.SIGKILL)
            process.wait()
        shutil.rmtree(folder)
    report(options, sizes, samples, proxy_cpu, load_cpu)


def parse_options():
    parser = argparse.ArgumentParser(prog="bench-sizes.sh", description=__doc__.splitlines()[0])
    parser.add_argument("--program", help=argparse.SUPPRESS, required=True)
    parser.add_argument("--rounds", type=int, default=5, help="runs per size and mode (default 5)")
    parser.add_argument("--seconds", type=int, default=2, help="length of a run (default 2)")
    parser.add_argument("--connections", type=int, default=32, help="of wrk (default 32)")
    parser.add_argument("--sizes", default=SIZES, help=f"bytes per response (default {SIZES})")
    parser.add_argument("--json", metavar="FILE", help="write every sample there")
    return parser.parse_args()


def start_nginx(folder, cpu, processes):
    port = free_port()
    user = "user root;" if os.geteuid() == 0 else ""
    with open(f"{folder}/nginx.conf", "w") as file:
        file.write(
            f"daemon off; master_process off; pid {folder}/pid; error_log stderr warn; {user}\n"
            "events { worker_connections 1024; }\n"
            "http { access_log off; sendfile on; keepalive_requests 1000000000;\n"
            f"  client_body_temp_path {folder}/b; proxy_temp_path {folder}/p;\n"
            f"  fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u;\n"
            f"  scgi_temp_path {folder}/s; open_file_cache max=100;\n"
            f"  server {{ listen 127.0.0.1:{port}; root {folder}; }} }}\n"
        )
    start(["nginx", "-p", folder, "-c", f"{folder}/nginx.conf"], cpu, processes)
    wait_for(port)
    return port


def start_proxy(program, mode, backend, folder, cpu, processes):
    port = free_port()
    config = f"{folder}/{mode}.yaml"
    with open(config, "w") as file:
        file.write(
            f"workers: 1\nzero_copy: {mode}\nadmin: {{socket: off, http: off}}\n"
            "log: {level: warn, access: off}\n"
            f"listeners: [{{name: front, bind: \"127.0.0.1:{port}\", pool: back}}]\n"
            "pools:\n  - name: back\n    health_check: {type: off}\n"
            f"    backends: [{{name: nginx, address: \"127.0.0.1:{backend}\"}}]\n"
        )
    process = start([os.path.abspath(program), "run", "-c", config], cpu, processes)
    wait_for(port)
    return process.pid, port


def start(command, cpu, processes):
    process = subprocess.Popen(["taskset", "-c", str(cpu), *command], stdin=subprocess.DEVNULL)
    processes.append(process)
    return process


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for(port):
    deadline = time.monotonic() + 10
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            if time.monotonic() > deadline:
                sys.exit(f"nobody answers on port {port}")
            time.sleep(0.01)


def measure(options, sizes, proxies, cpu):
    samples = {size: {mode: [] for mode in MODES} for size in sizes}
    for number in range(options.rounds):
        for place, size in enumerate(sizes):
            turn = (number + place) % len(MODES)
            for mode in MODES[turn:] + MODES[:turn]:
                pid, port = proxies[mode]
                sample = run(options, pid, f"http://127.0.0.1:{port}/{size}", cpu)
                samples[size][mode].append(sample)
                print(
                    f"round {number + 1}/{options.rounds} {size:>8} B {mode:>6}: "
                    f"{sample['cpu_us']:9.2f} us/response, {sample['responses']} responses",
                    file=sys.stderr,
                )
    return samples


def run(options, pid, url, cpu):
    command = ["taskset", "-c", str(cpu), "wrk", "-t", "1", "-c", str(options.connections)]
    before = cpu_nanoseconds(pid)
    output = subprocess.run(
        [*command, "-d", f"{options.seconds}s", url],
        check=True, capture_output=True, text=True, timeout=options.seconds + 30,
    ).stdout
    spent = cpu_nanoseconds(pid) - before
    if "Socket errors" in output or "Non-2xx" in output:
        sys.exit(f"wrk met errors:\n{output}")
    responses = int(re.search(r"(\d+) requests in", output).group(1))
    return {
        "cpu_us": spent / responses / 1000,
        "responses": responses,
        "proxy_busy": spent / 1e9 / options.seconds,
    }


def cpu_nanoseconds(pid):
    total = 0
    for path in glob.glob(f"/proc/{pid}/task/*/schedstat"):
        with open(path) as file:
            total += int(file.read().split()[0])
    return total


def report(options, sizes, samples, proxy_cpu, load_cpu):
    print(f"Proxy CPU per response in us: median (lowest to highest) of {options.rounds} runs of "
          f"{options.seconds} s, {options.connections} keep-alive connections.")
    print(f"Proxy pinned to CPU {proxy_cpu}, wrk and nginx to CPU {load_cpu}; "
          f"{cpu_model()}, Linux {platform.release()}.\n")
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
                "connections": options.connections, "proxy_cpu": proxy_cpu, "load_cpu": load_cpu,
                "cpu": cpu_model(), "kernel": platform.release(), "rows": rows,
            }, file, indent=1)


def cpu_model():
    with open("/proc/cpuinfo") as file:
        match = re.search(r"^model name\s*: (.*)$", file.read(), re.MULTILINE)
    return match.group(1).strip() if match else platform.machine()


def human(size):
    for unit, factor in (("MiB", 1 << 20), ("KiB", 1 << 10)):
        if size >= factor and size % factor == 0:
            return f"{size // factor} {unit}"
    return f"{size} B"


if __name__ == "__main__":
    main()
