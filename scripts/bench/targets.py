"""The lines evenkeel wants to hold against its peers, and whether a run holds them.

A ratio is ours to theirs, so for cost and latency a target is "at most"; for throughput "at least".
Ours is the better poller of the workload, theirs HAProxy's best mode of it, each chosen by the
workload's main figure (CPU per unit) and named.
"""

import collections
import operator

from bench import figures
from bench.figures import Figures, Spread

Line = collections.namedtuple("Line", "workload what limit sign measured peers met note")
Line.__doc__ = """One target: `limit` and `measured` (a Spread) in the unit that `what` names;
`met` is None where the run did not measure it."""

SHORT_CPU, SHORT_CPU_DEFERRED = 0.78, 0.73
SHORT_P50, SHORT_P99, SHORT_USER_US = 0.70, 1.0, 1.5
KEEPALIVE_CPU, KEEPALIVE_CPU_NGINX, KEEPALIVE_P99 = 0.82, 1.0, 1.0
BULK_CPU_SPLICE, BULK_CPU_COPY = 0.80, 0.20
SIZES_CPU = 1.0
IDLE_BYTES, IDLE_PIPES, BASE_MB = 300, 0, 8
THROUGHPUT = 1.0

AT_MOST, AT_LEAST = "<=", ">="
HOLDS = {AT_MOST: operator.le, AT_LEAST: operator.ge}


def evaluate(document):
    """Every target that concerns a workload of this document, as Lines."""
    judge = Judge(Figures(document))
    for workload in judge.figures.workloads():
        if not judge.figures.peers(workload, "evenkeel"):
            continue
        group = figures.WORKLOADS[workload].group
        {"short": judge.short, "keepalive": judge.keepalive, "bulk": judge.bulk,
         "sizes": judge.sizes, "idle": judge.idle}[group](workload)
    return judge.lines


class Judge:
    def __init__(self, all_figures):
        self.figures = all_figures
        self.lines = []

    def short(self, workload):
        ours, theirs = self.figures.evenkeel(workload), self.figures.haproxy(workload)
        deferred = self.figures.evenkeel(workload, deferred=True)
        self.ratio(workload, "CPU", SHORT_CPU, ours, theirs, figures.cpu)
        self.ratio(workload, "CPU, deferred accept", SHORT_CPU_DEFERRED, deferred, theirs,
                   figures.cpu)
        self.ratio(workload, "CPU, both with deferred accept (no target)", None, deferred,
                   "haproxy-defer", figures.cpu)
        self.ratio(workload, "p50", SHORT_P50, ours, theirs, figures.p50)
        self.ratio(workload, "p99", SHORT_P99, ours, theirs, figures.p99)
        self.value(workload, "user time, us per connection", SHORT_USER_US, ours,
                   lambda sample: scaled(figures.user_cpu(sample), 1e3))
        self.throughput(workload, ours, theirs)

    def keepalive(self, workload):
        ours, theirs = self.figures.evenkeel(workload), self.figures.haproxy(workload)
        self.ratio(workload, "CPU", KEEPALIVE_CPU, ours, theirs, figures.cpu)
        self.ratio(workload, "CPU", KEEPALIVE_CPU_NGINX, ours, "nginx", figures.cpu)
        self.ratio(workload, "p99", KEEPALIVE_P99, ours, theirs, figures.p99)
        self.throughput(workload, ours, theirs)

    def bulk(self, workload):
        ours, theirs = self.figures.evenkeel(workload), self.figures.haproxy(workload)
        self.ratio(workload, "CPU", BULK_CPU_SPLICE, ours, "haproxy-splice", figures.cpu)
        self.ratio(workload, "CPU", BULK_CPU_COPY, ours, "haproxy", figures.cpu)
        self.throughput(workload, ours, theirs)

    def sizes(self, workload):
        ours, theirs = self.figures.evenkeel(workload), self.figures.haproxy(workload)
        self.ratio(workload, "CPU", SIZES_CPU, ours, theirs, figures.cpu)
        self.throughput(workload, ours, theirs)

    def idle(self, workload):
        """Every poller by itself: memory is not a choice that the operator makes by workload."""
        for ours in self.figures.peers(workload, "evenkeel"):
            self.value(workload, "bytes per connection", IDLE_BYTES, ours, figures.memory)
            self.value(workload, "pipes", IDLE_PIPES, ours, figures.field("pipes"))
            self.value(workload, "MB with no connection", BASE_MB, ours,
                       lambda sample: scaled(sample.get("base_pss"), 1e6))

    def throughput(self, workload, ours, theirs):
        self.ratio(workload, "throughput", THROUGHPUT, ours, theirs, figures.throughput, AT_LEAST)

    def ratio(self, workload, what, limit, ours, theirs, figure, sign=AT_MOST):
        measured = None
        if ours and theirs:
            measured = self.figures.ratio(workload, ours, theirs, figure)
        self.add(workload, what, limit, sign, measured, (ours, theirs))

    def value(self, workload, what, limit, ours, figure):
        measured = self.figures.spread(workload, ours, figure) if ours else None
        self.add(workload, what, limit, AT_MOST, measured, (ours,))

    def add(self, workload, what, limit, sign, measured, peers):
        peers = tuple(peer or "nobody" for peer in peers)
        met, notes = None, []
        if measured and limit is not None:
            met = HOLDS[sign](measured.median, limit)
            if met != HOLDS[sign](measured.high if sign == AT_MOST else measured.low, limit):
                notes.append("not in every round")
            elif not met and HOLDS[sign](
                    measured.low if sign == AT_MOST else measured.high, limit):
                notes.append("held in some rounds")
        for peer in peers:
            if self.figures.flawed(workload, peer):
                notes.append(f"errors with {peer}")
                # What does not work at all cannot be cheap.
                met = False if peer == peers[0] and met is not None else met
        if met is not None and any(self.figures.disturbed(workload, peer) for peer in peers):
            notes.append("disturbed")
        self.lines.append(Line(workload, what, limit, sign, measured, peers, met, ", ".join(notes)))


def scaled(number, by):
    return None if number is None else number / by


__all__ = ["evaluate", "Line", "Spread"]
