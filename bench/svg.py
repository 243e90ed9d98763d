# SPDX-FileCopyrightText: The nbdfleece authors
# SPDX-License-Identifier: BSD-3-Clause

"""The chart: the table as dots, the series and the time line as lines."""

import math
from xml.sax.saxutils import escape

WIDTH = 960
ROW = 18
COLOURS = ["#0b62a4", "#d9730d", "#4b8f3c", "#a33ea1", "#777777", "#b8a000"]
PANEL = (430, 230)              # of a series: width and height
LEFT, TOP, BOTTOM = 56, 26, 40  # of a panel, around what is drawn in it


class Svg:
    def __init__(self):
        self.parts = []

    def line(self, x1, y1, x2, y2, colour="#999", width=1, dash=None):
        self.parts.append(
            '<line x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f" stroke="%s" '
            'stroke-width="%g"%s/>' % (x1, y1, x2, y2, colour, width,
                                       ' stroke-dasharray="%s"' % dash
                                       if dash else ""))

    def text(self, x, y, s, size=11, anchor="start", colour="#222",
             bold=False):
        self.parts.append(
            '<text x="%.1f" y="%.1f" font-size="%d" text-anchor="%s" '
            'fill="%s"%s>%s</text>' % (x, y, size, anchor, colour,
                                       ' font-weight="bold"' if bold else "",
                                       escape(s)))

    def dot(self, x, y, colour, filled=True):
        self.parts.append('<circle cx="%.1f" cy="%.1f" r="3.5" fill="%s" '
                          'stroke="%s" stroke-width="1.5"/>'
                          % (x, y, colour if filled else "#fff", colour))

    def path(self, points, colour):
        self.parts.append('<polyline points="%s" fill="none" stroke="%s" '
                          'stroke-width="1.5"/>' % (
                              " ".join("%.1f,%.1f" % p for p in points),
                              colour))

    def save(self, name, height):
        with open(name, "w", encoding="utf-8") as f:
            f.write('<svg xmlns="http://www.w3.org/2000/svg" width="%d" '
                    'height="%d" viewBox="0 0 %d %d" '
                    'font-family="sans-serif">\n<rect width="100%%" '
                    'height="100%%" fill="#fff"/>\n%s\n</svg>\n'
                    % (WIDTH, height, WIDTH, height, "\n".join(self.parts)))


def legend(svg, x, y, names):
    for i, name in enumerate(names):
        svg.dot(x, y - 4, COLOURS[i % len(COLOURS)])
        svg.text(x + 8, y, name)
        x += 24 + 6.2 * len(name)


def score(row, value):
    """How far a value is beyond its reach: 1 is just reached."""
    op, reach = row["reach"]
    if value <= 0:
        return 1
    return value / reach if op == ">=" else reach / value


def table(svg, y, rows, systems):
    """A line for each row of the table, a dot for each file system; how far to
    the right of the line in the middle, so much beyond what is to be reached."""
    middle, scale, limit = 680, 115, 2.2      # scale: pixels to twice as much

    def at(s):
        return middle + scale * max(-limit, min(limit, math.log2(s)))
    svg.text(16, y, "Reached?", 14, bold=True)
    legend(svg, 120, y, systems)
    y += 22
    for factor, label in ((0.25, "¼"), (0.5, "½"), (1, "reached"),
                          (2, "2×"), (4, "4×")):
        svg.text(at(factor), y, label, 10, "middle", "#666")
    y += 10
    top = y
    keys = []
    for row in rows:
        key = (row["case"], row["variant"], row["against"])
        if row["reach"] and key not in keys:
            keys.append(key)
    for key in keys:
        case, variant, against = key
        svg.text(16, y + 4, ", ".join(
            t for t in (case, variant,
                        "QEMU" if (against or "").startswith("QEMU") else None)
            if t)[:70], 10)
        for row in rows:
            if (row["case"], row["variant"], row["against"]) != key:
                continue
            i = systems.index(row["fs"])
            yy = y - 3 + 3 * i
            svg.line(at(score(row, row["min"])), yy, at(score(row, row["max"])),
                     yy, COLOURS[i % len(COLOURS)])
            svg.dot(at(score(row, row["ratio"])), yy, COLOURS[i % len(COLOURS)],
                    row["verdict"] == "pass")
        y += ROW
    for factor in (0.25, 0.5, 1, 2, 4):
        svg.line(at(factor), top - 6, at(factor), y - 8,
                 "#333" if factor == 1 else "#ddd")
    return y + 14


