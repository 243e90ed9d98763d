#!/usr/bin/env python3
# SPDX-FileCopyrightText: The nbdfleece authors
# SPDX-License-Identifier: BSD-3-Clause

"""A guest agent's channel, as qemu-guest-agent behind QEMU answers.

    fake-agent.py SOCKET LOG

Notes every command in LOG, a line each.  Files next to LOG make it do other
things: LOG.silent, it takes commands and answers none; LOG.error, it cannot
freeze; LOG.stale, what a new client reads first is an old reply.
"""

import json
import os
import socket
import sys

path, log = sys.argv[1:]
frozen = 0


def answer(request):
    global frozen
    command = request["execute"]
    if command == "guest-sync-delimited":
        return {"return": request["arguments"]["id"]}
    if command == "guest-fsfreeze-status":
        return {"return": "frozen" if frozen else "thawed"}
    if command == "guest-fsfreeze-freeze":
        if os.path.exists(log + ".error"):
            return {"error": {"class": "GenericError",
                              "desc": "failed to freeze /"}}
        frozen = 2
        return {"return": 2}
    if command == "guest-fsfreeze-thaw":
        n, frozen = frozen, 0
        return {"return": n}
    return {"error": {"class": "CommandNotFound", "desc": command}}


listener = socket.socket(socket.AF_UNIX)
listener.bind(path + ".new")
listener.listen(4)
os.rename(path + ".new", path)
while True:
    conn, _ = listener.accept()         # one client at a time, as in QEMU
    if os.path.exists(log + ".stale"):
        conn.sendall(b'{"return": 17}\n')
    for line in conn.makefile("rb"):
        delimited = line.startswith(b"\xff")
        request = json.loads(line.lstrip(b"\xff"))
        with open(log, "a") as f:
            print(request["execute"], file=f)
        if os.path.exists(log + ".silent"):
            continue
        reply = json.dumps(answer(request)).encode() + b"\n"
        try:
            conn.sendall((b"\xff" if delimited else b"") + reply)
        except OSError:
            break
    conn.close()
