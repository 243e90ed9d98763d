#!/usr/bin/env bash
# SPDX-FileCopyrightText: The nbdfleece authors
# SPDX-License-Identifier: BSD-3-Clause

# One instant for several exports: all of them or none.

. "${abs_top_srcdir:-$(dirname "$0")/..}/tests/functions.sh"
. "$abs_top_srcdir/tests/daemon.sh"
requires_python_nbd

start_nbdkit slow --filter=delay memory 1M wdelay=8
for i in 1 2 3 4; do truncate -s 1M "$tmp/$i.img"; done
write_config <<X
exports:
  - {name: v1, disk: $tmp/1.img}
  - {name: v2, disk: $tmp/2.img}
  - {name: v3, disk: $tmp/3.img}
  - {name: v4, disk: $tmp/4.img}
  - {name: slow, disk: "$(uri slow)", freeze-timeout: 300ms}
X
start_daemon

say "a write that is under way for longer than the shortest freeze-timeout"
cat >"$tmp/write.py" <<'PY'
import nbd, sys
h = nbd.NBD()
h.connect_uri(sys.argv[1])
h.aio_pwrite(nbd.Buffer.from_bytearray(bytearray(4096)), 0)
h.poll(0)
print("sent", flush=True)
while h.aio_in_flight() > 0:
    h.poll(-1)
PY
start "$PYTHON" "$tmp/write.py" "$(guest_uri slow)" >"$tmp/sent"
wait_for 10 grep -q sent "$tmp/sent"
in_slow () { [ "$(export_field slow writes)" -gt 0 ]; }
wait_for 10 in_slow
begin='"command":"snapshot-create","name":"s","deadline-ms":300'
request '{"command":"snapshot-create","name":"s","exports":["v1","slow","v2"]}' >"$tmp/reply"
[ "$(json "d['error']['code']" <"$tmp/reply")" = timeout ]
json "d['error']['message']" <"$tmp/reply" | finds 'export slow.* within 300 ms'
no_snapshot_files
[ -z "$(find "$state" -name 'begin-*')" ]

say "than a deadline, alone; and the others are not held up meanwhile"
request "{$begin,\"exports\":[\"slow\"]}" >"$tmp/reply" &
first=$!
nf snapshot create v1,v2 meanwhile >/dev/null
wait $first
[ "$(json "d['error']['code']" <"$tmp/reply")" = timeout ]
[ "$(nf --json snapshot list | json "len(d['snapshots'])")" = 2 ]
must_fail 'export v3 has no snapshot meanwhile' nf snapshot delete v1,v3 meanwhile
must_fail 'v1 is there twice' nf snapshot delete v1,v1 meanwhile
[ "$(nf --json snapshot list | json "len(d['snapshots'])")" = 2 ]
nf snapshot delete v1,v2 meanwhile
no_snapshot_files
wait_for 60 dead "$pid"

say "many who want the same exports at once"
for i in $(seq 10); do
  nf snapshot create v1,v2,v3 "many$i" >"$tmp/many$i" 2>&1 &
  nf snapshot create "v$((i % 4 + 1))" "one$i" >"$tmp/one$i" 2>&1 &
done
for job in $(jobs -p); do
  case " ${pids[*]} " in *" $job "*) ;; *) wait "$job" || { cat "$tmp"/many* "$tmp"/one*; false; } ;; esac
done
[ "$(nf --json snapshot list | json "len(d['snapshots'])")" = 40 ]

say "an nbdkit that does not answer holds up nobody"
hung=$(pid_of v4)
kill -STOP "$hung"
began=$SECONDS
nf snapshot delete v1 many1
nf snapshot create v1 many1 >/dev/null
[ "$(export_field v4 writes)" = None ]
[ "$(export_field v1 writes)" != None ]
request "{$begin,\"exports\":[\"v4\",\"v2\"]}" >"$tmp/reply" &
first=$!
must_fail 'does not answer' nf snapshot delete v4 one3
wait $first
[ "$(json "d['error']['code']" <"$tmp/reply")" = timeout ]
[ $((SECONDS - began)) -lt 60 ]
kill -CONT "$hung"
wait_for 30 eval '[ "$(find "$state/exports/v4" -name "*.map" | wc -l)" = 1 ]'
[ "$(state_of v4)" = running ] && [ "$(pid_of v4)" = "$hung" ]
[ "$(nf --json snapshot list | json "len(d['snapshots'])")" = 39 ]

say "the daemon killed between the first begin and the last"
request '{"command":"snapshot-create","name":"half","exports":["v1","v2"]}' >"$tmp/reply"
uuid=$(json "d['result']['snapshots'][0]['uuid']" <"$tmp/reply")
kill_daemon
rm "$state/exports/v2/half.map"
printf 'v1@half %s\nv2@half %s\n' "$uuid" 00000000-0000-0000-0000-000000000000 \
  >"$state/begin-test"
start_daemon
wait_for 10 eval '! nf --json snapshot list | finds half'
[ ! -e "$state/begin-test" ] && [ ! -e "$state/exports/v1/half.map" ]
wait_for 10 grep -q "v2: ending a snapshot that nobody knows" "$tmp/daemon.log"
stop_daemon
