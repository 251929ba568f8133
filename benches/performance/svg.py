"""Plots as SVG, by hand: lines and bars, on a ground of their own, for light pages and dark ones."""

import html
import math

WIDTH, LEFT, RIGHT, TOP, BOTTOM = 760, 84, 150, 46, 56
STYLE = """
.ground{fill:#ffffff}.ink{fill:#1f2328}.soft{fill:#59636e}.grid{stroke:#d1d9e0;fill:none}
.mark{stroke:#59636e;fill:none;stroke-dasharray:2 3}
.f0{fill:#0072b2}.f1{fill:#d55e00}.f2{fill:#009e73}.f3{fill:#9a6fb0}.f4{fill:#7f7f7f}.f5{fill:#b8860b}
.s0{stroke:#0072b2}.s1{stroke:#d55e00}.s2{stroke:#009e73}.s3{stroke:#9a6fb0}.s4{stroke:#7f7f7f}.s5{stroke:#b8860b}
@media (prefers-color-scheme:dark){.ground{fill:#0d1117}.ink{fill:#e6edf3}.soft{fill:#9198a1}
.grid{stroke:#3d444d}.mark{stroke:#9198a1}
.f0{fill:#56b4e9}.s0{stroke:#56b4e9}.f1{fill:#f0883e}.s1{stroke:#f0883e}.f2{fill:#2fbf94}.s2{stroke:#2fbf94}
.f3{fill:#c49ad8}.s3{stroke:#c49ad8}.f4{fill:#a5a5a5}.s4{stroke:#a5a5a5}.f5{fill:#e0b040}.s5{stroke:#e0b040}}
text{font:12px system-ui,sans-serif}.title{font-size:15px;font-weight:600}.line{fill:none;stroke-width:2}
"""
# Lines are told apart without their colours, too.
DASHES = ["", "7 4", "2 3", "10 3 2 3", "4 2", "1 2"]


