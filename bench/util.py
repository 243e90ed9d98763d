# SPDX-FileCopyrightText: The nbdfleece authors
# SPDX-License-Identifier: BSD-3-Clause

"""Processes, waiting, directories: what every part of the benchmark needs."""

# Whatever is started is remembered and stopped by its pid at the end, however
# that comes.  What is mounted is unmounted, and directories are removed.

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time


class BenchError(Exception):
    """Said in one line; ends the run."""


def say(text):
    print(text, file=sys.stderr, flush=True)


def wait_for(what, condition, seconds=60):
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise BenchError("waited in vain for " + what)
        time.sleep(0.005)


def session_nice(pid, nice):
    """Linux weighs sessions against each other before it weighs processes
    (autogroups).  Returns what it was, or None where there is no such thing."""
    path = "/proc/%d/autogroup" % pid
    try:
        with open(path, encoding="ascii") as f:
            before = int(f.read().split()[-1])
        with open(path, "w", encoding="ascii") as f:
            f.write("%d" % nice)
    except (OSError, ValueError, IndexError):
        return None
    return before


def run(argv, **kw):
    """Runs a program to its end and returns what it printed."""
    r = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                       stdin=subprocess.DEVNULL, text=True, check=False, **kw)
    if r.returncode != 0:
        raise BenchError("%s: %s" % (" ".join(argv), r.stderr.strip()[-2000:]))
    return r.stdout


def timed(argv, **kw):
    """Seconds that a program takes."""
    begin = time.monotonic()
    run(argv, **kw)
    return time.monotonic() - begin


class Work:
    """The directory that everything is in, and what is to be undone."""

    def __init__(self, base, nice=0):
        self.nice = nice
        self.dir = tempfile.mkdtemp(prefix="nbdfleece-bench.", dir=base)
        self.undo = []
        self.procs = []
        self.serial = 0
        self.defer(lambda: shutil.rmtree(self.dir, ignore_errors=True))

    def defer(self, action):
        self.undo.append(action)

    def path(self, name):
        """A new path, short enough for a socket."""
        self.serial += 1
        return os.path.join(self.dir, "%s%d" % (name, self.serial))

    def start(self, argv):
        """In a session of its own, as nbdfleeced starts what it starts."""
        log = self.path("log")
        with open(log, "wb") as out:
            p = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=out,
                                 stderr=out, start_new_session=True)
        self.favour(p.pid)
        p.log = log
        p.what = " ".join(argv[:3])
        self.procs.append(p)
        return p

    def favour(self, pid):
        if self.nice:
            session_nice(pid, self.nice)

    def wait_until(self, p, condition):
        """Until what was started is ready."""
        def met():
            if p.poll() is not None:
                with open(p.log, encoding="utf-8") as f:
                    raise BenchError("%s ended: %s" % (p.what, f.read()[-2000:]))
            return condition()
        wait_for(p.what, met)

    def wait_socket(self, p, path):
        """Until somebody listens there.  Returns the connection."""
        s = socket.socket(socket.AF_UNIX)

        def connected():
            try:
                s.connect(path)
            except (FileNotFoundError, ConnectionRefusedError):
                return False
            return True
        self.wait_until(p, connected)
        return s

    def stop(self, p, sig=signal.SIGTERM):
        if p in self.procs:
            self.procs.remove(p)
        if p.poll() is None:
            p.send_signal(sig)
            try:
                p.wait(30)
            except subprocess.TimeoutExpired:
                p.kill()
                p.wait()

    def cleanup(self):
        for p in reversed(list(self.procs)):
            self.stop(p)
        for action in reversed(self.undo):
            action()
        self.undo = []
