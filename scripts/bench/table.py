"""A document as Markdown: what was measured where, a table per workload, the targets."""

from bench import figures, targets
from bench.figures import Figures
from bench.workloads import WORKLOADS

MARK = "⚠"


def render(document):
    """The whole report."""
    parts = [heading(document)]
    every = Figures(document)
    for workload in every.workloads():
        parts.append(section(every, workload))
    if document.get("syscalls"):
        parts.append(system_calls(document["syscalls"]))
    lines = targets.evaluate(document)
    if lines:
        parts.append(target_section(lines))
    return "\n\n".join(parts) + "\n"


def heading(document):
    machine, options = document["machine"], document["options"]
    rounds = counted(options["rounds"], "round")
    lines = [
        "# evenkeel and its peers",
        "",
        f"{document['date']}; {machine['cpu']}, {machine['cores']} CPUs, Linux "
        f"{machine['kernel']}; {document['network']}; {rounds} of {options['seconds']} s, "
        f"interleaved; {document['placement']}.",
        "Figures are medians [lowest - highest] over the rounds; ratios are taken within each "
        "round, below 1 is cheaper than HAProxy.",
        "CPU is that of all the peer's processes, from the scheduler's nanoseconds; how much of it "
        "was user time the kernel samples at its timer interrupts, which is coarse. \"Whole machine\" "
        "is all that ran on the CPUs in use: load, backends, kernel and whatever else. "
        f"{MARK} marks what errors or other programs' load make doubtful.",
        "",
        "| program | version |",
        "|---|---|",
        *(f"| {name} | {version} |" for name, version in document["versions"].items()),
        "",
        "| peer | mode |",
        "|---|---|",
        *(f"| {name} | {configuration['about']} |"
          for name, configuration in document["configurations"].items()),
    ]
    lines += ["", *(f"- {note}" for note in document["notes"])] if document["notes"] else []
    return "\n".join(lines)


def section(every, workload):
    title = WORKLOADS[workload].title
    body = {"wrk": small, "iperf": bulk, "idle": idle}[WORKLOADS[workload].kind](every, workload)
    warnings = list(warnings_of(every, workload))
    return "\n".join([f"## {title} (`{workload}`)", "", *body,
                      *([""] + warnings if warnings else [])])


def warnings_of(every, workload):
    disturbed = []
    for peer in every.peers(workload):
        taken = len(every.samples[workload, peer])
        flawed = every.flawed(workload, peer)
        if flawed:
            yield (f"- {MARK} {peer}: errors in {len(flawed)} of {taken} samples: "
                   f"{flawed[0]['errors'][0]}")
        repeated = sum(bool(attempt["errors"]) for sample in every.samples[workload, peer]
                       for attempt in sample["discarded"])
        if repeated:
            yield f"- {MARK} {peer}: errors in {repeated} attempts that were disturbed and repeated"
        if every.disturbed(workload, peer):
            disturbed.append(f"{peer} {every.disturbed(workload, peer)} of {taken}")
    if disturbed:
        yield (f"- {MARK} disturbed by other programs' load, at each of several attempts, samples: "
               f"{', '.join(disturbed)}")


def small(every, workload):
    """Latencies and microseconds: connections and requests."""
    unit = WORKLOADS[workload].unit
    reference = every.haproxy(workload)
    rows = table([
        "peer", f"CPU us/{unit}", f"ratio to {reference or 'HAProxy'}", f"user us/{unit}",
        f"whole machine us/{unit}", f"{unit}s/s", "p50 us", "p99 us",
    ])
    for peer in every.peers(workload):
        show = shower(every, workload, peer)
        rows.append(row([
            name(every, workload, peer), show(figures.cpu, 1e3), ratio(every, workload, peer, reference),
            show(figures.user_cpu, 1e3), show(figures.system_cpu, 1e3), show(figures.throughput),
            show(figures.p50), show(figures.p99),
        ]))
    return rows


