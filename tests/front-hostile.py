# SPDX-FileCopyrightText: The nbdfleece authors
# SPDX-License-Identifier: BSD-3-Clause

"""For test-front-hostile.sh: clients that mean no good.

Arguments: socket, TCP port with TLS allowed, pid of the front, pid of the
backend, how many connections.
"""

import os
import random
import socket
import struct
import sys
import time

from nbdwire import *

path, port, front, backend, count = sys.argv[1], int(sys.argv[2]), \
    int(sys.argv[3]), int(sys.argv[4]), int(sys.argv[5])
seed = int(os.environ.get("NBDFLEECE_SEED") or random.randrange(1 << 32))
print("NBDFLEECE_SEED=%d" % seed, file=sys.stderr)
rnd = random.Random(seed)
ALL = ("base:allocation", "qemu:allocation-depth", "qemu:dirty-bitmap:cp1")


def connect(flags=FIXED_NEWSTYLE | NO_ZEROES):
    where = path if rnd.randrange(4) else ("127.0.0.1", port)
    return Wire(where, flags)


def ready(contexts=True):
    """In the transmission phase."""
    w = Wire(path)
    rnd.choice((lambda: None, w.structured, w.extended))()
    if contexts and w.style != SIMPLE:
        w.set_contexts("vda@s", *ALL)
    w.go("vda@s")
    return w


def pour(w, function, times):
    """As often as the server takes it; it stops when it is owed a lot."""
    w.sock.settimeout(0.1)
    try:
        for i in range(times):
            function()
    except TimeoutError:
        pass


def nothing():
    return connect(None)


def silent():
    w = connect(None)
    w.send(struct.pack(">I", 3)[:rnd.randrange(5)])
    return w


def bad_flags():
    return connect(rnd.randrange(4, 1 << 32))


def garbage():
    w = connect()
    w.send(rnd.randbytes(rnd.randrange(1, 3000)))
    return w


def half_garbage():
    w = connect()
    for i in range(rnd.randrange(1, 20)):
        n = rnd.randrange(200)
        w.put_option(rnd.choice((rnd.randrange(15), rnd.randrange(1 << 32))),
                     rnd.randbytes(n), rnd.choice((n, n, n, n + 1, 0)))
    return w


def absurd_length():
    w = connect()
    w.put_option(rnd.randrange(1, 12), b"", rnd.choice(
        (65537, 1 << 20, (1 << 20) + 1, 0x7fffffff, 0xffffffff)))
    w.send(bytes(rnd.randrange(100000)))
    return w


def flood_of_lists():
    w = connect()
    pour(w, lambda: w.put_option(OPT_LIST), 200)
    return w


def contexts():
    w = connect()
    w.put_option(OPT_STRUCTURED_REPLY)
    for i in range(20):
        data = bytearray(w.context_data("vda@s", [rnd.randbytes(
            rnd.randrange(40)) for q in range(rnd.randrange(30))]))
        for j in range(rnd.randrange(3)):
            data[rnd.randrange(len(data))] = rnd.randrange(256)
        w.put_option(rnd.choice((OPT_SET_META_CONTEXT,
                                 OPT_LIST_META_CONTEXT)), bytes(data))
    return w


def unknown_export():
    w = connect()
    w.put_option(OPT_EXPORT_NAME, rnd.choice((b"", b"vda@x", b"\0" * 100,
                                              b"vda@s\0")))
    return w


def tls_garbage():
    w = Wire(("127.0.0.1", port))
    w.put_option(OPT_STARTTLS)
    w.get_reply(OPT_STARTTLS)
    w.send(rnd.choice((b"", b"\x16\x03\x01\x02\x00\x01", b"")) +
           rnd.randbytes(rnd.randrange(1000)))
    return w


def bad_requests():
    w = ready()
    for i in range(rnd.randrange(1, 100)):
        w.request(rnd.randrange(10), rnd.choice((0, 1 << 40, 1 << 63)),
                  rnd.choice((0, 1, 4096, 0xffffffff)),
                  rnd.choice((0, 0, 0, 8, rnd.randrange(32))),
                  cookie=rnd.randrange(3))
    return w


def request_garbage():
    w = ready()
    w.send(rnd.randbytes(rnd.randrange(1, 1000)))
    return w


def option_after_go():
    w = ready()
    w.put_option(OPT_LIST, bytes(100))
    return w


def greedy():
    """Asks for much, and reads none or little of it."""
    w = ready()
    pour(w, lambda: w.request(CMD_READ, rnd.randrange(1 << 20), rnd.choice(
        (512, 100000, 3 << 20)), cookie=7), rnd.randrange(1, 100))
    if rnd.randrange(2):
        w.sock.recv(rnd.randrange(1, 100000))
    return w


def status_greedy():
    w = ready()
    pour(w, lambda: w.request(CMD_BLOCK_STATUS, 0, 8 << 20,
                              rnd.choice((0, 8))), rnd.randrange(1, 100))
    return w


def half_a_write():
    w = ready()
    pour(w, lambda: w.request(
        CMD_WRITE, 0, 1 << 20, FLAG_PAYLOAD_LEN if w.style == EXTENDED else 0,
        bytes(rnd.randrange(1 << 20))), 1)
    return w


def half_a_request():
    w = ready()
    w.send(struct.pack(">IHHQQI", REQUEST, 0, 0, 1, 0, 512)
           [:rnd.randrange(28)])
    return w


kinds = [nothing, silent, bad_flags, garbage, half_garbage, absurd_length,
         flood_of_lists, contexts, unknown_export, tls_garbage, bad_requests,
         request_garbage, option_after_go, greedy, status_greedy,
         half_a_write, half_a_request]


def descriptors(pid):
    return len(os.listdir("/proc/%d/fd" % pid))


def resident(pid):
    """KiB."""
    with open("/proc/%d/status" % pid) as f:
        for line in f:
            if line.startswith("VmRSS"):
                return int(line.split()[1])


def settle(fds):
    """Waits until front and backend hold so many descriptors again."""
    deadline = time.monotonic() + 60
    while (descriptors(front), descriptors(backend)) != fds:
        assert time.monotonic() < deadline, \
            (descriptors(front), descriptors(backend), fds)
        time.sleep(0.05)


def attack(n):
    still_open = []
    for i in range(n):
        try:
            w = rnd.choice(kinds)()
        except (ConnectionError, Closed, Failed):
            continue
        if rnd.randrange(3) == 0:       # a reset instead of an end
            w.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER,
                              struct.pack("ii", 1, 0))
        still_open.append(w)
        if len(still_open) > 60:
            still_open.pop(rnd.randrange(60)).close()
    for w in still_open:
        w.close()


fds = descriptors(front), descriptors(backend)
attack(count // 10)
settle(fds)
before = resident(front)
attack(count - count // 10)
settle(fds)
after = resident(front)
print("%d connections; %d and %d descriptors; %d KiB, then %d KiB" %
      (count, *fds, before, after), file=sys.stderr)
# A sanitizer keeps what was freed.
assert after < before + 8192 or \
    os.environ.get("NBDFLEECE_SANITIZER", "no") != "no", (before, after)
