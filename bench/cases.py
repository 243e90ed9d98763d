# SPDX-FileCopyrightText: The nbdfleece authors
# SPDX-License-Identifier: BSD-3-Clause

"""The table: what is measured against whom, and what is to be reached."""

# Each function measures one group of rows on one file system, and adds them.
# Everybody works on the same disk image, in turn.

import os
import time

import disks
import loads
from peers import (Fleece, Plain, nbdkit, qemu_name, start_qemus, start_relay,
                   QEMU_AIO)
from stats import alternate, best, order, pick_all
from util import BenchError, run, timed, wait_for

US, PLAIN, BOUND = "nbdfleece", "nbdkit", "bound"
IDLE, COPIED, FRONT = "idle", "copied", "front"
AGAIN, RELAY = "again", "relay"
QEMUS = [qemu_name(a) for a in QEMU_AIO]

SHORT = 3                       # turns of guest I/O for one of others

GUEST_JOBS = [
    (name, dict(rw=rw, bs=bs, iodepth=depth))
    for bs, label in (("4k", "4k random"), ("1m", "1M sequential"))
    for rw, what in ((("randread", "read"), ("randwrite", "write"))
                     if bs == "4k" else (("read", "read"), ("write", "write")))
    for depth in (1, 16)
    for name in ["%s %s, depth %d" % (label, what, depth)]]


class Place:
    """One file system with a disk on it, and what the run was told."""

    def __init__(self, work, fs, options, programs, results):
        self.work, self.fs, self.options = work, fs, options
        self.programs, self.results = programs, results
        self.rounds, self.seconds = options.rounds, options.seconds
        self.where = disks.make_fs(work, fs)
        self.size = options.size
        self.disk = os.path.join(self.where, "disk")
        disks.fill(self.disk, self.size)
        self.settle()

    def settle(self):
        if not self.options.quick:
            disks.settle(self.where)

    def alternate(self, contenders, more=0):
        """Each turn begins with nothing left to be written back; `more' are
        rounds beyond those that were asked for, where turns differ much."""
        def settled(turn):
            def go():
                self.settle()
                return turn()
            return go
        return alternate({name: settled(turn)
                          for name, turn in contenders.items()},
                         self.rounds + more)

    def fleece(self, disk=None, extra=""):
        return Fleece(self.work, self.where, disk or self.disk, self.programs,
                      extra)

    def path(self, name):
        return os.path.join(self.where, os.path.basename(self.work.path(name)))

    def add(self, *args):
        self.results.add(self.fs, *args)

    def add_value(self, *args):
        self.results.add_value(self.fs, *args)


def with_snapshot(server, load):
    """A function that runs load while there is a new snapshot."""
    def go():
        server.create()
        try:
            return load(server)
        finally:
            server.delete()
    return go


def guest_io(p):
    """Requests that need no copy: what the filter costs just by being there."""
    span = min(p.size, 512 << 20)
    plain, idle, copied = Plain(p.work, p.disk), p.fleece(), p.fleece()
    again = Plain(p.work, p.disk)
    copied.create()
    loads.fio(p.work, [dict(uri=copied.guest, rw="write", bs="1m")], size=span)
    uris = {PLAIN: plain.guest, IDLE: idle.guest, COPIED: copied.guest,
            AGAIN: again.guest}
    for variant, job in GUEST_JOBS[::p.options.every]:
        turns = [n for r in range(SHORT * p.rounds + 1)
                 for n in order(uris, r)]
        got = loads.fio(p.work, [dict(uri=uris[n], **job) for n in turns],
                        size=span, time_based=1,
                        runtime="%dms" % (p.seconds * 1000 / SHORT))
        samples = {n: [] for n in uris}
        for n, result in list(zip(turns, got))[len(uris):]:
            samples[n].append(result["bytes"])
        p.add("guest I/O, no snapshot", variant, "nbdkit file", samples, IDLE,
              PLAIN, (">=", 0.98), "bytes/s")
        p.add("guest I/O, cluster already copied", variant, "nbdkit file",
              samples, COPIED, PLAIN, (">=", 0.97), "bytes/s")
        p.add("guest I/O, another with no filter", variant, "nbdkit file",
              samples, AGAIN, PLAIN, None, "bytes/s")
    for server in (plain, again, idle, copied):
        server.stop()


def bounds(rates, touches):
    """Rates of writes that each take the seconds of a touch longer."""
    return [1 / (1 / rate + touch) for rate, touch in zip(rates, touches)]


