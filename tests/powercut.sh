# SPDX-FileCopyrightText: The nbdfleece authors
# SPDX-License-Identifier: BSD-3-Clause

# Recording what a filter does, and cutting the power in it: sourced after
# filter.sh.

NBDFLEECE_PRELOAD=$abs_top_builddir/tests/.libs/librecord.so
export NBDFLEECE_RECORD=$tmp/record
dir=$state/exports/vda

# record ROUNDS: a guest writes at random, several at once, while checkpoints
# begin and regions are cleaned.
record () {
  local i
  rm -f "$NBDFLEECE_RECORD" "$dir"/*
  truncate -s 0 "$disk"
  truncate -s 24M "$disk"
  cp --sparse=always "$disk" "$tmp/before"
  start_export file "$disk" fleece-live="file:$disk" fleece-tracking=durable \
    fleece-log-idle=20ms
  for ((i = 0; i < $1; i++)); do
    nbdsh_vda "
import random, time
r = random.Random (${NBDFLEECE_SEED:-$RANDOM} + $i)
def go (left):
  for n in range (left):
    c = r.randrange (6) * 1024 + r.randrange (3)
    h.aio_pwrite (r.randbytes (r.choice ([512, 4096])), c * 4096)
    if r.randrange (4) == 0:
      h.aio_zero (4096, c * 4096)
    if r.randrange (8) == 0:
      h.aio_flush ()
    while h.aio_in_flight () > 2 or (n == left - 1 and h.aio_in_flight () > 0):
      h.poll (-1)
    if r.randrange (6) == 0:
      time.sleep (0.06)
go (14)
" &
    expect "ok *" begin x only-dirty dirty="c$i"
    wait $!
  done
  stop "$export_pid" KILL
  touch -d 2001-01-01 "$disk"
}

# guest REQUESTS AT-ONCE SEED: changes of the disk, of all kinds and sizes.  Those
# that overlap come one after the other: which is first is not in the record.
guest () {
  nbdsh_vda "
import random
r = random.Random ($3)
size = h.get_size ()
under_way = []
for n in range ($1):
  length = r.choice ([512, 4096, 8192])
  offset = r.randrange (size // 512) * 512
  length = min (length, size - offset)
  kind = r.randrange (8)
  while len (under_way) >= $2 or \\
      any (o < offset + length and offset < e for _, o, e in under_way):
    h.poll (-1)
    under_way = [u for u in under_way if not h.aio_command_completed (u[0])]
  cookie = h.aio_zero (length, offset) if kind == 0 else \\
      h.aio_trim (length, offset) if kind == 1 else \\
      h.aio_pwrite (r.randbytes (length), offset)
  under_way.append ((cookie, offset, offset + length))
while h.aio_in_flight () > 0:
  h.poll (-1)
"
}

# some_disk CLUSTERS: data, with a zero cluster here and there.
some_disk () {
  local i
  head -c $(($1 * 4096)) /dev/urandom >"$disk"
  for ((i = 3; i < $1; i += 7)); do
    dd if=/dev/zero of="$disk" bs=4096 seek=$i count=1 conv=notrunc status=none
  done
  cp "$disk" "$tmp/before"
}

# job_of SNAPSHOT BYTES: what its copier needs, made before it is recorded.
job_of () {
  truncate -s "$2" "$dir/$1.raw"
  "$abs_top_builddir/tests/play-copy-bitmap" new "$dir/$1.copy" "$2" 4096
}

# deliver SNAPSHOT: a copier that releases, and flushes often.
deliver () {
  LD_PRELOAD=$NBDFLEECE_PRELOAD "$NBDFLEECE_COPY" -q --release \
    --copy-bitmap="$dir/$1.copy" --request-size=4K --max-requests=4 \
    --flush-interval=1ms --speed="${2:-1G}" "map:$dir/$1.map" "$dir/$1.raw"
}

# record_scratch CLUSTERS REQUESTS AT-ONCE: durable snapshots begin and end
# while a guest writes: one is copied, and what has been copied is released; one
# ends; one is still there when the filter is killed.
record_scratch () {
  local seed=${NBDFLEECE_SEED:-$RANDOM} size=$(($1 * 4096))
  rm -f "$NBDFLEECE_RECORD" "$dir"/*
  some_disk "$1"
  start_export file "$disk" fleece-live="file:$disk"
  job_of s0 $size
  guest "$2" "$3" "$seed" & local guest=$!
  expect "ok *" begin s0 durable
  wait $guest
  guest "$2" "$3" "$((seed + 1))" & guest=$!
  deliver s0
  expect "ok *" begin s1 durable
  wait $guest
  guest "$2" "$3" "$((seed + 2))" & guest=$!
  expect "ok*" end s1 keep
  expect "ok *" begin s2 durable
  wait $guest
  guest "$2" "$3" "$((seed + 3))"
  stop "$export_pid" KILL
  touch -d 2001-01-01 "$disk"
}

# cut_power CHOICES [LAST]
cut_power () {
  "$abs_top_builddir/tests/powercut" "$NBDFLEECE_RECORD" "$dir" "$disk" \
    "$tmp/before" "$@"
}
