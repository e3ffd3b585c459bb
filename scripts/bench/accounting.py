"""What the kernel says it cost: CPU time of process trees and of the machine, memory, pipes.

Two clocks tell a process's CPU time. /proc/PID/task/*/schedstat counts nanoseconds, but forgets
threads that ended. /proc/PID/stat counts ticks (10 ms), forgets nobody, and tells user from system
time; the kernel finds that division by sampling at its timer interrupts. So the first is used, the
second divides it and steps in where threads came and went.
"""

import collections
import glob
import os
import time

TICK_NS = 1_000_000_000 // os.sysconf("SC_CLK_TCK")
PF_KTHREAD = 0x00200000  # include/linux/sched.h

Stat = collections.namedtuple("Stat", "parent kernel user system children_user children_system")
Stat.__doc__ = "One process out of /proc/PID/stat; times in ticks, of all its threads, alive or not."


class Reading:
    """The machine's counters at one moment, and those of the process tree under `root`."""

    def __init__(self, root, cpus):
        self.stats = read_stats()
        self.mine = tree(self.stats, os.getpid())
        members = tree(self.stats, root)
        self.members = len(members)
        self.threads = read_schedstats(pid for pid, _ in members)
        of_tree = [self.stats[member] for member in members]
        self.user = sum(stat.user + stat.children_user for stat in of_tree)
        self.system = sum(stat.system + stat.children_system for stat in of_tree)
        with open("/proc/stat") as file:
            self.busy, self.stolen = parse_machine(file.read(), cpus)
        self.moment = time.monotonic()


def spent(before, after):
    """CPU between two readings: of the tree, of the CPUs it was read with, of other programs."""
    exact = threads_spent(before.threads, after.threads)
    user, system = after.user - before.user, after.system - before.system
    # Each of the two tick counts of a process is rounded down. What is missing beyond that was
    # spent by threads that one of the readings did not see.
    ticks = (user + system) * TICK_NS
    proxy = exact if abs(ticks - exact) <= 4 * TICK_NS * after.members else max(exact, ticks)
    wall = after.moment - before.moment
    return {
        "proxy_ns": proxy,
        "proxy_user_ticks": user,
        "proxy_system_ticks": system,
        "busy_ns": (after.busy - before.busy) * TICK_NS,
        "foreign_cores": foreign_ticks(before, after) * TICK_NS / 1e9 / wall,
        "stolen_cores": (after.stolen - before.stolen) * TICK_NS / 1e9 / wall,
    }


def threads_spent(before, after):
    """Nanoseconds by thread; one that is new began at zero, one that is gone is not in `after`."""
    return sum(now - before.get(thread, 0) for thread, now in after.items())


def foreign_ticks(before, after):
    """Ticks used by programs that are neither ours nor kernel threads.

    A process that ends passes its whole life's time to its parent, so what the vanished ones had
    at the first reading is taken off what parents gained through their children.
    """
    def others(reading):
        return {
            member: stat for member, stat in reading.stats.items()
            if not stat.kernel and member not in reading.mine
        }

    first, last = others(before), others(after)
    nothing = Stat(0, False, 0, 0, 0, 0)
    alone, inherited = 0, 0
    for member, stat in last.items():
        past = first.get(member, nothing)
        alone += stat.user + stat.system - past.user - past.system
        inherited += (stat.children_user + stat.children_system
                      - past.children_user - past.children_system)
    vanished = sum(sum(stat[2:]) for member, stat in first.items() if member not in last)
    return alone + max(0, inherited - vanished)


def tree(stats, root):
    """The members of `stats` that are `root` or descend from it."""
    children = collections.defaultdict(list)
    for member, stat in stats.items():
        children[stat.parent].append(member)
    found, waiting = set(), [member for member in stats if member[0] == root]
    while waiting:
        member = waiting.pop()
        if member not in found:
            found.add(member)
            waiting.extend(children[member[0]])
    return found


def read_stats():
    """Every process by (pid, start time), which no other process ever shares."""
    stats = {}
    for path in glob.glob("/proc/[0-9]*/stat"):
        text = read(path)
        if text:
            pid, started, stat = parse_stat(text)
            stats[pid, started] = stat
    return stats


def parse_stat(text):
    """/proc/PID/stat, whose second field may hold anything, parentheses and spaces too."""
    fields = text[text.rindex(")") + 2:].split()
    times = (int(field) for field in fields[11:15])
    stat = Stat(int(fields[1]), bool(int(fields[6]) & PF_KTHREAD), *times)
    return int(text.split(" ", 1)[0]), int(fields[19]), stat


def parse_machine(text, cpus):
    """/proc/stat: ticks these CPUs were busy, and ticks the hypervisor gave to somebody else."""
    busy = stolen = 0
    for line in text.splitlines():
        name, *counts = line.split()
        if name.startswith("cpu") and name[3:].isdigit() and int(name[3:]) in cpus:
            user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, counts[:8])
            busy += user + nice + system + irq + softirq
            stolen += steal
    return busy, stolen


def read_schedstats(pids):
    times = {}
    for pid in pids:
        for path in glob.glob(f"/proc/{pid}/task/*/schedstat"):
            text = read(path)
            if text:
                times[pid, int(path.split("/")[4])] = int(text.split()[0])
    return times


def cpu_ns(root):
    """Nanoseconds that the living threads of a process tree used so far."""
    return sum(read_schedstats(pids_of(root)).values())


def pids_of(root):
    return [pid for pid, _ in tree(read_stats(), root)]


def memory(root):
    """Memory in bytes, and pipes, of a process tree: {"pss", "private", "pipes", "descriptors"}.

    Pss shares out what several processes map; private is what ends with them.
    """
    sizes = collections.Counter()
    pipes, descriptors = set(), 0
    for pid in pids_of(root):
        for line in (read(f"/proc/{pid}/smaps_rollup") or "").splitlines():
            name, _, rest = line.partition(":")
            if name in ("Pss", "Private_Clean", "Private_Dirty"):
                sizes[name] += int(rest.split()[0]) << 10
        for path in glob.glob(f"/proc/{pid}/fd/*"):
            try:
                target = os.readlink(path)
            except OSError:
                continue
            descriptors += 1
            if target.startswith("pipe:"):
                pipes.add(target)
    return {
        "pss": sizes["Pss"],
        "private": sizes["Private_Clean"] + sizes["Private_Dirty"],
        "pipes": len(pipes),
        "descriptors": descriptors,
    }


def read(path):
    """A file of /proc, or None: processes and threads may end at any moment."""
    try:
        with open(path, errors="replace") as file:
            return file.read()
    except OSError:
        return None
