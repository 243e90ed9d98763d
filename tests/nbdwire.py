# SPDX-FileCopyrightText: The nbdfleece authors
# SPDX-License-Identifier: BSD-3-Clause

"""NBD as bytes: a client that does what a test tells it, right or wrong."""

import socket
import struct

NBDMAGIC = 0x4e42444d41474943
IHAVEOPT = 0x49484156454f5054
REPLY_MAGIC = 0x0003e889045565a9

FIXED_NEWSTYLE, NO_ZEROES = 1, 2

OPT_EXPORT_NAME, OPT_ABORT, OPT_LIST, OPT_PEEK_EXPORT, OPT_STARTTLS, \
    OPT_INFO, OPT_GO, OPT_STRUCTURED_REPLY, OPT_LIST_META_CONTEXT, \
    OPT_SET_META_CONTEXT, OPT_EXTENDED_HEADERS = range(1, 12)

REP_ACK, REP_SERVER, REP_INFO, REP_META_CONTEXT = range(1, 5)
ERR_UNSUP, ERR_POLICY, ERR_INVALID, ERR_PLATFORM, ERR_TLS_REQD, ERR_UNKNOWN, \
    ERR_SHUTDOWN, ERR_BLOCK_SIZE_REQD, ERR_TOO_BIG, ERR_EXT_HEADER_REQD = \
    range(0x80000001, 0x8000000b)

INFO_EXPORT, INFO_NAME, INFO_DESCRIPTION, INFO_BLOCK_SIZE = range(4)

F_HAS_FLAGS, F_READ_ONLY, F_SEND_FLUSH, F_SEND_FUA, F_ROTATIONAL, \
    F_SEND_TRIM, F_SEND_WRITE_ZEROES, F_SEND_DF, F_CAN_MULTI_CONN, \
    F_SEND_RESIZE, F_SEND_CACHE, F_SEND_FAST_ZERO, F_BLOCK_STATUS_PAYLOAD = \
    (1 << n for n in range(13))

REQUEST, EXT_REQUEST = 0x25609513, 0x21e41c71
SIMPLE, STRUCTURED, EXTENDED = 0x67446698, 0x668e33ef, 0x6e8a278c

CMD_READ, CMD_WRITE, CMD_DISC, CMD_FLUSH, CMD_TRIM, CMD_CACHE, \
    CMD_WRITE_ZEROES, CMD_BLOCK_STATUS, CMD_RESIZE = range(9)
FLAG_FUA, FLAG_NO_HOLE, FLAG_DF, FLAG_REQ_ONE, FLAG_FAST_ZERO, \
    FLAG_PAYLOAD_LEN = (1 << n for n in range(6))

T_NONE, T_OFFSET_DATA, T_OFFSET_HOLE = range(3)
T_BLOCK_STATUS, T_BLOCK_STATUS_EXT = 5, 6
T_ERROR, T_ERROR_OFFSET = 0x8001, 0x8002
DONE = 1

EPERM, EIO, ENOMEM, EINVAL, ENOSPC, EOVERFLOW, ENOTSUP, ESHUTDOWN = \
    1, 5, 12, 22, 28, 75, 95, 108


class Closed(Exception):
    """The server ended the connection."""


class Failed(Exception):
    """An error reply: option errors and NBD errors alike, as .error."""

    def __init__(self, error, text=""):
        super().__init__("%#x %s" % (error, text))
        self.error = error
        self.text = text


class Chunk:
    def __init__(self, kind, flags, data):
        self.kind, self.flags, self.data = kind, flags, data


