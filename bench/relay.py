#!/usr/bin/env python3
# SPDX-FileCopyrightText: The nbdfleece authors
# SPDX-License-Identifier: BSD-3-Clause

"""relay.py LISTEN CONNECT: what any hop between client and server costs.

Passes on what comes in by a pipe, which copies nothing, and looks at none of
it; a process for each direction of each connection."""

import fcntl
import os
import socket
import sys

PIPE = 1 << 20


def pass_on(source, sink):
    out, into = os.pipe()
    fcntl.fcntl(into, fcntl.F_SETPIPE_SZ, PIPE)
    while True:
        n = os.splice(source.fileno(), into, PIPE)
        if n == 0:
            break
        while n > 0:
            n -= os.splice(out, sink.fileno(), n)
    sink.shutdown(socket.SHUT_WR)


def forked(source, sink):
    if os.fork() > 0:
        return
    try:
        pass_on(source, sink)
    except OSError:
        pass                    # one of them has gone
    os._exit(0)


def main(listen, connect):
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(listen)
    listener.listen(16)
    while True:
        client, _ = listener.accept()
        server = socket.socket(socket.AF_UNIX)
        server.connect(connect)
        forked(client, server)
        forked(server, client)
        client.close()
        server.close()
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            pass


if __name__ == "__main__":
    main(*sys.argv[1:])
