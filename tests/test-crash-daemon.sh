#!/usr/bin/env bash
# SPDX-FileCopyrightText: The nbdfleece authors
# SPDX-License-Identifier: BSD-3-Clause

# kill -9 of the daemon between any two of its steps.

. "${abs_top_srcdir:-$(dirname "$0")/..}/tests/functions.sh"
. "$abs_top_srcdir/tests/crash.sh"

crash daemon 4
notices daemon no-merge 'job .* is not the disk at its instant'
