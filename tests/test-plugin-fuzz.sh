#!/usr/bin/env bash
# SPDX-FileCopyrightText: The nbdfleece authors
# SPDX-License-Identifier: BSD-3-Clause

# Maps and tracking bitmaps that are damaged, and the reader on top of them.

. "${abs_top_srcdir:-$(dirname "$0")/..}/tests/functions.sh"
. "$abs_top_srcdir/tests/fuzz.sh"

fuzz map
