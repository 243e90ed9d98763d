# SPDX-FileCopyrightText: The nbdfleece authors
# SPDX-License-Identifier: BSD-3-Clause

"""What the oracle of backups (chains.py) drives, stops and kills: the daemon
and all that it has started, and the server of a target."""

import json
import os
import signal
import subprocess
import sys
import time

import bmfile
from guest import Wrong

PATIENCE = 180


def say(text):
    print("chains:", text, file=sys.stderr, flush=True)


def read(path):
    with open(path, "rb") as f:
        return f.read()


def run(*argv):
    return subprocess.run(argv, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True, check=False)


class Host:
    """The daemon and what it has started."""

    def __init__(self, base, config):
        self.base, self.run, self.state = base, base + "/run", base + "/state"
        self.config = base + "/nbdfleece.yaml"
        self.log = open(base + "/daemon.log", "ab")
        with open(self.config, "w") as f:
            f.write(f"state-dir: {self.state}\nrun-dir: {self.run}\n{config}")
        self.daemon = None

    def start(self):
        self.daemon = subprocess.Popen(
            [os.environ["NBDFLEECED"], "-f", "-v", "-c", self.config],
            stderr=self.log)
        self.wait(lambda: self.daemon.poll() is not None or self.serves(),
                  "the daemon to serve")
        if self.daemon.poll() is not None:
            raise Wrong("the daemon ended")

    def serves(self):
        return self.nf("status")[0] == 0

    def nf(self, *words):
        """The exit status, and the JSON document."""
        r = run(os.environ["NBDFLEECE"], "-s", self.run + "/control.sock",
                "--json", *words)
        try:
            return r.returncode, json.loads(r.stdout)
        except ValueError:
            return r.returncode or 1, {"error": {"message": r.stderr}}

    def must(self, *words):
        status, doc = self.nf(*words)
        if status != 0:
            raise Wrong(f"{' '.join(words)}: {doc['error']['message']}")
        return doc

    def wait(self, condition, what):
        end = time.monotonic() + PATIENCE
        while not condition():
            if time.monotonic() > end:
                raise Wrong("waited in vain for " + what)
            time.sleep(0.02)

    def up(self):
        status, doc = self.nf("status")
        return status == 0 and all(e["state"] == "running"
                                   for e in doc["exports"])

    def kill(self, name):
        """What wrote RUN/NAME.pid, if it is there."""
        try:
            os.kill(int(read(f"{self.run}/{name}.pid").split()[0]),
                    signal.SIGKILL)
        except (FileNotFoundError, ProcessLookupError, IndexError):
            pass

    def kill_daemon(self):
        self.daemon.kill()
        self.daemon.wait()

    def stop(self):
        self.daemon.terminate()
        if self.daemon.wait(PATIENCE) != 0:
            raise Wrong("the daemon ended with an error")


    def boot(self):
        """After a stop: what the host is started again leaves of it."""
        self.wait(lambda: not os.listdir(self.run), "the end of servers")
        at = bmfile.LIVE + bmfile.Live.boot_id.offset
        for d, _, files in os.walk(self.state):
            for f in files:
                if f.endswith((".map", ".dirty", ".copy")):
                    with open(f"{d}/{f}", "r+b") as bitmap:
                        bitmap.seek(at)
                        bitmap.write(b"another boot id.")


class Server:
    """An NBD target that loses what was not flushed, and fails at will."""

    def __init__(self, base, size):
        self.base, self.size = base, size
        self.file, self.broken = base + "/server.img", base + "/broken"
        self.uri = f"nbd+unix:///?socket={base}/server.sock"
        with open(self.file, "wb") as f:
            f.truncate(size)
        self.process = None
        self.start()

    def start(self):
        for name in ("server.sock", "server.pid"):
            try:
                os.unlink(f"{self.base}/{name}")
            except FileNotFoundError:
                pass
        self.process = subprocess.Popen(
            [os.environ["NBDKIT"], "-f", "-P", self.base + "/server.pid",
             "-U", self.base + "/server.sock", "--filter=error",
             "--filter=cache", "file", self.file, "cache=writeback",
             "error-pwrite=EIO", "error-pwrite-rate=30%",
             "error-pwrite-file=" + self.broken],
            stderr=subprocess.DEVNULL)
        end = time.monotonic() + PATIENCE
        while not os.path.exists(self.base + "/server.pid"):
            if time.monotonic() > end:
                raise Wrong("the target's server does not start")
            time.sleep(0.01)

    def mend(self):
        try:
            os.unlink(self.broken)
        except FileNotFoundError:
            pass

    def kill(self):
        self.process.kill()
        self.process.wait()

    def look_after(self):
        """A nbdkit may abort when a client of it is killed."""
        if self.process.poll() is not None:
            self.start()

    def content(self):
        self.look_after()
        r = subprocess.run(["nbdcopy", self.uri, "-"], check=True,
                           stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        return r.stdout
