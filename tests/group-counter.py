#!/usr/bin/env python3
# SPDX-FileCopyrightText: The nbdfleece authors
# SPDX-License-Identifier: BSD-3-Clause

"""One counter over several disks, and what a cut of it looks like.

    group-counter.py write STOP URI...
        writes n = 1, 2, 3, ... to disk n % D, each when the one before has
        been answered, until the file STOP exists.  Who is disconnected
        connects again and writes the same n once more.  Prints the last n.

    group-counter.py check URI-OR-FILE...
        reads the disks and prints the largest n; fails unless all of them are
        what they were when that was the last n that had been written.

Numbers go round in SLOTS blocks of each disk.  So the largest one says what
every block of every disk has to hold: each number before it had been answered
when it was sent.
"""

import os
import sys
import time

import nbd

BLOCK = 512
STEP = 4096
SLOTS = 64
DEADLINE = 60


def place(n, disks):
    return n % disks, (n // disks) % SLOTS


def connect(uri):
    end = time.monotonic() + DEADLINE
    while True:
        h = nbd.NBD()
        try:
            h.connect_uri(uri)
            return h
        except nbd.Error:
            if time.monotonic() > end:
                raise
            time.sleep(0.01)


def write(stop, uris):
    handles = [connect(u) for u in uris]
    n = again = 0
    while not os.path.exists(stop):
        n += 1
        disk, slot = place(n, len(uris))
        block = n.to_bytes(8, "little") * (BLOCK // 8)
        while True:
            try:
                handles[disk].pwrite(block, slot * STEP)
                break
            except nbd.Error:
                if handles[disk].aio_is_ready():
                    raise
                handles[disk] = connect(uris[disk])
                again += 1
    print(n, again, flush=True)


def read(where):
    if ":" not in where:
        with open(where, "rb") as f:
            return f.read(SLOTS * STEP)
    return connect(where).pread(SLOTS * STEP, 0)


def check(places):
    disks = [read(p) for p in places]
    found = {}
    for i, disk in enumerate(disks):
        for slot in range(SLOTS):
            block = disk[slot * STEP:slot * STEP + BLOCK]
            assert block == block[:8] * (BLOCK // 8), (i, slot, "torn")
            found[i, slot] = int.from_bytes(block[:8], "little")
    last = max(found.values())
    expected = dict.fromkeys(found, 0)
    for n in range(max(1, last - SLOTS * len(disks) + 1), last + 1):
        expected[place(n, len(disks))] = n
    wrong = {p: (found[p], expected[p]) for p in found
             if found[p] != expected[p]}
    if wrong:
        sys.exit("no cut: the last number is %d, but (disk, slot): (is, ought "
                 "to be): %s" % (last, wrong))
    print(last)


if sys.argv[1] == "write":
    write(sys.argv[2], sys.argv[3:])
else:
    check(sys.argv[2:])
