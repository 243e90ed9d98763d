#!/usr/bin/env bash
# SPDX-FileCopyrightText: The nbdfleece authors
# SPDX-License-Identifier: BSD-3-Clause

# The oracle while the export and the plugin are killed and started again.

. "${abs_top_srcdir:-$(dirname "$0")/..}/tests/functions.sh"
. "$abs_top_srcdir/tests/oracle.sh"

oracle 250 kill-every=4 chaos=export
oracle 150 kill-every=4 chaos=plugin
oracle 150 kill-every=4 chaos=term
oracle 150 kill-every=3 chaos=any size=5243393 jitter=60 durable=40
oracle 100 kill-every=4 chaos=export trim=defer
oracle 150 kill-every=4 chaos=any front=1
