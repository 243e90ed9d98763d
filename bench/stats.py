# SPDX-FileCopyrightText: The nbdfleece authors
# SPDX-License-Identifier: BSD-3-Clause

"""Rounds, medians and ratios."""

# A shared machine is faster now and slower then, so no figure of one contender
# means much alone.  All contenders of a measurement take turns, the order being
# turned round every time; the first round is thrown away, since fresh memory is
# slow the first time; and what counts is the ratio of the medians.  Its spread
# is that of the ratios of the single rounds.

from statistics import median

from util import say


def order(names, round_nr):
    """In which order the contenders run: A B C, then C B A, and so on."""
    return list(names) if round_nr % 2 == 0 else list(reversed(list(names)))


def alternate(contenders, rounds):
    """contenders: name -> function that runs it once and returns a number, or
    a dict of numbers.  Returns name -> list of what it returned, in rounds."""
    samples = {name: [] for name in contenders}
    for nr in range(rounds + 1):
        for name in order(contenders, nr):
            value = contenders[name]()
            if nr > 0:
                samples[name].append(value)
    return samples


def pick(values, key):
    return [v[key] for v in values]


def pick_all(samples, key):
    return {name: pick(values, key) for name, values in samples.items()}


def best(samples, names, more_is_better=True):
    """The name with the better median."""
    known = [n for n in names if samples.get(n)]
    choose = max if more_is_better else min
    return choose(known, key=lambda n: median(samples[n])) if known else None


def summary(values):
    return {"median": median(values), "min": min(values), "max": max(values)}


def compare(ours, peer):
    """The ratio of medians, and the spread of the ratios of rounds."""
    ratios = [a / b for a, b in zip(ours, peer)]
    return {"ratio": median(ours) / median(peer),
            "min": min(ratios), "max": max(ratios)}


class Results:
    """Rows of the table, as they go into the JSON document."""

    def __init__(self):
        self.rows = []
        self.series = []
        self.timeline = {}

    def add(self, fs, case, variant, against, samples, ours, peer, reach,
            unit):
        """reach: (">=" or "<=", number) or None if it is only of interest."""
        row = {"fs": fs, "case": case, "variant": variant,
               "against": against, "peer": peer, "unit": unit,
               "ours": summary(samples[ours]), "theirs": summary(samples[peer])}
        row.update(compare(samples[ours], samples[peer]))
        self.finish(row, row["ratio"], reach)

    def add_value(self, fs, case, variant, values, reach, unit):
        """A row with a value that is not compared with anything."""
        row = {"fs": fs, "case": case, "variant": variant, "against": None,
               "unit": unit, "ours": summary(values),
               "ratio": median(values), "min": min(values), "max": max(values)}
        self.finish(row, row["ratio"], reach)

    def finish(self, row, value, reach):
        row["reach"] = list(reach) if reach else None
        if not reach:
            row["verdict"] = None
        elif reach[0] == ">=":
            row["verdict"] = "pass" if value >= reach[1] else "short"
        else:
            row["verdict"] = "pass" if value <= reach[1] else "short"
        self.rows.append(row)
        say("  %-8s %-34s %-26s %8.3g  (%.3g to %.3g)%s"
            % (row["fs"], row["case"][:34], row["variant"][:26],
               row["ratio"], row["min"], row["max"],
               "  " + row["verdict"] if row["verdict"] else ""))
