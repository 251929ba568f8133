#!/usr/bin/env python3
"""Draws the Grafana dashboard as one SVG, from a live Prometheus.

The panels, their queries, units and places are those of stormwheel.json; nothing is invented here.
It needs Python's standard library only, so the picture in the README can be made where no Grafana
runs:

    dashboards/render.py --prometheus http://127.0.0.1:9090 --minutes 10

It draws what this dashboard uses (rows, stats, time series, stacks, heatmaps) and stops with an
error at a panel or a unit that it does not know, and at a query that yields nothing.
"""

import argparse
import json
import math
import pathlib
import sys
import time
import urllib.parse
import urllib.request
from xml.sax.saxutils import escape

HERE = pathlib.Path(__file__).resolve().parent

# Grafana's grid: 24 columns, rows of 30 pixels, a gap of 8 between panels.
COLUMNS, ROW_PX, GAP_PX, MARGIN_PX, HEADER_PX = 24, 30, 8, 12, 48
BACKGROUND, PANEL, BORDER = "#111217", "#181b1f", "#2c3235"
TEXT, TEXT_WEAK, GRID = "#ccccdc", "#9a9ba6", "#2a2d33"
PALETTE = ["#73bf69", "#f2cc0c", "#5794f2", "#ff9830", "#f2495c", "#b877d9", "#8ab8ff", "#ffa6b0",
           "#c0d8ff", "#fade2a", "#96d98d", "#ffb357"]
NAMED = {"green": "#73bf69", "orange": "#ff9830", "red": "#f2495c"}
POINTS = 180


# ---- Prometheus ---------------------------------------------------------------------------------

class Prometheus:
    """Asks for ranges, with Grafana's variables filled in."""

    def __init__(self, url, start, end, rate_interval):
        self.url, self.start, self.end = url.rstrip("/"), start, end
        self.step = max(1, math.ceil((end - start) / POINTS))
        self.variables = [
            ("$__rate_interval", rate_interval),
            ("$__interval", f"{self.step}s"),
            ("$__range", f"{int(end - start)}s"),
            ("$instance", ".*"),
        ]

    def range(self, expression):
        """[(labels, [(time, value)])], without the samples that are not numbers."""
        for name, value in self.variables:
            expression = expression.replace(name, value)
        query = urllib.parse.urlencode({"query": expression, "start": self.start, "end": self.end,
                                        "step": self.step})
        with urllib.request.urlopen(f"{self.url}/api/v1/query_range?{query}") as answer:
            body = json.load(answer)
        series = []
        for found in body["data"]["result"]:
            samples = [(float(at), float(value)) for at, value in found["values"]]
            series.append((found["metric"], [s for s in samples if math.isfinite(s[1])]))
        return series


def panel_series(prometheus, panel):
    """The series of a panel, in the order of its queries: [(legend, labels, samples)]."""
    found = []
    for target in panel["targets"]:
        for labels, samples in prometheus.range(target["expr"]):
            legend = target.get("legendFormat", "")
            for name, value in labels.items():
                legend = legend.replace("{{%s}}" % name, value)
            found.append((legend, labels, samples))
    if not found:
        sys.exit(f"render: the panel {panel['title']!r} yields no series")
    return found


# ---- Numbers ------------------------------------------------------------------------------------

def scaled(value, units, base):
    magnitude = 0
    while abs(value) >= base and magnitude < len(units) - 1:
        value, magnitude = value / base, magnitude + 1
    return value, units[magnitude]


def digits(value):
    text = f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"
    return f"{float(text):g}"


def formatted(value, unit, decimals=None):
    """A number as Grafana writes it."""
    if unit == "s":
        if value == 0:
            return "0 s"
        for least, factor, name in ((60, 1 / 60, "min"), (1, 1, "s"), (1e-3, 1e3, "ms"), (0, 1e6, "µs")):
            if abs(value) >= least * 0.9999:
                return f"{digits(value * factor)} {name}"
    if unit == "percentunit":
        return f"{value * 100:.{decimals}f}%" if decimals is not None else f"{digits(value * 100)}%"
    if unit == "bytes":
        number, name = scaled(value, ["B", "KiB", "MiB", "GiB", "TiB"], 1024)
        return f"{digits(number)} {name}"
    number, name = scaled(value, ["", "k", "M", "G"], 1000)
    suffix = {"short": "", "cps": "/s", "reqps": " req/s"}
    if unit not in suffix:
        sys.exit(f"render: unknown unit {unit!r}")
    return f"{digits(number)}{' ' + name if name else ''}{suffix[unit]}"


