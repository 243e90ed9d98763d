# SPDX-FileCopyrightText: The nbdfleece authors
# SPDX-License-Identifier: BSD-3-Clause

"""What is drawn: cost against one thing at a time, latency over time."""

import os
import statistics
import time

import disks
import loads
from cases import PLAIN, QEMUS, US, with_snapshot
from peers import Plain, start_qemus
from stats import alternate, best, pick
from util import run

BIN = 0.02                      # seconds of the time line that make one point


def few(p):
    """Rounds of one point of a series."""
    return max(1, p.rounds // 2)


def rate(p, server, **settings):
    job = dict(rw="randwrite", bs="4k", iodepth=16, size=p.size)
    job.update(settings)
    return loads.guest(p.work, server.guest, p.seconds, **job)["iops"]


def medians(samples):
    return {n: statistics.median(v) for n, v in samples.items()}


def add(p, title, unit, xs, points):
    """points: for each x a dict name -> value."""
    names = list(points[0])
    p.results.series.append({
        "title": title, "unit": unit, "x": xs,
        "lines": {n: [pt[n] for pt in points] for n in names}})


def by_disk_size(p):
    sizes = [30, 34, 38, 42, 44]
    ratios, creates = [], []
    for shift in sizes:
        size = min(1 << shift, disks.LARGEST)
        disk = p.path("sparse")
        disks.sparse(disk, size)
        plain, us = Plain(p.work, disk), p.fleece(disk)

        def load(server, size=size):
            return rate(p, server, size=size, norandommap=1)
        m = medians(alternate({PLAIN: lambda f=load: f(plain),
                               US: with_snapshot(us, load)}, few(p)))
        ratios.append({"first touch": m[US] / m[PLAIN]})
        times = []
        for _ in range(few(p) + 1):
            begin = time.monotonic()
            closed = us.create()["gate-closed-us"]
            times.append((time.monotonic() - begin, closed / 1e6))
            us.delete()
        creates.append({
            "command": 1e3 * statistics.median(t[0] for t in times[1:]),
            "gate closed": 1e3 * statistics.median(t[1] for t in times[1:])})
        plain.stop()
        us.stop()
        os.unlink(disk)
    xs = ["1G", "16G", "256G", "4T", "16T"]
    add(p, "4k random writes against size of a sparse disk",
        "times no filter", xs, ratios)
    add(p, "Creating a snapshot against disk size", "ms", xs, creates)


def by_snapshots(p):
    plain, us = Plain(p.work, p.disk), p.fleece()
    points = []
    span = min(p.size, 128 << 20)
    for count in (1, 2, 4, 8):
        names = ["s%d" % i for i in range(count)]

        def load(names=names):
            for n in names:
                us.create(n)
            touch = rate(p, us)
            loads.fio(p.work, [dict(uri=us.guest, rw="write", bs="1m")],
                      size=span)
            copied = rate(p, us, size=span)
            for n in names:
                us.delete(n)
            return {"first touch": touch, "copied": copied}
        samples = alternate({US: load, PLAIN: lambda: rate(p, plain)}, few(p))
        points.append({
            n: statistics.median(pick(samples[US], n))
            / statistics.median(samples[PLAIN])
            for n in ("first touch", "copied")})
    add(p, "4k random writes against number of snapshots", "times no filter",
        ["1", "2", "4", "8"], points)
    plain.stop()
    us.stop()


def by_writers(p):
    plain, us = Plain(p.work, p.disk), p.fleece()
    qemus = start_qemus(p.work, p.where, p.disk)
    points = []
    for writers in (1, 2, 4, 8, 16):
        def load(server, n=writers):
            return rate(p, server, iodepth=1, numjobs=n, group_reporting=1,
                        blockalign="64k", size=p.size // n,
                        offset_increment=p.size // n)
        contenders = {US: with_snapshot(us, load),
                      PLAIN: lambda f=load: f(plain)}
        contenders.update({n: with_snapshot(q, load)
                           for n, q in qemus.items()})
        samples = alternate(contenders, few(p))
        m = medians(samples)
        points.append({US: m[US] / 1e3, PLAIN: m[PLAIN] / 1e3,
                       "QEMU": m[best(samples, QEMUS)] / 1e3})
    add(p, "First touch against number of writers",
        "thousands a second", ["1", "2", "4", "8", "16"], points)
    for server in [plain, us] + list(qemus.values()):
        server.stop()


def by_cluster_size(p):
    plain = Plain(p.work, p.disk)
    points = []
    sizes = ["4K", "16K", "64K", "256K", "1M", "2M"]
    for size in sizes:
        us = p.fleece(extra=", cluster-size: " + size)

        def load(server):
            return rate(p, server)
        m = medians(alternate({PLAIN: lambda f=load: f(plain),
                               US: with_snapshot(us, load)}, few(p)))
        points.append({"first touch": m[US] / m[PLAIN]})
        us.stop()
    add(p, "4k random writes against cluster size", "times no filter", sizes,
        points)
    plain.stop()


def over_time(p):
    """One guest that writes all the time, and what happens to it."""
    step = 2.5 * p.seconds
    us = p.fleece()
    p.results.timeline["nbdfleece"] = watch(
        p, us.guest, step,
        [("create", us.create), ("pull", lambda: copy(us.direct())),
         ("pull ends", lambda: None), ("delete", us.delete)])
    us.stop()
    # Its guest's export is the filter's, so the snapshot is there before.
    qemus = start_qemus(p.work, p.where, p.disk)
    name, q = next(iter(qemus.items()))
    q.create()
    p.results.timeline[name] = watch(
        p, q.guest, step, [("", lambda: None), ("pull", lambda: copy(q.direct)),
                           ("pull ends", lambda: None)])
    q.delete()
    for q in qemus.values():
        q.stop()


def copy(uri):
    run(["nbdcopy", uri, "null:"])


def watch(p, uri, step, actions):
    """actions: (name, function), one after the other with a pause between."""
    events, prefix = [], p.work.path("lat")
    with loads.Background(p.work, uri, p.size, dict(
            rw="randwrite", bs="4k", iodepth=4, write_lat_log=prefix,
            log_unix_epoch=1)):
        begin = time.time()
        for name, action in actions:
            if name != "pull ends":
                time.sleep(step)
            events.append((time.time() - begin, name))
            action()
        time.sleep(step)
        seconds = time.time() - begin
    return binned(prefix + "_clat.1.log", begin, seconds, events)


def binned(path, begin, seconds, events):
    bins = [[] for _ in range(int(seconds / BIN) + 1)]
    with open(path, encoding="ascii") as f:
        for line in f:
            fields = line.split(",")
            i = int((int(fields[0]) / 1e3 - begin) / BIN)
            if 0 <= i < len(bins):
                bins[i].append(int(fields[1]) / 1e9)
    return {"job": "4k, depth 4", "seconds": seconds, "bin": BIN,
            "events": [[round(t, 3), what] for t, what in events],
            "lines": {"median": [statistics.median(b) if b else None
                                 for b in bins],
                      "worst in 20 ms": [max(b) if b else None
                                         for b in bins]}}


SERIES = {
    "disk-size": by_disk_size,
    "snapshots": by_snapshots,
    "writers": by_writers,
    "cluster-size": by_cluster_size,
    "over-time": over_time,
}
