#!/usr/bin/env bash
# SPDX-FileCopyrightText: The nbdfleece authors
# SPDX-License-Identifier: BSD-3-Clause

# nbdfleece: what it asks for and what it prints, for people and programs.

. "${abs_top_srcdir:-$(dirname "$0")/..}/tests/functions.sh"
. "$abs_top_srcdir/tests/cli-functions.sh"

snapshot='{"export": "vda", "name": "monday", "uuid": "u", "state": "active",
  "instant": "2025-01-31T12:00:00.123456789Z",
  "instant-ns": 1738324800123456789, "size": 10737418240,
  "cluster-size": 4096, "clusters": 2621440, "clusters-copied": 1234567,
  "clusters-zero": 3, "clusters-lost": 0, "clusters-released": 0,
  "scratch": "/s", "scratch-bytes": 5056774144, "durable": false, "job": null,
  "uris": ["nbd+unix:///vda@monday?socket=/r/backup.sock",
           "nbd://h:10809/vda@monday"]}'
second=${snapshot/vda/disk-with-a-long-name}
second=${second/'"job": null'/'"job": "17"'}
second=${second/'"durable": false'/'"durable": true'}
status='{"daemon": {"version": "0.1.0", "protocol": 1, "pid": 812,
    "started": "t", "started-ns": 1738324800123456789,
    "nbdkit-version": "1.32.5", "config": "/etc/nbdfleece.yaml",
    "state-dir": "/s", "run-dir": "/r"},
  "backup": {"state": "running", "reason": null, "pid": 813, "restarts": 0,
    "endpoints": [{"uri": "nbd+unix:///?socket=/r/backup.sock", "tls": "off"},
                  {"uri": "nbds://h:10809/", "tls": "require"}]},
  "exports": [
   {"name": "vda", "state": "running", "reason": null, "pid": 814,
    "restarts": 0, "disk": "/srv/web.raw", "disk-kind": "file", "uri": "x",
    "size": 10737418240, "cluster-size": 4096, "writes": 98765,
    "written-bytes": 404541440, "zeroes": 1, "trims": 2, "cow-requests": 321,
    "held-requests": 4, "failed-requests": 0, "clusters-copied": 5,
    "clusters-zero": 6, "clusters-lost": 0,
    "cow-latency-us": {"p50": 25, "p99": 1234, "p999": 9000, "max": 2500000},
    "snapshots": ['"$snapshot"']},
   {"name": "vdb", "state": "restarting",
    "reason": "nbdkit ended with status 1: no such \u001b[31mdisk",
    "pid": null, "restarts": 3, "disk": "{qcow2: /q}", "disk-kind": "qcow2",
    "uri": "y", "size": null, "cluster-size": null, "writes": null,
    "written-bytes": null, "zeroes": null, "trims": null,
    "cow-requests": null, "held-requests": null, "failed-requests": null,
    "clusters-copied": null, "clusters-zero": null, "clusters-lost": null,
    "cow-latency-us": null, "snapshots": []}],
  "groups": [{"name": "db", "exports": ["vdb", "vda"], "before-freeze": "/x",
              "after-thaw": null}],
  "jobs": ['"$(job running 45)"']}'
checkpoint='{"export": "vda", "name": "monday", "uuid": "c", "state": "consistent",
  "reason": null, "instant": "2025-01-31T12:00:00.123456789Z",
  "instant-ns": 1738324800123456789, "size": 10737418240,
  "cluster-size": 4096, "changed-bytes": 12288, "job": "17"}'
