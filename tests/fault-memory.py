# SPDX-FileCopyrightText: The nbdfleece authors
# SPDX-License-Identifier: BSD-3-Clause

"""One process after the other is refused memory (tests/fault.c).

  fault-memory.py DIR [PLACE...]

Of what a process allocates itself, one in so many fails, or all.  Under that a
snapshot is asked for, a guest writes, the snapshot is read, and a backup is made.
Anything may fail then, but the guest's writes; what says that it is done must be
right, and the process of a guest's disk must not end.  Then there is memory
again: what is there is read once more, and the next incremental must bring the
target to what the disk is."""

import importlib.util
import os
import random
import sys
import time

import nbd

HERE = os.path.dirname(__file__)
spec = importlib.util.spec_from_file_location("fault_matrix",
                                              HERE + "/fault-matrix.py")
fault_matrix = importlib.util.module_from_spec(spec)
spec.loader.exec_module(fault_matrix)
CLUSTER, SIZE, Wrong = (fault_matrix.CLUSTER, fault_matrix.SIZE,
                        fault_matrix.Wrong)

# PROCESS and PATH of tests/fault.c
PLACES = {
    "filter": ("-filter.so", "fleece-filter"),
    "restart": ("-filter.so", "fleece-filter"),
    "filter-broken": ("-filter.so", "fleece-broken-filter"),
    "plugin": ("fleece-plugin", "fleece-plugin"),
    "front": ("nbdfleece-front", "nbdfleece-front"),
    "copier": ("nbdfleece-copy", "nbdfleece-copy"),
}
ONE_IN = (1, 2, 5, 13, 40, 150)
fault_matrix.POLICIES["du"] = ("tracking: durable\n    trim: defer\n"
                               "    scratch: {durable: true}")
ENDED = ("completed", "incomplete", "failed", "cancelled")


