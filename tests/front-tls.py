# SPDX-FileCopyrightText: The nbdfleece authors
# SPDX-License-Identifier: BSD-3-Clause

"""For test-front-tls.sh: TLS as the protocol has it.

Arguments: ports without TLS, with TLS allowed and required; a directory with a
client's certificates; the disk.
"""

import os
import ssl
import struct
import sys

from nbdwire import *

off, allow, require = (("127.0.0.1", int(p)) for p in sys.argv[1:4])
pki = sys.argv[4]
disk = open(sys.argv[5], "rb").read()


def start_tls(w, certificate=True):
    w.option(OPT_STARTTLS)
    c = ssl.create_default_context(cafile=pki + "/ca-cert.pem")
    c.minimum_version = ssl.TLSVersion.TLSv1_2
    if certificate:
        c.load_cert_chain(pki + "/client-cert.pem", pki + "/client-key.pem")
    w.sock = c.wrap_socket(w.sock, server_hostname="localhost")
    return w


# ---- NOTLS mode
w = Wire(off)
expect(ERR_POLICY, w.option, OPT_STARTTLS)
assert [n for n, _ in w.list()] == ["vdb@s"]
unknown = expect(ERR_UNKNOWN, w.info, "vda@s")
assert unknown == expect(ERR_UNKNOWN, w.info, "vda@nothing")
assert unknown == expect(ERR_UNKNOWN, w.info, "nothing@nothing")
expect(ERR_UNKNOWN, w.list_contexts, "vda@s")
expect(ERR_UNKNOWN, w.go, "vda@s")
w.go("vdb@s")

# ---- FORCEDTLS mode: nothing but STARTTLS and ABORT before it
w = Wire(require)
for option in (OPT_LIST, OPT_INFO, OPT_GO, OPT_STRUCTURED_REPLY,
               OPT_LIST_META_CONTEXT, OPT_EXTENDED_HEADERS, 77):
    expect(ERR_TLS_REQD, w.option, option)
    expect(ERR_TLS_REQD, w.option, option, bytes(70000))
expect(ERR_TLS_REQD, w.info, "vda@s")
expect(ERR_INVALID, w.option, OPT_STARTTLS, b"x")
assert w.option(OPT_ABORT) == []
w = Wire(require)
w.put_option(OPT_EXPORT_NAME, b"vda@s")
expect_closed(w)
w = start_tls(Wire(require))
assert [n for n, _ in w.list()] == ["vda@s", "vdb@s"]
expect(ERR_INVALID, w.option, OPT_STARTTLS)
expect(ERR_UNKNOWN, w.info, "vda@nothing")
w.structured()
w.go("vda@s")
assert w.read_data(0, 3 << 20) == disk[:3 << 20]
w.request(CMD_DISC)
assert w.sock.recv(1) == b""            # with a goodbye, or this would raise

# ---- SELECTIVETLS mode: what there is with TLS only is not shown without
w = Wire(allow)
assert [n for n, _ in w.list()] == ["vdb@s"]
text = expect(ERR_TLS_REQD, w.info, "vda@s")
assert text == expect(ERR_TLS_REQD, w.info, "vda@nothing")
expect(ERR_TLS_REQD, w.go, "vda@s")
expect(ERR_UNKNOWN, w.list_contexts, "vda@s")
w.info("vdb@s")
w.put_option(OPT_EXPORT_NAME, b"vda@s")
expect_closed(w)
w = start_tls(Wire(allow))
assert [n for n, _ in w.list()] == ["vda@s", "vdb@s"]
# Without a certificate it is nobody in particular.
w = start_tls(Wire(allow), certificate=False)
assert [n for n, _ in w.list()] == ["vdb@s"]
expect(ERR_UNKNOWN, w.info, "vda@s")
w.go("vdb@s")

# ---- Nothing that was negotiated in the clear survives
w = Wire(allow)
w.structured()
w.set_contexts("vdb@s", "base:allocation")
start_tls(w)
w.style = SIMPLE
assert not w.go("vdb@s")[INFO_EXPORT][1] & F_SEND_DF
assert w.read_data(0, 512) == bytes(512)
w = Wire(allow)
w.extended()
start_tls(w)
w.style = SIMPLE
w.structured()                          # not refused
w.go("vdb@s")
expect(EINVAL, w.simple_command, CMD_BLOCK_STATUS, 0, 512)

# ---- and nothing sent in the clear is taken for something sent in TLS
w = Wire(allow)
w.send(struct.pack(">QII", IHAVEOPT, OPT_STARTTLS, 0) +
       struct.pack(">QII", IHAVEOPT, OPT_LIST, 0))
expect_closed(w)

# ---- garbage instead of a TLS handshake, or in the middle of TLS
for garbage in (bytes(1000), b"\x16\x03\x01\xff\xff" + bytes(5000),
                os.urandom(5000),
                struct.pack(">QII", IHAVEOPT, OPT_LIST, 0)):
    w = Wire(require)
    w.option(OPT_STARTTLS)
    try:
        w.send(garbage)
        w.sock.shutdown(1)
    except OSError:
        pass                            # it did not wait for all of that
    assert w.ended()
w = start_tls(Wire(require))
w.list()
raw = os.dup(w.sock.fileno())
os.write(raw, os.urandom(2000))
os.close(raw)
try:
    while w.sock.recv(65536):
        pass
except (ConnectionError, ssl.SSLError):
    pass

# ---- many requests over TLS, in all styles
for style in (SIMPLE, STRUCTURED, EXTENDED):
    w = start_tls(Wire(require))
    if style == STRUCTURED:
        w.structured()
    elif style == EXTENDED:
        w.extended()
    w.go("vda@s")
    for n in (1, 16384, 16385, 100000, 1 << 20, (1 << 20) + 1, 3 << 20):
        assert w.read_data(777, n) == disk[777:777 + n]
    for i in range(60):
        w.request(CMD_READ, i * 1000, 70000, cookie=i)
    for i in range(60):
        cookie, c = w.chunk()
        data = w.read(70000) if style == SIMPLE else c.data[8:]
        assert data == disk[cookie * 1000:][:70000]
    w.close()
