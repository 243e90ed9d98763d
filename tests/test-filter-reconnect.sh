#!/usr/bin/env bash
# SPDX-FileCopyrightText: The nbdfleece authors
# SPDX-License-Identifier: BSD-3-Clause

# The reconnecting filter: requests in parallel, a server that goes and comes
# back under them, errors that are answers, a server that is another one then.

. "${abs_top_srcdir:-$(dirname "$0")/..}/tests/functions.sh"

# nbdkit's nbd plugin does not always join the thread of a connection that is
# lost; it is unloaded when that is reported, so tsan.supp cannot name it.
[ "$NBDFLEECE_SANITIZER" != thread ] ||
  export TSAN_OPTIONS=$TSAN_OPTIONS:report_thread_leaks=0
requires_tool nbdkit nbdinfo jq
requires_python_nbd
reconnect=$(dirname "$NBDFLEECE_FILTER")/nbdkit-fleece-reconnect-filter.so

truncate -s 4M "$tmp/disk"
start_server () { start_nbdkit far "$@"; far=$pid; }
start_near () {
  start_nbdkit near --filter="$reconnect" nbd socket="$tmp/far.sock" "$@"
  near=$pid
}
# nbdkit closes nothing of a client that is there when it ends, and a thread of
# the plugin's would be left.
stop_near () {
  wait_for 60 no_clients
  stop "$near"
}
# A client has more than sixteen threads.
no_clients () {
  [ "$(sed -n 's/^Threads:[[:space:]]*//p' "/proc/$near/status")" -lt 8 ]
}
no_need () { ! grep -q 'connecting again' "$tmp/near.log"; }

say "what the server can, it can; and many requests at a time"
start_server --filter=delay file "$tmp/disk" rdelay=200ms
start_near
for s in far near; do
  nbdinfo --json "$(uri $s)" | jq -S '.exports[0] | del (.uri)' >"$tmp/$s.json"
done
diff -u "$tmp/far.json" "$tmp/near.json"
"$PYTHON" - "$(uri near)" <<'PY'
import nbd, sys, time
h = nbd.NBD()
h.connect_uri(sys.argv[1])
start = time.monotonic()
cookies = [h.aio_pread(nbd.Buffer(512), 512 * i) for i in range(16)]
first = None
while cookies:
    h.poll(-1)
    done = [c for c in cookies if h.aio_command_completed(c)]
    if done and first is None:
        first = time.monotonic() - start
    cookies = [c for c in cookies if c not in done]
# One after the other they would take 16 times as long as the first.
assert time.monotonic() - start < 8 * first, (time.monotonic() - start, first)
PY
stop_near
stop "$far"

say "an error is an answer, at once"
start_server --filter=error file "$tmp/disk" error-pread=EINVAL \
  error-pread-rate=1 error-pread-file="$tmp/fail" \
  error-pwrite=EIO error-pwrite-rate=1 error-pwrite-file="$tmp/fail"
start_near
: >"$tmp/fail"
"$PYTHON" - "$(uri near)" "$tmp/fail" <<'PY'
import errno, nbd, sys
h = nbd.NBD()
h.connect_uri(sys.argv[1])
try:
    h.pwrite(b"x" * 512, 0)
    assert False
except nbd.Error as e:
    assert e.errnum == errno.EIO, e
PY
no_need || fail "it connected again for EIO"
rm "$tmp/fail"
stop_near
stop "$far"

say "a server that is killed and comes back, over and over, under four guests"
start_server file "$tmp/disk"
start_near fleece-reconnect=120
cat >"$tmp/guest.py" <<'PY'
import nbd, os, random, sys
uri, at, stop, beat = sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4]
size = 1 << 20
random.seed(at)
disk = bytearray(size)
h = nbd.NBD()
h.connect_uri(uri)
n = 0
while not os.path.exists(stop):
    pending = []
    for slot in range(8):               # eight that do not overlap
        n += 1
        lo = slot * (size // 8)
        off = lo + random.randrange(size // 8 - 9000)
        count = random.randrange(1, 9000)
        data = bytes([n % 255 + 1]) * count
        if n % 7 == 0:
            data = bytes(count)
            pending.append(h.aio_zero(count, at + off))
        else:
            pending.append(h.aio_pwrite(nbd.Buffer.from_bytearray(bytearray(data)), at + off))
        disk[off:off + count] = data
    while pending:
        h.poll(-1)
        pending = [c for c in pending if not h.aio_command_completed(c)]
    h.flush()
    off = random.randrange(size - 9000)
    assert h.pread(9000, at + off) == disk[off:off + 9000]
    open(beat, "w").close()
assert h.pread(size, at) == disk
h.shutdown()
PY
guests=()
for i in 0 1 2 3; do
  start "$PYTHON" "$tmp/guest.py" "$(uri near)" $((i << 20)) "$tmp/stop" \
    "$tmp/beat.$i"
  guests+=("$pid")
done
all_beat () {
  [ "$(find "$tmp" -name 'beat.*' | wc -l)" = 4 ]
}
losses () { grep -c 'connecting again' "$tmp/near.log" || true; }
lost () { [ "$(losses)" -gt "$before" ]; }
for _ in 1 2 3 4 5 6; do
  rm -f "$tmp"/beat.*
  wait_for 120 all_beat
  before=$(losses)
  stop "$far" KILL
  rm -f "$tmp/far.sock"
  wait_for 60 lost
  start_server file "$tmp/disk"
done
: >"$tmp/stop"
for p in "${guests[@]}"; do
  wait_for 120 dead "$p"
  wait "$p" || fail "a guest failed"
done
stop_near

say "a request that comes when the server has long gone"
start_near fleece-reconnect=120
"$PYTHON" - "$(uri near)" "$tmp/idle" <<'PY' &
import nbd, os, sys, time
h = nbd.NBD()
h.connect_uri(sys.argv[1])
before = h.pread(4096, 0)
open(sys.argv[2], "w").close()
while os.path.exists(sys.argv[2]):
    time.sleep(0.01)
assert h.pread(4096, 0) == before
PY
idle=$!
pids+=("$idle")
wait_for 60 test -e "$tmp/idle"
stop "$far" KILL
rm -f "$tmp/far.sock"
start_server file "$tmp/disk"
rm "$tmp/idle"
wait_for 120 dead "$idle"
wait "$idle" || fail "the idle guest failed"
stop_near

say "a server that does not come back, or with another disk"
start_near fleece-reconnect=1
"$PYTHON" - "$(uri near)" "$tmp/gone" <<'PY' &
import errno, nbd, os, sys, time
h = nbd.NBD()
h.connect_uri(sys.argv[1])
open(sys.argv[2], "w").close()
for i in range(2):
    while os.path.exists(sys.argv[2]):
        time.sleep(0.01)
    try:
        h.pread(4096, 0)
        assert False
    except nbd.Error as e:
        assert e.errnum == errno.EIO, e
    open(sys.argv[2], "w").close()
PY
gone=$!
pids+=("$gone")
wait_for 60 test -e "$tmp/gone"
stop "$far" KILL
rm -f "$tmp/far.sock" "$tmp/gone"
wait_for 60 test -e "$tmp/gone"
start_server memory 3M
rm "$tmp/gone"
wait_for 60 dead "$gone"
wait "$gone" || fail "the guest failed"
grep -q 'has another disk (3145728 bytes)' "$tmp/near.log"
stop_near