class Memory(fault_matrix.Matrix):
    def __init__(self, base):
        super().__init__(base)
        seed = int(os.environ["NBDFLEECE_SEED"])
        self.rng, self.seen = random.Random(seed), {}

    def refuse(self, place, one_in):
        process, path = PLACES[place]
        with open(self.fault + ".new", "w") as f:
            f.write(f"{process} malloc {path} {one_in}\n")
        os.rename(self.fault + ".new", self.fault)

    def pids(self):
        return [e["pid"] for e in self.host.must("status")["exports"]]

    def may(self, *words):
        """Asked for under the fault: the document, or None."""
        status, doc = self.host.nf(*words)
        if status == 0:
            self.count("commands succeeded")
            return doc
        self.count("commands failed")
        if "message" not in doc.get("error", {}):
            raise Wrong(f"{words} failed without a word")
        return None

    def write_some(self, disk):
        """Only who has asked for it sees errors."""
        for _ in range(20):
            c = self.rng.randrange(SIZE // CLUSTER)
            if not self.write(disk, c):
                self.count("writes failed")
                if disk.name != "vbg":
                    raise Wrong(f"{disk.name}: a write of the guest failed")

    def count(self, what, n=1):
        self.seen[what] = self.seen.get(what, 0) + n

    def look(self, disk, name, then):
        """What can be read of the snapshot is right; how much cannot?"""
        h = nbd.NBD()
        failed = 0
        try:
            h.connect_uri(f"nbd+unix:///{disk.name}@{name}?socket="
                          f"{self.host.run}/backup.sock")
        except nbd.Error:
            return SIZE // CLUSTER
        for c in range(SIZE // CLUSTER):
            at = c * CLUSTER
            try:
                got = h.pread(CLUSTER, at)
            except nbd.Error:
                failed += 1
                continue
            if got != then[at:at + CLUSTER]:
                raise Wrong(f"cluster {c} of {name} is not as it was")
        return failed

    def job(self, disk):
        """It ends; and if it says that it has completed, it is right."""
        then, disk.number = bytes(disk.content), disk.number + 1
        name = f"c{disk.number}"
        doc = self.may("backup", disk.name, disk.target, "--since", disk.last,
                       "--checkpoint", name, "--detach")
        if not doc:
            return
        self.write_some(disk)
        job = doc["job"]["id"]
        self.host.wait(lambda: self.job_state(job) in ENDED, "the job")
        state = self.job_state(job)
        self.count("jobs " + state)
        if state == "completed" and fault_matrix.read(disk.target) != then:
            raise Wrong(f"job {job} has completed, and is wrong")
        if state in ("completed", "incomplete"):
            disk.last = name

    def names(self, disk):
        doc = self.host.must("snapshot", "list", disk.name)
        return {s["name"] for s in doc["snapshots"]
                if not s["name"].startswith("job-")}

    def check(self, place, disk, thens):
        """With memory again."""
        if self.names(disk) != set(thens):
            raise Wrong(f"snapshots: {self.names(disk)}, not {set(thens)}")
        for name, then in thens.items():
            lost = self.look(disk, name, then)
            self.count("clusters lost", lost)
            if lost and not place.startswith("filter"):
                raise Wrong(f"{lost} clusters of {name} are lost")
            self.host.must("snapshot", "delete", disk.name, name, "--force")
        self.next(disk)

    def case(self, place, one_in, disk):
        pids = self.pids()
        self.host.must("snapshot", "create", disk.name, "before")
        thens = {"before": bytes(disk.content)}
        self.refuse(place, one_in)
        self.write_some(disk)
        if self.may("snapshot", "create", disk.name, "s"):
            thens["s"] = bytes(disk.content)
        self.write_some(disk)
        for name, then in thens.items():
            self.count("reads failed", self.look(disk, name, then))
        self.job(disk)
        self.write_some(disk)
        self.disarm()
        self.check(place, disk, thens)
        if self.pids() != pids:
            raise Wrong("the process of a guest's disk has ended")

    def connect(self, disk):
        disk.guest = nbd.NBD()
        disk.guest.connect_uri(
            f"nbd+unix:///{disk.name}?socket={self.host.run}/{disk.name}.sock")

    def restart(self, place, one_in, disk):
        """The filter dies, and the next one lacks memory.  It may have to give
        up a snapshot or a checkpoint, but must not serve it and be wrong."""
        self.host.must("snapshot", "create", disk.name, "before")
        then, pids = bytes(disk.content), self.pids()
        self.write_some(disk)
        self.refuse(place, one_in)
        self.host.kill(disk.name)
        self.host.wait(lambda: self.pids() != pids, "the filter to be gone")
        end = time.monotonic() + 0.5
        while time.monotonic() < end and not self.host.up():
            time.sleep(0.01)
        self.disarm()
        self.host.wait(self.host.up, "the filter to be there again")
        self.connect(disk)
        self.write_some(disk)
        names = self.names(disk)
        self.count("restarts" + ("" if names else ", snapshot given up"))
        if names:
            self.look(disk, "before", then)
            self.host.must("snapshot", "delete", disk.name, "before", "--force")
        doc = self.host.must("checkpoint", "list", disk.name)
        sound = [c["name"] for c in doc["checkpoints"]
                 if c["state"] == "consistent"]
        if disk.last in sound:
            self.next(disk)
        else:
            self.count("checkpoints given up")
            self.next(disk, "--sync", "full")


def each(memory, places):
    """All rates if NBDFLEECE_ROUNDS asks for more than 100 %, else one."""
    whole = int(os.environ.get("NBDFLEECE_ROUNDS", 100)) > 100
    for place in places:
        story = memory.restart if place == "restart" else memory.case
        if place == "filter-broken":
            rates = [1]
        else:
            rates = memory.rng.sample(ONE_IN, len(ONE_IN) if whole else 1)
        for one_in in rates:
            for disk in memory.disks.values():
                yield story, place, one_in, disk
        print(f"{place}: {memory.seen}", file=sys.stderr)
        memory.seen = {}


def main(base, *places):
    memory, cases = Memory(base), 0
    for story, place, one_in, disk in each(memory, places):
        try:
            story(place, one_in, disk)
        except (Wrong, nbd.Error) as e:
            memory.disarm()
            memory.host.daemon.terminate()
            memory.host.daemon.wait(60)
            sys.exit(f"fault-memory: FAILED: {place}, one in {one_in}, "
                     f"{disk.name}: {e}")
        cases += 1
    memory.host.wait(lambda: not memory.left_over(), "files to go")
    for d in memory.disks.values():
        d.guest.shutdown()
    memory.host.stop()
    print(f"cases: faults of memory (process × rate × policy): {cases}")


if __name__ == "__main__":
    main(*sys.argv[1:])
