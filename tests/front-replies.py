# SPDX-FileCopyrightText: The nbdfleece authors
# SPDX-License-Identifier: BSD-3-Clause

"""For test-front-replies.sh: requests and replies, in every style.

Arguments: socket, disk as it was.  Of the snapshot, clusters of 64 KiB, cluster
LOST is lost, RELEASED released; what COPIED says is in the scratch; DIRTY has
changed since checkpoint cp1.
"""

import os
import random
import struct
import sys

from nbdwire import *

path = sys.argv[1]
disk = open(sys.argv[2], "rb").read()
SIZE = len(disk)
CLUSTER = 65536
MAX = 64 << 20
LOST, RELEASED = 1000, 1010
COPIED = [(5, 8), (100, 101)]
DIRTY = [(3, 4), (50, 60), (1000, 1001)]
seed = int(os.environ.get("NBDFLEECE_SEED") or random.randrange(1 << 32))
print("NBDFLEECE_SEED=%d" % seed, file=sys.stderr)
rnd = random.Random(seed)
FIRST_BAD = LOST * CLUSTER      # from here on not all can be read
ALL = ["base:allocation", "qemu:allocation-depth", "qemu:dirty-bitmap:cp1"]


def wire(style, *contexts):
    w = Wire(path)
    if style == STRUCTURED:
        w.structured()
    elif style == EXTENDED:
        w.extended()
    if contexts:
        assert w.set_contexts("vda@s", *contexts) == list(contexts)
    w.go("vda@s")
    assert w.size == SIZE
    return w


def some_range(limit=300000):
    n = rnd.choice((1, 511, 512, 4096, 65536, rnd.randrange(1, limit)))
    return rnd.randrange(FIRST_BAD - n), n


def test_reads(style):
    w = wire(style)
    df = FLAG_DF if style != SIMPLE else 0
    for i in range(300):
        offset, n = some_range()
        flags = rnd.choice((0, df))
        assert w.read_data(offset, n, flags) == disk[offset:offset + n]
        if style == EXTENDED:
            assert w.reply_offset == offset
    # More than a piece, aligned and not, fragmented and not; the longest.
    for n in ((1 << 20) - 1, 1 << 20, (1 << 20) + 1, 3 << 20, 7654321):
        for offset in (0, 12345, FIRST_BAD - n):
            for flags in {0, df}:
                assert w.read_data(offset, n, flags) == \
                    disk[offset:offset + n], (offset, n)
    # The end of the disk.
    assert w.read_data(SIZE - 1, 1) == disk[-1:]
    assert w.read_data(SIZE - 5000, 5000) == disk[-5000:]
    # Nothing: success, and not a byte.
    w.simple_command(CMD_READ, 0, 0)
    w.simple_command(CMD_READ, SIZE, 0)


def test_many_reads(style):
    """Many at once, of all lengths; replies in any order, chunks mixed."""
    w = wire(style)
    for round in range(20):
        todo = {}
        for i in range(rnd.randrange(1, 64)):
            offset, n = some_range(3 << 20 if i % 16 == 0 else 20000)
            # Cookies are the client's: any value, not in order.
            cookie = rnd.randrange(1 << 64)
            todo[cookie] = [offset, n, bytearray(n), 0]
            w.request(CMD_READ, offset, n, cookie=cookie)
        while todo:
            cookie, c = w.chunk()
            offset, n, buf, seen = todo[cookie]
            if style == SIMPLE:
                assert c.kind == SIMPLE and c.data == 0
                buf[:] = w.read(n)
                seen = n
            elif c.kind == T_OFFSET_DATA:
                at = struct.unpack(">Q", c.data[:8])[0] - offset
                buf[at:at + len(c.data) - 8] = c.data[8:]
                seen += len(c.data) - 8
            else:
                assert c.kind == T_NONE and c.flags == DONE
            todo[cookie][3] = seen
            if c.flags & DONE:
                assert seen == n and buf == disk[offset:offset + n]
                del todo[cookie]
    # The same cookie twice is allowed to go wrong for the client alone.
    for i in range(2):
        w.request(CMD_READ, 4096 * i, 4096, cookie=42)
    got = []
    for i in range(2):
        cookie, c = w.chunk()
        assert cookie == 42
        got.append(w.read(4096) if style == SIMPLE else c.data[8:])
    assert sorted(got) == sorted((disk[:4096], disk[4096:8192]))


