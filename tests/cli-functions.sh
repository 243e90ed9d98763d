# SPDX-FileCopyrightText: The nbdfleece authors
# SPDX-License-Identifier: BSD-3-Clause

# What tests of the command line share; sourced after functions.sh.

export TZ=UTC LC_ALL=C
export NBDFLEECE_SOCKET=$tmp/control.sock
requests=$tmp/requests

# fake_daemon SCRIPT: starts one (see fake-daemon.py); its pid is in $pid.
fake_daemon () {
  printf '%s' "$1" >"$tmp/script.json"
  : >"$requests"
  rm -f "$NBDFLEECE_SOCKET"
  start "$PYTHON" "$abs_top_srcdir/tests/fake-daemon.py" \
        "$NBDFLEECE_SOCKET" "$tmp/script.json" "$requests"
  wait_for 30 test -S "$NBDFLEECE_SOCKET"
}

# run STATUS ARGUMENTS...: runs nbdfleece, which must end with STATUS; what it
# said is in $tmp/out and $tmp/err.
run () {
  local expected=$1 status=0
  shift
  "$NBDFLEECE" "$@" >"$tmp/out" 2>"$tmp/err" || status=$?
  [ $status = "$expected" ] || {
    cat "$tmp/out" "$tmp/err" >&2
    fail "status $status, not $expected: nbdfleece $*"
  }
}

# says FILE: FILE holds exactly what is on stdin.
says () {
  cat >"$tmp/expected"
  diff "$tmp/expected" "$tmp/$1" >&2 || fail "$1: not as expected (<)"
}

# fails_with STATUS LINE ARGUMENTS...: ends with STATUS, says LINE on stderr
# and nothing else.
fails_with () {
  local status=$1 line=$2
  shift 2
  run "$status" "$@"
  says err <<<"nbdfleece: $line"
  says out </dev/null
}

# json FILE EXPRESSION: Python's idea of a document d in FILE.
json () {
  "$PYTHON" -c "import json, sys; d = json.load(open(sys.argv[1])); print($2)" \
            "$tmp/$1"
}

# requested COMMAND MEMBERS: the last request was this, apart from its id.
requested () {
  "$PYTHON" - "$requests" "$1" "$2" <<'PY' || fail "not the request for $1"
import json, sys
with open(sys.argv[1]) as f:
    got = json.loads(f.readlines()[-1])
del got["id"]
expected = dict(json.loads(sys.argv[3]), command=sys.argv[2])
if got != expected:
    print("got", got, "expected", expected, file=sys.stderr)
    sys.exit(1)
PY
}

# job STATE DONE [MEMBERS]: a job object, of 10 GiB, with DONE percent done.
job () {
  "$PYTHON" - "$1" "$2" "${3:-{\}}" <<'PY'
import json, sys
state, done, more = sys.argv[1], int(sys.argv[2]), json.loads(sys.argv[3])
total = 10 << 30
ended = state in ("completed", "incomplete", "failed", "cancelled")
job = {
    "id": "17", "export": "vda", "target": "/backup/vda.raw", "sync": "full",
    "snapshot": "job-17", "state": state, "error": None,
    "instant": "2025-01-31T12:00:00.123456789Z",
    "instant-ns": 1738324800123456789,
    "created": "2025-01-31T12:00:00.200000000Z",
    "created-ns": 1738324800200000000,
    "ended": "2025-01-31T12:01:30.200000000Z" if ended else None,
    "ended-ns": 1738324890200000000 if ended else None,
    "pid": None if ended else 4711, "restarts": 0, "speed": 0,
    "max-requests": None, "connections": 4,
    "on-source-error": "report", "on-target-error": "stop",
    "retry-ms": 60000,
    "bytes-total": total, "bytes-done": -(-total * done // 100),
    "bytes-read": 4 << 30, "bytes-written": 4 << 30, "bytes-zero": 6 << 30,
    "bytes-skipped": 0, "bytes-offloaded": 0, "bytes-recopied": 0,
    "bytes-lost": 0, "bytes-per-second": 120 << 20,
    "eta-seconds": None if ended else (100 - done) * 9 // 10,
    "offload": "none",
    "guest-copies": {
        "bytes": 3 << 20, "bytes-zero": 1 << 20, "bytes-lost": 0,
        "scratch-bytes": 2 << 20, "parts": [
            {"offset": 0, "length": 160 << 20, "bytes": 1 << 20},
            {"offset": 1280 << 20, "length": 160 << 20, "bytes": 2 << 20},
        ]},
}
job.update(more)
print(json.dumps(job))
PY
}
