# SPDX-FileCopyrightText: The nbdfleece authors
# SPDX-License-Identifier: BSD-3-Clause

"""Goes through the matrix of faults (tests/fault-matrix).

  fault-matrix.py DIR [PLACE...]

The same story for each line.  A guest has written since the last backup; a
snapshot is made, and a job begins that is to copy what has changed, and is held
up.  The fault comes (tests/fault.c), and the guest writes to what the snapshot
and the job have not copied.  The snapshot is read, and the job goes on; the fault
goes, before or after that, as its place wants it.  Then the next incremental must
bring the target to what the disk is."""

import os
import subprocess
import sys
import threading
import time

import nbd

sys.path[:0] = [os.path.join(os.path.dirname(__file__), "oracle")]
from host import Host, Wrong, read  # noqa: E402
import errno as numbers  # noqa: E402

SIZE, CLUSTER = 1 << 20, 4096
TOUCHED = range(16, 48)         # clusters that guests write to under the fault
LIMIT = 60
HELD = 0.4                      # seconds that something is seen to wait

# PROCESS CALL PATH of tests/fault.c
PLACES = {
    "live-read": ("-filter.so", "read", "{name}.img"),
    "live-write": ("-filter.so", "write", "{name}.img"),
    "scratch-write": ("-filter.so", "write", ".scratch"),
    "scratch-flush": ("-filter.so", "flush", ".scratch"),
    "map-flush": ("-filter.so", "sync", "s.map"),
    "snapshot-live": ("fleece-plugin", "read", "{name}.img"),
    "snapshot-scratch": ("fleece-plugin", "read", ".scratch"),
    "job-live": ("nbdfleece-copy", "read", "{name}.img"),
    "job-scratch": ("nbdfleece-copy", "read", ".scratch"),
    "target-write": ("nbdfleece-copy", "write", "{name}.target"),
    "target-flush": ("nbdfleece-copy", "flush", "{name}.target"),
    "record-flush": ("nbdfleeced", "flush", "/jobs/"),
}
POLICIES = {
    "bs": "", "bg": "on-cow-error: break-guest-write",
    "to": "cow-timeout: 200ms",
    "ds": "scratch: {durable: true}",
}
# What a cow-timeout is for.
TIMED = ("scratch-write", "scratch-flush")


class Disk:
    def __init__(self, base, name):
        self.name, self.image = name, f"{base}/{name}.img"
        self.target = f"{base}/{name}.target"
        self.content = bytearray(os.urandom(SIZE))
        with open(self.image, "wb") as f:
            f.write(self.content)
        self.number, self.last, self.guest = 0, None, None


