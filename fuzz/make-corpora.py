#!/usr/bin/env python3
# SPDX-FileCopyrightText: The nbdfleece authors
# SPDX-License-Identifier: BSD-3-Clause

# Makes the seeds of a fuzz target but front's: make-corpora.py TARGET DIR
#
# The layouts are those that the comments of fuzz-TARGET.c describe.  What
# fuzzing has found lies beside the seeds and is no work of this script.

import json
import os
import struct
import sys

target, directory = sys.argv[1:]
seeds = {}


def conf():
    top = os.path.join(os.path.dirname(os.path.abspath(sys.argv[0])), "..")
    for name in "full.yaml", "minimal.yaml":
        with open(os.path.join(top, "conf", name), "rb") as f:
            seeds[name.replace(".", "-")] = f.read()
    one = "exports:\n- name: vda\n  disk: /a\n"
    texts = {
        "nbd": "exports: [{name: v, disk: 'nbd://[::1]:10809/x'}]\n",
        "plugin": "exports:\n- name: v\n  disk: {plugin: file, options: "
                  "{file: /a, x: [1, 2]}}\n",
        "qcow2": "exports: [{name: v, disk: {qcow2: /a.qcow2}}]\n",
        "all-keys": one + "  scratch: /s\n  scratch-limit: 20G\n"
                    "  cluster-size: 64K\n  on-cow-error: break-guest-write\n"
                    "  cow-timeout: 2s\n  trim: defer\n"
                    "  freeze-timeout: 100ms\n",
        "hooks": one + "  hooks: {before-freeze: [/bin/x, a, b], after-thaw: "
                 "/bin/y, before-freeze-timeout: 1s}\n",
        "groups": one + "groups:\n- {name: g, exports: [vda]}\n",
        "listen": "backup:\n  listen:\n  - {tcp: '[::1]:1', tls: require, "
                  "tls-certificates: /c}\n  - tcp: localhost:2\n" + one,
        "scratch": one + "  scratch: {directory: /s, durable: true}\n",
        "dirs": "state-dir: /s\nrun-dir: /r\n" + one,
        "twice": one + one,
        "unknown": "state-dri: /s\n" + one,
        "anchor": "exports: &a [*a]\n",
        "tag": "exports: !!seq []\n",
        "deep": "[" * 40,
        "not-yaml": "exports: [\n\t- {",
        "two": one + "---\n" + one,
        "long": "exports:\n- name: " + "a" * 300 + "\n  disk: /a\n",
        "control-characters": "exports:\n- {name: \"a\\x01b\\e[31m\", "
                              "disk: \"/\\0\"}\n",
        "utf8": "\ufeffexports:\n- {name: \u00e4, disk: /\u20ac}\n",
        "null": "exports: ~\nbackup: null\n",
    }
    for name, text in texts.items():
        seeds[name] = text.encode()
    seeds["bad-utf8"] = b"exports:\n- {name: \xff\xfe, disk: /\xc3}\n"
    seeds["utf16"] = "exports: []\n".encode("utf-16")


