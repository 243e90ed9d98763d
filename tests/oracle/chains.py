# SPDX-FileCopyrightText: The nbdfleece authors
# SPDX-License-Identifier: BSD-3-Clause

"""The oracle of backups: chains of checkpoints under guests that write.

Several users back up the same disks, each with checkpoints of its own, in full,
the top layer or incrementally, into a raw file, an NBD server or a chain of
qcow2 images.  Jobs fail, are cancelled, paused and slowed down; copiers, the
daemon, the exports' servers and the target's are killed, or the whole is
stopped in order and started again.  Whatever has completed must be the disk at
its instant (guest.py), each image of a chain at its own; and what the daemon
tracks must have every block that has changed (Tracker).

    chains.py DIRECTORY ROUNDS [SEED]
    chains.py DIRECTORY SECONDSs [SEED]

The second is the soak: for so long, with deaths seldom, so that each process
lives for many rounds; none may come to have more descriptors or memory (growth.py).

What runs is taken from the environment, as tests/functions.sh sets it.  Prints
`chains: FAILED: ...' and ends with 1 if something is wrong.
"""

import os
import random
import subprocess
import sys
import time

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.environ["abs_top_srcdir"], "tests"))
import bmfile  # noqa: E402
from growth import Growth  # noqa: E402
from guest import Disk, Tracker, Wrong  # noqa: E402
from host import PATIENCE, Host, Server, read, run, say  # noqa: E402

ENDED = ("completed", "incomplete", "failed", "cancelled")


class User:
    """Somebody with backups of one disk, and a chain of checkpoints."""

    def __init__(self, name, kind, disk, base, server=None):
        self.name, self.kind, self.disk, self.server = name, kind, disk, server
        self.base = f"{base}/{disk.name}-{name}"
        self.last = None            # checkpoint that the target goes up to
        self.trackers = {}          # of its checkpoints
        self.images = []            # of a chain: (path, window)
        self.window = None          # what the target is to be; None: anything
        self.counter = 0

    def target(self, sync):
        if self.kind == "nbd":
            return self.server.uri
        if self.kind == "raw":
            if sync == "top":       # what is not copied is what it was
                self.remove(self.base + ".raw")
            return self.base + ".raw"
        if sync != "incremental":
            self.drop_images()
        return f"qcow2:{self.base}.{self.counter}.qcow2"

    def drop_images(self):
        for path, _ in self.images:
            self.remove(path)
        self.images = []

    @staticmethod
    def remove(path):
        for p in (path, path + ".nbdfleece"):
            if os.path.exists(p):
                os.unlink(p)

    def content(self, path):
        if self.kind == "nbd":
            return self.server.content()
        if self.kind == "raw":
            return read(path)
        flat = self.base + ".flat"
        r = run("qemu-img", "convert", "-O", "raw", path, flat)
        if r.returncode != 0:
            raise Wrong(f"{path}: {r.stderr}")
        return read(flat)

    def completed(self, target, sync, window):
        path = target.removeprefix("qcow2:")
        if self.kind == "qcow2":
            self.images.append((path, window))
            check = [self.images[-1], random.choice(self.images)]
        else:
            check = [(path, window)]
        for image, its in check:
            its.check(self.content(image),
                      f"{self.disk.name}, {self.name}, {sync}: {image}")

    def not_completed(self, target):
        if self.kind == "qcow2":
            self.remove(target.removeprefix("qcow2:"))


