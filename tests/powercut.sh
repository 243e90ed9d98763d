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

# cut_power CHOICES [LAST]
cut_power () {
  "$abs_top_builddir/tests/powercut" "$NBDFLEECE_RECORD" "$dir" "$disk" \
    "$tmp/before" "$@"
}
