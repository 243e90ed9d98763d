# SPDX-FileCopyrightText: The nbdfleece authors
# SPDX-License-Identifier: BSD-3-Clause

"""The contenders: nbdfleece, nbdkit without a filter, QEMU's daemon."""

import glob
import json
import os
import signal
import sys
import time

from util import BenchError, run, wait_for

HERE = os.path.dirname(os.path.abspath(__file__))


def unix_uri(path, export=""):
    return "nbd+unix:///%s?socket=%s" % (export, path)


def nbdkit(work, argv, name="kit"):
    """Starts nbdkit and returns (process, URI)."""
    sock = work.path(name)
    p = work.start(["nbdkit", "-f", "-U", sock, "-P", sock + ".pid"] + argv)
    work.wait_until(p, lambda: os.path.exists(sock + ".pid"))
    return p, unix_uri(sock)


def start_relay(work, uri):
    """Something between client and server that does the least it can."""
    sock = work.path("relay")
    p = work.start([sys.executable, os.path.join(HERE, "relay.py"), sock,
                    uri.split("=", 1)[1]])
    work.wait_socket(p, sock).close()
    return p, unix_uri(sock)


class Fleece:
    """nbdfleeced, with one export vda on a disk."""

    def __init__(self, work, where, disk, programs, extra=""):
        self.work = work
        self.programs = programs
        self.state = os.path.join(where, os.path.basename(work.path("state")))
        self.run_dir = work.path("run")
        config = work.path("conf")
        with open(config, "w", encoding="utf-8") as f:
            f.write("state-dir: %s\nrun-dir: %s\nexports:\n"
                    "  - {name: vda, disk: %s%s}\n"
                    % (self.state, self.run_dir, disk, extra))
        control = self.run_dir + "/control.sock"
        self.p = work.start([programs["nbdfleeced"], "-f", "-c", config])
        work.wait_socket(self.p, control).close()
        self.command = [programs["nbdfleece"], "-s", control, "--json"]
        wait_for("the export", lambda: self.export()["state"] == "running")
        for name in glob.glob(self.run_dir + "/*.pid"):
            with open(name, encoding="ascii") as f:
                work.favour(int(f.read().split()[0]))
        self.guest = unix_uri(self.run_dir + "/vda.sock", "vda")
        self.reader = None

    def nf(self, *argv):
        return json.loads(run(self.command + list(argv)))

    def export(self):
        return self.nf("status")["exports"][0]

    def create(self, name="s", *options):
        return self.nf("snapshot", "create", "vda", name, *options)

    def delete(self, name="s"):
        self.nf("snapshot", "delete", "vda", name)

    def map(self, name="s"):
        return "map:%s/exports/vda/%s.map" % (self.state, name)

    def direct(self, name="s"):
        """The snapshot, from the plugin in a plain nbdkit."""
        if not self.reader:
            self.reader = nbdkit(self.work, ["-r", self.programs["plugin"],
                                             "dir=" + self.state], "snap")
        return self.reader[1].replace("///", "///vda@%s" % name)

    def backup_uri(self, name="s"):
        """The snapshot, where backup software connects."""
        return unix_uri(self.run_dir + "/backup.sock", "vda@" + name)

    def stop(self):
        if self.reader:
            self.work.stop(self.reader[0])
        self.work.stop(self.p)


class Plain:
    """nbdkit with no filter.  A second one is for who reads the disk."""

    def __init__(self, work, disk):
        self.work = work
        self.p, self.guest = nbdkit(work, ["file", disk])
        self.reader, self.direct = nbdkit(work, ["-r", "file", disk])

    def stop(self):
        self.work.stop(self.p)
        self.work.stop(self.reader)


class Qemu:
    """qemu-storage-daemon: copy-before-write, and the snapshot behind it."""

    def __init__(self, work, where, disk, aio):
        self.work, self.where, self.aio = work, where, aio
        self.sock, monitor = work.path("qsd"), work.path("qmp")
        self.p = work.start(
            ["qemu-storage-daemon",
             "--blockdev", "driver=file,node-name=disk,filename=%s,aio=%s,"
             "discard=unmap,locking=off" % (disk, aio),
             "--nbd-server", "addr.type=unix,addr.path=%s,max-connections=0"
             % self.sock,
             "--chardev", "socket,id=m,path=%s,server=on,wait=off" % monitor,
             "--monitor", "chardev=m"])
        self.qmp = work.wait_socket(self.p, monitor)
        self.lines = self.qmp.makefile()
        self.lines.readline()
        self.execute("qmp_capabilities")
        self.guest = unix_uri(self.sock, "guest")
        self.direct = unix_uri(self.sock, "snap")
        self.target = None

    def execute(self, command, **arguments):
        self.qmp.sendall(json.dumps({"execute": command,
                                     "arguments": arguments}).encode())
        while True:
            answer = json.loads(self.lines.readline())
            if "error" in answer:
                raise BenchError("%s: %s" % (command, answer["error"]["desc"]))
            if "return" in answer:
                return answer["return"]

    def event(self, name):
        while True:
            answer = json.loads(self.lines.readline())
            if answer.get("event") == name:
                return answer["data"]

    def create(self):
        """A snapshot into a new file, as raw as ours."""
        self.target = os.path.join(self.where,
                                   os.path.basename(self.work.path("fleece")))
        with open(self.target, "wb") as f:
            f.truncate(self.disk_size())
        self.execute("blockdev-add", driver="file", filename=self.target,
                     aio=self.aio, **{"node-name": "target"})
        self.execute("blockdev-add", driver="copy-before-write", file="disk",
                     target="target", **{"node-name": "cbw"})
        self.execute("blockdev-add", driver="snapshot-access", file="cbw",
                     **{"node-name": "access"})
        for node, name, writable in (("cbw", "guest", True),
                                     ("access", "snap", False)):
            self.execute("block-export-add", type="nbd", id=name, name=name,
                         writable=writable, **{"node-name": node})

    def disk_size(self):
        for node in self.execute("query-named-block-nodes"):
            if node["node-name"] == "disk":
                return node["image"]["virtual-size"]
        raise BenchError("no node disk")

    def delete(self):
        for name in ("guest", "snap"):
            self.execute("block-export-del", id=name, mode="hard")
            wait_for("the export's end", lambda n=name: n not in
                     [e["id"] for e in self.execute("query-block-exports")])
        for node in ("access", "cbw", "target"):
            self.execute("blockdev-del", **{"node-name": node})
        os.unlink(self.target)

    def timed_backup(self, sock):
        """Seconds that it takes to copy the disk to the NBD server there, and
        to flush that, which the end of the node does."""
        self.execute("blockdev-add", driver="nbd", **{
            "node-name": "nbd", "server": {"type": "unix", "path": sock}})
        begin = time.monotonic()
        self.execute("blockdev-backup", device="disk", target="nbd",
                     sync="full", **{"job-id": "job"})
        data = self.event("BLOCK_JOB_COMPLETED")
        if data.get("error"):
            raise BenchError("blockdev-backup: " + data["error"])
        self.execute("blockdev-del", **{"node-name": "nbd"})
        return time.monotonic() - begin

    def stop(self):
        self.work.stop(self.p, signal.SIGKILL)


QEMU_AIO = ("threads", "io_uring")


def qemu_name(aio):
    return "QEMU, " + aio


def start_qemus(work, where, disk):
    """name -> Qemu, one for each way of doing I/O."""
    return {qemu_name(aio): Qemu(work, where, disk, aio) for aio in QEMU_AIO}
