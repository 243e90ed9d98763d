# SPDX-FileCopyrightText: The nbdfleece authors
# SPDX-License-Identifier: BSD-3-Clause

"""What is done to the contenders: fio as the guest, nbdcopy as the reader."""

import json
import os
import signal
import threading
import time

from util import BenchError, run


def parse_fio(text):
    """fio prints what libraries say before its JSON."""
    return json.loads(text[text.index("{"):])["jobs"]


def fio_result(job):
    """Rates, and the latency of completion, of one job."""
    if job["error"]:
        raise BenchError("fio: error %d" % job["error"])
    io = max((job[k] for k in ("read", "write", "trim")),
             key=lambda k: k["total_ios"])
    latency = io["clat_ns"]
    return {"iops": io["iops"], "bytes": io["bw_bytes"],
            "mean": latency["mean"] / 1e9,
            "p99": latency.get("percentile", {}).get("99.000000", 0) / 1e9}


def fio_file(jobs, common):
    """A job file: jobs one after the other, each with its own settings."""
    common = {"ioengine": "nbd", "thread": 1, "randrepeat": 0, **common}
    lines = ["[global]"]
    lines += ["%s=%s" % kv for kv in common.items()]
    for i, job in enumerate(jobs):
        lines += ["[job%d]" % i, "stonewall=1"]
        lines += ["%s=%s" % kv for kv in job.items()]
    return "\n".join(lines) + "\n"


def fio(work, jobs, **common):
    """Runs jobs one after the other in one fio; a result for each."""
    path = work.path("fio")
    with open(path, "w", encoding="utf-8") as f:
        f.write(fio_file(jobs, common))
    return [fio_result(j) for j in
            parse_fio(run(["fio", "--output-format=json", path]))]


def guest(work, uri, seconds, **settings):
    """One fio job for so long."""
    return fio(work, [dict(uri=uri, time_based=1,
                           runtime="%dms" % (seconds * 1000), **settings)])[0]


def touch_seconds(work, disk, scratch, size, number, **settings):
    """Seconds of what one first touch has to do, without a server: to read 4k
    of the disk and to write it into a new file."""
    with open(scratch, "wb") as f:
        f.truncate(size)
    jobs = fio(work, [dict(filename=disk, rw="randread"),
                      dict(filename=scratch, rw="randwrite", fallocate="none")],
               ioengine="psync", bs="4k", size=size, number_ios=number,
               **settings)
    os.unlink(scratch)
    return sum(1 / job["iops"] for job in jobs)


class Background:
    """A guest that writes until the end of the block."""

    def __init__(self, work, uri, size, job):
        self.begin = work.path("begun")
        path = work.path("fio")
        with open(path, "w", encoding="utf-8") as f:
            f.write(fio_file([dict(uri=uri, **job)], dict(
                size=size, time_based=1, runtime="1h", norandommap=1,
                exec_prerun="touch " + self.begin)))
        self.work = work
        self.p = work.start(["fio", path])

    def __enter__(self):
        self.work.wait_until(self.p, lambda: os.path.exists(self.begin))
        time.sleep(0.1)

    def __exit__(self, *exc):
        self.work.stop(self.p, signal.SIGINT)
        # fio ends with 128 when it is told to.
        if self.p.returncode not in (0, 128) and not exc[0]:
            with open(self.p.log, encoding="utf-8") as f:
                raise BenchError("fio: " + f.read()[-2000:])


class Pulling:
    """nbdcopy reads the URI, over and over, until the end of the block."""

    # The last one is let finish: a client that dies with requests in flight
    # may take an nbdkit with it.

    def __init__(self, uri):
        self.argv = ["nbdcopy", uri, "null:"]
        self.end = False
        self.error = None
        self.thread = threading.Thread(target=self.loop)

    def loop(self):
        while not self.end:
            try:
                run(self.argv)
            except BenchError as e:
                self.error = e
                return

    def __enter__(self):
        self.thread.start()
        time.sleep(0.1)         # it connects and begins

    def __exit__(self, *exc):
        self.end = True
        self.thread.join()
        if self.error and not exc[0]:
            raise self.error
