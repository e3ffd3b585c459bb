"""Samples: one workload through one peer, again when something disturbed it, in rounds.

Only one peer lives at a time: it is started for the sample, its bytes are compared, it is measured
and ended. So no peer keeps pipes, ports or caches that the next one would feel.
"""

import contextlib
import signal
import sys
import time

from bench import accounting, backends, fetch, load, peers as peer_book
from bench.lab import Refused, free_ports, poll

DISTURBED_CORES = 0.25
REPEATS = 3
WARM_CONNECTIONS = 100  # fault in what is made once, before idle connections are weighed


class Stand:
    """The backends, and the means to put one peer in front of them."""

    def __init__(self, lab, evenkeel, files):
        self.lab, self.evenkeel = lab, evenkeel
        self.http, self.backend_text = backends.start_nginx(lab, files, ports=3)
        self.iperf_port, = free_ports(1)
        self.iperf = backends.start_iperf(lab, self.iperf_port)
        self.check = load.ByteCheck()

    def setup(self, peer):
        """A configuration with ports of its own: TIME_WAIT of the last peer is not in its way."""
        behind = {"http": self.http, "bulk": [self.iperf_port], "check": [self.check.port]}
        fronts = [peer_book.Front(name, port, behind[name])
                  for name, port in zip(behind, free_ports(len(behind)))]
        plan = peer_book.Plan(fronts, self.lab.workers, self.lab.descriptors, self.lab.folder,
                              self.evenkeel)
        return fronts, peer.configure(plan)

    @contextlib.contextmanager
    def running(self, peer):
        """The peer's process and its ports by front; raises `Refused` if it does not serve."""
        fronts, setup = self.setup(peer)
        process = peer_book.start(self.lab, setup)
        try:
            self.lab.await_listening(process, [front.port for front in fronts])
            yield process, {front.name: front.port for front in fronts}
        finally:
            self.lab.stop(process)

    def restart_iperf(self):
        """A new server for every run: one that a run broke would refuse all that follow."""
        self.lab.stop(self.iperf)
        self.iperf = backends.start_iperf(self.lab, self.iperf_port)


def preflight(stand, names):
    """Starts each peer once and compares its bytes.

    Returns the configurations of those that work, and a note for each that does not and for each
    that had something to say.
    """
    configurations, notes = {}, []
    for name in names:
        peer = peer_book.PEERS[name]
        try:
            _, setup = stand.setup(peer)
            with stand.running(peer) as (process, ports):
                wrong = stand.check.through(ports["check"])
                said = stand.lab.said(process)
        except (Refused, peer_book.Missing, fetch.Unavailable) as error:
            said = str(error).replace(f"{stand.lab.folder}/", "")
            notes.append(f"{name} is left out: {shortened(said)}")
            continue
        if wrong:
            notes.append(f"{name} is left out, it does not carry bytes faithfully: {wrong}")
            continue
        configurations[name] = {
            "about": peer.about, "family": peer.family, "files": setup.files, "env": setup.env,
        }
        if said:
            notes.append(f"{name} says at its start: {shortened(said)}")
    return configurations, notes


def shortened(text, most=200):
    return text if len(text) <= most else f"{text[:most]}…"


def sample(stand, peer, workload, options):
    """One sample, the least disturbed of up to four; what the others met is told with it."""
    attempts = []
    while len(attempts) <= REPEATS:
        one = attempt(stand, peer, workload, options)
        attempts.append(one)
        if not one["disturbed"]:
            break
        print(f"  {workload.name} {peer.name}: other programs used "
              f"{one['foreign_cores']:.2f} cores; again", file=sys.stderr)
    best = min(attempts, key=lambda one: (one["disturbed"], bool(one["errors"]), noise(one)))
    discarded = [{"errors": one["errors"], "other_cores": noise(one)}
                 for one in attempts if one is not best]
    return {**best, "discarded": discarded}


def noise(one):
    """Cores used by other programs, or by the hypervisor's other guests."""
    return one["foreign_cores"] + one["stolen_cores"]


def attempt(stand, peer, workload, options):
    """Load through a freshly started peer, and the CPU it took everywhere."""
    cost = {"foreign_cores": 0, "stolen_cores": 0}
    try:
        with stand.running(peer) as (process, ports):
            wrong = stand.check.through(ports["check"])
            if wrong:
                return {**load.failed(wrong), **cost, "disturbed": False}
            if workload.kind == "iperf":
                stand.restart_iperf()
            before = accounting.Reading(process.pid, stand.lab.cpus)
            result = loaded(stand, peer, process, ports, workload, options)
            settle(process.pid)
            after = accounting.Reading(process.pid, stand.lab.cpus)
            if process.poll() is not None:
                said = shortened(stand.lab.said(process))
                result["errors"].append(f"the peer ended: {said}")
    except Refused as error:
        return {**load.failed(str(error)), **cost, "disturbed": False}
    if not result["errors"] and not result["units"]:
        result["errors"].append("nothing was done")
    cost = accounting.spent(before, after)
    # Memory is not disturbed by what others do to the CPUs; a failure may be.
    weighed = workload.kind == "idle" and not result["errors"]
    return {**result, **cost, "disturbed": noise(cost) > DISTURBED_CORES and not weighed}


