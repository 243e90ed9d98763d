#!/usr/bin/env bash
# SPDX-FileCopyrightText: The nbdfleece authors
# SPDX-License-Identifier: BSD-3-Clause

# Chains of checkpoints and backups, by the oracle, with everything that may
# happen to jobs.

. "${abs_top_srcdir:-$(dirname "$0")/..}/tests/functions.sh"
. "$abs_top_srcdir/tests/oracle.sh"
requires_tool nbdkit nbdcopy qemu-img qemu-nbd
requires_python_nbd

chains 30
