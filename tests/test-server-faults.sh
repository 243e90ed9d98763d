#!/usr/bin/env bash
# SPDX-FileCopyrightText: The nbdfleece authors
# SPDX-License-Identifier: BSD-3-Clause

# Targets that fail, hang, are slow, full or killed: the job does what the
# action says, and the guest's writes do not wait.

. "${abs_top_srcdir:-$(dirname "$0")/..}/tests/functions.sh"
. "$abs_top_srcdir/tests/daemon.sh"
requires_tool nbdkit nbdcopy
requires_python_nbd

size=$((16 << 20))
head -c $size /dev/urandom >"$tmp/a.img"
head -c $size /dev/urandom >"$tmp/b.img"
start_nbdkit live --filter=error file "$tmp/b.img" error-pread=EIO \
             error-pread-rate=100% error-pread-file="$tmp/bad-disk"
write_config <<X
exports:
  - name: vda
    disk: $tmp/a.img
  - name: vdb
    disk: $(uri live)
X
start_daemon

# A guest that writes all the time, mostly to clusters that have to be copied,
# and notes how long each write took.  It holds while there is $tmp/hold.
cat >"$tmp/guest.py" <<'PY'
import nbd, os, random, sys, time
uri, log, stop, hold, held = sys.argv[1:]
h = nbd.NBD ()
h.connect_uri (uri)
n = h.get_size () // 4096
with open (log, "w") as f:
  while not os.path.exists (stop):
    if os.path.exists (hold):
      open (held, "w").close ()
      time.sleep (0.001)
      continue
    start = time.monotonic ()
    h.pwrite (os.urandom (4096), random.randrange (n) * 4096)
    print (time.monotonic () - start, file=f, flush=True)
    time.sleep (0.002)
PY
start "$PYTHON" "$tmp/guest.py" "$(guest_uri vda)" "$tmp/writes" "$tmp/stop" \
      "$tmp/hold" "$tmp/held"
guest=$pid

# begin TARGET ARGS: a backup of vda; its id is in $job, and $tmp/then is the
# disk at its instant.
begin () {
  rm -f "$tmp/held"
  : >"$tmp/hold"
  wait_for 60 test -e "$tmp/held"
  cp "$tmp/a.img" "$tmp/then"
  job=$(nf backup vda "$@" --detach)
  rm "$tmp/hold"
}
# meanwhile: so many writes of the guest begin and end while things are as they
# are.  One that waited for the target would not.
writes () { wc -l <"$tmp/writes"; }
wrote () { [ "$(writes)" -ge "$1" ]; }
meanwhile () { wait_for 120 wrote $(($(writes) + 200)); }
says () { nf job show "$job" | finds -E "^error .*$1"; }
# ends STATE: so the job ends; nothing of it is left.
ends () {
  local got
  nf job wait "$job" >/dev/null 2>"$tmp/wait.err" || true
  got=$(job_field "$job" state)
  [ "$got" = "$1" ] || { nf job show "$job" >&2; fail "$got, not $1"; }
  no_snapshot_files
}
# holds: the target has what it was to get.
holds () {
  nbdcopy "$1" "$tmp/pulled"
  same "$tmp/then" "$tmp/pulled"
}
now_ms () { echo $(($(date +%s%N) / 1000000)); }

# What is not flushed is lost with the server.
serve () {
  start_nbdkit t "${@:---filter=cache}" file "$tmp/t.img" "${options[@]}"
  server=$pid
}
options=(cache=writeback)
truncate -s $size "$tmp/t.img"

say "nothing wrong, for comparison"
serve
begin "$(uri t)"
ends completed
holds "$(uri t)"
meanwhile
quiet=$(writes)

say "a target that hangs"
begin "$(uri t)" --speed 4M
wait_for 60 job_got_further "$job" 0
kill -STOP "$server"
meanwhile
job_is "$job" running
kill -CONT "$server"
nf job speed "$job" none >/dev/null
ends completed
holds "$(uri t)"

say "one that hangs for good: cancelled all the same"
begin "$(uri t)" --speed 4M
wait_for 60 job_got_further "$job" 0
kill -STOP "$server"
nf job cancel "$job" >/dev/null
ends cancelled
meanwhile
stop "$server" KILL

say "a slow one: a delay of each write, and a rate"
options=(wdelay=2 cache=writeback)
serve --filter=delay --filter=cache
begin "$(uri t)" --max-requests 4
meanwhile
job_is "$job" running
nf job cancel "$job" >/dev/null
ends cancelled
stop "$server"
options=(rate=40M)
serve --filter=rate
took=$(now_ms)
begin "$(uri t)"
meanwhile
ends completed
took=$(($(now_ms) - took))
# Bits, with a bucket for two seconds that is full at first: 10 MB of nearly 17.
[ $took -ge 800 ] || fail "it took $took ms"
holds "$(uri t)"
stop "$server"

