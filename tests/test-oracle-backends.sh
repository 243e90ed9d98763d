#!/usr/bin/env bash
# SPDX-FileCopyrightText: The nbdfleece authors
# SPDX-License-Identifier: BSD-3-Clause

# The oracle on disks that only their own nbdkit can read.

. "${abs_top_srcdir:-$(dirname "$0")/..}/tests/functions.sh"
. "$abs_top_srcdir/tests/oracle.sh"

oracle 150 backend=nbd front=1
oracle 80 backend=nbd size=10485761 cluster=65536 kill-every=15
oracle 60 backend=nbd size=4197888 cluster=2097152 delay=1
oracle 150 backend=memory size=4194305 slots=8
oracle 80 backend=memory size=10486272 cluster=4096
