"""A document as a picture for the README: one row of bars per workload, HAProxy's best mode is 1.

It has its own background and takes the reader's light or dark preference, so that it can be read on
either page whatever the page itself prefers.
"""

import re
from xml.sax.saxutils import escape

from bench import figures
from bench.figures import Figures
from bench.workloads import WORKLOADS

WIDTH, MARGIN = 860, 28
PLOT_LEFT, PLOT_RIGHT = 272, 736  # behind it is room for the numbers of the longest bar
SCALE_MAX = 1.5  # longer bars are cut, and say so
BAR, BAR_GAP, ROW_GAP = 11, 3, 15
FAMILIES = ("evenkeel", "haproxy", "nginx")
NAMES = {"evenkeel": "evenkeel {}", "haproxy": "HAProxy {} in its best mode = 1",
         "nginx": "nginx {} stream"}
SHORT = {"evenkeel": "evenkeel", "haproxy": "HAProxy", "nginx": "nginx"}
GROUPS = (
    ("Connections and requests", ("short", "keepalive"), "CPU per connection or request"),
    ("Bulk", ("bulk",), "CPU per GiB"),
    ("Responses by size", ("sizes",), "CPU per request, 32 keep-alive connections"),
    ("Idle", ("idle",), "Memory per connection"),
)
# The unit of a number beside a bar: what it is divided by, and how it is written.
UNITS = {"wrk": (1e3, "µs"), "iperf": (1e6, "ms"), "idle": (1, "B")}
MODES = {"evenkeel": "epoll", "evenkeel-uring": "io_uring", "haproxy": "copying",
         "haproxy-auto": "splice-auto", "haproxy-splice": "splice", "haproxy-128k": "128 KiB",
         "nginx": "16 KiB", "nginx-64k": "64 KiB"}

STYLE = """
  .page { fill: #fbfcfd; stroke: #d5dbe1; } .halo { stroke: #fbfcfd; }
  .ink { fill: #1c2530; } .soft { fill: #5d6b79; } .grid { stroke: #e3e8ec; }
  .one { stroke: #8794a1; stroke-dasharray: 3 3; } .cut { stroke: #fbfcfd; }
  .evenkeel { fill: #0f8f83; } .haproxy { fill: #a3aeb9; } .nginx { fill: #d7a24a; }
  .range { stroke: #1c2530; stroke-opacity: .62; }
  @media (prefers-color-scheme: dark) {
    .page { fill: #12181f; stroke: #2a343e; } .halo { stroke: #12181f; }
    .ink { fill: #e6ecf1; } .soft { fill: #93a1ae; } .grid { stroke: #232c35; }
    .one { stroke: #74828f; } .cut { stroke: #12181f; }
    .evenkeel { fill: #2fbfae; } .haproxy { fill: #64717d; } .nginx { fill: #b98632; }
    .range { stroke: #f2f6f9; stroke-opacity: .72; }
  }
  text { font: 13px system-ui, -apple-system, "Segoe UI", "Helvetica Neue", "DejaVu Sans", sans-serif; }
  .title { font-size: 19px; font-weight: 650; } .group { font-size: 14px; font-weight: 650; }
  .halo { stroke-width: 4px; stroke-linejoin: round; paint-order: stroke; }
  .small { font-size: 11px; } .strong { font-weight: 650; }
"""


def render(document):
    """The whole SVG as text."""
    drawing = Drawing(document)
    drawing.head()
    for title, groups, about in GROUPS:
        drawing.group(title, groups, about)
    return drawing.finished()


