# SPDX-FileCopyrightText: The nbdfleece authors
# SPDX-License-Identifier: BSD-3-Clause

"""Small jobs of the copier, many of them, each with random options, to targets
that fail, refuse odd blocks, forget what was not flushed, and are killed; and
orders, signals and deaths of the copier at random moments.

A job that has not completed is started again with the same copy bitmap, until
it has.  Whenever a copier has ended, however that was, clusters whose bits are
clear must be right in what the target has for good; in the end all that was
wanted must be, and nothing else have changed.

    copy-random.py DIRECTORY JOBS SEED
"""

import json
import os
import random
import signal
import subprocess
import sys
import time

sys.dont_write_bytecode = True
import bmfile  # noqa: E402
import nbd  # noqa: E402

STATUS = {0: "completed", 1: "failed", 3: "incomplete", 4: "cancelled"}
ROOM = 1 << 20                      # of servers; disks are smaller


class Wrong(Exception):
    """What this is here to find."""


def tool(name, *words):
    path = os.path.join(os.environ["abs_top_builddir"], "tests", name)
    subprocess.run([path, *map(str, words)], check=True)


class Server:
    """A target, one of each kind."""

    KINDS = {
        "memory": (["--filter=error"], ["memory", str(ROOM)]),
        "blocks": (["--filter=error", "--filter=blocksize-policy"],
                   ["memory", str(ROOM), "blocksize-minimum=4096",
                    "blocksize-preferred=65536", "blocksize-maximum=256K",
                    "blocksize-error-policy=error"]),
        "forgets": (["--filter=error", "--filter=cache"],
                    ["file", "FILE", "cache=writeback"]),
        "slow": (["--filter=error", "--filter=delay", "--filter=nozero"],
                 ["memory", str(ROOM), "wdelay=3ms"]),
    }

    def __init__(self, base, kind):
        self.kind, self.base = kind, f"{base}/{kind}"
        self.uri = f"nbd+unix:///?socket={self.base}.sock"
        self.process = None
        self.start()

    def start(self):
        filters, plugin = self.KINDS[self.kind]
        for end in (".pid", ".sock"):
            if os.path.exists(self.base + end):
                os.unlink(self.base + end)
        if not os.path.exists(self.base + ".img"):
            with open(self.base + ".img", "wb") as f:
                f.truncate(ROOM)
        plugin = [self.base + ".img" if w == "FILE" else w for w in plugin]
        errors = [f"error-{what}-{key}" for what in ("pwrite", "zero")
                  for key in ("rate=40%", f"file={self.base}.broken")]
        self.process = subprocess.Popen(
            [os.environ["NBDKIT"], "-f", "-P", self.base + ".pid", "-U",
             self.base + ".sock", *filters, *plugin, *errors,
             "error-pwrite=EIO", "error-zero=ENOSPC"],
            stderr=subprocess.DEVNULL)
        while not os.path.exists(self.base + ".pid"):
            if self.process.poll() is not None:
                raise Wrong(f"{self.kind}: nbdkit ended")
            time.sleep(0.005)

    def kill(self):
        self.process.kill()
        self.process.wait()

    def look_after(self):
        """A nbdkit may abort when a client of it is killed; a memory is gone
        then.  Whether it had to be started again."""
        if self.process.poll() is None:
            return False
        self.start()
        return True

    def breaks(self, does):
        if does:
            open(self.base + ".broken", "w").close()
        elif os.path.exists(self.base + ".broken"):
            os.unlink(self.base + ".broken")

    def connect(self):
        h = nbd.NBD()
        h.connect_uri(self.uri)
        return h

    def fill(self, data):
        if self.kind == "forgets":  # nobody has it in a cache but us
            self.kill()
            with open(self.base + ".img", "wb") as f:
                f.write(data)
            self.start()
            return
        h = self.connect()
        for at in range(0, ROOM, 1 << 18):
            h.pwrite(data[at:at + (1 << 18)], at)
        h.shutdown()

    def durable(self):
        """What it has for good."""
        if self.kind == "forgets":
            with open(self.base + ".img", "rb") as f:
                return f.read()
        h = self.connect()
        data = b"".join(h.pread(1 << 18, at)
                        for at in range(0, ROOM, 1 << 18))
        h.shutdown()
        return data