def first_touch(p):
    """Every write has something to copy."""
    plain, us = Plain(p.work, p.disk), p.fleece()
    for depth in (1, 16):
        def load(server, d=depth):
            return loads.guest(p.work, server.guest, p.seconds, rw="randwrite",
                               bs="4k", iodepth=d, size=p.size)["iops"]
        samples = p.alternate({
            PLAIN: lambda f=load: f(plain),
            US: with_snapshot(us, load),
            BOUND: lambda: loads.touch_seconds(
                p.work, p.disk, p.path("bare"), p.size, p.options.requests)})
        samples[BOUND] = bounds(samples[PLAIN], samples[BOUND])
        case, variant = "first touch, 4k random write", "depth %d" % depth
        p.add(case, variant, "nbdkit file", samples, US, PLAIN, (">=", 0.70),
              "writes/s")
        p.add(case, variant + ", bound", "nbdkit file", samples, BOUND, PLAIN,
              None, "writes/s")
    plain.stop()
    us.stop()


def first_touch_qemu(p):
    """The same against QEMU, whose clusters are 64 KiB: one write in each."""
    qemus = start_qemus(p.work, p.where, p.disk)
    us, plain = p.fleece(), Plain(p.work, p.disk)
    cases = [("first touch, 4k random write", "depth %d" % d, (">=", 4),
              dict(rw="randwrite", bs="4k", blockalign="64k", iodepth=d,
                   size=p.size, time_based=1,
                   runtime="%dms" % (p.seconds * 1000))) for d in (1, 16)]
    cases.append(("first touch, 1M sequential write", "depth 4", (">=", 1.5),
                  dict(rw="write", bs="1m", iodepth=4,
                       size=min(p.size, 512 << 20))))
    for case, variant, reach, job in cases:
        def load(server, j=job):
            return loads.fio(p.work, [dict(uri=server.guest, **j)])[0]["bytes"]
        contenders = {n: with_snapshot(s, load) for n, s in
                      [(US, us)] + list(qemus.items())}
        contenders[PLAIN] = lambda f=load: f(plain)
        if "blockalign" in job:
            contenders[BOUND] = lambda: loads.touch_seconds(
                p.work, p.disk, p.path("bare"), p.size, p.options.requests,
                blockalign="64k")
        samples = p.alternate(contenders)
        peer = best(samples, QEMUS)
        if BOUND in samples:
            samples[BOUND] = [4096 * rate for rate in bounds(
                [b / 4096 for b in samples[PLAIN]], samples[BOUND])]
            p.add(case, variant + ", bound", "QEMU copy-before-write",
                  samples, BOUND, peer, None, "bytes/s")
        p.add(case, variant, "QEMU copy-before-write", samples, US, peer, reach,
              "bytes/s")
        p.add(case, variant + ", no filter at all", "QEMU copy-before-write",
              samples, PLAIN, peer, None, "bytes/s")
    for server in [us, plain] + list(qemus.values()):
        server.stop()


def write_during_pull(p):
    """The guest writes while somebody reads the whole disk as it was."""
    plain, us = Plain(p.work, p.disk), p.fleece()
    qemus = start_qemus(p.work, p.where, p.disk)
    seconds = 2 * p.seconds

    def load(server):
        uri = server.direct() if server is us else server.direct
        with loads.Pulling(uri):
            return loads.guest(p.work, server.guest, seconds, rw="randwrite",
                               bs="4k", iodepth=1, size=p.size)
    def touch():
        with loads.Pulling(plain.direct):
            return {"iops": loads.touch_seconds(
                p.work, p.disk, p.path("bare"), p.size, p.options.requests),
                    "p99": None}
    contenders = {PLAIN: lambda: load(plain), US: with_snapshot(us, load),
                  BOUND: touch}
    contenders.update({n: with_snapshot(q, load) for n, q in qemus.items()})
    samples = p.alternate(contenders)
    rate, p99 = pick_all(samples, "iops"), pick_all(samples, "p99")
    rate[BOUND] = bounds(rate[PLAIN], rate[BOUND])
    case = "guest 4k write, depth 1, during a pull"
    p.add(case, "rate", "nbdkit file, nbdcopy reads", rate, US, PLAIN,
          (">=", 0.9), "writes/s")
    p.add(case, "rate, bound", "nbdkit file, nbdcopy reads", rate, BOUND, PLAIN,
          None, "writes/s")
    p.add(case, "p99 latency", "nbdkit file, nbdcopy reads", p99, US, PLAIN,
          ("<=", 1.2), "s")
    p.add(case, "rate", "QEMU copy-before-write, nbdcopy reads", rate, US,
          best(rate, QEMUS), (">=", 6), "writes/s")
    p.add(case, "rate, bound", "QEMU copy-before-write, nbdcopy reads", rate,
          BOUND, best(rate, QEMUS), None, "writes/s")
    for server in [plain, us] + list(qemus.values()):
        server.stop()