def header(kind, disk, cluster, export=b"vda", name=b"s", live=b"file:/dev/null",
           scratch=b"/s", version=1, magic=b"FLEECEBM"):
    bitmaps = 3 if kind == 1 else 1
    clusters = (disk + cluster - 1) // cluster if cluster else 0
    stride = ((clusters + 63) // 64 * 8 + 4095) // 4096 * 4096
    return struct.pack("<8sIIIIQQQQ16s72s72s72s1024s1024sI4x", magic, version,
                       4096, kind, bitmaps, disk, cluster, clusters,
                       4096 + bitmaps * stride, b"u" * 16, export, name, b"",
                       live, scratch, 0)


def live(state, clean=0):
    return struct.pack("<II16s", state, clean, b"b" * 16).ljust(448, b"\0")


def bitmaps(*words):
    return b"".join(struct.pack("<Q", w).ljust(4096, b"\0") for w in words)


def map():
    right = 1 | 2 | 4 | 16
    disk = 100 * 4096 + 5

    def seed(name, mode, kind, head, state=1, bits=b""):
        seeds[name] = bytes([mode, kind]) + head + live(state) + bits

    some = bitmaps(0xff00, 0xff0000, 0xff000000)
    seed("map", right, 1, header(1, disk, 4096), 1, some)
    seed("map-writable", right | 8, 1, header(1, disk, 4096), 1, some)
    seed("map-ended", right, 1, header(1, disk, 4096), 2, some)
    seed("map-prepared", right, 1, header(1, disk, 4096), 0)
    seed("map-all", right | 8, 1, header(1, disk, 4096), 1,
         bitmaps(2**64 - 1, 2**63, 2**64 - 2))
    seed("map-tail", right, 1, header(1, disk, 4096), 1,
         bytes(12) + b"\xff" * 8)
    seed("map-large-clusters", right, 1, header(1, 1 << 32, 2 << 20), 1, some)
    seed("map-small", right | 8, 1, header(1, 1, 4096), 1, bitmaps(1, 0, 1))
    seed("map-of-other", right, 1, header(1, disk, 4096, b"vdb"), 1, some)
    seed("dirty", right, 2, header(2, disk, 4096), 1, bitmaps(0xf0f0f0))
    seed("dirty-64k", right, 2, header(2, disk, 65536), 3, bitmaps(3))
    seed("dirty-inconsistent", right, 2, header(2, disk, 4096), 4)
    seed("copy", right | 8, 3, header(3, disk, 4096), 0, bitmaps(2**64 - 1))
    seed("wrong-kind", right, 2, header(1, disk, 4096))
    seed("unknown-kind", right, 3, header(7, disk, 4096))
    seed("checksum", right & ~1, 1, header(1, disk, 4096))
    seed("version", right, 1, header(1, disk, 4096, version=2))
    seed("magic", right, 1, header(1, disk, 4096, magic=b"MBECEELF"))
    seed("sizes", right & ~2, 1, header(1, disk, 12288))
    seed("length", right & ~4, 1, header(1, disk, 4096), 1, some)
    seed("huge", right, 1, header(1, 1 << 60, 2 << 20))
    seed("more-than-huge", right, 1, header(1, 2**64 - 1, 4096))
    seed("no-clusters", right, 1, header(1, disk, 0))
    seed("name-with-dots", right, 1, header(1, disk, 4096, b"../../x"))
    seed("no-terminator", right & ~16, 1, header(
        1, disk, 4096, b"v" * 72, b"n" * 72, b"l" * 1024, b"s" * 1024))
    seeds["short"] = bytes([right, 1]) + header(1, disk, 4096)[:100]


HELLO, FREEZE, THAW, BEGIN, END, STATS, UNTRACK, LIST, HANG_UP = range(1, 10)
SNAPSHOT, CHECKPOINT, FROZEN = 1, 2, 4


def packet(op, flags=0, deadline=1000, how=16, length=0, files=0, wrong=0,
           uuid=bytes(16), magic=0):
    return bytes([how, length, files, wrong]) + struct.pack(
        "<IHHQII16s", magic, 1, op, 7, flags, deadline, uuid)


def filter():
    map_and_scratch = 1 | 2 << 2
    all_files = map_and_scratch | 3 << 4
    snapshot = packet(BEGIN, SNAPSHOT, files=map_and_scratch)
    both = packet(BEGIN, SNAPSHOT | CHECKPOINT, files=all_files)
    checkpoint = packet(BEGIN, CHECKPOINT, files=3)
    freeze = packet(FREEZE)
    last = 16 | 32
    sequences = {
        "hello": [packet(HELLO)],
        "every-op": [packet(op) for op in range(12)],
        "snapshot": [snapshot, packet(LIST), packet(STATS),
                     packet(STATS, how=last), packet(END, how=last)],
        "snapshots": [snapshot] * 34 + [packet(LIST)],
        "checkpoint": [checkpoint, checkpoint, packet(UNTRACK),
                       packet(UNTRACK)],
        "untrack-last": [both, packet(UNTRACK, how=last)],
        "both": [both, both, packet(STATS), packet(END, how=last)],
        "frozen": [freeze, packet(BEGIN, SNAPSHOT | FROZEN,
                                  files=map_and_scratch)],
        "frozen-by-other": [freeze, packet(BEGIN, SNAPSHOT | FROZEN, how=17,
                                           files=map_and_scratch)],
        "freeze-thaw": [freeze, packet(THAW), packet(THAW)],
        "freeze-twice": [freeze, freeze, packet(FREEZE, how=17)],
        "freeze-hang-up": [packet(FREEZE, how=16 | 4), snapshot],
        "guest": [packet(FREEZE, how=16 | 8 | 64), snapshot,
                  packet(BEGIN, SNAPSHOT, how=16 | 8,
                         files=map_and_scratch)],
        "deadline": [packet(FREEZE, deadline=0),
                     packet(FREEZE, deadline=60001)],
        "magic": [packet(HELLO, how=0), packet(HELLO)],
        "short": [packet(HELLO, length=1), packet(HELLO, length=15)],
        "long": [packet(HELLO, length=17), packet(HELLO, length=255)],
        "files-for-nothing": [packet(HELLO, files=all_files)],
        "too-few-files": [packet(BEGIN, SNAPSHOT, files=1),
                          packet(BEGIN, SNAPSHOT | CHECKPOINT,
                                 files=map_and_scratch)],
        "wrong-files": [packet(BEGIN, SNAPSHOT, files=2 | 1 << 2),
                        packet(BEGIN, CHECKPOINT, files=1)],
        "hang-up": [packet(HANG_UP)],
    }
    for wrong in range(7):
        sequences["wrong-%d" % (1 << wrong)] = [
            packet(BEGIN, SNAPSHOT, files=map_and_scratch, wrong=1 << wrong),
            packet(BEGIN, CHECKPOINT, files=3, wrong=1 << wrong),
            packet(BEGIN, SNAPSHOT | CHECKPOINT, files=all_files,
                   wrong=1 << wrong)]
    for name, packets in sequences.items():
        seeds[name] = b"".join(packets)


def control():
    lines = {
        "version": [{"command": "version", "id": 1}],
        "status": [{"command": "status", "id": "x"}],
        "snapshot-list": [{"command": "snapshot-list", "export": "vda"},
                          {"command": "snapshot-list"}],
        "snapshot-create": [{"command": "snapshot-create",
                             "exports": ["vda", "vdb"], "name": "n",
                             "deadline-ms": 5}],
        "snapshot-scope": [{"command": "snapshot-create", "exports": ["vda"],
                            "name": "n", "since": "c", "scope": "x",
                            "checkpoint": "d"}],
        "snapshot-rearm": [{"command": "snapshot-rearm", "export": "vda",
                            "name": "s"}],
        "snapshot-delete": [{"command": "snapshot-delete", "export": "vda",
                             "name": "s"}, {"command": "snapshot-list"}],
        "checkpoint-list": [{"command": "checkpoint-list", "export": "vda"}],
        "checkpoint-delete": [{"command": "checkpoint-delete",
                               "export": "vda", "name": "c"}],
        "backup": [{"command": "backup", "export": "vda", "target": "/x/y",
                    "sync": "incremental", "since": "c", "checkpoint": "d",
                    "speed": 5, "max-requests": 3, "connections": 2,
                    "on-source-error": "report", "on-target-error": "stop",
                    "retry-ms": 7}],
        "backup-nbd": [{"command": "backup", "exports": ["vda"],
                        "target": "nbd://localhost:1/"}],
        "backup-qcow2": [{"command": "backup", "export": "vda",
                          "target": "qcow2:/nowhere/x"}],
        "job-list": [{"command": "job-list"}],
        "job-show": [{"command": "job-show", "job": "1"},
                     {"command": "job-show", "job": "../1"}],
        "job-wait": [{"command": "job-wait", "job": "2", "progress": True}],
        "job-orders": [{"command": "job-" + c, "job": "1"}
                       for c in ("pause", "resume", "cancel")],
        "job-speed": [{"command": "job-speed", "job": "1", "speed": 10}],
        "reload": [{"command": "reload"}],
        "unknown": [{"command": "x"}],
        "no-command": [{}],
        "wrong-types": [{"command": 1}, {"command": "job-show", "job": 1},
                        {"command": "snapshot-create", "exports": "vda",
                         "name": []}],
        "unknown-member": [{"command": "version", "x": 1}],
        "bad-names": [{"command": "snapshot-create", "exports": ["vda"],
                       "name": n} for n in ("../x", "", "a/b", "x" * 65,
                                            "a@b", "\u00e4", "a\x00b")],
        "ids": [{"command": "version", "id": i}
                for i in (0, -5, 2**63 - 1, "x" * 65, [], None, 1.5)],
    }
    for name, requests in lines.items():
        seeds[name] = b"\0" + b"".join(
            json.dumps(r, ensure_ascii=False).encode() + b"\n"
            for r in requests)
    seeds["two-clients"] = b"\1" + seeds["version"][1:] + seeds["status"][1:]
    seeds["in-pieces"] = b"\2" + seeds["backup"][1:]
    seeds["hangs-up"] = b"\4" + seeds["job-wait"][1:] * 3
    seeds["gone"] = b"\10" + seeds["status"][1:] * 3
    seeds["deep"] = b"\0" + b"[" * 30 + b"\n"
    seeds["not-json"] = b"\0{\n}\n\n\0\n{\"command\":\"version\"}x\n"
    seeds["not-utf8"] = b"\0{\"command\":\"\xff\xc3\"}\n"
    seeds["twice"] = b"\0{\"command\":\"version\",\"command\":\"status\"}\n"
    seeds["no-newline"] = b"\0{\"command\":\"version\"}"
    seeds["long-line"] = b"\0{\"x\":\"" + b"x" * 19000 + b"\"}\n"


def job():
    progress = {"state": "running", "bytes-total": 100, "bytes-done": 5,
                "bytes-read": 1, "bytes-written": 2, "bytes-zero": 3,
                "bytes-skipped": 4, "bytes-offloaded": 5,
                "bytes-recopied": 6, "bytes-lost": 7, "bytes-per-second": 8,
                "eta-seconds": 9, "offload": "reflink", "error": None}
    record = dict(progress, id="1", export="vda", target="/t", sync="full",
                  since=None, checkpoint="c", snapshot="job-1", created="x",
                  restarts=1, speed=2, connections=3)
    record.update({"max-requests": 4, "on-source-error": "report",
                   "on-target-error": "stop", "retry-ms": 5,
                   "instant-ns": 10**18, "created-ns": 10**18,
                   "ended-ns": 0, "before": {"bytes-read": 1},
                   "snapshot-uuid": "u", "since-uuid": "",
                   "checkpoint-uuid": "v", "guest-copies": {"bytes": 5}})

    def both(name, d):
        seeds["progress-" + name] = b"\0" + json.dumps(d).encode() + b"\n"
        seeds["result-" + name] = b"\2" + json.dumps(d).encode()
        seeds["record-" + name] = b"\1" + json.dumps(dict(record, **d)).encode()

    for state in ("created", "running", "paused", "flushing", "completed",
                  "incomplete", "failed", "cancelled", "nonsense"):
        both(state, dict(progress, state=state))
    both("large", dict(progress, **{"bytes-total": 2**63 - 1,
                                    "bytes-done": 2**64, "bytes-read": 2**63}))
    both("negative", dict(progress, **{"bytes-total": -1, "bytes-done": -2**63,
                                       "eta-seconds": -5}))
    both("types", dict(progress, **{"bytes-total": "1", "error": 5,
                                    "offload": ["x"], "state": "running"}))
    both("long", dict(progress, error="e" * 3000, offload="o" * 100))
    both("characters", dict(progress, error="a\u0000b\x1b[31m\u00e4\n"))
    seeds["progress-not-json"] = b"\0{\n\n[]\n5\n\"x\"\n" + b"x" * 5000 + b"\n"
    seeds["record-not-json"] = b"\1[5"
    hello = struct.pack("<IHHQiI", 0x464c4342, 1, 1, 1, 0, 0)
    seeds["answers"] = b"\3" + (b"\0" + hello + bytes(1216)) * 3
    seeds["answers-short"] = b"\3" + b"\x80" + hello
    seeds["answers-error"] = b"\3\x10" + struct.pack("<iI", 71, 0)
    seeds["answers-files"] = b"\3" + bytes([3 << 5]) + hello + bytes(1216)


def copy():
    def image(backing=b"", version=3, bits=16, size=1048576, offset=512,
              length=None, incompatible=0, magic=0x514649fb):
        head = struct.pack(
            ">IIQIIQIIQQIIQQ", magic, version, offset if backing else 0,
            len(backing) if length is None else length, bits, size, 0, 1, 0,
            0, 1, 0, 0, incompatible)
        return head.ljust(512, b"\0") + backing

    record = {"nbdfleece-record": 1, "state": "completed", "export": "vda",
              "snapshot": "s", "uuid": "u1", "instant": "x",
              "instant-ns": 10**18, "size": 1048576, "cluster-size": 4096,
              "checkpoint": "c",
              "checkpoint-uuid": "01234567-89ab-cdef-0123-456789abcdef",
              "since": None, "since-uuid": None, "format": "qcow2",
              "backing": None, "backing-uuid": None}

    def seed(name, head, r=record, mode=0):
        text = json.dumps(r).encode() if isinstance(r, dict) else r
        seeds[name] = bytes([mode]) + struct.pack("<H", len(head)) + head + text

    seed("image", image())
    seed("since", image(), mode=1)
    seed("since-and-uuid", image(), mode=3)
    seed("raw", b"x" * 100, dict(record, format="raw", size=100), mode=5)
    seed("version-2", image(version=2))
    seed("version-9", image(version=9))
    seed("bits", image(bits=40))
    seed("corrupt", image(incompatible=2))
    seed("magic", image(magic=0))
    seed("short", image()[:50])
    seed("backing", image(b"other"))
    seed("backing-itself", image(b"image"))
    seed("backing-dots", image(b"../../../../etc/passwd"))
    seed("backing-protocol", image(b"nbd://localhost/"))
    seed("backing-json", image(b"json:{}"))
    seed("backing-device", image(b"/dev/zero"))
    seed("backing-nul", image(b"a\0b"))
    seed("backing-long", image(b"x" * 1023))
    seed("backing-too-long", image(b"x", length=1024))
    seed("backing-past-the-end", image(b"x", offset=2**63))
    seed("size", image(size=2**64 - 1))
    for state in "writing", "incomplete", "x":
        seed("record-" + state, image(), dict(record, state=state))
    seed("record-export", image(), dict(record, export="vdb"))
    seed("record-size", image(), dict(record, size=5))
    seed("record-newer", image(), dict(record, **{"instant-ns": 2**62}))
    seed("record-version", image(), dict(record, **{"nbdfleece-record": 2}))
    seed("record-types", image(), dict(record, size="x", export=5))
    seed("record-long", image(), dict(record, backing="b" * 2000,
                                      export="e" * 100))
    seed("record-nul", image(), dict(record, export="a\u0000b"))
    seed("record-missing", image(), {"nbdfleece-record": 1})
    seed("record-not-json", image(), b"{")
    seed("record-deep", image(), b"[" * 100)
    seed("no-record", image(), b"")
    for name, lines in {
            "orders": ['{"command":"pause"}', '{"command":"resume"}',
                       '{"command":"cancel"}',
                       '{"command":"speed","bytes-per-second":5}'],
            "orders-bad": ['{"command":"speed","bytes-per-second":-5}', '{}',
                           '[]', '5', '', '{"command":5}', 'x' * 5000]}.items():
        seeds[name] = b"\x80" + "".join(x + "\n" for x in lines).encode()


{"conf": conf, "map": map, "filter": filter, "control": control, "job": job,
 "copy": copy}[target]()
os.makedirs(directory, exist_ok=True)
for name, data in seeds.items():
    with open(os.path.join(directory, name), "wb") as f:
        f.write(data)