def test_refusals(style):
    w = wire(style)
    too_long = EINVAL if style == SIMPLE else EOVERFLOW
    for offset, n in ((SIZE, 1), (SIZE + 1, 0), (SIZE - 1, 2), (1 << 63, 1),
                      ((1 << 64) - 1, 1), ((1 << 64) - 1, 2),
                      (0, min(SIZE + 1, 0xffffffff))):
        expect(EINVAL, w.simple_command, CMD_READ, offset, n)
        expect(EINVAL, w.simple_command, CMD_CACHE, offset, n)
    expect(too_long, w.simple_command, CMD_READ, 0, MAX + 1)
    if style == EXTENDED:
        for n in (SIZE + 1, 1 << 32, 1 << 40, (1 << 64) - 1):
            expect(EINVAL, w.simple_command, CMD_READ, 0, n)
    for flags in (FLAG_FUA, FLAG_NO_HOLE, FLAG_REQ_ONE, FLAG_FAST_ZERO,
                  1 << 6, 1 << 15, 0xffff & ~FLAG_PAYLOAD_LEN):
        expect(EINVAL, w.simple_command, CMD_READ, 0, 512, flags)
        expect(EINVAL, w.simple_command, CMD_CACHE, 0, 512, flags)
    if style == SIMPLE:
        expect(EINVAL, w.simple_command, CMD_READ, 0, 512, FLAG_DF)
    # Nothing is written, whatever the range and flags; its data are passed
    # over.
    payload = FLAG_PAYLOAD_LEN if style == EXTENDED else 0
    for n in (0, 1, 512, 65536, 3000000):
        for offset in (0, 4096, SIZE):
            expect(EPERM, w.simple_command, CMD_WRITE, offset, n,
                   payload | rnd.choice((0, FLAG_FUA)), bytes(n))
        expect(EPERM, w.simple_command, CMD_WRITE_ZEROES, 0, n)
        expect(EPERM, w.simple_command, CMD_TRIM, 0, n)
    expect(EPERM, w.simple_command, CMD_WRITE_ZEROES, 0, SIZE, FLAG_NO_HOLE)
    # Commands that are not there.
    for cmd in (CMD_FLUSH, CMD_RESIZE, 9, 0x8000, 0xffff):
        expect(EINVAL, w.simple_command, cmd)
        expect(EINVAL, w.simple_command, cmd, 0, 512)
    # Hints.
    w.simple_command(CMD_CACHE, 0, 100000)
    w.simple_command(CMD_CACHE, SIZE - 1, 1)
    w.simple_command(CMD_CACHE, 0, 0)
    # Nobody asked for block status.
    expect(EINVAL, w.simple_command, CMD_BLOCK_STATUS, 0, 4096)
    if style == EXTENDED:
        # Payload where there may be none is passed over, too.
        for cmd in (CMD_READ, CMD_CACHE, CMD_BLOCK_STATUS, CMD_FLUSH, 77):
            expect(EINVAL, w.simple_command, cmd, 0, 5000, FLAG_PAYLOAD_LEN,
                   bytes(5000))
        expect(EPERM, w.simple_command, CMD_WRITE, 0, 0)
    assert w.read_data(0, 512) == disk[:512]

    # What is no request ends the connection.
    other = {SIMPLE: EXT_REQUEST, STRUCTURED: EXT_REQUEST, EXTENDED: REQUEST}
    for magic in (0, other[style], 0x25609514, 0xffffffff):
        w = wire(style)
        w.request(CMD_READ, 0, 512, magic=magic, data=bytes(8))
        expect_closed(w)
    for n in (MAX + 1, 0xffffffff):
        w = wire(style)
        w.request(CMD_WRITE, 0, n, payload)
        expect_closed(w)