def pull(p):
    """nbdcopy, nobody writes."""
    plain, us = Plain(p.work, p.disk), p.fleece()
    us.create()
    relay, uri = start_relay(p.work, plain.direct)
    uris = {PLAIN: plain.direct, US: us.direct(), FRONT: us.backup_uri(),
            RELAY: uri}
    samples = p.alternate({n: lambda u=u: p.size / timed(["nbdcopy", u, "null:"])
                         for n, u in uris.items()}, more=2)
    p.add("pull with nbdcopy, idle guest", "snapshot server", "nbdkit file",
          samples, US, PLAIN, (">=", 0.97), "bytes/s")
    p.add("pull with nbdcopy, idle guest", "through the front", "nbdkit file",
          samples, FRONT, PLAIN, (">=", 0.8), "bytes/s")
    p.add("pull with nbdcopy, idle guest", "through a bare relay", "nbdkit file",
          samples, RELAY, PLAIN, None, "bytes/s")
    p.work.stop(relay)
    plain.stop()
    us.stop()


def push(p):
    """Copies to an NBD target, flushed at the end."""
    target = p.path("target")
    disks.fill(target, p.size)
    server, uri = nbdkit(p.work, ["file", target], "target")
    us = p.fleece()
    us.create()
    qemus = start_qemus(p.work, p.where, p.disk)

    def program(*argv):
        def go():
            return p.size / timed(list(argv))
        return go

    def job(q):
        def go():
            return p.size / q.timed_backup(uri.split("=", 1)[1])
        return go

    contenders = {
        "nbdcopy": program("nbdcopy", "--flush", p.disk, uri),
        US: program(p.programs["nbdfleece-copy"], "-q", us.map(), uri),
        "qemu-img": program("qemu-img", "convert", "-n", "-W", "-m", "16",
                            "-f", "raw", "-O", "raw", "-U", p.disk, uri)}
    contenders.update({n: job(q) for n, q in qemus.items()})
    samples = p.alternate(contenders, more=2)
    case = "push to an NBD target"
    p.add(case, "", "nbdcopy of the file", samples, US, "nbdcopy",
          (">=", 0.97), "bytes/s")
    p.add(case, "", "QEMU blockdev-backup", samples, US, best(samples, QEMUS),
          (">=", 1.8), "bytes/s")
    p.add(case, "nbdcopy of the file", "QEMU blockdev-backup", samples,
          "nbdcopy", best(samples, QEMUS), None, "bytes/s")
    p.add(case, "", "qemu-img convert", samples, US, "qemu-img", None,
          "bytes/s")
    for s in [us] + list(qemus.values()):
        s.stop()
    p.work.stop(server)
    os.unlink(target)


def push_reflink(p):
    """A new file on the file system of the disk, where that can share."""
    if p.fs != "xfs":
        return
    us = p.fleece()
    us.create()
    target = p.path("copy")

    def program(*argv):
        def go():
            seconds = timed(list(argv))
            os.unlink(target)
            return p.size / seconds
        return go
    samples = p.alternate({
        "nbdcopy": program("nbdcopy", p.disk, target),
        US: program(p.programs["nbdfleece-copy"], "-q", us.map(), target)})
    p.add("push to a file, reflink", "", "nbdcopy file to file", samples, US,
          "nbdcopy", (">=", 20), "bytes/s")
    us.stop()


def incremental(p):
    """A full backup and one of 1 % of it, both as a user asks for them."""
    target = p.path("target")
    disks.fill(target, p.size)
    server, uri = nbdkit(p.work, ["file", target], "target")
    us = p.fleece()
    command = us.command + ["backup", "vda", uri, "--checkpoint"]
    samples = {"full": [], "incremental": [], BOUND: []}
    number = p.size // 4096 // 100
    for r in range(p.rounds + 1):
        bare = loads.fio(p.work, [dict(uri=uri, rw="randwrite", bs="4k",
                                       iodepth=64, size=p.size,
                                       number_ios=number)])[0]
        p.settle()
        full = timed(command + ["a%d" % r, "--sync", "full"])
        loads.fio(p.work, [dict(uri=us.guest, rw="randwrite", bs="4k",
                                iodepth=16, size=p.size,
                                number_ios=number)])
        p.settle()
        part = timed(command + ["b%d" % r, "--since", "a%d" % r])
        if r > 0:
            samples["full"].append(full)
            samples["incremental"].append(part)
            samples[BOUND].append(number / bare["iops"])
    run(["cmp", p.disk, target])
    p.add("incremental, 1 % dirty in scattered 4k", "time", "full backup",
          samples, "incremental", "full", ("<=", 0.05), "s")
    p.add("incremental, 1 % dirty in scattered 4k", "bound", "full backup",
          samples, BOUND, "full", None, "s")
    us.stop()
    p.work.stop(server)
    os.unlink(target)


