#!/usr/bin/env bash
# SPDX-FileCopyrightText: The nbdfleece authors
# SPDX-License-Identifier: BSD-3-Clause

# A small scratch carries a large backup: what sits in it goes to the target
# first, and what was drained costs no copy any more.

. "${abs_top_srcdir:-$(dirname "$0")/..}/tests/functions.sh"
. "$abs_top_srcdir/tests/daemon.sh"
requires_python_nbd

head -c 128M /dev/urandom >"$tmp/a.img"
cp "$tmp/a.img" "$tmp/then"
write_config <<X
exports:
  - name: vda
    disk: $tmp/a.img
    scratch-limit: 4M
X
start_daemon

# A guest that rewrites the disk from its end, where the job gets last; as fast
# as the scratch allows, since who overruns it loses clusters, by design.
cat >"$tmp/guest.py" <<'PY'
import mmap, nbd, os, struct, sys, time
uri, path = sys.argv[1:]
h = nbd.NBD ()
h.connect_uri (uri)
fd = os.open (path, os.O_RDONLY)
live = mmap.mmap (fd, 4096, prot=mmap.PROT_READ)
def scratch_bytes ():           # docs/architecture.md, "Files"
  return struct.unpack_from ("=Q", live, 3160 + 24)[0]
for i in range (2048 - 1, -1, -1):
  while scratch_bytes () > 3 << 20:
    time.sleep (0.002)
  h.pwrite (os.urandom (65536), i * 65536)
PY
job=$(nf backup vda "$tmp/out" --speed 24M --checkpoint c1 --detach)
"$PYTHON" "$tmp/guest.py" "$(guest_uri vda)" \
          "$state/exports/vda/job-$job.map"
nf job wait "$job" >/dev/null || { nf job show "$job"; fail "not completed"; }
same "$tmp/then" "$tmp/out"
[ "$(job_field "$job" bytes-lost)" = 0 ]


# Many times its size went through the scratch, mostly of the disk's end.
nf --json job show "$job" >"$tmp/job"
bytes=$(json "d['job']['guest-copies']['bytes']" <"$tmp/job")
[ "$bytes" -ge $((16 << 20)) ] || fail "only $bytes bytes"
[ "$(json "max (d['job']['guest-copies']['parts'],
            key=lambda p: (p['bytes'], p['offset']))['offset']" <"$tmp/job")" \
  -ge $((64 << 20)) ]

say "the guest's own data is there, and what it changed is known"
cp "$tmp/a.img" "$tmp/then"
nf backup vda "$tmp/out" --since c1 >/dev/null
same "$tmp/then" "$tmp/out"
no_snapshot_files
stop_daemon
