#!/usr/bin/env bash
# SPDX-FileCopyrightText: The nbdfleece authors
# SPDX-License-Identifier: BSD-3-Clause

# The oracle on a raw file: cluster sizes, disk sizes, many snapshots.

. "${abs_top_srcdir:-$(dirname "$0")/..}/tests/functions.sh"
. "$abs_top_srcdir/tests/oracle.sh"

# The model by itself, with no filter in the way.
oracle 40 filter=0 slots=1 kill-every=10 chaos=export

oracle 200 slots=4
oracle 80 durable=70
oracle 150 slots=8 readers=3 size=4197888
oracle 120 cluster=4096 size=10485761
oracle 120 cluster=65536 size=10485761
oracle 100 cluster=2097152 size=5243393
# Only the gate between the writers and the instant.
oracle 150 exact=0 frozen=0 jitter=50 writers=8 size=1049600
oracle 100 delay=1 jitter=0
# As backup software comes.
oracle 150 front=1 readers=4