class Source:
    """A snapshot whose disk goes on changing."""

    def __init__(self, base, rng, number):
        self.disk = f"{base}/disk{number}"
        self.rng, self.name = rng, f"s{number}"
        size = rng.choice((ROOM, 700001, 300 * 1024, 65536 * 3 + 512))
        self.cluster = rng.choice((4096, 16384, 65536))
        self.before = bytearray(size)
        for _ in range(6):
            at = rng.randrange(size)
            part = rng.randbytes(min(size - at, rng.randrange(1, size // 3)))
            self.before[at:at + len(part)] = part
        with open(self.disk, "wb") as f:
            f.write(self.before)
        tool("play-filter", "new", base + "/state", "vda", self.name,
             "file:" + self.disk, size, self.cluster)
        self.map = f"{base}/state/exports/vda/{self.name}.map"
        tool("play-filter", "begin", self.map)

    def write(self):
        at = self.rng.randrange(len(self.before))
        n = min(self.rng.randrange(1, 100000), len(self.before) - at)
        tool("play-filter", "write", self.map, self.disk, at, n,
             self.rng.randrange(256))


class Job:
    def __init__(self, base, rng, source, server, counts):
        self.base, self.rng, self.source = base, rng, source
        self.server, self.counts = server, counts
        self.bits, self.control = base + "/bits", base + "/control"
        self.wanted = []
        for path in (self.bits, self.control, base + "/result"):
            if os.path.exists(path):
                os.unlink(path)
        os.mkfifo(self.control)
        size = len(source.before)
        ranges = []
        if rng.random() < 0.5:
            for _ in range(rng.randrange(1, 5)):
                at = rng.randrange(size)
                ranges += [at, min(rng.randrange(1, size), size - at)]
        tool("play-copy-bitmap", "new", self.bits, size, source.cluster,
             *ranges)
        self.wanted = bmfile.File(self.bits).bits()
        self.old = rng.randbytes(4096) * (ROOM // 4096)
        server.fill(self.old)

    def options(self, last):
        rng = self.rng
        words = [f"--flush-interval={rng.choice(('1ms', '10ms', '1s'))}",
                 f"--max-requests={rng.choice((1, 2, 7, 64))}",
                 f"--request-size={rng.choice(('4K', '32K', '256K'))}",
                 f"--connections={rng.choice((1, 2, 4))}",
                 f"--threads={rng.choice((1, 4))}"]
        if last:
            return words + ["--on-target-error=ignore", "--retry=1m"]
        if rng.random() < 0.6:
            words.append(f"--speed={rng.choice(('300K', '1M', '5M'))}")
        if rng.random() < 0.5:
            words.append("--retry=1m")
        words.append("--on-target-error=" + rng.choice(
            ("report", "stop", "ignore", "enospc")))
        return words

    def order(self, **command):
        fd = os.open(self.control, os.O_RDWR | os.O_NONBLOCK)
        os.write(fd, json.dumps(command).encode() + b"\n")
        os.close(fd)

    def event(self, copier):
        what = self.rng.choice(("kill", "term", "cancel", "pause", "speed",
                                "speed", "break", "break", "server", "write"))
        self.counts[what] = self.counts.get(what, 0) + 1
        if what == "kill":
            copier.kill()
        elif what == "term":
            copier.send_signal(signal.SIGTERM)
        elif what in ("cancel", "pause"):
            self.order(command=what)
        elif what == "speed":
            self.order(command="speed", **{
                "bytes-per-second": self.rng.choice((0, 100000, 9000000))})
        elif what == "break":
            self.server.breaks(self.rng.random() < 0.7)
        elif what == "server" and self.server.kind == "forgets":
            self.server.kill()
            self.server.start()
        else:
            self.source.write()

    def run(self, last):
        """One copier, to its end.  Its state, or None if it was killed."""
        copier = subprocess.Popen(
            [os.environ["NBDFLEECE_COPY"], "--quiet", *self.options(last),
             "--copy-bitmap=" + self.bits, "--control=" + self.control,
             "--result=" + self.base + "/result", "map:" + self.source.map,
             self.server.uri], stderr=subprocess.DEVNULL)
        for _ in range(0 if last else self.rng.randrange(4)):
            time.sleep(self.rng.random() ** 2 * 0.15)
            self.event(copier)
        self.server.breaks(False)
        end = time.monotonic() + 120
        while copier.poll() is None:
            self.server.look_after()
            self.order(command="resume")
            self.order(command="speed", **{"bytes-per-second": 0})
            time.sleep(0.01)
            if time.monotonic() > end:
                copier.kill()
                raise Wrong("a job does not end")
        if copier.returncode < 0:
            if copier.returncode not in (-signal.SIGKILL, -signal.SIGTERM):
                raise Wrong(f"the copier died of {-copier.returncode}")
            return None
        state = STATUS.get(copier.returncode)
        with open(self.base + "/result", encoding="utf-8") as f:
            if json.load(f)["state"] != state:
                raise Wrong(f"status {copier.returncode} is not its result")
        return state

    def check(self, done):
        """The clusters with clear bits, and those that were never set."""
        if done:
            left = bmfile.File(self.bits).bits()
            if left:
                raise Wrong(f"completed, but {len(left)} clusters are left")
        got, cluster = self.server.durable(), self.source.cluster
        left = bmfile.File(self.bits).bits()
        size = len(self.source.before)
        # The target's block goes on after the disk's end; a target that takes
        # whole blocks gets the rest of a cluster in them, too.
        for c in range((size + cluster - 1) // cluster):
            part = slice(c * cluster, min((c + 1) * cluster, size))
            if c in left:
                continue
            want = self.source.before if c in self.wanted else self.old
            if got[part] != want[part]:
                raise Wrong(f"{self.server.kind}: cluster {c} of {cluster} "
                            f"bytes is wrong, "
                            f"{'wanted' if c in self.wanted else 'not'}")
        rest = -(-size // 4096) * 4096
        if got[rest:] != self.old[rest:]:
            raise Wrong("something was written after the end of the disk")

    def see_through(self):
        for attempt in range(8):
            state = self.run(attempt == 7)
            self.counts[str(state)] = self.counts.get(str(state), 0) + 1
            if self.server.look_after() and self.server.kind != "forgets":
                return              # its memory is gone, and our work with it
            self.check(state == "completed")
            if state == "completed":
                return
            if state == "incomplete":
                raise Wrong("something was lost")
        raise Wrong("it does not complete")


def main(base, jobs, seed):
    rng, counts = random.Random(seed), {}
    servers = [Server(base, kind) for kind in Server.KINDS]
    source, status = None, 0
    try:
        for i in range(jobs):
            if i % 20 == 0:
                source = Source(base, rng, i)
            Job(base, rng, source, rng.choice(servers), counts).see_through()
    except Wrong as e:
        print(f"copy-random: FAILED: job {i}: {e}", file=sys.stderr)
        status = 1
    for server in servers:
        server.kill()
    print(f"copy-random: {i + 1} jobs:", ", ".join(
        f"{n} {what}" for what, n in sorted(counts.items())), file=sys.stderr)
    print(f"cases: random jobs: {i + 1}", file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2]), sys.argv[3]))