doubtful=${checkpoint/monday/tuesday}
doubtful=${doubtful/\"consistent/\"inconsistent}
doubtful=${doubtful/\"reason\": null/\"reason\": \"the disk changed\"}
doubtful=${doubtful/\"17\"/null}
doubtful=${doubtful/12288/null}
empty='{"daemon": {}, "backup": null, "exports": [], "jobs": []}'

fake_daemon '{
  "status": [{"drip": '"$status"'}],
  "snapshot-create": [{"result": {"snapshots": ['"$snapshot"', '"$second"'],
                                  "gate-closed-us": 1480,
    "gates": [{"export": "vda", "closed-us": 1234},
              {"export": "disk-with-a-long-name", "closed-us": 56}],
    "hooks": [{"hook": "before-freeze", "group": "g", "exports": ["vda"],
               "program": "/p", "error": null, "took-us": 5},
              {"hook": "after-thaw", "group": "g", "exports": ["vda"],
               "program": "/p", "error": "ended with status 3: no\u001b",
               "took-us": 5},
              {"hook": "after-thaw", "group": null, "exports": ["vda"],
               "program": "/q", "error": "took longer than 1s",
               "took-us": 5}]}}],
  "snapshot-rearm": [{"result": {"snapshots": ['"$snapshot"'],
                                 "gate-closed-us": 1480}}],
  "snapshot-list": [{"result": {"snapshots": ['"$snapshot"', '"$second"']}}],
  "snapshot-delete": [{"result": {}}],
  "checkpoint-list": [{"result": {"checkpoints": ['"$checkpoint"', '"$doubtful"']}}],
  "checkpoint-delete": [{"result": {}}],
  "job-list": [{"result": {"jobs": ['"$(job completed 100), $(job failed 3 \
     '{"id": "18", "target": "nbd://h/x", "eta-seconds": null}')"']}}],
  "job-show": [{"result": {"job": '"$(job running 45)"'}}],
  "job-cancel": [{"result": {"job": '"$(job running 45)"'}}],
  "job-pause": [{"result": {"job": '"$(job running 45)"'}}],
  "job-resume": [{"result": {"job": '"$(job paused 45)"'}}],
  "job-speed": [{"result": {"job": '"$(job running 45)"'}}],
  "backup": [{"result": {"job": '"$(job running 0)"'}}],
  "reload": [{"result": {"added": ["vde"], "removed": [], "changed": ["a", "b"]}}]
}'

# A reply that comes byte by byte is one reply.
run 0 status
sed -i 's/up [0-9]*d [0-9:]*,/up FOREVER,/' "$tmp/out"
says out <<'END'
nbdfleeced 0.1.0, pid 812, up FOREVER, configured by /etc/nbdfleece.yaml
backup from nbd+unix:///?socket=/r/backup.sock (tls off)
backup from nbds://h:10809/ (tls require)

EXPORT  STATE       SIZE  CLUSTER  WRITES  WRITTEN  COPIES   P50    P99   MAX  DISK
vda     running      10G       4K   98765     386M     321  25us  1.2ms  2.5s  /srv/web.raw
vdb     restarting     -        -       -        -       -     -      -     -  {qcow2: /q}
export vdb: restarting, started again 3 times, lately because: nbdkit ended with status 1: no such ?[31mdisk
group db: vdb vda

EXPORT  SNAPSHOT  STATE   DURABLE  INSTANT              SIZE  CLUSTER   COPIED  LOST  SCRATCH  JOB
vda     monday    active  no       2025-01-31 12:00:00   10G       4K  1234567     0     4.7G  -

JOB  EXPORT  STATE    INSTANT              DONE  SIZE    RATE  LEFT  TARGET
17   vda     running  2025-01-31 12:00:00   45%   10G  120M/s  0:49  /backup/vda.raw
END
says err </dev/null
requested status '{}'

run 0 --json status
[ "$(json out 'd["exports"][1]["restarts"]')" = 3 ] || fail "--json"
run 0 status --json
[ "$(json out 'd["jobs"][0]["bytes-total"]')" = 10737418240 ] || fail "--json"

run 0 snapshot create vda,disk-with-a-long-name monday
requested snapshot-create \
  '{"exports": ["vda", "disk-with-a-long-name"], "name": "monday"}'
says out <<'END'
vda@monday of 2025-01-31 12:00:00
  nbd+unix:///vda@monday?socket=/r/backup.sock
  nbd://h:10809/vda@monday
disk-with-a-long-name@monday of 2025-01-31 12:00:00
  nbd+unix:///vda@monday?socket=/r/backup.sock
  nbd://h:10809/vda@monday
guests' writes were held for 1.5ms in all: vda 1.2ms, disk-with-a-long-name 56us
END
says err <<'END'
nbdfleece: warning: hook after-thaw of group g failed: /p: ended with status 3: no?
nbdfleece: warning: hook after-thaw of export vda failed: /q: took longer than 1s
END
run 0 snapshot create --deadline 2s vda monday
requested snapshot-create \
  '{"exports": ["vda"], "name": "monday", "deadline-ms": 2000}'

run 0 snapshot list
requested snapshot-list '{}'
says out <<'END'
EXPORT                 SNAPSHOT  STATE   DURABLE  INSTANT              SIZE  CLUSTER   COPIED  LOST  SCRATCH  JOB
vda                    monday    active  no       2025-01-31 12:00:00   10G       4K  1234567     0     4.7G  -
disk-with-a-long-name  monday    active  yes      2025-01-31 12:00:00   10G       4K  1234567     0     4.7G  17
END
run 0 snapshot list vda
requested snapshot-list '{"export": "vda"}'
run 0 snapshot delete vda monday
requested snapshot-delete '{"exports": ["vda"], "name": "monday"}'
says out </dev/null
run 0 snapshot delete vda monday --json
[ "$(json out d)" = '{}' ] || fail "--json"

run 0 snapshot create vda monday --checkpoint cp
requested snapshot-create \
  '{"exports": ["vda"], "name": "monday", "checkpoint": "cp"}'
run 0 snapshot create vda monday --since cp --scope dirty
requested snapshot-create \
  '{"exports": ["vda"], "name": "monday", "since": "cp", "scope": "dirty"}'
run 0 snapshot rearm vda monday --checkpoint cp2 --deadline 1s
requested snapshot-rearm '{"export": "vda", "name": "monday",
  "checkpoint": "cp2", "deadline-ms": 1000}'
grep -q '^vda@monday of 2025-01-31 12:00:00$' "$tmp/out"
run 0 checkpoint list vda
requested checkpoint-list '{"export": "vda"}'
says out <<'END'
CHECKPOINT  INSTANT              CHANGED  JOB  STATE         REASON
monday      2025-01-31 12:00:00      12K  17   consistent    -
tuesday     2025-01-31 12:00:00        -  -    inconsistent  the disk changed
END
run 0 checkpoint delete vda monday
requested checkpoint-delete '{"export": "vda", "name": "monday"}'
says out </dev/null
run 0 checkpoint delete vda monday --json
[ "$(json out d)" = '{}' ] || fail "--json"

run 0 job list
says out <<'END'
JOB  EXPORT  STATE      INSTANT              DONE  SIZE    RATE  LEFT  TARGET
17   vda     completed  2025-01-31 12:00:00  100%   10G  120M/s     -  /backup/vda.raw
18   vda     failed     2025-01-31 12:00:00    3%   10G  120M/s     -  nbd://h/x
END
run 0 job show 17
requested job-show '{"job": "17"}'
says out <<'END'
job               17
kind              -
export            vda
source            -
target            /backup/vda.raw
sync              full
backing           -
compress          -
manifest          -
since             -
checkpoint        -
snapshot          job-17
state             running
error             -
instant           2025-01-31 12:00:00
created           2025-01-31 12:00:00
ended             -
pid               4711
restarts          0
speed             none
max-requests      -
connections       4
on-source-error   report
on-target-error   stop
retry-ms          60000
bytes-total       10G
bytes-done        4.5G
bytes-read        4G
bytes-written     4G
bytes-zero        6G
bytes-skipped     0
bytes-offloaded   0
bytes-recopied    0
bytes-lost        0
bytes-per-second  120M/s
eta-seconds       0:49
offload           none
first-difference  -
bytes-different   -
clusters-different  -
guest-copies      3M, 1M of it zeroes; most in the 160M from 1.2G on: 2M
END
for order in cancel:end pause:pause resume:'go on'; do
  run 0 job "${order%%:*}" 17
  requested "job-${order%%:*}" '{"job": "17"}'
  says out <<<"asked job 17 to ${order#*:}"
done
run 0 job speed 17 10M
requested job-speed '{"job": "17", "speed": 10485760}'
run 0 job speed 17 none
requested job-speed '{"job": "17", "speed": 0}'

# Targets become absolute paths; URIs stay.
cd "$tmp"
run 0 backup --detach vda some/where.raw
requested backup '{"exports": ["vda"], "target": "'"$tmp"'/some/where.raw"}'
says out <<<17
run 0 backup vda --detach qcow2:x.qcow2 --sync full --speed 1M \
    --max-requests=64 --connections 2 --on-source-error stop \
    --on-target-error=enospc --retry 10m
requested backup '{"exports": ["vda"], "target": "qcow2:'"$tmp"'/x.qcow2",
  "sync": "full", "speed": 1048576, "max-requests": 64, "connections": 2,
  "on-source-error": "stop", "on-target-error": "enospc", "retry-ms": 600000}'
run 0 backup vda --detach /t --since monday --checkpoint tuesday \
    --sync incremental
requested backup '{"exports": ["vda"], "target": "/t", "since": "monday",
  "checkpoint": "tuesday", "sync": "incremental"}'
