# SPDX-FileCopyrightText: The nbdfleece authors
# SPDX-License-Identifier: BSD-3-Clause

"""For test-front-handshake.sh: the handshake.  Arguments: socket, disk."""

import struct, sys
from nbdwire import *

path = sys.argv[1]
disk = open(sys.argv[2], "rb").read()
SIZE = len(disk)
RO = F_HAS_FLAGS | F_READ_ONLY | F_CAN_MULTI_CONN | F_SEND_CACHE

def wire(*args):
    return Wire(path, *args)

# ---- the first bytes, and the client's flags
w = wire(None)
assert w.read(18) == struct.pack(">QQH", NBDMAGIC, IHAVEOPT, 3)
w.close()
for flags in (4, 1 << 31, 0xffffffff, 7):
    expect_closed(wire(flags))

# ---- without fixed newstyle only EXPORT_NAME is an option
for option in (OPT_LIST, OPT_ABORT, OPT_GO, 77):
    w = wire(0)
    w.put_option(option)
    expect_closed(w)
w = wire(0)
w.export_name("vda@monday", zeroes=True)
assert w.read_data(0, 1000) == disk[:1000]

# ---- EXPORT_NAME: size, flags, zeroes unless agreed otherwise
for flags, zeroes in ((1, True), (3, False), (2, False), (0, True)):
    w = wire(flags)
    w.export_name("vda@monday", zeroes)
    assert (w.size, w.flags) == (SIZE, RO), w.flags
    assert w.read_data(SIZE - 10, 10) == disk[-10:]
    w.request(CMD_DISC)
    expect_closed(w)
w = wire()
w.structured()
w.export_name("vda@monday")
assert w.flags == RO | F_SEND_DF
assert w.read_data(5, 10) == disk[5:15]
for name in ("", "vda", "vda@", "vda@wednesday", "vdb@later", "../x@monday",
             "vda@monday\0", "x" * 5000):
    w = wire()
    w.put_option(OPT_EXPORT_NAME, name.encode())
    expect_closed(w)

# ---- what is no option ends the connection; options not known do not
w = wire()
w.put_option(OPT_LIST, magic=IHAVEOPT ^ 1)
expect_closed(w)
w = wire()
for option in (0, OPT_PEEK_EXPORT, 12, 1000, 0xffffffff):
    expect(ERR_UNSUP, w.option, option)
    expect(ERR_UNSUP, w.option, option, b"data that nobody needs")
assert len(w.list()) == 3
w.put_option(OPT_EXPORT_NAME, b"vda@monday", magic=IHAVEOPT)
w.read(10)
# An option after the handshake is no request.
w.put_option(OPT_LIST, bytes(12))
expect_closed(w)

# ---- LIST
w = wire()
got = w.list()
assert [n for n, _ in got] == ["vda@monday", "vda@tuesday", "vdb@monday"], got
assert all(text.startswith(name + " as of 20") for name, text in got)
expect(ERR_INVALID, w.option, OPT_LIST, b"x")
assert w.list() == got

# ---- ABORT, with data, too
for data in (b"", b"farewell"):
    w = wire()
    assert w.option(OPT_ABORT, data) == []
    expect_closed(w)

# ---- STARTTLS: not here
w = wire()
expect(ERR_POLICY, w.option, OPT_STARTTLS)
expect(ERR_INVALID, w.option, OPT_STARTTLS, b"x")

# ---- INFO: what is asked for, and always INFO_EXPORT
w = wire()
info = w.info("vda@tuesday")
assert info == {INFO_EXPORT: (SIZE, RO)}, info
info = w.info("vda@tuesday", (INFO_NAME, INFO_DESCRIPTION, INFO_BLOCK_SIZE,
                              77, INFO_EXPORT))
assert info[INFO_NAME] == "vda@tuesday"
assert info[INFO_DESCRIPTION].startswith("vda@tuesday as of 20")
assert info[INFO_BLOCK_SIZE] == (1, 65536, 64 << 20)
assert set(info) == set(range(4))
assert w.info("vda@tuesday", (INFO_BLOCK_SIZE,))[INFO_BLOCK_SIZE][1] == 65536
assert w.info("vda@monday", (INFO_BLOCK_SIZE,))[INFO_BLOCK_SIZE][1] == 4096
for name in ("", "vda", "vda@", "@monday", "vda@wednesday", "vdc@monday",
             "vdb@later", "vda@monday/", "vda@../monday", "vda@monday\0",
             b"\xff\xfe", "x" * 4096, "a@b@c"):
    expect(ERR_UNKNOWN, w.info, name)
    expect(ERR_UNKNOWN, w.go, name)
