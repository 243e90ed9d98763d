#!/usr/bin/env bash
# SPDX-FileCopyrightText: The nbdfleece authors
# SPDX-License-Identifier: BSD-3-Clause

# kill -9 of copiers between any two of their steps.

. "${abs_top_srcdir:-$(dirname "$0")/..}/tests/functions.sh"
. "$abs_top_srcdir/tests/crash.sh"

crash copier 4
notices copier release-early 'with L1: c2 is there, and its job is not'