class Drawing:
    """Grows downwards: `y` is the next free line."""

    def __init__(self, document):
        self.document = document
        self.figures = Figures(document)
        self.parts = []
        self.y = MARGIN

    def head(self):
        options, machine = self.document["options"], self.document["machine"]
        self.y += 16
        self.text(MARGIN, self.y, "What a load balancer costs, relative to HAProxy at its best",
                  "title ink")
        self.y += 21
        workers = "One worker each" if options["workers"] == 1 else f"{options['workers']} workers"
        rounds = options["rounds"]
        basis = "one round" if rounds == 1 else (
            f"median of {rounds} interleaved rounds, ratio taken in each; whiskers: lowest to highest")
        self.text(MARGIN, self.y, f"Shorter is better. {basis[0].upper()}{basis[1:]}.", "soft")
        self.y += 17
        self.text(MARGIN, self.y, f"{workers}, loopback, {machine['cpu']}, "
                  f"Linux {machine['kernel'].split('-')[0]}{self.doubt()}", "soft")
        self.y += 26
        x = MARGIN
        for family in FAMILIES:
            self.box(x, self.y - 10, 12, 12, family, radius=3)
            label = NAMES[family].format(self.version(family))
            self.text(x + 18, self.y, label, "ink")
            x += 48 + 7.2 * len(label)  # about as wide as a letter is at most
        self.y += 14

    def doubt(self):
        samples = self.document["samples"]
        bad = sum(sample["disturbed"] or bool(sample["errors"]) for sample in samples)
        return f"; {bad} of {len(samples)} samples were disturbed or had errors" if bad else ""

    def version(self, family):
        found = re.search(r"\d+\.\d+(\.\d+)?", self.document["versions"].get(family, ""))
        return found.group() if found else ""

    def group(self, title, groups, about):
        workloads = [workload for workload in self.figures.workloads()
                     if WORKLOADS[workload].group in groups and self.figures.haproxy(workload)]
        if not workloads:
            return
        self.y += 24
        self.text(MARGIN, self.y, title, "group ink")
        self.text(PLOT_LEFT, self.y, about, "small soft")
        self.y += 12
        top, grid = self.y, len(self.parts)
        for workload in workloads:
            self.row(workload)
        lines = []
        for tenths in (0, 5, 10, 15):
            x, style = self.x(tenths / 10), "one" if tenths == 10 else "grid"
            lines.append(f'<line class="{style}" x1="{x:.1f}" y1="{top}" x2="{x:.1f}" '
                         f'y2="{self.y - ROW_GAP + 5}"/>')
        self.parts[grid:grid] = lines  # behind the bars
        for tenths in (0, 5, 10, 15):
            self.text(self.x(tenths / 10), self.y + 4, f"{tenths / 10:g}", "small soft", "middle")
        self.y += 8

    def row(self, workload):
        """Up to three bars; the reference is HAProxy's best mode of this workload."""
        self.y += 4
        figure = figures.MAIN[WORKLOADS[workload].kind]
        reference = self.figures.haproxy(workload)
        bars, modes = [], []
        for family in FAMILIES:
            peer = self.best(workload, family)
            ratio = peer and self.figures.ratio(workload, peer, reference, figure)
            if ratio:
                bars.append((family, ratio, self.figures.spread(workload, peer, figure).median))
                modes.append(f"{SHORT[family]} {MODES.get(peer, peer)}")
        height = len(bars) * (BAR + BAR_GAP) - BAR_GAP
        middle = self.y + height / 2
        self.text(MARGIN, middle - 2, row_title(WORKLOADS[workload]), "ink strong")
        self.text(MARGIN, middle + 13, " · ".join(modes[:2]), "small soft")
        for family, ratio, median in bars:
            self.bar(family, ratio, median, WORKLOADS[workload].kind)
        self.y += ROW_GAP - BAR_GAP

    def best(self, workload, family):
        if family == "haproxy":
            return self.figures.haproxy(workload)
        if family == "evenkeel":
            return self.figures.evenkeel(workload)
        return self.figures.best(workload, self.figures.peers(workload, family))

    def bar(self, family, ratio, median, kind):
        end = self.x(ratio.median)
        self.box(PLOT_LEFT, self.y, max(end - PLOT_LEFT, 1.5), BAR, family)
        middle = self.y + BAR / 2
        last = end
        if ratio.median > SCALE_MAX:
            for place in (22, 15):
                self.parts.append(f'<line class="cut" stroke-width="3" x1="{end - place - 4:.1f}" '
                                  f'y1="{self.y + BAR + 2}" x2="{end - place + 4:.1f}" '
                                  f'y2="{self.y - 2}"/>')
        elif ratio.high > ratio.low:
            low, last = self.x(ratio.low), max(end, self.x(ratio.high))
            high = self.x(ratio.high)
            self.parts.append(
                f'<path class="range" fill="none" stroke-width="1.3" d="M{low:.1f} {middle}H{high:.1f}'
                f'M{low:.1f} {middle - 3}v6M{high:.1f} {middle - 3}v6"/>')
        by, unit = UNITS[kind]
        style = "ink strong" if family == "evenkeel" else "ink"
        self.parts.append(
            f'<text x="{last + 7:.1f}" y="{middle + 4}" class="small halo {style}">{ratio.median:.2f}'
            f'<tspan class="soft" dx="6" font-weight="400">{amount(median / by)} {unit}</tspan>'
            "</text>")
        self.y += BAR + BAR_GAP

    def x(self, ratio):
        return PLOT_LEFT + (PLOT_RIGHT - PLOT_LEFT) * min(ratio, SCALE_MAX) / SCALE_MAX

    def box(self, x, y, width, height, style, radius=2):
        self.parts.append(f'<rect class="{style}" x="{x:.1f}" y="{y}" width="{width:.1f}" '
                          f'height="{height}" rx="{radius}"/>')

    def text(self, x, y, words, style, anchor="start"):
        self.parts.append(f'<text x="{x:.1f}" y="{y}" class="{style}" text-anchor="{anchor}">'
                          f"{escape(words)}</text>")

    def finished(self):
        height = self.y + MARGIN - 8
        return "\n".join([
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:g}" '
            f'width="{WIDTH}" height="{height:g}" role="img" '
            'aria-label="Cost of evenkeel and nginx relative to HAProxy">',
            f"<style>{STYLE}</style>",
            f'<rect class="page" x=".5" y=".5" width="{WIDTH - 1}" height="{height - 1:g}" rx="10"/>',
            *self.parts, "</svg>", "",
        ])


def row_title(workload):
    """Without what the group's heading says."""
    title = workload.title.partition(", 32 ")[0]
    for heading in ("Bulk ", "Responses of "):
        title = title.removeprefix(heading)
    return title[0].upper() + title[1:]


def amount(value):
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"