class Chains:
    def __init__(self, base, rng):
        self.base, self.rng = base, rng
        self.counts, self.over, self.known = {}, 0, 0
        self.calm, self.done = False, 0
        kinds = ["raw", rng.choice(("qcow2", "plugin"))]
        config = "exports:\n"
        self.disks = []
        for name, kind in zip(("vda", "vdb"), kinds):
            size = rng.choice((2 << 20, (3 << 20) + 4096 * 5, (1 << 20) + 512))
            data = rng.randbytes(size // 2) + bytes(size - size // 2)
            image = f"{base}/{name}.img"
            with open(image, "wb") as f:
                f.write(data[:size // 2])
                f.truncate(size)
            if kind == "qcow2":
                run("qemu-img", "convert", "-O", "qcow2", image, image + ".q")
                disk = f"{{qcow2: {image}.q}}"
            elif kind == "plugin":
                disk = f"{{plugin: file, options: {{file: {image}}}}}"
            else:
                disk = image
            config += f"  - name: {name}\n    disk: {disk}\n"
            self.disks.append(Disk(
                name, f"nbd+unix:///{name}?socket={base}/run/{name}.sock",
                data, kind == "qcow2"))
            say(f"{name}: {kind}, {size} bytes")
        self.host = Host(base, config)
        self.server = Server(base, max(d.size() for d in self.disks))
        self.users = [User("a", "raw", d, base) for d in self.disks] \
            + [User("b", "qcow2", d, base) for d in self.disks] \
            + [User("c", "nbd", self.disks[0], base, self.server)]

    def count(self, what):
        self.counts[what] = self.counts.get(what, 0) + 1

    # --------------------------------------------------------------- tracking

    def dirty_since(self, disk, name):
        """The clusters in the files of that checkpoint and all after it."""
        where = f"{self.host.state}/exports/{disk.name}"
        while True:
            try:
                files = [bmfile.File(f"{where}/{f}")
                         for f in os.listdir(where) if f.endswith(".dirty")]
                break
            except FileNotFoundError:   # it was merged into another
                pass
        files.sort(key=lambda f: f.live.instant_ns)
        bits, found = set(), False
        for f in files:
            found = found or f.fixed.name.decode() == name
            if found:
                bits |= f.bits()
        return bits

    def check_tracking(self, disk):
        """With no write under way."""
        for user in self.users:
            if user.disk is not disk:
                continue
            for name, tracker in user.trackers.items():
                bits = self.dirty_since(disk, name)
                missed = tracker.must - bits
                if missed:
                    raise Wrong(f"{disk.name}: since {name} tracking has "
                                f"missed blocks {sorted(missed)[:10]}")
                self.over += len(bits - tracker.must)
                self.known += len(tracker.must)
                self.count("trackings compared")

    # ------------------------------------------------------------------ jobs

    def choose_sync(self, user):
        if user.last and len(user.images) < 5 and self.rng.random() < 0.8:
            return "incremental"
        return "full" if user.kind == "nbd" \
            else self.rng.choice(("full", "full", "top"))

    def begin(self, user, sync, target, name):
        words = ["backup", user.disk.name, target, "--detach", "--sync", sync]
        if sync == "incremental":
            words += ["--since", user.last]
            if user.kind == "qcow2":
                words += ["--backing", user.images[-1][0]]
        if user.kind == "qcow2" and self.rng.random() < 0.2:
            words += ["--compress", self.rng.choice(("zlib", "zstd"))]
        if self.rng.random() < 0.6:
            words += ["--speed", self.rng.choice(("500K", "1M", "2M"))]
        if user.kind == "nbd":
            words += ["--on-target-error",
                      self.rng.choice(("report", "stop", "ignore"))]
        if name:
            words += ["--checkpoint", name]
        tracker = Tracker() if name else None
        window = user.disk.open_window(tracker)
        doc = self.start_backup(words)
        user.disk.close_window(window, tracker)
        return doc["job"]["id"], window, tracker

    def start_backup(self, words):
        """Again if the export was killed just before."""
        host = self.host
        while True:
            status, doc = host.nf(*words)
            if status == 0:
                return doc
            if doc["error"].get("code") != "not-running":
                raise Wrong(f"{' '.join(words)}: {doc['error']['message']}")
            self.count("not running")
            host.wait(host.up, "the exports")

    def disturb(self, job, user):
        """One thing that may happen to a job."""
        host, rng = self.host, self.rng
        what = rng.choice(("copier", "copier", "daemon", "export", "all",
                           "cancel", "pause", "speed", "server", "errors",
                           "restart", "nothing"))
        if what in ("server", "errors") and user.kind != "nbd":
            what = "copier"
        self.count(what)
        if what == "copier":
            host.kill(f"job-{job}.copy")
        elif what == "export":
            host.kill(user.disk.name)
        elif what in ("daemon", "all"):
            host.kill_daemon()
            if what == "all":
                for f in os.listdir(host.run):
                    if f.endswith(".pid"):
                        host.kill(f[:-4])
            host.start()
        elif what == "restart":
            host.stop()
            if rng.random() < 0.5:
                host.boot()
            host.start()
        elif what in ("cancel", "pause"):
            host.nf("job", what, job)
        elif what == "speed":
            host.nf("job", "speed", job, rng.choice(("100K", "5M", "none")))
        elif what == "errors":
            open(self.server.broken, "w").close()
        elif what == "server":
            self.server.kill()
            self.server.start()

    def see_through(self, job):
        """To its end: what has stopped goes on, and what is slow speeds up."""
        host, end = self.host, time.monotonic() + PATIENCE
        self.server.mend()
        host.wait(host.up, "the exports")
        while True:
            doc = host.must("job", "show", job)["job"]
            if doc["state"] in ENDED:
                return host.must("job", "wait", job)["job"] \
                    if doc["state"] == "completed" else doc
            if doc["state"] in ("paused", "stopped-on-error"):
                host.nf("job", "resume", job)
            host.nf("job", "speed", job, "none")
            self.server.look_after()
            if time.monotonic() > end:
                raise Wrong(f"job {job} does not end: it is {doc['state']}, "
                            f"{doc['error']}")
            time.sleep(0.05)

    def job(self, user):
        sync = self.choose_sync(user)
        user.counter += 1
        target = user.target(sync)
        name = f"{user.name}-{user.counter}" \
            if self.rng.random() < 0.9 or not user.last else None
        job, window, tracker = self.begin(user, sync, target, name)
        for _ in range(0 if self.calm else self.rng.choice((0, 1, 1, 2, 3))):
            time.sleep(self.rng.random() * 0.4)
            self.disturb(job, user)
        doc = self.see_through(job)
        state = doc["state"]
        self.count(f"{sync} {state}")
        if state == "completed":
            user.completed(target, sync, window)
            if name:
                self.advance(user, name, tracker)
            elif sync != "incremental":
                # Its record does not tie it to any checkpoint.
                self.let_go(user)
            return
        if state == "incomplete":
            raise Wrong(f"job {job} is incomplete: {doc['error']}")
        user.not_completed(target)
        if name:
            user.disk.forget(tracker)
            if name in self.names(user.disk):
                raise Wrong(f"the checkpoint of job {job} is still there")
        if sync != "incremental":
            # The target holds nothing that an incremental could go on.
            self.let_go(user)

    def names(self, disk):
        doc = self.host.must("checkpoint", "list", disk.name)
        for cp in doc["checkpoints"]:
            if cp["state"] != "consistent":
                raise Wrong(f"{disk.name}: {cp['name']}: {cp['reason']}")
        return [cp["name"] for cp in doc["checkpoints"]]

    def advance(self, user, name, tracker):
        user.trackers[name] = tracker
        if user.last and self.rng.random() < 0.6:
            self.delete(user, user.last)
        user.last = name
        while len(user.trackers) > 3:
            self.delete(user, next(iter(user.trackers)))

    def delete(self, user, name):
        self.host.must("checkpoint", "delete", user.disk.name, name)
        user.disk.forget(user.trackers.pop(name, None))
        self.count("checkpoints deleted")

    def let_go(self, user):
        for name in list(user.trackers):
            self.delete(user, name)
        user.last = None

    # ------------------------------------------------------------------- all

    def soak(self, seconds):
        growth, end = Growth(self.host), time.monotonic() + seconds
        while time.monotonic() < end:
            self.calm = self.rng.random() < 0.95
            self.round()
            self.done += 1
            for disk in self.disks:
                disk.settle()
            growth.look()
            for disk in self.disks:
                disk.go_on()
        say(growth.account())

    def round(self):
        user = self.rng.choice(self.users)
        self.job(user)
        for disk in self.disks:
            if disk.error:
                raise Wrong(disk.error)
        if self.rng.random() < 0.5:
            user.disk.settle()
            self.check_tracking(user.disk)
            self.names(user.disk)
            user.disk.go_on()

    def all_rounds(self, rounds):
        self.host.start()
        self.host.wait(self.host.up, "the exports")
        for disk in self.disks:
            disk.start(3, self.rng)
        if isinstance(rounds, float):
            self.soak(rounds)
        else:
            for _ in range(rounds):
                self.round()
                self.done += 1
        for disk in self.disks:
            disk.settle()
            self.check_tracking(disk)
            disk.end()
        left = [f for d, _, files in os.walk(self.host.state) for f in files
                if f.endswith((".map", ".scratch", ".copy", ".result"))]
        if left:
            raise Wrong(f"left over: {left}")
        self.host.stop()

    def clean_up(self):
        for disk in self.disks:
            disk.ended = True
        if self.host.daemon and self.host.daemon.poll() is None:
            self.host.daemon.terminate()
            try:
                self.host.daemon.wait(60)
            except subprocess.TimeoutExpired:
                self.host.kill_daemon()
        self.server.kill()

    def report(self):
        writes = sum(d.writes for d in self.disks)
        again = sum(d.again for d in self.disks)
        say(f"{self.done} rounds, {writes} requests of guests, {again} of them "
            "through the death of a server")
        say(", ".join(f"{n} {what}" for what, n in
                      sorted(self.counts.items())))
        ended = sum(n for what, n in self.counts.items()
                    if what.endswith("completed"))
        print(f"cases: backups compared with an oracle: {ended}",
              file=sys.stderr)
        per = 100 * self.over / self.known if self.known else 0
        say(f"tracking: {self.known} blocks had changed for certain, "
            f"{self.over} more were said to ({per:.1f} %)")


def main(base, rounds, seed):
    rng = random.Random(seed)
    random.seed(seed)
    chains = Chains(base, rng)
    status = 0
    try:
        chains.all_rounds(rounds)
    except Wrong as e:
        say(f"FAILED: {e}")
        status = 1
    finally:
        chains.clean_up()
    chains.report()
    return status


if __name__ == "__main__":
    many = sys.argv[2]
    sys.exit(main(sys.argv[1], float(many[:-1]) if many.endswith("s")
                  else int(many), sys.argv[3]))