run 0 backup vda --detach 'nbd+unix:///x?socket=/s'
requested backup '{"exports": ["vda"], "target": "nbd+unix:///x?socket=/s"}'
run 0 --json backup vda --detach /dev/vg/lv
requested backup '{"exports": ["vda"], "target": "/dev/vg/lv"}'
[ "$(json out 'd["job"]["id"]')" = 17 ] || fail "--json"

run 0 reload
says out <<'END'
added vde
changed a
changed b
END
stop $pid

# Nothing there.
fake_daemon '{"status": [{"result": '"$empty"'}],
  "snapshot-list": [{"result": {"snapshots": []}}],
  "job-list": [{"result": {"jobs": []}}]}'
run 0 status
says out <<'END'
nbdfleeced -, pid -, up -, configured by -

no exports

no snapshots

no jobs
END
run 0 snapshot list
says out <<<'no snapshots'
run 0 job list
says out <<<'no jobs'

# -s goes before $NBDFLEECE_SOCKET.
NBDFLEECE_SOCKET=/nonexistent run 0 -s "$tmp/control.sock" job list
NBDFLEECE_SOCKET=/nonexistent run 0 job list --socket "$tmp/control.sock"

# Output that cannot be written is a failure.
if [ -w /dev/full ]; then
  status=0
  "$NBDFLEECE" status >/dev/full 2>"$tmp/err" || status=$?
  [ $status = 1 ]
  says err <<<'nbdfleece: cannot write: No space left on device'
fi