def loaded(stand, peer, process, ports, workload, options):
    lab, how = stand.lab, workload.load
    if workload.kind == "iperf":
        return load.iperf(lab, ports["bulk"], how["streams"], how["down"], options.seconds)
    if workload.kind == "wrk":
        url = f"http://127.0.0.1:{ports['http']}{how['path']}"
        return load.wrk(lab, url, how["connections"], options.seconds, how["close"])
    # This process holds one end, the backend another; 1000 for all else.
    most = (lab.descriptors - 1000) // peer.descriptors - WARM_CONNECTIONS
    return idle(process.pid, ports["http"], min(options.idle, most))


def settle(root):
    """Waits until the peer has nothing left to do: closing connections is part of their price, and
    the kernel books a running thread's time only when it is switched out."""
    pids = accounting.pids_of(root)
    last = 0

    def is_quiet():
        nonlocal last
        now = sum(accounting.read_schedstats(pids).values())
        quiet, last = now - last < 50_000, now
        return quiet

    poll(1, is_quiet, interval=0.02)


def idle(root, port, count):
    """Memory and pipes that idle connections add to a peer, over what it has with none."""
    base = accounting.memory(root)
    began = time.monotonic()
    try:
        with load.IdleClients(port) as clients:
            clients.add(WARM_CONNECTIONS)
            before = accounting.memory(root)
            clients.add(count)
            after = accounting.memory(root)
    except OSError as error:
        return load.failed(f"idle connections: {error}")
    grown = {key: after[key] - before[key] for key in after}
    return {
        "units": count, "seconds": time.monotonic() - began, "errors": [],
        "base_pss": base["pss"], "base_private": base["private"],
        "pss_each": grown["pss"] / count, "private_each": grown["private"] / count,
        "pipes": grown["pipes"], "descriptors_each": grown["descriptors"] / count,
    }


def rounds(stand, workloads, chosen, options, samples):
    """Appends to `samples`: each round visits every workload, and in each every peer once.

    Which peer begins moves on by one from round to round, so that none always comes after the same
    one, and a slow minute of the machine meets all alike.
    """
    visits = [
        (number, workload, name)
        for number in range(options.rounds)
        for place, workload in enumerate(workloads)
        for name in rotated([name for name in workload.peers if name in chosen], number + place)
    ]
    began = time.monotonic()
    for done, (number, workload, name) in enumerate(visits):
        peer = peer_book.PEERS[name]
        taken = sample(stand, peer, workload, options)
        taken = {"workload": workload.name, "peer": name, "round": number + 1, **taken}
        samples.append(taken)
        each = (time.monotonic() - began) / (done + 1)
        left = each * (len(visits) - done - 1)
        print(f"[{done + 1}/{len(visits)}, {minutes(left)} left] round {number + 1} "
              f"{workload.name} {name}: {in_words(workload, taken)}", file=sys.stderr)


def rotated(names, places):
    turn = places % len(names) if names else 0
    return names[turn:] + names[:turn]


def minutes(seconds):
    return f"{seconds / 60:.0f} min" if seconds >= 90 else f"{seconds:.0f} s"


def in_words(workload, taken):
    if taken["errors"]:
        return "; ".join(taken["errors"])
    if workload.kind == "idle":
        return f"{taken['pss_each']:.0f} B each, {taken['pipes']} pipes"
    if workload.kind == "iperf":
        words = f"{taken['proxy_ns'] / taken['units'] / 1e6:.1f} ms/GiB"
    else:
        words = f"{taken['proxy_ns'] / taken['units'] / 1e3:.2f} us/{workload.unit}"
    return words + (" (disturbed)" if taken["disturbed"] else "")


def system_calls(stand, peer, workload):
    """System calls by name per unit of work, counted by strace: never while timing."""
    lab, how = stand.lab, workload.load
    with stand.running(peer) as (process, ports):
        pids = accounting.pids_of(process.pid)
        output = f"{lab.folder}/strace"
        attach = [word for pid in pids for word in ("-p", str(pid))]
        tracer = lab.start(["strace", "-f", "-c", "-o", output, *attach])
        try:
            if not poll(5, lambda: all(is_traced(pid) for pid in pids)):
                raise Refused(f"strace does not attach: {lab.said(tracer)}")
            url = f"http://127.0.0.1:{ports['http']}{how['path']}"
            result = load.wrk(lab, url, how["connections"], 1, how["close"])
            settle(process.pid)
            tracer.send_signal(signal.SIGINT)  # it detaches and writes its table
            tracer.wait(timeout=10)
        finally:
            lab.stop(tracer)
        if result["errors"]:
            raise Refused("; ".join(result["errors"]))
        with open(output) as file:
            calls = parse_strace(file.read())
    each = {name: count / result["units"] for name, count in calls.items()}
    return {"workload": workload.name, "peer": peer.name, "units": result["units"], "each": each}


def is_traced(pid):
    return "TracerPid:\t0" not in (accounting.read(f"/proc/{pid}/status") or "TracerPid:\t0")


def parse_strace(text):
    """The table of `strace -c`: calls by name."""
    calls = {}
    for line in text.splitlines():
        fields = line.split()
        if len(fields) in (5, 6) and fields[3].isdigit() and fields[-1] != "total":
            calls[fields[-1]] = int(fields[3])
    return calls
