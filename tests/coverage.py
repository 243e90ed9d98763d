# SPDX-FileCopyrightText: The nbdfleece authors
# SPDX-License-Identifier: BSD-3-Clause

# Adds up what gcov knows: coverage.py TOP BUILD

import collections
import json
import os
import re
import subprocess
import sys

top, build = (os.path.realpath(p) for p in sys.argv[1:])
folders = ("common", "conf", "filter", "plugin", "copier", "server",
           "server/front", "cli")
error = re.compile(r"return -1;|goto |errno = |_error \(|failure_set|abort \(|"
                   r"strerror|message_set|service_because")

# file -> line -> count; file -> (line, branch) -> count.  A file may have been
# compiled several times.
lines = collections.defaultdict(collections.Counter)
branches = collections.defaultdict(collections.Counter)

for directory, _, names in os.walk(build):
    notes = [os.path.join(directory, n) for n in names if n.endswith(".gcno")]
    if not notes:
        continue
    r = subprocess.run(["gcov", "--json-format", "--stdout",
                        "--branch-probabilities"] + notes, cwd=directory,
                       capture_output=True, text=True)
    for text in r.stdout.splitlines():
        document = json.loads(text)
        for f in document["files"]:
            path = os.path.realpath(os.path.join(
                document["current_working_directory"], f["file"]))
            name = os.path.relpath(path, top)
            if os.path.dirname(name) not in folders or not \
                    name.endswith(".c"):
                continue
            for line in f["lines"]:
                at = line["line_number"]
                lines[name][at] += line["count"]
                for i, b in enumerate(line["branches"]):
                    branches[name][at, i] += b["count"]


def row(name, files):
    nr = [sum(len(t[f]) for f in files) for t in (lines, branches)]
    hit = [sum(1 for f in files for n in t[f].values() if n)
           for t in (lines, branches)]
    part = ["%5.1f%%" % (100.0 * h / n) if n else "    -"
            for h, n in zip(hit, nr)]
    return "%-28s %6d %6s %7d %6s" % (name, nr[0], part[0], nr[1], part[1])


head = "%-28s %6s %6s %7s %6s" % ("", "lines", "", "branches", "")
print(head)
for folder in folders:
    files = [f for f in lines if os.path.dirname(f) == folder]
    if files:
        print(row(folder + "/", files))
print(row("all", list(lines)))

with open(os.path.join(build, "coverage.txt"), "w") as out:
    print(head, file=out)
    for f in sorted(lines):
        print(row(f, [f]), file=out)
    print("\nerror paths that were never reached:", file=out)
    nr = 0
    for f in sorted(lines):
        with open(os.path.join(top, f)) as source:
            for at, text in enumerate(source, 1):
                if lines[f].get(at) == 0 and error.search(text):
                    nr += 1
                    print("%s:%d: %s" % (f, at, text.strip()), file=out)
print("%d lines that deal with an error were never reached: see %s/"
      "coverage.txt" % (nr, build))
