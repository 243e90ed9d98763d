#!/usr/bin/env bash
# SPDX-FileCopyrightText: The nbdfleece authors
# SPDX-License-Identifier: BSD-3-Clause

# The oracle with too little scratch or time, and with deferred trims.

. "${abs_top_srcdir:-$(dirname "$0")/..}/tests/functions.sh"
. "$abs_top_srcdir/tests/oracle.sh"

oracle 150 scratch-limit=300K
oracle 60 scratch-limit=300K on-cow-error=break-guest-write size=1049600
oracle 100 cow-timeout=1
oracle 60 cow-timeout=1 on-cow-error=break-guest-write
oracle 100 trim=defer
oracle 60 trim=defer scratch-limit=1M release=50 size=5243393
