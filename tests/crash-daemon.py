# SPDX-FileCopyrightText: The nbdfleece authors
# SPDX-License-Identifier: BSD-3-Clause

"""Kills the daemon, or a copier, at each of its failpoints.

  crash-daemon.py DIR daemon|copier PAIRS

A guest writes between the steps of a story: snapshots with checkpoints, backups
in full and since a checkpoint, one that is cancelled, a checkpoint that is
deleted.  The daemon, or the copier that it has started, is killed at a
failpoint (common/broken.h); the daemon is started again, killed at a second one
if a pair is tried, and started again.  What was asked for and not answered is
asked for again if it has not been done.

Whatever is there must be right: each snapshot reads as the disk was, each backup
that has completed is the disk at its instant, incrementals as well; a snapshot
and the checkpoint that was asked for with it are both there or neither; and in
the end nothing is left over.  PAIRS: how many pairs, picked at random, or "all".
"""

import glob
import faulthandler
import os
import random
import re
import subprocess
import sys
import time

import nbd

sys.path[:0] = [os.path.dirname(__file__),
                os.path.join(os.path.dirname(__file__), "oracle")]
from host import PATIENCE, Host, Wrong, read  # noqa: E402

SIZE = 2 << 20
TOP = os.environ["abs_top_srcdir"]
ENDED = ("completed", "incomplete", "failed", "cancelled")
FOLDERS = {"daemon": ["server/*.c"],
           "copier": ["copier/*.c", "common/scratch.c"]}


class Crash(Host):
    """The daemon, with a failpoint for each of its lives in turn."""

    def __init__(self, base, failpoints):
        for f in glob.glob(base + "/*"):
            subprocess.run(["rm", "-rf", f], check=True)
        self.disk = base + "/disk"
        super().__init__(base, f"exports: [{{name: vda, disk: {self.disk}, "
                         "cluster-size: 4K}]\n")
        self.failpoints, self.kills = list(failpoints), 0
        self.once = base + "/once"

    def start(self):
        """Until it serves, however often it is killed while it starts."""
        while True:
            os.environ.pop("NBDFLEECE_FAILPOINT", None)
            os.environ["NBDFLEECE_FAILPOINT_ONCE"] = self.once
            if self.failpoints:
                os.environ["NBDFLEECE_FAILPOINT"] = self.failpoints.pop(0)
                open(self.once, "w").close()
            try:
                super().start()
                self.wait(lambda: self.died() or self.up(), "the export")
                if not self.died():
                    return
            except Wrong:
                if not self.died():
                    raise
            self.note_death()

    def died(self):
        return self.daemon.poll() is not None

    def note_death(self):
        if self.daemon.wait() != -9:
            raise Wrong(f"the daemon ended by itself: {self.daemon.wait()}")
        self.kills += 1

    def ask(self, *words):
        """(True, document), or (False, document) if the daemon was killed; it
        is there again then."""
        status, doc = self.nf(*words)
        if status != 0:
            try:                # it may still be on its way out
                self.daemon.wait(0.3)
            except subprocess.TimeoutExpired:
                pass
        if self.died():
            self.note_death()
            self.start()
            return False, doc
        if status != 0:
            raise Wrong(f"{' '.join(words)}: {doc['error']['message']}")
        return True, doc

    def must(self, *words):
        while True:
            done, doc = self.ask(*words)
            if done:
                return doc

    def fired(self):
        """The copier was killed, if not the daemon."""
        return not os.path.exists(self.once)