def nice(top):
    """The next round number from top on."""
    if top <= 0:
        return 1
    power = 10 ** math.floor(math.log10(top))
    return next(m * power for m in (1, 1.5, 2, 3, 5, 7.5, 10)
                if m * power >= top * 0.999)


def axes(svg, x, y, title, unit, levels):
    """levels: (fraction of the height, label)"""
    width, height = PANEL
    svg.text(x, y + 12, title, 12, bold=True)
    svg.text(x + width - 8, y + 12, unit, 10, "end", "#666")
    for part, label in levels:
        yy = y + height - BOTTOM - part * (height - TOP - BOTTOM)
        svg.line(x + LEFT, yy, x + width - 8, yy, "#ddd")
        svg.text(x + LEFT - 6, yy + 4, label, 10, "end", "#666")


def lines(svg, x, y, s):
    """One series."""
    width, height = PANEL
    top = nice(max(v for ys in s["lines"].values() for v in ys))
    axes(svg, x, y, s["title"], s["unit"],
         [(i / 4, "%.3g" % (top * i / 4)) for i in range(5)])
    step = (width - LEFT - 24) / max(1, len(s["x"]) - 1)
    for i, label in enumerate(s["x"]):
        svg.text(x + LEFT + 8 + i * step, y + height - BOTTOM + 14, label, 10,
                 "middle", "#666")
    for i, ys in enumerate(s["lines"].values()):
        points = [(x + LEFT + 8 + k * step, y + height - BOTTOM
                   - v / top * (height - TOP - BOTTOM))
                  for k, v in enumerate(ys)]
        svg.path(points, COLOURS[i])
        for p in points:
            svg.dot(p[0], p[1], COLOURS[i])
    legend(svg, x + LEFT, y + height - 6, s["lines"])


def timeline(svg, x, y, name, t):
    """Latency over time, on a logarithmic scale from 10 us to 1 s."""
    width, height = PANEL
    axes(svg, x, y, "Latency of the guest's writes: " + name, t["job"],
         list(zip([i / 5 for i in range(6)],
                  ["10 µs", "100 µs", "1 ms", "10 ms", "100 ms", "1 s"])))
    per_second = (width - LEFT - 16) / t["seconds"]

    def at(seconds):
        return x + LEFT + 4 + seconds * per_second

    def level(v):
        part = math.log10(max(v, 1e-5) / 1e-5) / 5
        return y + height - BOTTOM - min(1, part) * (height - TOP - BOTTOM)
    for when, what in t["events"]:
        svg.line(at(when), y + TOP, at(when), y + height - BOTTOM, "#a00",
                 1, "3,3")
        svg.text(at(when) + 3, y + height - BOTTOM + 12, what, 9,
                 colour="#a00")
    for i, values in enumerate(t["lines"].values()):
        svg.path([(at(k * t["bin"]), level(v)) for k, v in enumerate(values)
                  if v is not None], COLOURS[i])
    legend(svg, x + LEFT, y + height - 6, t["lines"])


def draw(d, name):
    svg = Svg()
    systems = []
    for row in d["rows"]:
        if row["fs"] not in systems:
            systems.append(row["fs"])
    y = table(svg, 28, d["rows"], systems)
    panels = [lambda x, y, s=s: lines(svg, x, y, s) for s in d["series"]]
    panels += [lambda x, y, n=n, t=t: timeline(svg, x, y, n, t)
               for n, t in d["timeline"].items()]
    for i, panel in enumerate(panels):
        panel(16 + (i % 2) * (PANEL[0] + 40), y + i // 2 * (PANEL[1] + 16))
    svg.save(name, y + (len(panels) + 1) // 2 * (PANEL[1] + 16) + 16)
