# SPDX-FileCopyrightText: The nbdfleece authors
# SPDX-License-Identifier: BSD-3-Clause

"""Results for people: a table of text, and the page of the documentation."""

import os

import svg
from util import BenchError

BEGIN, END = "<!-- results: bench/run -->", "<!-- end of results -->"


def systems(d):
    found = []
    for row in d["rows"]:
        if row["fs"] not in found:
            found.append(row["fs"])
    return found


def number(v):
    """Three digits, or two behind the point."""
    return "%.2f" % v if v < 10 else "%.3g" % v


def cell(row):
    """12.3 (11.9–12.8) or the like; times with their unit."""
    if row["against"] is None:
        scale, unit = {"s": (1e3, " ms"), "bytes": (2 ** -20, " MiB")}.get(
            row["unit"], (1, ""))
    else:
        scale, unit = 1, ""
    return "%s%s (%s–%s)" % (number(row["ratio"] * scale), unit,
                             number(row["min"] * scale),
                             number(row["max"] * scale))


def reach(row):
    if not row["reach"]:
        return ""
    op, value = row["reach"]
    if row["against"] is None:
        return "≤ %g ms" % (value * 1e3) if row["unit"] == "s" \
            else "≤ %g MiB" % (value / 2 ** 20)
    return "%s %g" % ({">=": "≥", "<=": "≤"}[op], value)


def table(d):
    """Head and lines: case, against, reach, and a cell per file system."""
    names = systems(d)
    lines, where = [], {}
    for row in d["rows"]:
        key = (row["case"], row["variant"], row["against"])
        if key not in where:
            where[key] = len(lines)
            lines.append([", ".join(t for t in key[:2] if t),
                          row["against"] or "", reach(row)]
                         + [""] * len(names))
        mark = {"pass": " ✓", "short": " ✗", None: ""}[row["verdict"]]
        lines[where[key]][3 + names.index(row["fs"])] = cell(row) + mark
    return ["case", "against", "reach"] + names, lines


def text(d):
    head, lines = table(d)
    widths = [max(len(line[i]) for line in [head] + lines)
              for i in range(len(head))]
    out = ["  ".join(t.ljust(w) for t, w in zip(line, widths)).rstrip()
           for line in [head, ["-" * w for w in widths]] + lines]
    out += ["", conditions(d), counts(d)]
    return "\n".join(out)


def counts(d):
    judged = [r for r in d["rows"] if r["verdict"]]
    good = sum(r["verdict"] == "pass" for r in judged)
    return "%d of %d reached." % (good, len(judged))


def conditions(d):
    m = d["machine"]
    return ("%s: %d processors, Linux %s, %s, %s, %s, %s; a disk of %d MiB, "
            "%d rounds, %g s a turn; load %.1f at the end; %d s in all."
            % (d["date"], m["cpus"], m["kernel"], m["nbdkit"],
               m["qemu"].replace(" version", "").split(" (")[0], m["nbdcopy"],
               m["fio"], d["size"] >> 20, d["rounds"], d["turn"], d["load"],
               d["seconds"]))


def markdown(d, chart):
    head, lines = table(d)
    out = [BEGIN, "", conditions(d) + " " + counts(d), ""]
    out += ["| " + " | ".join(line) + " |" for line in
            [head, ["---"] * len(head)] + lines]
    out += ["", "![Chart of the results](%s)" % chart, "", END]
    return "\n".join(out)


def page(d, path):
    """Replaces what is between the marks, and the chart beside it."""
    with open(path, encoding="utf-8") as f:
        old = f.read()
    if BEGIN not in old or END not in old:
        raise BenchError("%s has no '%s'" % (path, BEGIN))
    chart = os.path.splitext(path)[0] + ".svg"
    svg.draw(d, chart)
    new = old[:old.index(BEGIN)] + markdown(d, os.path.basename(chart)) \
        + old[old.index(END) + len(END):]
    with open(path, "w", encoding="utf-8") as f:
        f.write(new)