def bulk(every, workload):
    rows = table(["peer", "CPU ms/GiB", "ratio to haproxy-splice", "ratio to haproxy (copying)",
                  "user ms/GiB", "whole machine ms/GiB", "GiB/s"])
    for peer in every.peers(workload):
        show = shower(every, workload, peer)
        rows.append(row([
            name(every, workload, peer), show(figures.cpu, 1e6),
            ratio(every, workload, peer, "haproxy-splice"), ratio(every, workload, peer, "haproxy"),
            show(figures.user_cpu, 1e6), show(figures.system_cpu, 1e6), show(figures.throughput),
        ]))
    return rows


def idle(every, workload):
    reference = every.haproxy(workload)
    rows = ["Silent after one small request each. Memory of all the peer's processes (Pss); the "
            "kernel's own for sockets is not in it.", "",
            *table(["peer", "connections", "bytes per connection", f"ratio to {reference or 'HAProxy'}",
                    "private bytes per connection", "pipes held", "descriptors per connection",
                    "MB with no connection"])]
    for peer in every.peers(workload):
        show = shower(every, workload, peer)
        rows.append(row([
            name(every, workload, peer), show(figures.field("units")), show(figures.memory),
            ratio(every, workload, peer, reference, figures.memory),
            show(figures.field("private_each")), show(figures.field("pipes")),
            show(figures.field("descriptors_each")), show(figures.field("base_pss"), 1e6),
        ]))
    return rows


def system_calls(counts):
    lines = ["## System calls", "",
             "Counted by strace in a pass of its own, which slows the peer down.", "",
             *table(["workload", "peer", "calls per unit", "which"])]
    for count in counts:
        each = sorted(count["each"].items(), key=lambda item: -item[1])
        which = ", ".join(f"{call} {times:.2f}" for call, times in each if times >= 0.005)
        lines.append(row([count["workload"], count["peer"], f"{sum(count['each'].values()):.2f}",
                          which]))
    return "\n".join(lines)


def target_section(lines):
    judged = [line for line in lines if line.met is not None]
    met = sum(line.met for line in judged)
    open_ones = sum(line.met is None and line.limit is not None for line in lines)
    summary = f"{met} of {len(judged)} met."
    if open_ones:
        summary += f" {open_ones} could not be judged: a peer is missing."
    rows = [row(target_cells(line)) for line in lines]
    return "\n".join(["## Targets", "", summary, "",
                      *table(["workload", "what", "target", "measured", "peers", "verdict"]), *rows])


def target_cells(line):
    verdict = {True: "met", False: "**missed**", None: "-"}[line.met]
    if line.note:
        verdict += f" ({line.note})"
    versus = " / ".join(line.peers)
    limit = "-" if line.limit is None else f"{line.sign} {line.limit:g}"
    measured = in_text(line.measured) if line.measured else "not measured"
    return [line.workload, line.what, limit, measured, versus, verdict]


def table(columns):
    return [row(columns), "|" + "|".join("---" if place == 0 else "---:"
                                         for place in range(len(columns))) + "|"]


def row(cells):
    return f"| {' | '.join(cells)} |"


def name(every, workload, peer):
    doubtful = every.flawed(workload, peer) or every.disturbed(workload, peer)
    return f"{peer} {MARK}" if doubtful else peer


def shower(every, workload, peer):
    def show(figure, scale=1):
        found = every.spread(workload, peer, figure)
        return in_text(figures.Spread(*(value / scale for value in found))) if found else "-"
    return show


def ratio(every, workload, peer, reference, figure=figures.cpu):
    found = every.ratio(workload, peer, reference, figure) if reference else None
    return in_text(found) if found else "-"


def in_text(spread):
    median, low, high = (number(value) for value in spread)
    return median if low == high else f"{median} [{low} - {high}]"


def number(value):
    """Three significant figures or so, and thousands apart."""
    if value == 0:
        return "0"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    if abs(value) >= 10:
        return f"{value:.1f}"
    return f"{value:.2f}" if abs(value) >= 2 else f"{value:.3f}"


def counted(count, noun):
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
