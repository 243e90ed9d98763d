# SPDX-FileCopyrightText: The nbdfleece authors
# SPDX-License-Identifier: BSD-3-Clause

"""Kills a filter at each of its failpoints, and sees what is left.

crash-points.py DIR SINGLES PAIRS

A guest writes, two snapshots with a checkpoint each begin and one of them, which
is durable, ends, all one after the other, so that it is known what each must have.  The nbdkit
that serves the disk is killed at a failpoint (common/broken.h), started again,
killed at a second one if a pair is tried, and started again.  The guest then
sends again what was not answered; what was being begun or ended is found as the
files say, as the daemon does.  In the end each snapshot must read as the disk
was, and each checkpoint must know of all that has changed since.

SINGLES is how often the first comings to each point are tried, PAIRS how many
pairs of points, picked at random, or "all".
"""

import glob
import os
import random
import re
import signal
import subprocess
import sys
import time

import nbd

sys.path.insert(0, os.path.dirname(__file__))
from bmfile import File, STATES

SIZE = 9 << 20
CLUSTER = 4096
TIMEOUT = 60


class Died(Exception):
    """The nbdkit is gone."""


class Case:
    """One run of the story, with the failpoints of one process after another."""

    def __init__(self, dir, failpoints, rng):
        self.dir = dir
        self.failpoints = list(failpoints)
        self.rng = rng
        self.kills = 0
        self.state = f"{dir}/state/exports/vda"
        self.disk = f"{dir}/disk"
        for f in glob.glob(f"{self.state}/*"):
            os.unlink(f)
        self.content = bytearray(rng.randbytes(SIZE))
        with open(self.disk, "wb") as f:
            f.write(self.content)
        self.snapshots = {}     # name: content
        self.checkpoints = {}   # name: content
        self.process = self.guest = None
        self.start()

    # The nbdkit.

    def start(self):
        env = dict(os.environ)
        if self.failpoints:
            env["NBDFLEECE_FAILPOINT"] = self.failpoints.pop(0)
        for name in ("sock", "ctl", "pid"):
            if os.path.exists(f"{self.dir}/vda.{name}"):
                os.unlink(f"{self.dir}/vda.{name}")
        self.process = subprocess.Popen(
            [env["NBDKIT"], "-f", "-U", f"{self.dir}/vda.sock",
             "--filter=" + env["NBDFLEECE_FILTER"], "file", self.disk,
             "fleece-export=vda", f"fleece-state={self.state}",
             f"fleece-control={self.dir}/vda.ctl",
             f"fleece-live=file:{self.disk}", "fleece-tracking=durable",
             "fleece-log-idle=20ms"],
            env=env, stderr=open(f"{self.dir}/vda.log", "w"))
        end = time.monotonic() + TIMEOUT
        while True:
            try:
                if self.try_ctl("hello").startswith("ok"):
                    break
            except Died:
                # Killed before it served: that is a place, too.
                self.restart()
                return
            assert time.monotonic() < end, "nbdkit does not start"
            time.sleep(0.01)
        self.guest = None

    def restart(self):
        code = self.process.wait(TIMEOUT)
        assert code == -signal.SIGKILL, f"nbdkit ended by itself: {code}"
        self.kills += 1
        self.start()

    def alive(self):
        if self.process.poll() is not None:
            raise Died

    def try_ctl(self, command):
        done = subprocess.run(
            [os.environ["abs_top_builddir"] + "/tests/ctl",
             f"{self.dir}/vda.ctl", f"{self.dir}/state", f"file:{self.disk}"],
            input=command + "\n", capture_output=True, text=True)
        if not done.stdout.startswith("ok"):
            # It may still be on its way out.
            end = time.monotonic() + 0.2
            while time.monotonic() < end:
                self.alive()
                time.sleep(0.01)
        return done.stdout

    def ctl(self, command):
        answer = self.try_ctl(command)
        assert answer.startswith("ok"), f"{command}: {answer}"

    # The steps of the story.

    def write(self, cluster, count, at=0):
        data = self.rng.randbytes(count)
        while True:
            try:
                if not self.guest:
                    self.guest = nbd.NBD()
                    self.guest.connect_uri(
                        f"nbd+unix:///vda?socket={self.dir}/vda.sock")
                self.guest.pwrite(data, cluster * CLUSTER + at)
                break
            except nbd.Error:
                self.restart()
        start = cluster * CLUSTER + at
        self.content[start:start + count] = data

    def state_of(self, name):
        try:
            return STATES[File(f"{self.state}/{name}").live.state]
        except FileNotFoundError:
            return None

    def remove(self, *names):
        for name in names:
            if os.path.exists(f"{self.state}/{name}"):
                os.unlink(f"{self.state}/{name}")

    def begin(self, n, how=""):
        now = bytes(self.content)
        for attempt in "abc":
            s, c = f"s{n}{attempt}", f"c{n}{attempt}"
            try:
                self.ctl(f"begin {s} dirty={c} {how}")
            except Died:
                self.restart()
            if self.state_of(f"{s}.map") == "active":
                self.snapshots[s] = now
                if how == "durable":
                    self.outlasts(s)
            else:
                self.remove(f"{s}.map", f"vda@{s}.scratch")
            if self.state_of(f"{c}.dirty") in ("active", "frozen"):
                self.checkpoints[c] = now
            else:
                self.remove(f"{c}.dirty")
            if s in self.snapshots and c in self.checkpoints:
                return
        raise AssertionError("no snapshot could be begun")

    def outlasts(self, name):
        # Killed before it said so, it says so now (and not that it gave up).
        flags = File(f"{self.state}/{name}.map").live.flags
        assert flags == 6, f"{name} has the flags {flags}"

    def end(self):
        s = sorted(self.snapshots)[0]
        del self.snapshots[s]
        while self.state_of(f"{s}.map") == "active":
            try:
                self.ctl(f"end {s}")
            except Died:
                self.restart()
        self.remove(f"{s}.map", f"vda@{s}.scratch")

    def wait_clean(self):
        end = time.monotonic() + TIMEOUT
        while File(f"{self.state}/activity.log").bits():
            assert time.monotonic() < end, "regions are not cleaned"
            try:
                self.alive()
            except Died:
                self.restart()
            time.sleep(0.01)

    # What must be true.

    def check(self):
        try:
            self.ctl("list")    # it has been taken up, if it died
        except Died:
            self.restart()
        for name, content in self.snapshots.items():
            h = nbd.NBD()
            h.connect_uri(
                f"nbd+unix:///vda@{name}?socket={self.dir}/snap.sock")
            assert h.pread(SIZE, 0) == content, f"{name} is not as it was"
            h.shutdown()
        files = {c: File(f"{self.state}/{c}.dirty") for c in self.checkpoints}
        for name, content in self.checkpoints.items():
            state = STATES[files[name].live.state]
            assert state in ("active", "frozen"), f"{name} is {state}"
            dirty, at = set(), name
            while at:
                dirty |= files[at].bits()
                uuid = bytes(files[at].fixed.uuid)
                at = next((c for c in files
                           if bytes(files[c].live.prev) == uuid), None)
            for c in range(SIZE // CLUSTER):
                part = slice(c * CLUSTER, c * CLUSTER + CLUSTER)
                assert c in dirty or content[part] == self.content[part], \
                    f"{name} does not know of cluster {c}"

    def story(self):
        self.write(10, 4096)
        self.begin(1, "durable")
        self.write(10, 9000, 100)
        self.write(1500, 4096)
        self.check()
        self.wait_clean()
        self.write(11, 4096)
        self.begin(2)
        self.write(11, 12000)
        self.write(2000, 8192)
        self.check()
        self.end()
        self.write(12, 4096)
        self.wait_clean()
        self.check()

    def stop(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(TIMEOUT)


def run(dir, failpoints, rng):
    """Returns how many kills there were."""
    case = Case(dir, failpoints, rng)
    try:
        case.story()
    except Exception:
        print(f"crash-points: FAILED with {' '.join(failpoints)}",
              file=sys.stderr)
        raise
    finally:
        case.stop()
    return case.kills


def points():
    names = set()
    for f in glob.glob(os.environ["abs_top_srcdir"] + "/filter/*.c"):
        with open(f) as text:
            names |= set(re.findall(r'FAILPOINT \("([^"]+)"\)', text.read()))
    return sorted(names)


def main(dir, singles, pairs):
    rng = random.Random(int(os.environ["NBDFLEECE_SEED"]))
    names = points()
    assert names
    done = kills = 0
    missed = []
    for n in range(1, int(singles) + 1):
        for name in names:
            k = run(dir, [f"{name}:{n}"], rng)
            if n == 1 and k == 0:
                missed.append(name)
            done += 1
            kills += k
    every = [(a, b) for a in names for b in names]
    if pairs != "all":
        every = rng.sample(every, min(int(pairs), len(every)))
    for a, b in every:
        kills += run(dir, [a, b], rng)
        done += 1
    print(f"crash-points: {len(names)} points, {done} runs of the story "
          f"({len(every)} with pairs), {kills} kills")
    print(f"cases: crash points: {len(names)}\ncases: kills: {kills}")
    assert not missed, f"never come to: {' '.join(missed)}"


if __name__ == "__main__":
    main(*sys.argv[1:])
