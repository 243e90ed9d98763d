#!/usr/bin/env bash
# SPDX-FileCopyrightText: The nbdfleece authors
# SPDX-License-Identifier: BSD-3-Clause

# Daemon: nobody else may look at its files or talk to it, whatever the umask.

. "${abs_top_srcdir:-$(dirname "$0")/..}/tests/functions.sh"
. "$abs_top_srcdir/tests/daemon.sh"

umask 0
head -c 4M /dev/urandom >"$tmp/a.img"
chmod 0600 "$tmp/a.img"
mkdir -m 0700 "$tmp/scratch"
write_config <<X
exports:
  - {name: vda, disk: $tmp/a.img, scratch: $tmp/scratch}
  - {name: vdb, disk: {plugin: memory, options: {size: 4M}}}
X

say "state-dir and run-dir that others could change are refused"
for d in state run; do
  mkdir -m 0770 "$tmp/$d"
  must_fail "$d-dir .*: it is another user's, or others may write there" \
            "$NBDFLEECED" -f -c "$config"
  rmdir "$tmp/$d"
  rm -rf "$state" "$run"
done

say "modes"
start_daemon
nf snapshot create vda,vdb s
nf backup vda "$tmp/out.raw" --checkpoint c
nf backup vda --detach "$tmp/slow.raw" --speed 1
wait_for 60 [ -e "$tmp/slow.raw" ]
open=$(find "$state" "$run" "$tmp/scratch" "$tmp"/out.raw* "$tmp/slow.raw" \
            -perm /077 ! -type l)
[ -z "$open" ] || fail "others may use: $(ls -ld $open)"
for f in "$run"/control.sock "$run"/{vda,backup}.sock "$run/vda.ctl" \
         "$run/vda.log" "$run/job-2.progress" "$state/exports/vda/s.map" \
         "$state/exports/vda/c.dirty" "$state/jobs/2.json" \
         "$tmp/scratch/vda@s.scratch"; do
  [ -e "$f" ] || fail "not looked at: $f"
done

if [ "$(id -u)" = 0 ] && command -v setpriv >/dev/null; then
  say "who else gets through to the sockets is still not let in"
  chmod 0711 "$tmp" "$run"
  chmod 0666 "$run/control.sock" "$run/vda.ctl"
  as_nobody () { setpriv --reuid=65534 --clear-groups "$@"; }
  cat >"$tmp/connect.py" <<'PY'
import socket, sys
s = socket.socket(socket.AF_UNIX, getattr(socket, sys.argv[2]))
s.settimeout(60)
s.connect(sys.argv[1])
try:
    s.send(b'{"command":"version"}\n')
except OSError:
    pass
try:
    sys.stdout.write(s.recv(4096).decode())
except ConnectionError:
    pass
PY
  chmod 0644 "$tmp/connect.py"
  as_nobody "$PYTHON" "$tmp/connect.py" "$run/control.sock" SOCK_STREAM \
            >"$tmp/said"
  finds '"code":"forbidden"' <"$tmp/said" || fail "said: $(cat "$tmp/said")"
  [ "$(wc -l <"$tmp/said")" = 1 ] || fail "more than a refusal"
  as_nobody "$PYTHON" "$tmp/connect.py" "$run/vda.ctl" SOCK_SEQPACKET \
            >"$tmp/said"
  [ ! -s "$tmp/said" ] || fail "the filter answered: $(xxd "$tmp/said")"
fi
nf job cancel 2
stop_daemon
