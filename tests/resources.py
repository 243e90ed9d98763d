# SPDX-FileCopyrightText: The nbdfleece authors
# SPDX-License-Identifier: BSD-3-Clause

"""For test-resources-*.sh: what processes have, and how it grows.

  resources.py cycles RUN DAEMON-PID URI NUMBER
      creates and deletes so many snapshots of vda, while a guest at URI writes
  resources.py connect RUN DAEMON-PID URI NUMBER
      so many connections to URI at once, each of which reads, and then none
"""

import glob
import json
import os
import socket
import sys
import threading
import time

import nbd

WARM_UP = 5                     # the first part of NUMBER, of so many
GROWTH = 2048                   # KiB that a process may have more
PATIENCE = float(os.environ.get("NBDFLEECE_PATIENCE", 30)) # seconds
# A sanitizer keeps for itself what is freed.
SANITIZED = os.environ.get("NBDFLEECE_SANITIZER", "no") != "no"


class Wrong(Exception):
    pass


class Control:
    """One connection to the daemon."""

    def __init__(self, run):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(60)
        self.socket.connect(run + "/control.sock")
        self.file = self.socket.makefile("rw")

    def ask(self, command, **members):
        self.file.write(json.dumps(dict(members, command=command)) + "\n")
        self.file.flush()
        doc = json.loads(self.file.readline())
        if "error" in doc:
            raise Wrong(f"{command} {members}: {doc['error']['message']}")
        return doc["result"]


def processes(run, daemon):
    """Name and pid of the daemon and of all that it has started."""
    found = {"daemon": int(daemon)}
    for f in glob.glob(run + "/*.pid"):
        with open(f) as text:
            found[os.path.basename(f)[:-4]] = int(text.read())
    return found


def descriptors(pid):
    return len(os.listdir(f"/proc/{pid}/fd"))


def resident(pid):
    """KiB, without files that are mapped: maps belong to their snapshots."""
    with open(f"/proc/{pid}/status") as f:
        for line in f:
            if line.startswith("RssAnon:"):
                return int(line.split()[1])
    raise Wrong(f"process {pid} has ended")


def usage(run, daemon):
    return {name: (descriptors(pid), resident(pid), pid)
            for name, pid in processes(run, daemon).items()}


def compare(before, run, daemon):
    """What is closed a moment later is waited for, not what never is."""
    deadline = time.monotonic() + PATIENCE
    while True:
        after = usage(run, daemon)
        if {n: (u[0], u[2]) for n, u in before.items()} == \
           {n: (u[0], u[2]) for n, u in after.items()}:
            break
        if time.monotonic() > deadline:
            raise Wrong(f"descriptors, KiB, pid: {before} before, {after} now")
        time.sleep(0.05)
    for name, (fds, kib, _) in sorted(after.items()):
        print(f"{name}: {fds} descriptors, {before[name][1]} KiB before, "
              f"{kib} now", file=sys.stderr)
        if kib > before[name][1] + GROWTH and not SANITIZED:
            raise Wrong(f"{name} has grown")


class Guest(threading.Thread):
    def __init__(self, uri):
        super().__init__()
        self.handle = nbd.NBD()
        self.handle.connect_uri(uri)
        self.writes, self.stop, self.error = 0, False, None

    def run(self):
        size = self.handle.get_size() // 4096
        try:
            while not self.stop:
                self.handle.pwrite(os.urandom(4096),
                                   self.writes * 7919 % size * 4096)
                self.writes += 1
            self.handle.shutdown()
        except nbd.Error as e:
            self.error = e


def cycles(run, daemon, uri, number):
    control, guest = Control(run), Guest(uri)
    guest.start()
    before = None
    try:
        for i in range(int(number)):
            if i == int(number) // WARM_UP:
                before = usage(run, daemon)
            control.ask("snapshot-create", exports=["vda"], name=f"s{i}")
            control.ask("snapshot-delete", export="vda", name=f"s{i}")
        compare(before, run, daemon)
    finally:
        guest.stop = True
        guest.join()
    if guest.error:
        raise Wrong(f"the guest: {guest.error}")
    print(f"{guest.writes} writes of the guest", file=sys.stderr)
    print(f"cases: snapshots created and deleted: {number}")


def connect(run, daemon, uri, number):
    def some():
        handles = []
        for _ in range(int(number)):
            h = nbd.NBD()
            h.connect_uri(uri)
            handles.append(h)
        for h in handles:
            h.aio_pread(nbd.Buffer(65536), 0)
        for h in handles:
            while h.aio_in_flight() > 0:
                h.poll(-1)
        for h in handles:
            h.shutdown()
    idle = usage(run, daemon)
    some()
    compare({n: (u[0], max(u[1], resident(u[2])), u[2])
             for n, u in idle.items()}, run, daemon)
    before = usage(run, daemon)
    some()
    compare(before, run, daemon)
    print(f"cases: connections at once: {number}")


if __name__ == "__main__":
    try:
        {"cycles": cycles, "connect": connect}[sys.argv[1]](*sys.argv[2:])
    except (Wrong, nbd.Error) as wrong:
        sys.exit(f"resources: {wrong}")
