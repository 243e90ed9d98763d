# SPDX-FileCopyrightText: The nbdfleece authors
# SPDX-License-Identifier: BSD-3-Clause

# For tests with a daemon: sourced after functions.sh.

run=$tmp/run
state=$tmp/state
config=$tmp/nbdfleece.yaml

# write_config: stdin is what follows state-dir and run-dir.
write_config () {
  { printf 'state-dir: %s\nrun-dir: %s\n' "$state" "$run"; cat; } >"$config"
}

# start_daemon [ARGS]: in the foreground; its pid is in $daemon, its messages
# are in $tmp/daemon.log.  Returns when it serves.
start_daemon () {
  start "$NBDFLEECED" -f -v -c "$config" "$@" 2>>"$tmp/daemon.log"
  daemon=$pid
  wait_for 60 daemon_serves_or_died
  alive "$daemon" || { cat "$tmp/daemon.log" >&2; fail "the daemon ended"; }
}
daemon_serves_or_died () {
  dead "$daemon" || nf status >/dev/null 2>&1
}

# kill_daemon: as the kernel would.  Nothing else is stopped.
kill_daemon () { stop "$daemon" KILL; }

# stop_daemon: in order; it must succeed and leave nothing in RUN.
stop_daemon () {
  stop "$daemon"
  [ "$status" -eq 0 ] || fail "the daemon ended with status $status"
  [ -z "$(ls -A "$run")" ] || fail "left in $run: $(ls -A "$run")"
}

# nf ARGS: the command line.
nf () { "$NBDFLEECE" -s "$run/control.sock" "$@"; }

# request LINE...: sends lines to the control socket and prints the replies.
request () {
  "$PYTHON" - "$run/control.sock" "$@" <<'PY'
import socket, sys
s = socket.socket(socket.AF_UNIX)
s.settimeout(60)
s.connect(sys.argv[1])
f = s.makefile()
for line in sys.argv[2:]:
    s.sendall(line.encode() + b"\n")
    print(f.readline().rstrip("\n"))
PY
}

# json EXPRESSION: a Python expression about the JSON document `d' on stdin.
json () {
  "$PYTHON" -c 'import json, sys
d = json.load(sys.stdin)
print(eval(sys.argv[1]))' "$1"
}

# state_of EXPORT, pid_of EXPORT, job_state ID
export_field () {
  nf --json status |
    json "[e for e in d['exports'] if e['name'] == '$1'][0]['$2']"
}
state_of () { export_field "$1" state; }
pid_of () { export_field "$1" pid; }
is_running () { [ "$(state_of "$1")" = running ]; }
job_field () { nf --json job show "$1" | json "d['job']['$2']"; }
job_is () { [ "$(job_field "$1" state)" = "$2" ]; }
job_got_further () { [ "$(job_field "$1" bytes-done)" -gt "$2" ]; }

guest_uri () { printf 'nbd+unix:///%s?socket=%s' "$1" "$run/$1.sock"; }
snapshot_uri () {
  printf 'nbd+unix:///%s@%s?socket=%s' "$1" "$2" "$run/backup.sock"
}

# no_snapshot_files: nothing of any snapshot is left.
no_snapshot_files () {
  [ -z "$(find "$state" -name '*.map' -o -name '*.scratch')" ]
}
