#!/usr/bin/env python3
# SPDX-FileCopyrightText: The nbdfleece authors
# SPDX-License-Identifier: BSD-3-Clause

"""A daemon that answers as a script says, to test its clients.

    fake-daemon.py SOCKET SCRIPT REQUESTS

SCRIPT is a JSON object: the name of a command, and the list of what is done
when it comes.  "accept" is what is done when a client connects.

    {"result": OBJECT}, {"event": OBJECT}, {"error": OBJECT}
                         a line with the id of the request
    {"raw": TEXT}        TEXT as it is; \\n is not added, @ID@ becomes the id
    {"drip": OBJECT}     a result, byte by byte
    {"until": COMMAND}   waits until that command has come (60 seconds)
    {"until-file": PATH} waits until PATH exists
    {"touch": PATH}      makes PATH
    {"close": true}      closes the connection
    {"exit": true}       the whole daemon is gone at once

Every request is appended to REQUESTS, a line each.
"""

import json
import os
import socket
import sys
import threading
import time

DEADLINE = 60


class Daemon:
    def __init__(self, path, script, requests):
        with open(script) as f:
            self.script = json.load(f)
        self.requests = requests
        self.seen = set()
        self.changed = threading.Condition()
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.listener.bind(path + ".new")
        self.listener.listen(16)
        os.rename(path + ".new", path)      # there only once it listens

    def run(self):
        while True:
            conn, _ = self.listener.accept()
            threading.Thread(target=self.serve, args=[conn],
                             daemon=True).start()

    def serve(self, conn):
        try:
            self.play(conn, None, self.script.get("accept", []))
            for line in conn.makefile("rb"):
                request = json.loads(line)
                with self.changed:
                    with open(self.requests, "ab") as f:
                        f.write(line)
                    self.seen.add(request["command"])
                    self.changed.notify_all()
                self.play(conn, request.get("id"),
                          self.script.get(request["command"], []))
        except (OSError, EOFError):
            pass
        conn.close()

    def play(self, conn, id, actions):
        for action in actions:
            (what, value), = action.items()
            getattr(self, "do_" + what.replace("-", "_"))(conn, id, value)

    def line(self, id, what, value):
        return (json.dumps({"id": id, what: value}) + "\n").encode()

    def do_result(self, conn, id, value):
        conn.sendall(self.line(id, "result", value))

    def do_event(self, conn, id, value):
        conn.sendall(self.line(id, "event", value))

    def do_error(self, conn, id, value):
        conn.sendall(self.line(id, "error", value))

    def do_raw(self, conn, id, value):
        conn.sendall(value.replace("@ID@", str(id)).encode("latin-1"))

    def do_drip(self, conn, id, value):
        for byte in self.line(id, "result", value):
            conn.sendall(bytes([byte]))

    def do_until(self, conn, id, value):
        with self.changed:
            if not self.changed.wait_for(lambda: value in self.seen, DEADLINE):
                os._exit(3)

    def do_until_file(self, conn, id, value):
        deadline = time.monotonic() + DEADLINE
        while not os.path.exists(value):
            if time.monotonic() > deadline:
                os._exit(3)
            time.sleep(0.01)

    def do_touch(self, conn, id, value):
        open(value, "w").close()

    def do_close(self, conn, id, value):
        conn.shutdown(socket.SHUT_RDWR)
        conn.close()
        raise EOFError

    def do_exit(self, conn, id, value):
        os._exit(0)


if __name__ == "__main__":
    Daemon(*sys.argv[1:]).run()