good = w.info_data("vda@monday", (INFO_NAME,))
for data in (b"", b"\0", good[:-1], good + b"\0", good[:4],
             struct.pack(">I", 0xffffffff) + good[4:],
             struct.pack(">I", len(good)) + good[4:],
             struct.pack(">I", 4097) + b"x" * 4097 + b"\0\0",
             good[:14] + b"\xff\xff", good[:14] + b"\0\0\0"):
    expect(ERR_INVALID, w.option, OPT_INFO, data)
    expect(ERR_INVALID, w.option, OPT_GO, data)

# ---- GO: the same, then transmission; INFO before it changes nothing
before = w.info("vda@monday", (INFO_NAME, INFO_BLOCK_SIZE))
assert w.go("vda@monday", (INFO_NAME, INFO_BLOCK_SIZE)) == before
assert w.read_data(100, 7) == disk[100:107]

# ---- STRUCTURED_REPLY, EXTENDED_HEADERS
w = wire()
expect(ERR_INVALID, w.option, OPT_STRUCTURED_REPLY, b"x")
w.structured()
expect(ERR_INVALID, w.option, OPT_STRUCTURED_REPLY)
assert w.go("vda@monday")[INFO_EXPORT][1] == RO | F_SEND_DF
assert w.read_data(100, 7) == disk[100:107]
w = wire()
expect(ERR_INVALID, w.option, OPT_EXTENDED_HEADERS, b"x")
w.extended()
expect(ERR_INVALID, w.option, OPT_EXTENDED_HEADERS)
expect(ERR_EXT_HEADER_REQD, w.option, OPT_STRUCTURED_REPLY)
assert w.go("vda@monday")[INFO_EXPORT][1] == RO | F_SEND_DF
assert w.read_data(100, 7) == disk[100:107]
w = wire()
w.structured()
w.extended()                    # may come after structured replies
w.set_contexts("vda@monday", "base:allocation")
assert w.go("vda@monday")[INFO_EXPORT][1] == \
    RO | F_SEND_DF | F_BLOCK_STATUS_PAYLOAD
w = wire()
w.extended()                    # "MUST NOT use EXPORT_NAME" after that
w.put_option(OPT_EXPORT_NAME, b"vda@monday")
expect_closed(w)

# ---- LIST_META_CONTEXT: all, by name, by wildcard
w = wire()
ALL = ["base:allocation", "qemu:allocation-depth", "qemu:dirty-bitmap:cp1"]
assert w.list_contexts("vda@tuesday") == ALL
assert w.list_contexts("vda@monday") == ALL[:2]  # cp1 is of its instant
for queries, want in (
        (["base:"], ALL[:1]), (["qemu:"], ALL[1:]), (["base:", "qemu:"], ALL),
        (["qemu:dirty-bitmap:"], ALL[2:]), (["qemu:dirty-bitmap:cp1"], ALL[2:]),
        (["qemu:dirty-bitmap:cp2"], []), (["x-unknown:"], []),
        (["base:nothing"], []), (["base:allocation", "base:"], ALL[:1]),
        (["qemu:dirty-bitmap"], []), (["qemu:dirty"], []),
        (["x-unknown:a", "base:allocation"], ALL[:1]),
        (["base:alloc\0"], []), ([b"\xff:"], [])):
    assert w.list_contexts("vda@tuesday", *queries) == want, queries
expect(ERR_UNKNOWN, w.list_contexts, "vda@none")

# ---- SET_META_CONTEXT: needs structured replies; wildcards select nothing
expect(ERR_INVALID, w.set_contexts, "vda@tuesday", "base:allocation")
w.structured()
for queries, want in (
        ([], []), (["base:"], []), (["qemu:"], []),
        (["qemu:dirty-bitmap:"], []), (["base:allocation"], ALL[:1]),
        (["qemu:dirty-bitmap:cp1", "x-foo:bar", "base:allocation",
          "qemu:allocation-depth", "base:allocation"], ALL)):
    assert w.set_contexts("vda@tuesday", *queries) == want, queries