def create_time(p, size, writer):
    """Gate-closed times of snapshots of a sparse disk, in seconds."""
    disk = p.path("sparse")
    disks.sparse(disk, size)
    us = p.fleece(disk)
    times = []
    with loads.Background(p.work, us.guest, size, writer):
        for r in range(2 * p.rounds + 1):
            before = us.export()["writes"]
            closed = us.create()["gate-closed-us"]
            us.delete()
            wait_for("writes of the guest",
                     lambda b=before: us.export()["writes"] > b)
            if r > 0:
                times.append(closed / 1e6)
    us.stop()
    os.unlink(disk)
    return times


def snapshot_create(p):
    """How long a guest's writes are held, against the size of the disk."""
    writer = dict(rw="randwrite", bs="4k", iodepth=16)
    large = create_time(p, p.options.largest, writer)
    small = create_time(p, 1 << 30, writer)
    case = "snapshot create, guest writes at depth 16"
    p.add_value(case, "gate closed, 16 TiB", large, ("<=", 0.005), "s")
    p.add_value(case, "gate closed, 1 GiB", small, ("<=", 0.005), "s")
    p.add(case, "gate closed, 16 TiB", "1 GiB", {"16T": large, "1G": small},
          "16T", "1G", None, "s")


def memory(p):
    """What each process has in memory besides the map, with a snapshot of the
    largest disk of which 1 % has been changed."""
    disk = p.path("sparse")
    disks.sparse(disk, p.options.largest)
    us = p.fleece(disk)
    us.create()
    share = p.options.touched
    piece = 10 << 20
    loads.fio(p.work, [dict(uri=us.guest, rw="randtrim", bs=piece, iodepth=4,
                            number_ios=int(p.options.largest * share) // piece),
                       dict(uri=us.guest, rw="randwrite", bs="4k", iodepth=16,
                            number_ios=p.options.requests)],
              size=p.options.largest, norandommap=1)
    loads.fio(p.work, [dict(uri=us.direct(), rw="randread", bs="64k",
                            iodepth=16, number_ios=p.options.requests)],
              size=p.options.largest, norandommap=1)
    null, uri = nbdkit(p.work, ["null", "size=%d" % p.options.largest], "null")
    copier = p.work.start([p.programs["nbdfleece-copy"], "-q", us.map(), uri])
    most = 0
    while copier.poll() is None:
        most = max(most, memory_besides_map(copier.pid))
        time.sleep(0.02)
    p.work.stop(copier)
    if copier.returncode != 0:
        raise BenchError("nbdfleece-copy failed: see " + copier.log)
    case = "resident besides the map, 16 TiB, 1 % touched"
    for name, pid in (("guest's nbdkit", us.export()["pid"]),
                      ("snapshots' nbdkit", us.reader[0].pid),
                      ("nbdfleeced", us.p.pid)):
        p.add_value(case, name, [memory_besides_map(pid)], ("<=", 64 << 20),
                    "bytes")
    p.add_value(case, "nbdfleece-copy, at most", [most], ("<=", 64 << 20),
                "bytes")
    us.stop()
    p.work.stop(null)
    os.unlink(disk)


def memory_besides_map(pid):
    """Bytes resident, but for mappings of maps; 0 if it has ended."""
    total, in_map = 0, False
    try:
        with open("/proc/%d/smaps" % pid, encoding="utf-8") as f:
            for line in f:
                fields = line.split()
                if "-" in fields[0]:
                    in_map = fields[-1].endswith(".map")
                elif fields[0] == "Rss:" and not in_map:
                    total += int(fields[1]) << 10
    except (OSError, ProcessLookupError):
        pass
    return total


GROUPS = {
    "guest": guest_io,
    "touch": first_touch,
    "touch-qemu": first_touch_qemu,
    "during-pull": write_during_pull,
    "pull": pull,
    "push": push,
    "reflink": push_reflink,
    "incremental": incremental,
    "create": snapshot_create,
    "memory": memory,
}
