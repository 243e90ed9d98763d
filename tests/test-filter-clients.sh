#!/usr/bin/env bash
# SPDX-FileCopyrightText: The nbdfleece authors
# SPDX-License-Identifier: BSD-3-Clause

# Filter: it counts its clients; one that restores the disk is alone, whoever
# was first; readers for snapshots do not count, and cannot write.

. "${abs_top_srcdir:-$(dirname "$0")/..}/tests/functions.sh"
. "$abs_top_srcdir/tests/filter.sh"
requires_tool nbdkit
requires_python_nbd

make_disk 1048576
start_export file "$disk"
[ "$(stat_of clients)" = 0 ]

"$PYTHON" - "$tmp/vda.sock" "$abs_top_builddir/tests/ctl" "$tmp/vda.ctl" \
          "$state" "$disk" <<'PY'
import nbd, os, subprocess, sys, time
sock, ctl, ctl_sock, state, disk = sys.argv[1:]

def enter (name):
    h = nbd.NBD ()
    h.set_export_name (name)
    h.connect_unix (sock)
    return h

def refused (name):
    try:
        enter (name)
    except nbd.Error:
        return
    raise Exception ("let in: '%s'" % name)

def count ():
    out = subprocess.run ([ctl, ctl_sock, state, "file:" + disk],
                          input=b"stats\n", stdout=subprocess.PIPE).stdout
    return int ([w for w in out.decode ().split ()
                 if w.startswith ("clients=")][0][8:])

# nbdkit hears of the end of a connection a moment later.
def becomes (n):
    deadline = time.monotonic () + 30
    while count () != n:
        if time.monotonic () > deadline:
            raise Exception ("%d clients, not %d" % (count (), n))

def leave (h, n):
    h.shutdown ()
    becomes (n)

for name in ("vdb", "vda@", "vda@restore-", "vda@restore", "vda@LIVE",
             "vda@restore-" + 65 * "x", "@live", "@restore-a"):
    refused (name)
becomes (0)

# Guests, by either name, keep a restore away.
a, b = enter (""), enter ("vda")
becomes (2)
refused ("vda@restore-a")
becomes (2)
leave (a, 1)
refused ("vda@restore-a")
leave (b, 0)

# A restore keeps guests and other restores away, until its last connection.
a, b = enter ("vda@restore-a"), enter ("vda@restore-a")
becomes (2)
refused ("")
refused ("vda")
refused ("vda@restore-b")
leave (a, 1)
refused ("vda")
b.pwrite (b"x" * 4096, 0)
leave (b, 0)
a = enter ("vda@restore-b")
leave (a, 0)

# While a restore is written down nobody else comes in, whoever is there or not.
mark = state + "/exports/vda/restoring"
with open (mark, "w") as f: f.write ("a\n")
refused ("")
refused ("vda")
refused ("vda@restore-b")
a = enter ("vda@restore-a")
leave (a, 0)
refused ("vda")
os.remove (mark)
a = enter ("vda")
leave (a, 0)

# One that dies without a word has left, too.
p = subprocess.Popen ([sys.executable, "-c", """if True:
    import nbd, os, signal, sys
    h = nbd.NBD ()
    h.set_export_name ("vda@restore-c")
    h.connect_unix (sys.argv[1])
    os.kill (os.getpid (), signal.SIGKILL)""", sock])
p.wait ()
becomes (0)

# Readers are no guests.
r = enter ("vda@live")
becomes (0)
assert r.is_read_only ()
assert r.pread (4096, 0) == b"x" * 4096
a = enter ("vda@restore-a")
assert r.pread (4096, 4096)
r2 = enter ("vda@live")
leave (a, 0)
g = enter ("vda")
assert not g.is_read_only ()
becomes (1)
PY
no_clients () { [ "$(stat_of clients)" = 0 ]; }
wait_for 30 no_clients
