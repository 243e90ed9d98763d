# SPDX-FileCopyrightText: The nbdfleece authors
# SPDX-License-Identifier: BSD-3-Clause

"""A disk's guests, and what the disk may hold at an instant.

The model knows each block of the disk.  A writer writes down what it is about
to do, does it, and writes down that it is done; each has blocks of its own, so
writers never meet.  What a server that was killed has done of a request is read
from the disk afterwards.

An instant is somewhere between the moment it is asked for and the reply.  What
the disk may be then, block by block, is what it was at first, or what any
request under way in that time makes of it (Window).

A Tracker is what somebody would know who saw every write since an instant:
`must', the blocks that have certainly changed or been written since, and `may',
those that have been asked to.  Tracking has to have all of the first; what it
has beyond is its over-count.
"""

import threading
import time

import nbd

BLOCK = 4096


class Wrong(Exception):
    """What the oracle is there to find."""


def digest(block):
    return "zeroes" if not block.strip(b"\0") else block[:4].hex()


class Window:
    """What the disk may be at an instant."""

    def __init__(self, disk):
        self.base = list(disk.blocks)
        self.others = {}
        for change in disk.under_way.values():
            self.note(change)

    def note(self, change):
        for block, new in change:
            self.others.setdefault(block, set()).add(new)

    def check(self, data, what):
        """data is to be the disk at the instant."""
        size = sum(map(len, self.base))
        if len(data) < size or data[size:].strip(b"\0"):
            raise Wrong(f"{what}: {len(data)} bytes, not {size}")
        at = 0
        for i, old in enumerate(self.base):
            got = data[at:at + len(old)]
            at += len(old)
            if got != old and got not in self.others.get(i, ()):
                raise Wrong(f"{what}: block {i} is not what it may be: "
                            f"{digest(got)}, not {digest(old)}" + "".join(
                                f" or {digest(o)}" for o in
                                self.others.get(i, ())))


class Tracker:
    def __init__(self):
        self.must, self.may = set(), set()


class Disk:
    """An export as its guests use it, and the model of it."""

    def __init__(self, name, uri, data, durable):
        self.name, self.uri = name, uri
        # What a server that can be killed keeps in memory is lost with it,
        # unless each request is flushed.
        self.flags = nbd.CMD_FLAG_FUA if durable else 0
        self.lock = threading.Lock()
        self.blocks = [data[i:i + BLOCK] for i in range(0, len(data), BLOCK)]
        self.under_way = {}         # writer: [(block, new content)]
        self.windows = set()
        self.trackers = set()
        self.ready = set()          # those whose instant has passed
        self.running = threading.Event()
        self.ended = False
        self.error = None
        self.writes = self.again = 0
        self.threads = []

    def size(self):
        return sum(map(len, self.blocks))

    def start(self, nr, rng):
        self.running.set()
        self.nr = nr
        for i in range(nr):
            t = threading.Thread(target=self.write_on, daemon=True,
                                 args=(i, type(rng)(rng.random())))
            self.threads.append(t)
            t.start()

    def end(self):
        self.ended = True
        self.running.set()
        for t in self.threads:
            t.join(120)

    def settle(self):
        """Returns when no request is under way, and none will be."""
        self.running.clear()
        end = time.monotonic() + 120
        while self.error is None:
            with self.lock:
                if not self.under_way:
                    return
            if time.monotonic() > end:
                raise Wrong(f"{self.name}: a guest's request hangs")
            time.sleep(0.002)
        raise Wrong(self.error)

    def go_on(self):
        self.running.set()

    def open_window(self, tracker=None):
        with self.lock:
            window = Window(self)
            self.windows.add(window)
            if tracker:
                for change in self.under_way.values():
                    tracker.may.update(b for b, _ in change)
                self.trackers.add(tracker)
        return window

    def close_window(self, window, tracker=None):
        with self.lock:
            self.windows.discard(window)
            if tracker:
                self.ready.add(tracker)

    def forget(self, tracker):
        with self.lock:
            self.trackers.discard(tracker)
            self.ready.discard(tracker)

    # ------------------------------------------------------------- writers

    def connect(self):
        end = time.monotonic() + 120
        while True:
            h = nbd.NBD()
            try:
                h.connect_uri(self.uri)
                return h
            except nbd.Error:
                if time.monotonic() > end:
                    raise
                time.sleep(0.01)

    def write_on(self, me, rng):
        try:
            h = self.connect()
            while not self.ended:
                if not self.running.wait(1) or self.ended:
                    continue
                h = self.change_something(h, me, rng)
                time.sleep(rng.random() * 0.004)
        except Exception as e:      # for the main thread
            self.error = f"{self.name}: guest {me}: {e!r}"

    def choose(self, me, rng):
        """A request: its kind, offset and data."""
        per = len(self.blocks) // self.nr
        first, count = me * per, per if me < self.nr - 1 \
            else len(self.blocks) - me * per
        block = first + min(rng.randrange(count), rng.randrange(count))
        n = min(rng.choice((1, 1, 1, 2, 5, 16)), first + count - block)
        start = block * BLOCK
        end = min((block + n) * BLOCK, self.size())
        if rng.random() < 0.3:      # not whole blocks
            start += rng.randrange(min(BLOCK, end - start)) & ~511
            end -= rng.randrange(max(1, min(BLOCK, end - start))) & ~511
        kind = rng.choice(("write", "write", "write", "zero", "trim"))
        return kind, start, rng.randbytes(end - start) if kind == "write" \
            else bytes(end - start)

    def change_of(self, start, data):
        """[(block, new content)] of a request."""
        change, end = [], start + len(data)
        for block in range(start // BLOCK, (end + BLOCK - 1) // BLOCK):
            old, at = self.blocks[block], block * BLOCK
            a, b = max(start - at, 0), min(end - at, len(old))
            new = old[:a] + data[at + a - start:at + b - start] + old[b:]
            change.append((block, new))
        return change

    def change_something(self, h, me, rng):
        kind, start, data = self.choose(me, rng)
        if not data:
            return h
        with self.lock:
            if not self.running.is_set():
                return h
            change = self.change_of(start, data)
            since = list(self.ready)
            self.under_way[me] = change
            for window in self.windows:
                window.note(change)
            for tracker in self.trackers:
                tracker.may.update(b for b, _ in change)
        try:
            if kind == "write":
                h.pwrite(data, start, self.flags)
            elif kind == "zero":
                h.zero(len(data), start, self.flags)
            else:
                h.trim(len(data), start, self.flags)
            if kind == "trim":      # which may or may not have done anything
                change = self.look(h, change)
            certain = True
        except nbd.Error:
            self.again += 1
            while True:
                try:
                    h = self.connect()
                    if self.flags:
                        h.flush()
                    change = self.look(h, change)
                    break
                except nbd.Error:
                    pass
            certain = False
        self.done(me, change, since, certain)
        return h

    def look(self, h, change):
        at = change[0][0] * BLOCK
        data = bytes(h.pread(sum(len(new) for _, new in change), at))
        return [(b, data[b * BLOCK - at:b * BLOCK - at + len(new)])
                for b, new in change]

    def done(self, me, change, since, certain):
        with self.lock:
            for window in self.windows:
                window.note(change)
            for tracker in since:
                if tracker in self.ready:
                    tracker.must.update(b for b, new in change if certain
                                        or new != self.blocks[b])
            for block, new in change:
                self.blocks[block] = new
            del self.under_way[me]
            self.writes += 1
