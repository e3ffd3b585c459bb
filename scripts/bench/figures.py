"""From samples to figures: medians, ranges, and ratios taken round by round."""

import collections
import statistics

from bench.workloads import WORKLOADS

# A median and the lowest and highest of what it is the median of.
Spread = collections.namedtuple("Spread", "median low high")


def spread(values):
    values = list(values)
    return Spread(statistics.median(values), min(values), max(values)) if values else None


class Figures:
    """The samples of a document, asked by workload and peer. One in which nothing was done has no
    figures; one in which something failed beside what was done has, and is among the `flawed`."""

    def __init__(self, document):
        self.samples = collections.defaultdict(list)
        for sample in document["samples"]:
            self.samples[sample["workload"], sample["peer"]].append(sample)
        self.families = {name: configuration["family"]
                         for name, configuration in document["configurations"].items()}

    def workloads(self):
        """Those measured, in their usual order."""
        measured = {workload for workload, _ in self.samples}
        return [workload for workload in WORKLOADS if workload in measured]

    def peers(self, workload, family=None):
        return [name for name in self.families
                if (workload, name) in self.samples and family in (None, self.families[name])]

    def done(self, workload, peer):
        return [sample for sample in self.samples[workload, peer] if sample["units"]]

    def flawed(self, workload, peer):
        return [sample for sample in self.samples[workload, peer] if sample["errors"]]

    def disturbed(self, workload, peer):
        return sum(sample["disturbed"] for sample in self.done(workload, peer))

    def spread(self, workload, peer, figure):
        """Over the rounds; None where no sample has the figure."""
        values = (figure(sample) for sample in self.done(workload, peer))
        return spread(value for value in values if value is not None)

    def ratio(self, workload, peer, reference, figure):
        """Of the rounds in which both have the figure; None where there is none."""
        theirs = {sample["round"]: figure(sample) for sample in self.done(workload, reference)}
        pairs = ((figure(sample), theirs.get(sample["round"]))
                 for sample in self.done(workload, peer))
        return spread(ours / other for ours, other in pairs if ours is not None and other)

    def best(self, workload, names, figure=None):
        """The peer of these with the lowest median, by default of CPU; None where none ran."""
        figure = figure or MAIN[WORKLOADS[workload].kind]
        medians = {name: self.spread(workload, name, figure) for name in names
                   if (workload, name) in self.samples}
        medians = {name: found.median for name, found in medians.items() if found}
        return min(medians, key=medians.get) if medians else None

    def haproxy(self, workload):
        """HAProxy's mode with the lowest median. Deferred accept is compared by itself: it is not
        for protocols in which the server speaks first."""
        modes = [name for name in self.peers(workload, "haproxy") if name != "haproxy-defer"]
        return self.best(workload, modes)

    def evenkeel(self, workload, deferred=False):
        modes = [name for name in self.peers(workload, "evenkeel")
                 if name.endswith("-defer") == deferred]
        return self.best(workload, modes)


def cpu(sample):
    """Nanoseconds of the proxy per unit."""
    return sample["proxy_ns"] / sample["units"]


def user_cpu(sample):
    ticks = sample["proxy_user_ticks"] + sample["proxy_system_ticks"]
    return cpu(sample) * sample["proxy_user_ticks"] / ticks if ticks else None


def system_cpu(sample):
    """Nanoseconds of all CPUs in use per unit: proxy, load, backends, kernel."""
    return sample["busy_ns"] / sample["units"]


def throughput(sample):
    return sample["units"] / sample["seconds"]


def cores(sample):
    return sample["proxy_ns"] / 1e9 / sample["seconds"]


def field(name):
    return lambda sample: sample.get(name)


p50, p99 = field("p50_us"), field("p99_us")
memory = field("pss_each")
# What a workload is about, and what its best peer is chosen by.
MAIN = {"wrk": cpu, "iperf": cpu, "idle": memory}
