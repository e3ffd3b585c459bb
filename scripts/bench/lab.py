"""Where a benchmark runs: its network, its CPUs, its folder, and the processes it starts.

Everything that is started here is ended here, by process group, whatever way the program ends.
"""

import ctypes
import os
import platform
import re
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

CLONE_NEWNET = 0x40000000  # linux/sched.h
CONGESTION = "/proc/sys/net/ipv4/tcp_congestion_control"
TCP_LISTEN = "0A"  # include/net/tcp_states.h


class Refused(Exception):
    """A program ended, or stayed deaf, instead of serving; the text says what it said."""


class Lab:
    """One benchmark's place in the machine; use it in a `with`.

    With one worker the proxy has a CPU of its own and everything else another; with more workers
    nothing is pinned, and `proxy_cpu` and `load_cpu` are None.
    """

    def __init__(self, name, workers=1):
        self.workers = workers
        cpus = sorted(os.sched_getaffinity(0))
        if len(cpus) < 2:
            sys.exit("two CPUs are needed: one for the proxy, one for the load")
        pinned = workers == 1
        self.proxy_cpu, self.load_cpu = (cpus[0], cpus[1]) if pinned else (None, None)
        self.cpus = cpus[:2] if pinned else cpus
        self.network = enter_private_network()
        self.descriptors = raise_descriptor_limit()
        memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
        self.folder = tempfile.mkdtemp(prefix=f"evenkeel-{name}-", dir=memory)
        self.processes = []
        self.started = 0
        # SIGTERM unwinds the stack like Ctrl-C does, so that `__exit__` runs.
        signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(128 + number))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        for process in list(reversed(self.processes)):
            self.stop(process)
        shutil.rmtree(self.folder, ignore_errors=True)

    def placement(self):
        if self.proxy_cpu is None:
            return f"{self.workers} workers, nothing pinned, CPUs {', '.join(map(str, self.cpus))}"
        return f"the proxy alone on CPU {self.proxy_cpu}; load and backends on CPU {self.load_cpu}"

    def start(self, command, cpu=None, env=None, **streams):
        """Starts a program in a process group of its own, which `stop` ends as a whole.

        Without `streams` its output goes to a file; `said` reads it.
        """
        if cpu is not None:
            command = ["taskset", "-c", str(cpu), *command]
        self.started += 1
        output = f"{self.folder}/output-{self.started}"
        with open(output, "wb") as file:
            streams = streams or {"stdout": file, "stderr": file}
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, start_new_session=True,
                env={**os.environ, **(env or {})}, **streams,
            )
        process.output = output
        self.processes.append(process)
        return process

    def run(self, command, timeout, cpu=None):
        """Runs a program to its end: (exit code, stdout, stderr), or code None on a timeout."""
        process = self.start(command, cpu, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        try:
            stdout, stderr = process.communicate(timeout=timeout)
            code = process.returncode
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            stdout, stderr = process.communicate()
            code = None
        self.processes.remove(process)
        os.unlink(process.output)
        return code, stdout.decode(errors="replace"), stderr.decode(errors="replace")

    def stop(self, process):
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass  # it and all its children ended before
        process.wait()
        self.processes.remove(process)

    def await_listening(self, process, ports, seconds=20):
        """Returns once all ports are listened on; raises `Refused` if that will not happen.

        It asks the kernel and does not connect: a connection would be the peer's first, or be taken
        by an iperf3 server for its test.
        """
        for port in ports:
            ready = poll(seconds, lambda: process.poll() is not None or is_listening(port))
            if process.poll() is not None:
                raise Refused(self.said(process) or f"it ended with code {process.returncode}")
            if not ready:
                raise Refused(f"nobody listens on port {port}. {self.said(process)}")

    def said(self, process):
        """What a program wrote so far, without terminal colours, in one line."""
        with open(process.output, errors="replace") as file:
            text = re.sub(r"\x1b\[[0-9;]*m", "", file.read(4000))
        return " ".join(text.split())

    def write(self, name, text):
        path = f"{self.folder}/{name}"
        with open(path, "w") as file:
            file.write(text)
        return path


def enter_private_network():
    """Moves this process, and so all it starts, into a network of its own, if it may.

    There only its own packets are on loopback, and congestion control can be set: one that paces,
    like bbr, measures its own timer on a loopback device. A namespace may choose only what the host
    allows (tcp_allowed_congestion_control): reno always, cubic where the host lists it. Returns what
    it came to, in words.
    """
    # The flag needs CAP_SYS_ADMIN. Python has os.unshare from 3.12 on.
    private = ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNET) == 0
    if private:
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
        for name in ("cubic", "reno"):
            try:
                with open(CONGESTION, "w") as file:
                    file.write(name)
                break
            except OSError:
                continue
        # Thousands of connections a second leave their ports in TIME_WAIT for a minute. With the usual
        # 28,000 ports the kernel's search for a free one would be what is measured.
        for setting, value in (("ip_local_port_range", "1024 65535"), ("tcp_max_tw_buckets", "16384")):
            with open(f"/proc/sys/net/ipv4/{setting}", "w") as file:
                file.write(value)
    with open(CONGESTION) as file:
        congestion = file.read().strip()
    where = "a private network namespace" if private else "the host's own loopback (not root)"
    return f"{where}, congestion control {congestion}"


def raise_descriptor_limit():
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    # Servers allocate tables by it; beyond this they only cost memory.
    return most if 0 < most < 1 << 20 else 1 << 20


def free_ports(count):
    """Different ports of 127.0.0.1 that nobody uses now. One by one they might come out the same."""
    probes = [socket.socket() for _ in range(count)]
    try:
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]
    finally:
        for probe in probes:
            probe.close()


def is_listening(port):
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        if not os.path.exists(table):
            continue
        with open(table) as file:
            next(file)
            for line in file:
                fields = line.split()
                if fields[3] != TCP_LISTEN:
                    break  # listeners come first; what follows may be 100,000 lines of TIME_WAIT
                if int(fields[1].rpartition(":")[2], 16) == port:
                    return True
    return False


def poll(seconds, condition, interval=0.01):
    """Asks until the condition is true; returns its last answer."""
    deadline = time.monotonic() + seconds
    while True:
        answer = condition()
        if answer or time.monotonic() > deadline:
            return answer
        time.sleep(interval)


def machine():
    """What a reader must know of the machine, in words and numbers."""
    with open("/proc/cpuinfo") as file:
        match = re.search(r"^model name\s*: (.*)$", file.read(), re.MULTILINE)
    return {
        "cpu": match.group(1).strip() if match else platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "uname": f"{platform.system()} {platform.release()} {platform.version()} "
                 f"{platform.machine()}",
        "kernel": platform.release(),
    }
