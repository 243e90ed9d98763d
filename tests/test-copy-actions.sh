#!/usr/bin/env bash
# SPDX-FileCopyrightText: The nbdfleece authors
# SPDX-License-Identifier: BSD-3-Clause

# Copier: what an error of source or target leads to: report, stop, ignore,
# enospc.

. "${abs_top_srcdir:-$(dirname "$0")/..}/tests/functions.sh"
. "$abs_top_srcdir/tests/copy.sh"
requires_tool nbdkit nbdcopy

make_image "$tmp/disk" 2M:r 1M:0 2M:- 1M:r
begin_snapshot s "$tmp/disk" 65536

export IMG=$tmp/t.img BROKEN=$tmp/broken

# start_target KIND...: an export whose requests of that kind fail with $error
# while $tmp/broken exists.
start_target () {
  local kind args=()
  for kind; do
    args+=("error-$kind=$error" "error-$kind-rate=100%"
           "error-$kind-file=$tmp/broken")
  done
  start_nbdkit t --filter=error memory 8M "${args[@]}"
  target=$pid
}

# Whether the progress tells an error like that.
says () { progress error | finds "$1"; }

error=EIO
for kind in pwrite zero; do
  start_target $kind
  touch "$tmp/broken"
  say "$kind: report"
  copy_ends 1 "map:$map" "$(uri t)"
  is failed state
  result error | finds "writing .* bytes at .*: Input/output error"
  copy_ends 1 --on-target-error=enospc "map:$map" "$(uri t)"

  say "$kind: stop"
  start_copy --on-target-error=stop "map:$map" "$(uri t)"
  wait_for 30 has_state stopped-on-error
  progress error | finds "Input/output error"
  # Once more, still broken; then mended.
  order '{"command":"resume"}'
  stopped_twice () { [ "$(grep -c -e '-> stopped' "$tmp/copy.log")" = 2 ]; }
  wait_for 30 stopped_twice
  rm "$tmp/broken"
  order '{"command":"resume"}'
  ended 0
  is completed state
  is null error
  compare_nbd "$(uri t)"

  say "$kind: ignore"
  touch "$tmp/broken"
  start_copy --on-target-error=ignore "map:$map" "$(uri t)"
  wait_for 30 has_state running
  tried_again () { [ "$(grep -c ignored "$tmp/copy.log")" -ge 5 ]; }
  wait_for 60 tried_again
  wait_for 30 says "Input/output error"
  has_state running || fail "$(progress state)"
  rm "$tmp/broken"
  ended 0
  is null error
  compare_nbd "$(uri t)"
  stop "$target"
done

say "flush: report, stop"
truncate -s 8M "$tmp/t.img"
NBDKIT=$bare_nbdkit start_nbdkit t eval get_size='echo 8388608' can_write=: can_flush=: \
  pread='dd if="$IMG" iflag=skip_bytes,count_bytes skip=$4 count=$3' \
  pwrite='dd of="$IMG" oflag=seek_bytes conv=notrunc seek=$4' \
  flush='[ ! -e "$BROKEN" ] || { echo EIO flush >&2; exit 1; }'
target=$pid
touch "$tmp/broken"
copy_ends 1 "map:$map" "$(uri t)"
result error | finds "flushing: Input/output error"
start_copy --on-target-error=stop "map:$map" "$(uri t)"
wait_for 30 has_state stopped-on-error
# What was not flushed does not count as done.
[ "$(progress bytes-done)" = 0 ] || fail "done: $(progress bytes-done)"
rm "$tmp/broken"
order '{"command":"resume"}'
ended 0
at_least $((6 << 20)) bytes-recopied
compare_nbd "$(uri t)"
stop "$target"

say "enospc: stop"
error=ENOSPC
start_target pwrite
touch "$tmp/broken"
copy_ends 1 "map:$map" "$(uri t)"
start_copy --on-target-error=enospc "map:$map" "$(uri t)"
wait_for 30 has_state stopped-on-error
progress error | finds "No space left"
order '{"command":"cancel"}'
ended 4
is cancelled state
rm "$tmp/broken"
copy --on-target-error=enospc "map:$map" "$(uri t)"
compare_nbd "$(uri t)"
stop "$target"

say "no zero: data is written"
start_nbdkit t --filter=nozero memory 8M
target=$pid
copy "map:$map" "$(uri t)"
is 0 bytes-zero
is $((6 << 20)) bytes-written
compare_nbd "$(uri t)"
stop "$target"

# Sources.  Without a map nobody can say that it is not a lost cluster, so the
# action counts if it is asked for.
error=EIO
start_nbdkit src --filter=error file "$tmp/disk" error-pread=EIO \
             error-pread-rate=100% error-pread-file="$tmp/broken"
src=$pid
touch "$tmp/broken"
say "source: report, stop, ignore"
copy_ends 1 --on-source-error=report "$(uri src)" "$tmp/out"
result error | finds "reading .* bytes at .*: Input/output error"
start_copy --on-source-error=stop "$(uri src)" "$tmp/out"
wait_for 30 has_state stopped-on-error
rm "$tmp/broken"
order '{"command":"resume"}'
ended 0
same "$tmp/out" "$tmp/before"
touch "$tmp/broken"
start_copy --on-source-error=ignore "$(uri src)" "$tmp/out"
wait_for 30 grep -q ignored "$tmp/copy.log"
rm "$tmp/broken"
ended 0
same "$tmp/out" "$tmp/before"

# With a map that says that nothing is lost, EIO is an error of the disk.
say "source with a map"
touch "$tmp/broken"
copy_ends 1 --map="$map" "$(uri src)" "$tmp/out"
is 0 bytes-lost
stop "$src"

# An unreliable end costs time and nothing else.
say "every tenth request fails"
rm "$tmp/broken"
start_nbdkit t --filter=error memory 8M error=EIO error-rate=10%
copy --on-target-error=ignore --request-size=16K "map:$map" "$(uri t)"
nbdsh_ok () {
  "$PYTHON" - "$(uri t)" "$tmp/before" <<'PY'
import nbd, sys
h = nbd.NBD ()
h.connect_uri (sys.argv[1])
want = open (sys.argv[2], "rb").read ()
for o in range (0, len (want), 65536):
  while True:
    try:
      got = h.pread (min (65536, len (want) - o), o)
      break
    except nbd.Error:
      pass
  assert got == want[o:o + 65536], o
PY
}
requires_python_nbd
nbdsh_ok
