#!/usr/bin/env bash
# SPDX-FileCopyrightText: The nbdfleece authors
# SPDX-License-Identifier: BSD-3-Clause

# Completion in bash offers the commands and options that there are.

. "${abs_top_srcdir:-$(dirname "$0")/..}/tests/functions.sh"
. "$abs_top_srcdir/cli/completion.bash"

# offers EXPECTED WORDS...: the last of WORDS is what is being typed.
offers () {
  local expected=$1
  shift
  COMP_WORDS=("$NBDFLEECE" "$@")
  COMP_CWORD=$#
  COMPREPLY=()
  _nbdfleece || true
  [ "${COMPREPLY[*]}" = "$expected" ] ||
    fail "offered '${COMPREPLY[*]}' and not '$expected' for: $*"
}

offers 'status' st
offers 'status snapshot checkpoint backup restore verify job reload' ''
offers 'list delete' checkpoint ''
offers 'job' jo
offers 'create rearm list delete' snapshot ''
offers 'delete' snapshot d
offers 'resume' --json job res
offers 'pause' -s /some/where job p
offers '' status ''
offers '--detach' backup vda /t --de
offers '--deadline' snapshot create --d
offers '--allow-incomplete' restore a b --al
offers '--socket' --s
offers '--json' job list --j
