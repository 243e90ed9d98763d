#!/usr/bin/env python3
# SPDX-FileCopyrightText: The nbdfleece authors
# SPDX-License-Identifier: BSD-3-Clause

"""Makes the page of promises out of what tests have said.

  reliability.py [--page FILE] [--long FILE] [NAME=]DIR...
      writes the page, of tests that were run in these build directories
      (NAME: what the page calls it); fails if a promise has no test, or a
      test behind it did not pass in the first of them
  reliability.py --note WHAT --long FILE LOG...
      notes the cases in the logs of a longer run

A test says in its log what it went through: "cases: WHAT: NUMBER"."""

import argparse
import collections
import glob
import json
import os
import re
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
CASES = re.compile(r"^cases: ([^:]+): (\d+)$")
MARKS = "<!-- results: tests/reliability.py -->", "<!-- end of results -->"


def said(log):
    """The cases in one log."""
    cases = collections.Counter()
    try:
        with open(log, errors="replace") as f:
            for line in f:
                m = CASES.match(line.rstrip("\n"))
                if m:
                    cases[m[1]] += int(m[2])
    except FileNotFoundError:
        pass
    return cases


class Build:
    """What the tests in one build directory came to."""

    def __init__(self, word):
        name, _, directory = word.rpartition("=")
        self.name = name or os.path.basename(os.path.abspath(directory))
        self.result, self.cases = {}, {}
        for trs in glob.glob(os.path.join(directory, "tests", "test-*.trs")):
            test = os.path.basename(trs)[len("test-"):-len(".trs")]
            with open(trs) as f:
                m = re.search(r"^:test-result: (\w+)", f.read(), re.M)
            self.result[test] = m[1] if m else "ERROR"
            self.cases[test] = said(trs[:-len("trs")] + "log")


def promises():
    with open(os.path.join(HERE, "promises")) as f:
        for line in f:
            line = line.strip()
            if line and not line.startswith("#"):
                claim, models, tests = (w.strip() for w in line.split("|"))
                yield claim, models.split(), tests.split()


def known_tests():
    return {os.path.splitext(os.path.basename(f))[0][len("test-"):]
            for f in glob.glob(os.path.join(HERE, "test-*.*"))}


def expand(pattern, known):
    """The tests that are meant; a * may mean none yet."""
    if pattern.endswith("*"):
        return sorted(t for t in known if t.startswith(pattern[:-1]))
    return [pattern]


def grouped(number):
    return f"{number:,}".replace(",", " ")


def listed(cases):
    return "; ".join(f"{grouped(n)} {what}" for what, n in
                     sorted(cases.items())) or ""


def results(tests, builds):
    """How they went, in each build in which they were run."""
    words = []
    for b in builds:
        ran = [b.result[t] for t in tests if t in b.result]
        if not ran:
            continue
        bad = [r for r in ran if r != "PASS"]
        words.append(f"{b.name}: " + (f"{len(ran)} passed" if not bad else
                                      f"{len(ran) - len(bad)} passed, "
                                      f"{len(bad)} not"))
    return "; ".join(words)


def table(builds):
    """The lines of the table, and complaints."""
    known, wrong = known_tests(), []
    lines = ["| promise | models | tests | gone through | last result |",
             "|---|---|---|---|---|"]
    first = builds[0]
    for claim, models, patterns in promises():
        tests = [t for p in patterns for t in expand(p, known)]
        tests += [f"model-{m}" for m in models]
        for t in tests:
            if t not in known:
                wrong.append(f"there is no test-{t}, which is behind: {claim}")
            elif first.result.get(t) != "PASS":
                wrong.append(f"test-{t} did not pass "
                             f"({first.result.get(t, 'not run')}): {claim}")
        cases = collections.Counter()
        for t in tests:
            cases.update(first.cases.get(t, {}))
        plain = [t for t in tests if not t.startswith("model-")]
        lines.append(f"| {claim} | {', '.join(models)} | {', '.join(plain)} | "
                     f"{listed(cases)} | {results(tests, builds)} |")
    return lines, wrong


def totals(builds):
    lines = []
    for b in builds:
        cases = collections.Counter()
        for c in b.cases.values():
            cases.update(c)
        count = collections.Counter(b.result.values())
        lines.append(f"- {b.name}: " + ", ".join(
            f"{n} {r.lower()}" for r, n in sorted(count.items())) +
            (f". {listed(cases)}." if cases else "."))
    return lines


def longer(path):
    try:
        with open(path) as f:
            notes = json.load(f)
    except FileNotFoundError:
        return []
    lines = ["", "### Longer runs", "", "| run | gone through | result |",
             "|---|---|---|"]
    for what, note in sorted(notes.items()):
        lines.append(f"| `make {what}` | {listed(note['cases'])} | "
                     f"{note['result']} |")
    return lines


def put(page, lines):
    """Between the marks of the page, or in place of all of it."""
    text = "\n".join(lines)
    old = open(page).read() if os.path.exists(page) else "\n".join(MARKS)
    before, rest = old.split(MARKS[0])
    after = rest.split(MARKS[1])[1]
    with open(page, "w") as f:
        f.write(f"{before}{MARKS[0]}\n\n{text}\n\n{MARKS[1]}{after}")


def note(what, path, logs):
    notes = json.load(open(path)) if os.path.exists(path) else {}
    cases = collections.Counter()
    bad = 0
    for log in logs:
        cases.update(said(log))
        trs = os.path.splitext(log)[0] + ".trs"
        if os.path.exists(trs):
            bad += ":test-result: PASS" not in open(trs).read()
    notes[what] = {"cases": dict(cases),
                   "result": "passed" if not bad else f"{bad} failed"}
    with open(path, "w") as f:
        json.dump(notes, f, indent=1, sort_keys=True)
        f.write("\n")
    return bad


def main():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--page", default=os.path.join(
        HERE, "..", "docs", "reliability.md"))
    p.add_argument("--long", default=os.path.join(
        HERE, "..", "docs", "reliability-long.json"))
    p.add_argument("--note")
    p.add_argument("where", nargs="+")
    args = p.parse_args()
    if args.note:
        return 1 if note(args.note, args.long, args.where) else 0
    builds = [Build(w) for w in args.where]
    lines, wrong = table(builds)
    put(args.page, lines + [""] + totals(builds) + longer(args.long))
    for line in wrong:
        print(line, file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