class Story:
    def __init__(self, base, failpoints, rng):
        self.host, self.rng, self.base = Crash(base, failpoints), rng, base
        self.content = bytearray(rng.randbytes(SIZE))
        with open(self.host.disk, "wb") as f:
            f.write(self.content)
        self.snapshots, self.guest = {}, None
        self.host.start()

    # The guest: alone, and at rest whenever something is asked for.

    def write(self):
        if not self.guest:
            self.guest = nbd.NBD()
            self.guest.connect_uri(
                f"nbd+unix:///vda?socket={self.host.run}/vda.sock")
        for _ in range(6):
            data = self.rng.randbytes(self.rng.randrange(1, 20000))
            at = self.rng.randrange(0, SIZE - len(data))
            self.guest.pwrite(data, at)
            self.content[at:at + len(data)] = data

    # What is asked for.

    def names(self, what):
        doc = self.host.must(what, "list", "vda")
        return {x["name"] for x in doc[what + "s"]}

    def snapshot(self, name, checkpoint):
        now = bytes(self.content)
        while True:
            done, _ = self.host.ask("snapshot", "create", "vda", name,
                                    "--checkpoint", checkpoint)
            there = name in self.names("snapshot")
            if there != (checkpoint in self.names("checkpoint")):
                raise Wrong(f"of {name} and {checkpoint} only one is there")
            if there:
                self.snapshots[name] = now
                return
            if done:
                raise Wrong(f"snapshot {name} is not there")

    def check_snapshots(self):
        for name, content in self.snapshots.items():
            r = subprocess.run(
                ["nbdcopy", f"nbd+unix:///vda@{name}?socket="
                 f"{self.host.run}/backup.sock", "-"],
                stdout=subprocess.PIPE, check=True)
            if r.stdout != content:
                raise Wrong(f"snapshot {name} is not as the disk was")

    def end_snapshot(self, name):
        del self.snapshots[name]
        while name in self.names("snapshot"):
            self.host.nf("snapshot", "delete", "vda", name)
            if self.host.died():
                self.host.note_death()
                self.host.start()
            self.settle()

    def settle(self):
        """Snapshots that are ending have ended."""
        self.host.wait(lambda: all(
            s["state"] != "ending"
            for s in self.host.must("snapshot", "list")["snapshots"]),
            "snapshots to end")

    def see_through(self, job):
        end = time.monotonic() + PATIENCE
        while True:
            doc = self.host.must("job", "show", job)["job"]
            if doc["state"] in ENDED:
                return doc
            if time.monotonic() > end:
                raise Wrong(f"job {job} does not end: {doc['state']}")
            time.sleep(0.01)

    def backup(self, target, name, *words):
        """Completed, and the disk as it is now."""
        now = bytes(self.content)
        while True:
            before = self.job_ids()
            done, _ = self.host.ask("backup", "vda", target, "--detach",
                                    "--checkpoint", name, *words)
            job = next(iter(self.job_ids() - before), None)
            doc = self.see_through(job) if job else None
            if doc and doc["state"] == "completed":
                break
            # It was not answered, and need not be there; or has failed, as
            # its snapshot does not exist.
            if name in self.names("checkpoint"):
                raise Wrong(f"{name} is there, and its job is not")
            if done:
                raise Wrong(f"job {job}: {doc['state']}, {doc['error']}")
        if name not in self.names("checkpoint"):
            raise Wrong(f"checkpoint {name} of job {job} is not there")
        self.same(target, now, f"job {job}")

    def job_ids(self):
        return {j["id"] for j in self.host.must("job", "list")["jobs"]}

    @staticmethod
    def same(path, content, what):
        got = read(path)
        if got != content:
            at = next((i for i in range(min(len(got), len(content)))
                       if got[i] != content[i]), -1)
            raise Wrong(f"{what}: {path} is not the disk at its instant "
                        f"(from {at})")

    def cancelled(self, since, name):
        before = self.job_ids()
        self.host.ask("backup", "vda", self.base + "/never", "--detach",
                      "--checkpoint", name, "--since", since, "--speed", "1")
        job = next(iter(self.job_ids() - before), None)
        if not job:
            return
        self.host.nf("job", "cancel", job)
        if self.host.died():
            self.host.note_death()
            self.host.start()
            self.host.nf("job", "cancel", job)
        doc = self.see_through(job)
        if doc["state"] not in ("cancelled", "failed"):
            raise Wrong(f"job {job}: {doc['state']}, {doc['error']}")
        if name in self.names("checkpoint"):
            raise Wrong(f"{name} outlived its job")

    def delete_checkpoint(self, name):
        while name in self.names("checkpoint"):
            self.host.ask("checkpoint", "delete", "vda", name)

    def left_over(self):
        found = [f for p in ("state/**/*.map", "state/**/*.scratch",
                             "state/jobs/*.copy", "state/jobs/*.result*",
                             "state/begin-*", "state/**/.*.dirty",
                             "run/job-*")
                 for f in glob.glob(f"{self.base}/{p}", recursive=True,
                                    include_hidden=True)]
        return found

    def play(self):
        host, one, two = self.host, self.base + "/one", self.base + "/two"
        self.write()
        self.snapshot("s1", "c1")
        with open(two, "wb") as f:
            f.write(self.content)
        self.write()
        self.check_snapshots()
        self.backup(one, "c2")
        self.write()
        self.backup(one, "c3", "--since", "c2")
        self.write()
        self.cancelled("c3", "c4")
        self.write()
        self.delete_checkpoint("c2")
        self.write()
        self.backup(one, "c5", "--since", "c3")
        self.backup(two, "c6", "--since", "c1")
        self.check_snapshots()
        self.end_snapshot("s1")
        for name in sorted(self.names("checkpoint")):
            self.delete_checkpoint(name)
        host.wait(lambda: not self.left_over(),
                  "the end of what is left over: " + str(self.left_over()))
        self.same(host.disk, self.content, "the guest")

    def stop(self):
        if self.guest:
            self.guest.shutdown()
        if not self.host.died():
            self.host.stop()


def run(base, failpoints, rng, copier):
    print("crash-daemon:", " ".join(failpoints) or "nothing", file=sys.stderr,
          flush=True)
    story = Story(base, failpoints, rng)
    try:
        story.play()
        story.stop()
    except (Wrong, nbd.Error, subprocess.CalledProcessError) as e:
        with open(base + "/daemon.log") as f:
            sys.stderr.write("".join(f.readlines()[-40:]))
        if not story.host.died():
            story.host.daemon.kill()
        for f in glob.glob(base + "/run/*.pid"):
            story.host.kill(os.path.basename(f)[:-4])
        sys.exit(f"crash-daemon: FAILED with {' '.join(failpoints)}: {e}")
    return story.host.kills + (1 if copier and story.host.fired() else 0)


def points(who):
    names = set()
    for pattern in FOLDERS[who]:
        for f in glob.glob(f"{TOP}/{pattern}"):
            with open(f) as text:
                names |= set(re.findall(r'FAILPOINT \("([^"]+)"\)',
                                        text.read()))
    return sorted(names)


def main(base, who, pairs):
    seed = int(os.environ["NBDFLEECE_SEED"])
    rng = random.Random(seed)
    names, kills, missed = points(who), 0, []
    copier = who == "copier"
    run(base, [], rng, False)
    for name in names:
        k = run(base, [name], rng, copier)
        if k == 0:
            missed.append(name)
        kills += k
    every = [(a, b) for a in names for b in names]
    if pairs != "all":
        every = rng.sample(every, min(int(pairs), len(every)))
    for pair in every:
        kills += run(base, pair, rng, copier)
    print(f"cases: crash points, {who}: {len(names)}\n"
          f"cases: pairs of crash points, {who}: {len(every)}\n"
          f"cases: kills: {kills}")
    if missed:
        sys.exit(f"crash-daemon: never come to: {' '.join(missed)}")


if __name__ == "__main__":
    faulthandler.register(15)
    main(*sys.argv[1:])