def test_errors(style):
    """Clusters that cannot be read: their error, and the rest can be."""
    w = wire(style)
    lost, released = LOST * CLUSTER, RELEASED * CLUSTER
    text = expect(EIO, w.read_data, lost, 1)
    assert style == SIMPLE or "cannot be read" in text
    text = expect(EPERM, w.read_data, released + 5, 10)
    assert style == SIMPLE or "released" in text
    expect(EIO, w.read_data, lost - 100, 200)
    # A long one fails in its second piece or later.
    n = 4 << 20
    if style == SIMPLE:
        try:
            w.read_data(lost - n // 2 - 17, n)
        except Closed:
            w = wire(style)
        else:
            raise AssertionError("a broken read succeeded")
    else:
        expect(EIO, w.read_data, lost - n // 2 - 17, n)
        # In one chunk: it is completed with zeroes, then the error.
        cookie = w.request(CMD_READ, lost - n // 2, n, FLAG_DF)
        data, error = w.chunks(cookie)
        assert data.kind == T_OFFSET_DATA and data.flags == 0
        assert len(data.data) == 8 + n
        assert data.data[8:8 + n // 2] == disk[lost - n // 2:lost]
        assert not any(data.data[8 + n // 2 + CLUSTER:])
        assert error.kind == T_ERROR and w.error_of(error)[0] == EIO
        # It fails in its first piece: no data.
        cookie = w.request(CMD_READ, lost - 5, n, FLAG_DF)
        error, = w.chunks(cookie)
        assert w.error_of(error)[0] == EIO
    assert w.read_data(lost - 1000, 1000) == disk[lost - 1000:lost]
    at = (LOST + 1) * CLUSTER
    assert w.read_data(at, 1000) == disk[at:at + 1000]


def model(ranges, yes, no, start, end):
    """[(length, flags)] of clusters in ranges, from start to end."""
    result, at = [], start
    for first, last in ranges:
        a, b = max(first * CLUSTER, start), min(last * CLUSTER, end)
        if a >= b:
            continue
        if a > at:
            result.append((a - at, no))
        result.append((b - a, yes))
        at = b
    if at < end:
        result.append((end - at, no))
    return result


def test_status(style):
    w = wire(style, *ALL)
    base, depth, dirty = (w.ids[n] for n in ALL)

    def check(offset, n):
        got = w.status(offset, n)
        assert set(got) == {base, depth, dirty}
        assert got[depth] == model(COPIED, 1, 2, offset, offset + n), got
        assert got[dirty] == model(DIRTY, 1, 0, offset, offset + n), got
        assert sum(length for length, _ in got[base]) == n
        for extents in got.values():
            for a, b in zip(extents, extents[1:]):
                assert a[1] != b[1]     # merged
        one = w.status(offset, n, FLAG_REQ_ONE)
        for context in got:
            assert len(one[context]) == 1
            assert one[context][0] == got[context][0]

    check(0, SIZE)
    check(SIZE - 1, 1)
    for i in range(100):
        check(*some_range(rnd.choice((100, 10000, SIZE // 2))))
    # Several at once.
    cookies = [w.request(CMD_BLOCK_STATUS, 65536 * i, 65536)
               for i in range(20)]
    order = []
    while len(order) < 20:
        cookie, c = w.chunk()
        if c.flags & DONE:
            order.append(cookie)
    assert sorted(order) == cookies

    for offset, n in ((0, 0), (SIZE, 0), (SIZE, 1), (SIZE - 1, 2),
                      (1 << 63, 1), (0, min(SIZE + 1, 0xffffffff))):
        expect(EINVAL, w.status, offset, n)
    for flags in (FLAG_FUA, FLAG_DF, FLAG_NO_HOLE, 1 << 7):
        expect(EINVAL, w.status, 0, 4096, flags)

    # The order of the server's choice, each context once.
    w = wire(style, ALL[2])
    assert set(w.status(0, SIZE)) == {w.ids[ALL[2]]}
    w = wire(style, ALL[1], ALL[2])
    got = w.status(0, SIZE)
    assert set(got) == set(w.ids.values())
    assert got[w.ids[ALL[2]]] == model(DIRTY, 1, 0, 0, SIZE)


def test_status_payload():
    """Extended headers: the client may ask for some of its contexts."""
    w = wire(EXTENDED, *ALL)
    ids = list(w.ids.values())

    def ask(length, *contexts, payload=None):
        data = struct.pack(">Q%dI" % len(contexts), length, *contexts)
        return w.status(0, len(data) if payload is None else payload,
                        FLAG_PAYLOAD_LEN, data)

    for some in ([ids[1]], [ids[2], ids[0]], ids):
        got = ask(SIZE, *some)
        assert set(got) == set(some)
        assert all(sum(n for n, _ in e) == SIZE for e in got.values())
    data = struct.pack(">QI", SIZE, ids[2])
    got = w.status(0, len(data), FLAG_PAYLOAD_LEN | FLAG_REQ_ONE, data)
    assert got == {ids[2]: model(DIRTY, 1, 0, 0, SIZE)[:1]}
    expect(EINVAL, ask, SIZE)                           # none
    expect(EINVAL, ask, SIZE, ids[0], ids[0])           # twice
    expect(EINVAL, ask, SIZE, ids[0], 4711)             # unknown
    expect(EINVAL, ask, SIZE + 1, ids[0])
    expect(EINVAL, ask, 0, ids[0])
    expect(EINVAL, ask, SIZE, *([ids[0]] * 100))
    for data in (b"", b"x", bytes(7), bytes(11), bytes(9000)):
        expect(EINVAL, w.status, 0, len(data), FLAG_PAYLOAD_LEN, data)
    assert set(ask(SIZE, ids[1])) == {ids[1]}
    # It comes byte by byte.
    data = struct.pack(">QI", SIZE, ids[1])
    request = struct.pack(">IHHQQQ", EXT_REQUEST, FLAG_PAYLOAD_LEN,
                          CMD_BLOCK_STATUS, 7, 0, len(data)) + data
    for byte in request:
        w.send(bytes([byte]))
    assert w.chunks(7)[0].kind == T_BLOCK_STATUS_EXT
    # Without contexts there is nothing to choose from.
    w = wire(EXTENDED)
    expect(EINVAL, ask, SIZE, 1)


def test_end(style):
    """What was asked for before the end is answered, then it is the end."""
    for end in ("disc", "eof"):
        w = wire(style)
        for i in range(40):
            w.request(CMD_READ, i * 100000, 100000, cookie=i)
        if end == "disc":
            w.request(CMD_DISC)
        else:
            w.sock.shutdown(1)
        left = set(range(40))
        while left:
            cookie, c = w.chunk()
            if style == SIMPLE:
                assert w.read(100000) == disk[cookie * 100000:][:100000]
            if c.flags & DONE:
                left.remove(cookie)
        expect_closed(w)
    # Requests after DISC are nobody's.
    w = wire(style)
    w.request(CMD_DISC)
    try:
        w.request(CMD_READ, 0, 512)
    except ConnectionError:
        pass
    assert w.ended()
    # A request that is cut off by the end is none.
    w = wire(style)
    w.send(struct.pack(">I", EXT_REQUEST if style == EXTENDED else REQUEST))
    w.sock.shutdown(1)
    expect_closed(w)


for style in (SIMPLE, STRUCTURED, EXTENDED):
    test_reads(style)
    test_many_reads(style)
    test_refusals(style)
    test_errors(style)
    if style != SIMPLE:
        test_status(style)
    test_end(style)
test_status_payload()