class Wire:
    """One connection.  address: a path, or (host, port)."""

    def __init__(self, address, flags=FIXED_NEWSTYLE | NO_ZEROES, timeout=60):
        family = socket.AF_UNIX if isinstance(address, str) else \
            socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        self.sock = socket.socket(family)
        self.sock.settimeout(timeout)
        self.sock.connect(address)
        self.style = SIMPLE
        self.cookie = 0
        if flags is not None:
            magic, opt, self.handshake_flags = \
                struct.unpack(">QQH", self.read(18))
            assert (magic, opt) == (NBDMAGIC, IHAVEOPT)
            self.send(struct.pack(">I", flags))

    def send(self, data):
        self.sock.sendall(data)

    def read(self, n):
        parts = []
        while n > 0:
            try:
                part = self.sock.recv(min(n, 1 << 20))
            except ConnectionError:
                raise Closed()
            if not part:
                raise Closed()
            parts.append(part)
            n -= len(part)
        return b"".join(parts)

    def ended(self):
        """True once the server has ended the connection; data are dropped."""
        try:
            while self.sock.recv(65536):
                pass
        except ConnectionError:
            pass
        return True

    def close(self):
        self.sock.close()

    # ---- options

    def put_option(self, option, data=b"", length=None, magic=IHAVEOPT):
        length = len(data) if length is None else length
        self.send(struct.pack(">QII", magic, option, length) + data)

    def get_reply(self, option):
        magic, opt, kind, length = struct.unpack(">QIII", self.read(20))
        assert magic == REPLY_MAGIC, hex(magic)
        assert opt == option, (opt, option)
        return kind, self.read(length)

    def option(self, option, data=b"", length=None):
        """Sends an option; all replies before the ACK, as (type, data)."""
        self.put_option(option, data, length)
        replies = []
        while True:
            kind, data = self.get_reply(option)
            if kind == REP_ACK:
                assert data == b""
                return replies
            if kind & 0x80000000:
                raise Failed(kind, data.decode())
            replies.append((kind, data))

    def structured(self):
        self.option(OPT_STRUCTURED_REPLY)
        self.style = STRUCTURED

    def extended(self):
        self.option(OPT_EXTENDED_HEADERS)
        self.style = EXTENDED

    def list(self):
        names = []
        for kind, data in self.option(OPT_LIST):
            assert kind == REP_SERVER
            n = struct.unpack(">I", data[:4])[0]
            names.append((data[4:4 + n].decode(), data[4 + n:].decode()))
        return names

    @staticmethod
    def info_data(name, infos=()):
        name = name.encode() if isinstance(name, str) else name
        return struct.pack(">I", len(name)) + name + \
            struct.pack(">H%dH" % len(infos), len(infos), *infos)

    def info(self, name, infos=(), option=OPT_INFO):
        """What the server tells: a dictionary by info type."""
        result = {}
        for kind, data in self.option(option, self.info_data(name, infos)):
            assert kind == REP_INFO
            what = struct.unpack(">H", data[:2])[0]
            assert what not in result
            data = data[2:]
            if what == INFO_EXPORT:
                result[what] = struct.unpack(">QH", data)
            elif what == INFO_BLOCK_SIZE:
                result[what] = struct.unpack(">III", data)
            else:
                result[what] = data.decode()
        assert INFO_EXPORT in result
        return result

    def go(self, name, infos=()):
        result = self.info(name, infos, OPT_GO)
        self.size, self.flags = result[INFO_EXPORT]
        return result

    def export_name(self, name, zeroes=False):
        self.put_option(OPT_EXPORT_NAME, name.encode())
        self.size, self.flags = struct.unpack(">QH", self.read(10))
        if zeroes:
            assert self.read(124) == bytes(124)

    @staticmethod
    def context_data(name, queries):
        name = name.encode()
        data = struct.pack(">I", len(name)) + name + \
            struct.pack(">I", len(queries))
        for q in queries:
            q = q.encode() if isinstance(q, str) else q
            data += struct.pack(">I", len(q)) + q
        return data

    def contexts(self, option, name, queries=()):
        """[(id, name)]"""
        result = []
        for kind, data in self.option(option,
                                      self.context_data(name, queries)):
            assert kind == REP_META_CONTEXT
            result.append((struct.unpack(">I", data[:4])[0],
                           data[4:].decode()))
        return result

    def list_contexts(self, name, *queries):
        got = self.contexts(OPT_LIST_META_CONTEXT, name, queries)
        assert all(i == 0 for i, _ in got)
        return [n for _, n in got]

    def set_contexts(self, name, *queries):
        got = self.contexts(OPT_SET_META_CONTEXT, name, queries)
        ids = [i for i, _ in got]
        assert len(set(ids)) == len(ids)
        self.ids = {n: i for i, n in got}
        return [n for _, n in got]

    # ---- transmission

    def request(self, cmd, offset=0, length=0, flags=0, data=b"",
                cookie=None, magic=None):
        if cookie is None:
            self.cookie += 1
            cookie = self.cookie
        extended = self.style == EXTENDED
        if magic is None:
            magic = EXT_REQUEST if extended else REQUEST
        self.send(struct.pack(">IHHQQQ" if extended else ">IHHQQI", magic,
                              flags, cmd, cookie, offset, length) + data)
        return cookie

    def chunk(self):
        """One reply message: cookie, Chunk; a simple one has no data yet."""
        magic = struct.unpack(">I", self.read(4))[0]
        if magic == SIMPLE:
            assert self.style != EXTENDED
            error, cookie = struct.unpack(">IQ", self.read(12))
            return cookie, Chunk(SIMPLE, DONE, error)
        assert magic == self.style, (hex(magic), hex(self.style))
        if magic == STRUCTURED:
            flags, kind, cookie, n = struct.unpack(">HHQI", self.read(16))
            return cookie, Chunk(kind, flags, self.read(n))
        flags, kind, cookie, self.reply_offset, n = \
            struct.unpack(">HHQQQ", self.read(28))
        return cookie, Chunk(kind, flags, self.read(n))

    def chunks(self, cookie):
        """All chunks of the one reply that is expected."""
        got = []
        while True:
            c, chunk = self.chunk()
            assert c == cookie, (c, cookie)
            assert not chunk.flags & ~DONE
            got.append(chunk)
            if chunk.flags & DONE:
                return got

    @staticmethod
    def error_of(chunk):
        error, n = struct.unpack(">IH", chunk.data[:6])
        assert error != 0 and len(chunk.data) == 6 + n
        return error, chunk.data[6:].decode()

    def finish(self, cookie):
        """The content chunks of a reply, or Failed."""
        got = self.chunks(cookie)
        if got[0].kind == SIMPLE:
            assert len(got) == 1
            if got[0].data:
                raise Failed(got[0].data)
            return []
        for c in got:
            if c.kind & 0x8000:
                assert c.kind == T_ERROR
                raise Failed(*self.error_of(c))
        if got[-1].kind == T_NONE:
            assert got[-1].data == b""
            got.pop()
        assert all(c.kind != T_NONE for c in got)
        return got

    def read_data(self, offset, length, flags=0):
        cookie = self.request(CMD_READ, offset, length, flags)
        return self.finish_read(cookie, offset, length, flags)

    def finish_read(self, cookie, offset, length, flags=0):
        if self.style == SIMPLE:
            self.finish(cookie)
            return self.read(length)
        buf, seen = bytearray(length), 0
        content = self.finish(cookie)
        assert not flags & FLAG_DF or len(content) <= 1
        for c in content:
            assert c.kind == T_OFFSET_DATA and len(c.data) > 8
            at = struct.unpack(">Q", c.data[:8])[0] - offset
            n = len(c.data) - 8
            assert at >= 0 and at + n <= length
            buf[at:at + n] = c.data[8:]
            seen += n
        assert seen == length, (seen, length)
        return bytes(buf)

    def simple_command(self, cmd, offset=0, length=0, flags=0, data=b""):
        assert self.finish(self.request(cmd, offset, length, flags,
                                        data)) == []

    def status(self, offset, length, flags=0, data=b""):
        """{context id: [(length, flags)]}"""
        cookie = self.request(CMD_BLOCK_STATUS, offset, length, flags, data)
        result = {}
        for c in self.finish(cookie):
            if self.style == EXTENDED:
                assert c.kind == T_BLOCK_STATUS_EXT
                context, n = struct.unpack(">II", c.data[:8])
                rest = c.data[8:]
                assert n > 0 and len(rest) == 16 * n
                extents = list(struct.iter_unpack(">QQ", rest))
            else:
                assert c.kind == T_BLOCK_STATUS
                context = struct.unpack(">I", c.data[:4])[0]
                rest = c.data[4:]
                assert rest and len(rest) % 8 == 0
                extents = list(struct.iter_unpack(">II", rest))
            assert context not in result
            assert all(n > 0 for n, _ in extents)
            result[context] = extents
        return result

    def all_status(self, context, step=None):
        """[(length, flags)] of the whole export, neighbours merged; and how
        many requests it took."""
        at, result, n = 0, [], 0
        while at < self.size:
            ask = min(self.size - at, step or
                      (1 << 63 if self.style == EXTENDED else 0xfffff000))
            n += 1
            for length, flags in self.status(at, ask)[context]:
                if result and result[-1][1] == flags:
                    result[-1] = (result[-1][0] + length, flags)
                else:
                    result.append((length, flags))
                at += length
        assert at == self.size
        return result, n


def expect(error, function, *args, **kwargs):
    """The call must fail with that error."""
    try:
        result = function(*args, **kwargs)
    except Failed as e:
        assert e.error == error, "error %#x, not %#x" % (e.error, error)
        return e.text
    raise AssertionError("succeeded: %r" % (result,))


def expect_closed(wire):
    """The server must have ended the connection without another byte."""
    try:
        data = wire.sock.recv(1)
    except ConnectionError:
        data = b""
    assert data == b"", data
    wire.close()