def number(value):
    """As short as it stays exact enough for an axis."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:g}{letter}"
    return f"{value:g}"


class Scale:
    """From values to places."""

    def __init__(self, values, begin, end, log):
        # Zero has no place on a logarithmic scale.
        values = [value for value in values if not log or value > 0] or [1]
        low, high = min(values), max(values)
        self.log = log
        if log:
            low, high = 10 ** math.floor(math.log10(low)), 10 ** math.ceil(math.log10(high))
            if low == high:
                high *= 10
            self.ticks = [10 ** power for power in range(round(math.log10(low)), round(math.log10(high)) + 1)]
        else:
            low = min(low, 0)
            step = nice((high - low) / 5 or 1)
            high = step * math.ceil(high / step) or step
            self.ticks = [low + step * at for at in range(round((high - low) / step) + 1)]
        self.low, self.high, self.begin, self.end = low, high, begin, end

    def __call__(self, value):
        if self.log:
            part = math.log(max(value, self.low) / self.low) / math.log(self.high / self.low)
        else:
            part = (value - self.low) / (self.high - self.low)
        return self.begin + part * (self.end - self.begin)


def nice(step):
    size = 10 ** math.floor(math.log10(step))
    return next(size * times for times in (1, 2, 5, 10) if size * times >= step * 0.999)


def text(x, y, words, of="ink", anchor="start", more=""):
    return f'<text x="{x:.1f}" y="{y:.1f}" class="{of}" text-anchor="{anchor}"{more}>{html.escape(str(words))}</text>'


def drawing(title, height, parts):
    head = (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" '
            f'height="{height}" role="img"><title>{html.escape(title)}</title><style>{STYLE}</style>'
            f'<rect class="ground" width="{WIDTH}" height="{height}"/>')
    return "\n".join([head, text(16, 24, title, "ink title"), *parts, "</svg>"]) + "\n"


def lines(title, x_label, y_label, series, x_log=False, y_log=False, x_names=None, height=400):
    """A line for each of `series`: `{name: [(x, y)]}`. `x_names` stand at the whole numbers from 0 on."""
    points = [point for line in series.values() for point in line]
    x = Scale([px for px, _ in points], LEFT, WIDTH - RIGHT, x_log)
    y = Scale([py for _, py in points], height - BOTTOM, TOP, y_log)
    parts, places = [], []
    for tick in y.ticks:
        at = y(tick)
        parts.append(f'<path class="grid" d="M{LEFT} {at:.1f}H{WIDTH - RIGHT}"/>')
        parts.append(text(LEFT - 8, at + 4, number(tick), "soft", "end"))
    if x_names:
        x = Scale(range(len(x_names)), LEFT, WIDTH - RIGHT, False)
        x.low, x.high = 0, max(len(x_names) - 1, 1)
    for tick, name in (enumerate(x_names) if x_names else ((tick, number(tick)) for tick in x.ticks)):
        parts.append(text(x(tick), height - BOTTOM + 18, name, "soft", "middle"))
    parts.append(text((LEFT + WIDTH - RIGHT) / 2, height - 14, x_label, "soft", "middle"))
    parts.append(text(0, 0, y_label, "soft", "middle",
                      f' transform="translate(18 {(TOP + height - BOTTOM) / 2:.0f}) rotate(-90)"'))
    for at, (name, line) in enumerate(series.items()):
        path = "L".join(f"{x(px):.1f} {y(py):.1f}" for px, py in line)
        dash = f' stroke-dasharray="{DASHES[at % 6]}"' if DASHES[at % 6] else ""
        parts.append(f'<path class="line s{at % 6}" d="M{path}"{dash}/>')
        if len(line) <= 12:
            parts += [f'<circle class="f{at % 6}" cx="{x(px):.1f}" cy="{y(py):.1f}" r="3"/>'
                      for px, py in line]
        if line:
            places.append([y(line[-1][1]), x(line[-1][0]), at, name])
    # Names stand where their lines end, one below the other.
    lowest = TOP - 16.0
    for place in sorted(places):
        lowest = max(place[0] + 4, lowest + 15)
        parts.append(text(WIDTH - RIGHT + 18, lowest, place[3], f"f{place[2] % 6}"))
    return drawing(title, height, parts)


def bars(title, label, groups, log=False):
    """Bars to the right, in groups: `{group: {name: value}}`; names keep their colours."""
    names = list(dict.fromkeys(name for group in groups.values() for name in group))
    scale = Scale([value for group in groups.values() for value in group.values()],
                  LEFT + 90, WIDTH - 90, log)
    parts, y = [], TOP + 26
    for at, name in enumerate(names):
        parts.append(f'<rect class="f{at % 6}" x="{16 + at * 145}" y="{TOP - 8}" width="10" height="10"/>')
        parts.append(text(31 + at * 145, TOP + 1, name, "soft"))
    first = y - 6
    for group, values in groups.items():
        parts.append(text(LEFT + 82, y + 7 * len(values), group, "ink", "end"))
        for name, value in values.items():
            width = max(scale(value) - scale.begin, 1)
            parts.append(f'<rect class="f{names.index(name) % 6}" x="{scale.begin:.1f}" y="{y}" '
                         f'width="{width:.1f}" height="11"/>')
            parts.append(text(scale.begin + width + 5, y + 10, shown(value), "soft"))
            y += 14
        y += 12
    grid = [f'<path class="grid" d="M{scale(tick):.1f} {first}V{y - 6}"/>' for tick in scale.ticks]
    ticks = [text(scale(tick), y + 10, number(tick), "soft", "middle") for tick in scale.ticks]
    label = text((scale.begin + scale.end) / 2, y + 30, label, "soft", "middle")
    return drawing(title, y + 44, [*grid, *parts, *ticks, label])


def shown(value):
    return f"{value:.3g}" if value < 1000 else f"{value:,.0f}"
