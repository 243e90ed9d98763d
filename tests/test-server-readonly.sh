#!/usr/bin/env bash
# SPDX-FileCopyrightText: The nbdfleece authors
# SPDX-License-Identifier: BSD-3-Clause

# Daemon: the snapshot server cannot write to the live disk, nor to any file.

. "${abs_top_srcdir:-$(dirname "$0")/..}/tests/functions.sh"
. "$abs_top_srcdir/tests/daemon.sh"
[ "$NBDFLEECE_SANITIZER" = no ] || skip "reports of sanitizers are files"

head -c 4M /dev/urandom >"$tmp/a.img"
cp "$tmp/a.img" "$tmp/before"
write_config <<X
exports:
  - {name: vda, disk: $tmp/a.img}
X

# In the place of nbdkit: tries what it can, says how it went where the daemon
# logs it, and then goes on as nbdkit.
cat >"$tmp/nbdkit" <<X
#!/usr/bin/env bash
case "\$*" in
  *" dir="*) "$PYTHON" "$tmp/try.py" "$tmp" "$state" >&2 ;;
esac
exec "$NBDKIT" "\$@"
X
cat >"$tmp/try.py" <<'PY'
import errno, os, sys
tmp, state = sys.argv[1:]
disk, map = tmp + "/a.img", state + "/exports/vda/first.map"

def reopened(path):
    fd = os.open(path, os.O_RDONLY)
    return os.open("/proc/self/fd/%d" % fd, os.O_RDWR)

def cloned():
    pid = os.fork()
    if pid == 0:
        try:
            os.open(disk, os.O_RDWR)
            os._exit(0)
        except OSError as e:
            os._exit(e.errno)
    err = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if err:
        raise OSError(err, "")

tries = {
    "write": lambda: os.open(disk, os.O_WRONLY),
    "update": lambda: os.open(disk, os.O_RDWR | os.O_DIRECT),
    "append": lambda: os.open(disk, os.O_WRONLY | os.O_APPEND),
    "truncating": lambda: os.open(disk, os.O_WRONLY | os.O_TRUNC),
    "truncate": lambda: os.truncate(disk, 0),
    "reopened": lambda: reopened(disk),
    "in a child": cloned,
    "map": lambda: os.open(map, os.O_RDWR),
    "remove": lambda: os.unlink(disk),
    "rename": lambda: os.rename(disk, tmp + "/b.img"),
    "create": lambda: os.open(tmp + "/new", os.O_WRONLY | os.O_CREAT, 0o600),
    "nameless": lambda: os.open(tmp, os.O_RDWR | os.O_TMPFILE, 0o600),
    "directory": lambda: os.mkdir(tmp + "/new"),
    "link": lambda: os.symlink(disk, tmp + "/new"),
    "pipe": lambda: os.mkfifo(tmp + "/new"),
}
for name, what in tries.items():
    try:
        what()
        print("could:", name)
    except OSError as e:
        print("could not:" if e.errno == errno.EACCES
              else "odd: %d:" % e.errno, name)
os.close(os.open(disk, os.O_RDONLY))
with open("/proc/self/status") as f:
    print("privileges:", [l for l in f if l.startswith("NoNewPrivs")][0])
PY
chmod +x "$tmp/nbdkit"

start_daemon
! finds "no Landlock" <"$tmp/daemon.log" || skip "this kernel has no Landlock"
nf snapshot create vda first
: >"$tmp/daemon.log"
NBDKIT_REAL=$NBDKIT
stop_daemon
NBDKIT=$tmp/nbdkit start_daemon
NBDKIT=$NBDKIT_REAL

finds 'could not: write' <"$tmp/daemon.log"
! finds 'could: ' <"$tmp/daemon.log" || fail "the snapshot server could write"
! finds 'odd: ' <"$tmp/daemon.log" || fail "refused for another reason"
[ "$(grep -c 'could not: ' "$tmp/daemon.log")" = 15 ] || fail "not all tried"
finds -E 'privileges: NoNewPrivs:.1' <"$tmp/daemon.log"
nbdcopy "$(snapshot_uri vda first)" "$tmp/out.raw"
same "$tmp/out.raw" "$tmp/before"
same "$tmp/a.img" "$tmp/before"

say "nor do the others gain rights"
for p in vda.pid backup.pid; do
  finds -E '^NoNewPrivs:.1' <"/proc/$(cat "$run/$p")/status" || fail "$p"
done
stop_daemon