class Matrix:
    def __init__(self, base):
        self.base, self.fault = base, base + "/fault"
        os.environ["NBDFLEECE_FAULT"] = self.fault
        self.disks = {p: Disk(base, "v" + p) for p in POLICIES}
        config = "exports:\n" + "".join(
            f"  - name: {d.name}\n    disk: {d.image}\n    cluster-size: 4K\n"
            + (f"    {POLICIES[p]}\n" if POLICIES[p] else "")
            for p, d in self.disks.items())
        preload = os.environ.get("NBDFLEECE_PRELOAD", "")
        if preload:
            os.environ["LD_PRELOAD"] = preload
        self.host = Host(base, config)
        self.host.start()
        os.environ.pop("LD_PRELOAD", None)
        self.host.wait(self.host.up, "the exports")
        for d in self.disks.values():
            d.guest = nbd.NBD()
            d.guest.connect_uri(
                f"nbd+unix:///{d.name}?socket={self.host.run}/{d.name}.sock")
            self.next(d, "--sync", "full")

    # What may be asked for.

    def arm(self, disk, place, error):
        process, call, path = PLACES[place]
        what = error if error in ("short", "hang") else getattr(numbers, error)
        with open(self.fault + ".new", "w") as f:
            f.write(f"{process} {call} {path.format(name=disk.name)} {what}\n")
        os.rename(self.fault + ".new", self.fault)

    def disarm(self):
        try:
            os.unlink(self.fault)
        except FileNotFoundError:
            pass

    def next(self, disk, *words):
        """A backup that must complete, and be the disk as it is."""
        disk.number += 1
        name = f"c{disk.number}"
        words = words or ("--since", disk.last)
        self.host.must("backup", disk.name, disk.target, "--checkpoint", name,
                       *words)
        if read(disk.target) != disk.content:
            raise Wrong("the next backup is not the disk")
        disk.last = name

    def write(self, disk, cluster):
        """Whether it succeeded."""
        data = os.urandom(CLUSTER)
        try:
            disk.guest.pwrite(data, cluster * CLUSTER)
        except nbd.Error:
            # What the disk has now is one or the other, or some of each.
            at = cluster * CLUSTER
            with open(disk.image, "rb") as f:
                f.seek(at)
                disk.content[at:at + CLUSTER] = f.read(CLUSTER)
            return False
        disk.content[cluster * CLUSTER:(cluster + 1) * CLUSTER] = data
        return True

    def write_all(self, disk, error, place=None):
        """ok, error or waits."""
        came = []

        def go():
            came.extend(self.write(disk, c) for c in TOUCHED)
        t = threading.Thread(target=go)
        t.start()
        waits = False
        if error == "hang":
            timed = disk.name == "vto" and place in TIMED
            t.join(LIMIT if timed else HELD)
            waits = t.is_alive()
            self.disarm()
        t.join(LIMIT)
        if t.is_alive():
            raise Wrong("the guest is held up for ever")
        if any(came) != all(came):
            raise Wrong("some of the guest's writes failed, and some not")
        if not came[0]:
            return "error"
        return "waits" if waits else "ok"

    def read_all(self, disk, name, then):
        """right, lost or broken; raises Wrong for what is neither."""
        h = nbd.NBD()
        h.connect_uri(f"nbd+unix:///{disk.name}@{name}?socket="
                      f"{self.host.run}/backup.sock")
        failed = set()
        for c in range(SIZE // CLUSTER):
            try:
                got = h.pread(CLUSTER, c * CLUSTER)
            except nbd.Error:
                failed.add(c)
                continue
            if got != then[c * CLUSTER:(c + 1) * CLUSTER]:
                raise Wrong(f"cluster {c} of the snapshot is not as it was")
        h.shutdown()
        if not failed:
            return "right"
        return "lost" if failed == set(TOUCHED) else "broken"

    # One line.

    def begin(self, disk):
        """Of what the last backup did not have, a snapshot and a job."""
        for c in list(TOUCHED) + [100]:
            if not self.write(disk, c):
                raise Wrong("a write without a fault failed")
        then = bytes(disk.content)
        self.host.must("snapshot", "create", disk.name, "s")
        disk.number += 1
        job = self.host.must(
            "backup", disk.name, disk.target, "--since", disk.last,
            "--checkpoint", f"c{disk.number}", "--speed", "1", "--detach",
            "--on-target-error", "report", "--on-source-error", "report",
        )["job"]["id"]
        self.host.must("job", "pause", job)
        self.host.wait(lambda: self.job_state(job) == "paused", "a pause")
        return job, then

    def job_state(self, job):
        return self.host.must("job", "show", job)["job"]["state"]

    def see_job(self, job, error):
        """completed, incomplete, failed or waits."""
        self.host.must("job", "speed", job, "none")
        self.host.must("job", "resume", job)
        ended = ("completed", "incomplete", "failed", "cancelled")
        waits = False
        end = time.monotonic() + (HELD if error == "hang" else LIMIT)
        while self.job_state(job) not in ended:
            if time.monotonic() > end:
                if error != "hang" or waits:
                    raise Wrong(f"job {job} is held up for ever")
                waits, end = True, time.monotonic() + LIMIT
                self.disarm()
            time.sleep(0.01)
        state = self.job_state(job)
        return "waits" if waits and state == "completed" else state

    def see_reader(self, disk, then, place, error):
        hangs = error == "hang" and place.startswith("snapshot-")
        timer = threading.Timer(HELD, self.disarm)
        begin = time.monotonic()
        if hangs:
            timer.start()
        seen = self.read_all(disk, "s", then)
        if hangs:
            timer.join()
            if seen == "right" and time.monotonic() - begin >= HELD:
                return "waits"
        if seen != "right" and place.startswith("snapshot-"):
            self.disarm()
            if self.read_all(disk, "s", then) == "right":
                return "later"
        return seen

    def line(self, place, error, policy):
        """guest, reader, job, next."""
        disk = self.disks[policy]
        job, then = self.begin(disk)
        if place.split("-")[0] in ("job", "target", "record", "snapshot"):
            guest = self.write_all(disk, None)
            if place.startswith("snapshot-"):
                self.arm(disk, place, error)
            reader = self.see_reader(disk, then, place, error)
            self.disarm()
            if not place.startswith("snapshot-"):
                self.arm(disk, place, error)
        else:
            self.arm(disk, place, error)
            guest = self.write_all(disk, error, place)
            self.disarm()
            reader = self.see_reader(disk, then, place, error)
        state = self.see_job(job, error)
        self.disarm()
        done = state in ("completed", "waits")
        if done and read(disk.target) != then:
            raise Wrong("a completed job's target is not the disk")
        if state != "failed":
            disk.last = f"c{disk.number}"
        self.host.must("snapshot", "delete", disk.name, "s")
        self.next(disk)
        return guest, reader, state, "right"

    def left_over(self):
        return [f for d, _, files in os.walk(self.host.state) for f in files
                if f.endswith((".map", ".scratch", ".copy", ".result"))]


def lines(places):
    with open(os.path.join(os.path.dirname(__file__), "fault-matrix")) as f:
        for text in f:
            words = text.split()
            if words and words[0] != "#" and not text.startswith("#") \
                    and (not places or words[0] in places):
                yield words[:3], words[3:]


def main(base, *places):
    matrix, wrong, number = Matrix(base), 0, 0
    for (place, error, policy), expected in lines(places):
        number += 1
        try:
            got = list(matrix.line(place, error, policy))
        except (Wrong, nbd.Error) as e:
            print(f"{place} {error} {policy}: FAILED: {e}", file=sys.stderr)
            wrong += 1
            break
        same = all(e in ("any", g) for e, g in zip(expected, got))
        print(f"{place} {error} {policy}: {' '.join(got)}"
              + ("" if same else f": FAILED: expected {' '.join(expected)}"),
              file=sys.stderr)
        wrong += not same
    matrix.disarm()
    if not wrong:
        matrix.host.wait(lambda: not matrix.left_over(), "files to go")
        for d in matrix.disks.values():
            d.guest.shutdown()
        matrix.host.stop()
        print(f"cases: faults (error × place × policy): {number}")
    else:
        matrix.host.daemon.terminate()
        matrix.host.daemon.wait(60)
    return 1 if wrong else 0


if __name__ == "__main__":
    try:
        sys.exit(main(*sys.argv[1:]))
    except Wrong as wrong:
        sys.exit(f"fault-matrix: FAILED: {wrong}")
