#!/usr/bin/env bash
# SPDX-FileCopyrightText: The nbdfleece authors
# SPDX-License-Identifier: BSD-3-Clause

# Backups of disks that are written to, one after the other, for a while: each
# right, and no process grows.  `make soak' goes on for an hour.

. "${abs_top_srcdir:-$(dirname "$0")/..}/tests/functions.sh"
. "$abs_top_srcdir/tests/oracle.sh"
requires_tool nbdkit nbdcopy qemu-img qemu-nbd
requires_python_nbd

chains "${SOAK_SECONDS:-15}s"