def ticks(low, high, unit, wanted=4):
    """Round numbers that span [low, high]."""
    if high <= low:
        high = low + 1
    base = 1024 ** int(math.log(max(abs(high), 1), 1024)) if unit == "bytes" else 1
    raw = (high - low) / base / wanted
    power = 10 ** math.floor(math.log10(raw))
    step = next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= raw * 0.999) * base
    first = math.floor(low / step + 1e-9)
    last = math.ceil(high / step - 1e-9)
    return [index * step for index in range(first, last + 1)]


# ---- SVG ----------------------------------------------------------------------------------------

class Svg:
    def __init__(self, width, height):
        self.parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
            f'width="{width}" height="{height}" font-family="Inter,Helvetica,Arial,sans-serif" '
            f'font-size="11">',
            f'<rect width="{width}" height="{height}" fill="{BACKGROUND}"/>',
        ]

    def add(self, text):
        self.parts.append(text)

    def text(self, x, y, text, color=TEXT, size=11, anchor="start", weight=None):
        bold = f' font-weight="{weight}"' if weight else ""
        place = f' text-anchor="{anchor}"' if anchor != "start" else ""
        self.add(f'<text x="{x:.0f}" y="{y:.0f}" fill="{color}" font-size="{size}"{place}{bold}>'
                 f"{escape(text)}</text>")

    def line(self, x1, y1, x2, y2, color, extra=""):
        self.add(f'<path d="M{x1:.0f} {y1:.1f}L{x2:.0f} {y2:.1f}" stroke="{color}"{extra}/>')

    def done(self):
        return "\n".join(self.parts) + "\n</svg>\n"


def text_width(text, size=11):
    return len(text) * size * 0.56


def simplified(points, tolerance=0.35):
    """Leaves out the points that a line through their neighbours passes anyway."""
    keep = [False] * len(points)
    keep[0] = keep[-1] = True
    pending = [(0, len(points) - 1)]
    while pending:
        first, last = pending.pop()
        (x1, y1), (x2, y2) = points[first], points[last]
        farthest, distance = None, tolerance
        for index in range(first + 1, last):
            x, y = points[index]
            along = (x - x1) / (x2 - x1) if x2 != x1 else 0
            off = abs(y - (y1 + along * (y2 - y1)))
            if off > distance:
                farthest, distance = index, off
        if farthest is not None:
            keep[farthest] = True
            pending += [(first, farthest), (farthest, last)]
    return [point for point, kept in zip(points, keep) if kept]


def path(points):
    return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in simplified(points)).replace(".0 ", " ")


# ---- Panels -------------------------------------------------------------------------------------

class Plot:
    """The inner rectangle of a panel with its axes."""

    def __init__(self, svg, box, prometheus, low, high):
        self.svg, (self.x, self.y, self.w, self.h) = svg, box
        self.start, self.end = prometheus.start, prometheus.end
        self.low, self.high = low, high

    def at(self, sample):
        when, value = sample
        across = (when - self.start) / (self.end - self.start)
        up = min(max((value - self.low) / (self.high - self.low), 0), 1)
        return self.x + across * self.w, self.y + self.h * (1 - up)

    def axes(self, marks, label):
        for mark in marks:
            _, y = self.at((self.start, mark))
            self.svg.line(self.x, y, self.x + self.w, y, GRID)
            self.svg.text(self.x - 6, y + 4, label(mark), TEXT_WEAK, anchor="end")
        self.time_axis()

    def time_axis(self):
        span = self.end - self.start
        wanted = max(2, int(self.w / 90))
        step = next(s for s in (15, 30, 60, 120, 300, 600, 1800, 3600, 1e9) if span / s <= wanted)
        when = math.ceil(self.start / step) * step
        while when <= self.end:
            x, _ = self.at((when, self.low))
            shape = "%H:%M:%S" if step < 60 else "%H:%M"
            if self.x + 14 < x < self.x + self.w - 12:
                self.svg.text(x, self.y + self.h + 15, time.strftime(shape, time.gmtime(when)),
                              TEXT_WEAK, anchor="middle")
            when += step


def legend(svg, x, y, width, entries):
    at = x
    for index, (name, color) in enumerate(entries):
        needed = 22 + text_width(name)
        if at + needed > x + width:
            svg.text(at, y, f"+{len(entries) - index}", TEXT_WEAK)
            return
        svg.add(f'<rect x="{at:.0f}" y="{y - 5:.0f}" width="12" height="3" rx="1" fill="{color}"/>')
        svg.text(at + 16, y, name)
        at += needed + 6