say "a server that is killed: connected to again, or not"
options=(cache=writeback)
serve
begin "$(uri t)" --speed 4M --retry 10m
wait_for 60 job_got_further "$job" $((1 << 20))
stop "$server" KILL
wait_for 60 says 'trying again'
meanwhile
serve
nf job speed "$job" none >/dev/null
ends completed
holds "$(uri t)"
[ "$(job_field "$job" bytes-recopied)" -ge $((1 << 20)) ]
for action in report stop enospc; do
  begin "$(uri t)" --speed 4M --retry 100ms --on-target-error $action
  wait_for 60 job_got_further "$job" 0
  stop "$server" KILL
  if [ $action = stop ]; then
    wait_for 60 job_is "$job" stopped-on-error
    meanwhile
    serve
    nf job speed "$job" none >/dev/null
    nf job resume "$job" >/dev/null
    ends completed
    holds "$(uri t)"
  else
    ends failed
    serve
  fi
done
stop "$server"

for error in EIO ENOSPC; do
  case $error in EIO) text='Input/output error' ;; *) text='No space left' ;; esac
  options=(error-pwrite=$error error-pwrite-rate=100%
           error-pwrite-file="$tmp/broken")
  serve --filter=error
  for action in report stop ignore enospc; do
    say "$error: $action"
    touch "$tmp/broken"
    begin "$(uri t)" --on-target-error $action
    case $action:$error in
      report:* | enospc:EIO)
        ends failed
        says "$text"
        [ "$(wc -l <"$tmp/wait.err")" = 1 ]
        continue ;;
      stop:* | enospc:ENOSPC) wait_for 60 job_is "$job" stopped-on-error ;;
    esac
    wait_for 60 says "$text"
    meanwhile
    [ "$action" != ignore ] || job_is "$job" running
    if [ $action = stop ]; then
      # Again, still broken: it says so again.
      nf job resume "$job" >/dev/null
      wait_for 60 job_is "$job" stopped-on-error
    fi
    rm "$tmp/broken"
    [ "$action" = ignore ] || nf job resume "$job" >/dev/null
    ends completed
    [ "$(job_field "$job" error)" = None ]
    holds "$(uri t)"
  done
  rm -f "$tmp/broken"
  stop "$server"
done

say "stopped, and then: copier and daemon killed; cancelled"
options=(error-pwrite=EIO error-pwrite-rate=100%
         error-pwrite-file="$tmp/broken")
serve --filter=error
touch "$tmp/broken"
begin "$(uri t)" --on-target-error stop
wait_for 60 job_is "$job" stopped-on-error
kill_daemon
kill -KILL "$(cat "$run/job-$job.copy.pid")"
start_daemon
wait_for 60 job_is "$job" stopped-on-error
says 'Input/output error'
rm "$tmp/broken"
nf job resume "$job" >/dev/null
ends completed
holds "$(uri t)"
touch "$tmp/broken"
begin "$(uri t)" --on-target-error stop
wait_for 60 job_is "$job" stopped-on-error
nf job cancel "$job" >/dev/null
ends cancelled
rm "$tmp/broken"

say "the source's disk fails: stop, and go on; report"
touch "$tmp/bad-disk"
job=$(nf backup vdb "$tmp/b.out" --on-source-error stop --detach)
wait_for 60 job_is "$job" stopped-on-error
says 'reading .*Input/output error'
rm "$tmp/bad-disk"
nf job resume "$job" >/dev/null
ends completed
same "$tmp/b.img" "$tmp/b.out"
touch "$tmp/bad-disk"
must_fail 'Input/output error' nf backup vdb "$tmp/b.out2"
rm "$tmp/bad-disk"

say "no write of the guest has waited"
: >"$tmp/stop"
wait_for 60 dead $guest
wait $guest || fail "the guest failed"
"$PYTHON" - "$tmp/writes" "$quiet" <<'PY'
import sys
t = [float (line) for line in open (sys.argv[1])]
n = int (sys.argv[2])
def q (x, p): return sorted (x)[min (len (x) - 1, int (len (x) * p))] * 1000
for what, x in ("before", t[:n]), ("with faults", t[n:]):
  print (f"{what}: {len (x)} writes, p50 {q (x, .5):.2f} ms, "
         f"p99 {q (x, .99):.2f} ms, max {max (x) * 1000:.1f} ms", file=sys.stderr)
# Far above what a busy machine does, and far below any wait above.
assert q (t[n:], .5) < 200
assert q (t[n:], .99) < 2000
PY
stop_daemon