expect(ERR_UNKNOWN, w.set_contexts, "vda@none", "base:allocation")

good = w.context_data("vda@tuesday", ["base:allocation", "qemu:"])
for data in (b"", good[:3], good[:10], good[:-1], good + b"x",
             good[:15] + b"\xff\xff\xff\xff" + good[19:],
             good[:15] + b"\0\0\0\1" + good[19:],
             w.context_data("vda@tuesday", ["nocolon"]),
             w.context_data("vda@tuesday", [""]),
             w.context_data("vda@tuesday", ["x:" + "y" * 4096])):
    expect(ERR_INVALID, w.option, OPT_LIST_META_CONTEXT, data)
    expect(ERR_INVALID, w.option, OPT_SET_META_CONTEXT, data)
many = w.context_data("vda@tuesday", ["base:allocation"] * 257)
expect(ERR_TOO_BIG, w.option, OPT_LIST_META_CONTEXT, many)
assert w.set_contexts("vda@tuesday", *["x:%d" % i for i in range(255)],
                      "base:allocation") == ALL[:1]

# A selection lasts until the next one, be that good or not; and only for the
# export it was made for.
def status_works(*steps):
    w = wire()
    w.structured()
    for option, data in steps:
        try:
            w.option(option, data)
        except Failed:
            pass
    w.go("vda@tuesday")
    try:
        return bool(w.status(0, 4096))
    except Failed as e:
        assert e.error == EINVAL
        return False

chosen = (OPT_SET_META_CONTEXT, w.context_data("vda@tuesday",
                                               ["base:allocation"]))
assert status_works(chosen)
assert not status_works()
assert status_works(chosen, (OPT_LIST_META_CONTEXT, good))
assert status_works(chosen, (OPT_INFO, w.info_data("vda@tuesday")))
assert status_works(chosen, (OPT_LIST, b""))
assert not status_works(chosen, (OPT_SET_META_CONTEXT, b"broken"))
assert not status_works(chosen, (OPT_SET_META_CONTEXT,
                                 w.context_data("vda@tuesday", [])))
assert not status_works((OPT_SET_META_CONTEXT, w.context_data(
    "vda@monday", ["base:allocation"])))
assert not status_works(chosen, (OPT_SET_META_CONTEXT, w.context_data(
    "vda@monday", ["base:allocation"])))
assert not status_works(chosen, (OPT_SET_META_CONTEXT, w.context_data(
    "vda@none", ["base:allocation"])))
assert not status_works(chosen, (OPT_SET_META_CONTEXT, bytes(70000)))

# ---- lengths: an option that is too long is passed over and answered
w = wire()
for option in (OPT_LIST, OPT_INFO, OPT_GO, OPT_SET_META_CONTEXT,
               OPT_STRUCTURED_REPLY):
    expect(ERR_TOO_BIG, w.option, option, bytes(65537))
    expect(ERR_TOO_BIG, w.option, option, bytes(1 << 20))
expect(ERR_UNSUP, w.option, 4711, bytes(1 << 20))
assert len(w.list()) == 3
assert w.option(OPT_ABORT, bytes(100000)) == []
expect_closed(w)
for option in (OPT_LIST, 4711, OPT_EXPORT_NAME):
    for length in ((1 << 20) + 1, 0x7fffffff, 0xffffffff):
        w = wire()
        w.put_option(option, b"", length)
        expect_closed(w)

# ---- options that come in pieces, and many at once, are still options
w = wire()
data = struct.pack(">QII", IHAVEOPT, OPT_INFO, 16) + w.info_data("vda@monday")
for byte in data:
    w.send(bytes([byte]))
assert w.get_reply(OPT_INFO)[0] == REP_INFO
assert w.get_reply(OPT_INFO)[0] == REP_ACK
w.send(data * 100)
for i in range(100):
    assert w.get_reply(OPT_INFO)[0] == REP_INFO
    assert w.get_reply(OPT_INFO)[0] == REP_ACK

# ---- handshakes cut anywhere
data = struct.pack(">I", 3) + struct.pack(">QII", IHAVEOPT, OPT_GO, 16) + \
    w.info_data("vda@monday") + struct.pack(">IHHQQI", REQUEST, 0, 0, 1, 0, 99)
for cut in range(len(data)):
    w = wire(None)
    w.send(data[:cut])
    w.close()
w = wire()
assert len(w.list()) == 3