def draw_timeseries(svg, panel, box, prometheus):
    x, y, w, h = box
    defaults = panel["fieldConfig"]["defaults"]
    custom = defaults["custom"]
    unit = defaults["unit"]
    series = [(name, samples) for name, _, samples in panel_series(prometheus, panel)]
    is_stacked = custom["stacking"]["mode"] == "normal"
    bands = stacked(series) if is_stacked else [(name, None, s) for name, s in series]
    values = [value for _, _, samples in bands for _, value in samples] or [0]
    low = defaults.get("min", min(values))
    high = min(max(values), defaults.get("max", math.inf))
    if defaults.get("max") is not None and high > 0.4 * defaults["max"]:
        high = defaults["max"]
    marks = ticks(min(low, high), high, unit)
    labels = [formatted(mark, unit) for mark in marks]
    left = max(map(text_width, labels)) + 18
    plot = Plot(svg, (x + left, y + 36, w - left - 14, h - 84), prometheus, marks[0], marks[-1])
    plot.axes(marks, lambda mark: formatted(mark, unit))
    steps = defaults.get("thresholds", {}).get("steps", [])
    if custom.get("thresholdsStyle", {}).get("mode") == "dashed":
        for step in steps:
            if step["value"] is not None and step["value"] < marks[-1]:
                _, ty = plot.at((plot.start, step["value"]))
                svg.line(plot.x, ty, plot.x + plot.w, ty, NAMED[step["color"]], ' stroke-dasharray="6 5"')
    entries = []
    for index, (name, floor, samples) in enumerate(bands):
        color = PALETTE[index % len(PALETTE)]
        entries.append((name, color))
        draw_line(plot, samples, floor, color, custom.get("fillOpacity", 0) / 100)
    if not any(samples for _, _, samples in bands):
        svg.text(plot.x + plot.w / 2, plot.y + plot.h / 2, "no value in this time",
                 TEXT_WEAK, anchor="middle")
    legend(svg, x + 12, y + h - 12, w - 24, entries)


def stacked(series):
    """Each series on top of those before it: [(name, the floor under it, its line)]."""
    floor = {}
    bands = []
    for name, samples in series:
        before = [(when, floor.get(when, 0)) for when, _ in samples]
        for when, value in samples:
            floor[when] = floor.get(when, 0) + max(value, 0)
        bands.append((name, before, [(when, floor[when]) for when, _ in samples]))
    return bands


def draw_line(plot, samples, floor, color, opacity):
    if not samples:
        return
    points = [plot.at(sample) for sample in samples]
    if opacity:
        if floor is None:
            under = [(points[-1][0], plot.y + plot.h), (points[0][0], plot.y + plot.h)]
        else:
            under = simplified([plot.at(sample) for sample in floor])[::-1]
        area = path(points) + "L" + "L".join(f"{x:.1f} {y:.1f}" for x, y in under) + "Z"
        plot.svg.add(f'<path d="{area}" fill="{color}" fill-opacity="{opacity:g}"/>')
    plot.svg.add(f'<path d="{path(points)}" fill="none" stroke="{color}" stroke-width="1.3"/>')


def draw_stat(svg, panel, box, prometheus):
    x, y, w, h = box
    defaults = panel["fieldConfig"]["defaults"]
    samples = panel_series(prometheus, panel)[0][2]
    if not samples:
        sys.exit(f"render: the panel {panel['title']!r} yields no number")
    value = samples[-1][1]
    color = NAMED["green"]
    for step in defaults["thresholds"]["steps"]:
        if step["value"] is None or value >= step["value"]:
            color = NAMED[step["color"]]
    top = max(v for _, v in samples)
    low = min(0, min(v for _, v in samples))
    plot = Plot(svg, (x + 1, y + h * 0.64, w - 2, h * 0.36 - 1), prometheus, low, top if top > low else low + 1)
    draw_line(plot, samples, None, color, 0.18)
    svg.text(x + w / 2, y + h * 0.55, formatted(value, defaults["unit"], defaults.get("decimals")),
             color, size=28, anchor="middle", weight=600)


