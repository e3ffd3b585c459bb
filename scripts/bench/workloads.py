"""What is measured: each workload's name, unit, load, and the peers that make sense in it."""

import collections

Workload = collections.namedtuple("Workload", "name group kind unit title peers load")
Workload.__doc__ = """`kind` is how the load is made: wrk, iperf or idle; `load` its parameters.
`unit` is what CPU time is counted per; `peers` are the default ones in the order of the tables."""

OURS = ("evenkeel", "evenkeel-uring")
DEFERRED = ("evenkeel-defer", "evenkeel-uring-defer", "haproxy-defer")
HAPROXY = ("haproxy", "haproxy-auto", "haproxy-splice")
OTHERS = ("envoy", "traefik", "sozu")  # take part wherever --peers names them
SMALL = OURS + HAPROXY + ("nginx",) + OTHERS
SHORT = OURS + DEFERRED[:2] + HAPROXY + DEFERRED[2:] + ("nginx",) + OTHERS
BULK = OURS + HAPROXY + ("haproxy-128k", "nginx", "nginx-64k") + OTHERS
SIZES_KIB = (1, 4, 16, 64, 256, 1024)


def wrk(name, group, unit, title, connections, path, close=False, peers=SMALL):
    return Workload(name, group, "wrk", unit, title, peers,
                    {"connections": connections, "path": path, "close": close})


def bulk(streams, way):
    flows = "one stream" if streams == 1 else f"{streams} streams"
    return Workload(f"bulk{streams}-{way}", "bulk", "iperf", "GiB", f"Bulk {way}, {flows}", BULK,
                    {"streams": streams, "down": way == "down"})


def size(kib):
    human = f"{kib} KiB" if kib < 1024 else f"{kib // 1024} MiB"
    return wrk(f"size-{kib}k", "sizes", "request", f"Responses of {human}, 32 connections",
               32, f"/{kib}k")


WORKLOADS = {workload.name: workload for workload in (
    wrk("short", "short", "connection", "Short connections, 64 at a time",
        64, "/", close=True, peers=SHORT),
    wrk("keepalive64", "keepalive", "request", "Keep-alive, 64 connections", 64, "/"),
    wrk("keepalive512", "keepalive", "request", "Keep-alive, 512 connections", 512, "/"),
    *(bulk(streams, way) for streams in (1, 4, 64) for way in ("down", "up")),
    *(size(kib) for kib in SIZES_KIB),
    Workload("idle", "idle", "idle", "idle connection", "Idle connections",
             OURS + ("haproxy", "haproxy-splice", "nginx") + OTHERS, {}),
)}
GROUPS = tuple(dict.fromkeys(workload.group for workload in WORKLOADS.values()))
# More workers share the CPUs with load and backends, so only what still says something then.
MANY_WORKERS = ("short", "keepalive64", "bulk4-down", "bulk4-up")
# Where the number of system calls per unit is a figure of interest.
TRACED = ("short", "keepalive64")

FILES = {f"{kib}k": kib << 10 for kib in SIZES_KIB}


def select(words):
    """Workloads by name, group or name without its direction (`bulk4`), in their usual order."""
    chosen = set()
    for word in words:
        found = [workload.name for workload in WORKLOADS.values()
                 if word in (workload.name, workload.group, workload.name.partition("-")[0])]
        if not found:
            raise ValueError(f"no workload is called {word!r}; "
                             f"groups: {', '.join(GROUPS)}; workloads: {', '.join(WORKLOADS)}")
        chosen.update(found)
    return [workload for workload in WORKLOADS.values() if workload.name in chosen]
