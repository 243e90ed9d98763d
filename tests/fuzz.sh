# SPDX-FileCopyrightText: The nbdfleece authors
# SPDX-License-Identifier: BSD-3-Clause

# For tests that run a fuzz target: sourced after functions.sh.

# fuzz TARGET: its corpus, and some seconds of mutations of it.
fuzz () {
  "$abs_top_builddir/tests/fuzz-$1" "${NBDFLEECE_FUZZ_SECONDS:-5}" \
    "$abs_top_srcdir/fuzz/corpus-$1"/*
}
