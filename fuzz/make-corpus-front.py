# SPDX-FileCopyrightText: The nbdfleece authors
# SPDX-License-Identifier: BSD-3-Clause

"""Writes the seeds of fuzz/corpus-front: sessions as clients have them.

  PYTHONPATH=tests python3 fuzz/make-corpus-front.py fuzz/corpus-front

The rest of the corpus is what libFuzzer made of them (fuzz/run).
"""

import struct
import sys

from nbdwire import *

NAME = "vda@s"
ALL = ["base:allocation", "qemu:allocation-depth", "qemu:dirty-bitmap:c1"]


def option(number, data=b""):
    return struct.pack(">QII", IHAVEOPT, number, len(data)) + data


def hello(flags=3):
    return struct.pack(">I", flags)


def name(text):
    return struct.pack(">I", len(text)) + text.encode()


def info(text, *infos):
    return name(text) + struct.pack(">H%dH" % len(infos), len(infos), *infos)


def contexts(*queries):
    return name(NAME) + struct.pack(">I", len(queries)) + \
        b"".join(name(q) for q in queries)


def request(style, cmd, offset=0, length=0, flags=0, data=b""):
    if style == EXTENDED:
        return struct.pack(">IHHQQQ", EXT_REQUEST, flags, cmd, 7, offset,
                           length) + data
    return struct.pack(">IHHQQI", REQUEST, flags, cmd, 7, offset,
                       length) + data


def begin(style):
    data = hello()
    if style != SIMPLE:
        data += option(OPT_STRUCTURED_REPLY if style == STRUCTURED else
                       OPT_EXTENDED_HEADERS)
        data += option(OPT_SET_META_CONTEXT, contexts(*ALL))
    return data + option(OPT_GO, info(NAME, 3))


seeds = {
    "list": hello() + option(OPT_LIST) + option(OPT_ABORT),
    "info": hello() + option(OPT_INFO, info(NAME, 0, 1, 2, 3)) +
        option(OPT_INFO, info("nothing")) + option(OPT_STARTTLS),
    "export-name": hello(1) + option(OPT_EXPORT_NAME, NAME.encode()) +
        request(SIMPLE, CMD_READ, 0, 4096) + request(SIMPLE, CMD_DISC),
    "old": hello(0) + option(OPT_EXPORT_NAME, NAME.encode()) +
        request(SIMPLE, CMD_READ, 5, 5),
    "contexts": hello() + option(OPT_STRUCTURED_REPLY) +
        option(OPT_LIST_META_CONTEXT, contexts()) +
        option(OPT_LIST_META_CONTEXT, contexts("base:", "qemu:")) +
        option(OPT_SET_META_CONTEXT, contexts("qemu:dirty-bitmap:")) +
        option(OPT_SET_META_CONTEXT, contexts(*ALL)),
    "unknown": hello() + option(77, b"data") + option(OPT_PEEK_EXPORT),
    "long": hello() + option(OPT_INFO, bytes(70000)) + option(OPT_LIST),
}
for text, style in (("simple", SIMPLE), ("structured", STRUCTURED),
                    ("extended", EXTENDED)):
    payload = FLAG_PAYLOAD_LEN if style == EXTENDED else 0
    go = begin(style)
    seeds["read-" + text] = go + b"".join(
        request(style, CMD_READ, i * 1000, n)
        for i, n in enumerate((1, 512, 4096, 65536, 100000, 0, 1 << 20))) + \
        request(style, CMD_DISC)
    seeds["large-" + text] = go + request(style, CMD_READ, 3, 2000000) + \
        request(style, CMD_READ, 3, 2000000, FLAG_DF if style != SIMPLE
                else 0) + request(style, CMD_READ, 0, 512)
    seeds["refused-" + text] = go + \
        request(style, CMD_WRITE, 0, 100, payload, bytes(100)) + \
        request(style, CMD_WRITE_ZEROES, 0, 100) + \
        request(style, CMD_TRIM, 0, 65536) + request(style, CMD_FLUSH) + \
        request(style, CMD_READ, 1 << 60, 1) + \
        request(style, CMD_READ, 0, 3000000) + request(style, 99)
    seeds["cache-" + text] = go + request(style, CMD_CACHE, 0, 65536) + \
        request(style, CMD_CACHE, 5, 1)
    seeds["trim-" + text] = go + request(style, CMD_TRIM, 0, 3000000) + \
        request(style, CMD_READ, 0, 1)
    if style != SIMPLE:
        seeds["status-" + text] = go + b"".join(
            request(style, CMD_BLOCK_STATUS, i * 5000, n, f)
            for i, (n, f) in enumerate(((1, 0), (3000000, 0), (65536, 8),
                                        (100000, 0)))) + \
            request(style, CMD_READ, 0, 4096)
seeds["payload"] = begin(EXTENDED) + request(
    EXTENDED, CMD_BLOCK_STATUS, 0, 16, FLAG_PAYLOAD_LEN,
    struct.pack(">QII", 3000000, 3, 1)) + request(
    EXTENDED, CMD_BLOCK_STATUS, 0, 9, FLAG_PAYLOAD_LEN, bytes(9)) + request(
    EXTENDED, CMD_READ, 0, 50, FLAG_PAYLOAD_LEN, bytes(50))

modes = (0, 2, 1 | 2, 4, 8, 16, 32, 64, 128, 8 | 2 | 64)
for number, (text, data) in enumerate(sorted(seeds.items())):
    mode = 32 if text.startswith("trim") else modes[number % len(modes)]
    with open("%s/%s" % (sys.argv[1], text), "wb") as f:
        f.write(bytes([0, 10]) + data)
    with open("%s/%s-%d" % (sys.argv[1], text, mode), "wb") as f:
        f.write(bytes([mode, 10]) + data)