def draw_heatmap(svg, panel, box, prometheus):
    x, y, w, h = box
    found = [(float(labels["le"]), dict(samples)) for _, labels, samples in panel_series(prometheus, panel)]
    found.sort(key=lambda bucket: bucket[0])
    rows, below = [], {}
    for bound, counts in found:
        rows.append((bound, {when: max(0, count - below.get(when, 0)) for when, count in counts.items()}))
        below = counts
    used = [index for index, (_, counts) in enumerate(rows) if any(counts.values())]
    rows = rows[: max(used, default=0) + 2]
    # Neighbouring samples overlap by the rate interval: every third one says the same.
    times = sorted({when for _, counts in rows for when in counts})[::3]
    labels = ["more" if bound == math.inf else formatted(bound, "s") for bound, _ in rows]
    left = max(map(text_width, labels)) + 18
    plot = Plot(svg, (x + left, y + 36, w - left - 14, h - 66), prometheus, 0, len(rows))
    peak = max((count for _, counts in rows for count in counts.values()), default=1) or 1
    width = plot.w * 3 * prometheus.step / (prometheus.end - prometheus.start)
    height = plot.h / len(rows)
    for index, (_, counts) in enumerate(rows):
        top = plot.y + plot.h - (index + 1) * height
        svg.text(plot.x - 6, top + 4, labels[index], TEXT_WEAK, anchor="end")
        for when in times:
            count = counts.get(when, 0)
            if count > 0:
                cell, _ = plot.at((max(when, plot.start + 3 * prometheus.step), 0))
                strength = 0.12 + 0.88 * math.sqrt(count / peak)
                svg.add(f'<rect x="{cell - width:.1f}" y="{top:.1f}" width="{max(width - 0.6, 0.6):.1f}" '
                        f'height="{height - 1:.1f}" fill="#ff9830" fill-opacity="{strength:.2f}"/>')
    plot.time_axis()


DRAW = {"timeseries": draw_timeseries, "stat": draw_stat, "heatmap": draw_heatmap}


def draw(dashboard, prometheus, width):
    column = (width - 2 * MARGIN_PX + GAP_PX) / COLUMNS
    panels = dashboard["panels"]
    bottom = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in panels)
    svg = Svg(width, HEADER_PX + bottom * (ROW_PX + GAP_PX) + MARGIN_PX)
    svg.text(MARGIN_PX + 4, 31, dashboard["title"], size=19, weight=600)
    day = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(prometheus.start))
    svg.text(width - MARGIN_PX - 4, 30, f"{day} to {time.strftime('%H:%M:%S', time.gmtime(prometheus.end))} UTC",
             TEXT_WEAK, size=12, anchor="end")
    for panel in panels:
        grid = panel["gridPos"]
        x, y = MARGIN_PX + grid["x"] * column, HEADER_PX + grid["y"] * (ROW_PX + GAP_PX)
        w, h = grid["w"] * column - GAP_PX, grid["h"] * (ROW_PX + GAP_PX) - GAP_PX
        if panel["type"] == "row":
            svg.text(x + 4, y + 21, "⌄  " + panel["title"], size=14, weight=600)
            continue
        if panel["type"] not in DRAW:
            sys.exit(f"render: unknown panel type {panel['type']!r}")
        svg.add(f'<rect x="{x:.0f}" y="{y:.0f}" width="{w:.0f}" height="{h:.0f}" rx="2" fill="{PANEL}" stroke="{BORDER}"/>')
        svg.text(x + 12, y + 21, panel["title"], size=13, weight=500)
        DRAW[panel["type"]](svg, panel, (x, y, w, h), prometheus)
    return svg.done()


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--prometheus", default="http://127.0.0.1:9090", metavar="URL")
    parser.add_argument("--dashboard", type=pathlib.Path, default=HERE / "stormwheel.json")
    parser.add_argument("--output", type=pathlib.Path, default=HERE.parent / "docs/images/dashboard.svg")
    parser.add_argument("--minutes", type=float, default=10, help="how far back (default: 10)")
    parser.add_argument("--end", type=float, default=time.time(), help="epoch seconds (default: now)")
    parser.add_argument("--rate-interval", default="20s", help="four scrape intervals (default: 20s)")
    parser.add_argument("--width", type=int, default=1600)
    options = parser.parse_args()
    end = math.floor(options.end)
    prometheus = Prometheus(options.prometheus, end - options.minutes * 60, end, options.rate_interval)
    picture = draw(json.loads(options.dashboard.read_text()), prometheus, options.width)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(picture)
    print(f"{options.output}: {len(picture.encode()) // 1024} KiB")


if __name__ == "__main__":
    main()
