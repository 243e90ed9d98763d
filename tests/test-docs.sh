#!/usr/bin/env bash
# SPDX-FileCopyrightText: The nbdfleece authors
# SPDX-License-Identifier: BSD-3-Clause

# README and docs: their commands do what they say, their links lead somewhere.

# Blocks marked sh are run, each file's in one shell; blocks marked yaml are
# configurations.  The places they name become places below $tmp, with a disk
# image of each name in them; the programs are those that were built.

. "${abs_top_srcdir:-$(dirname "$0")/..}/tests/functions.sh"
requires_tool nbdkit nbdcopy nbdinfo qemu-img qemu-nbd

# blocks LANGUAGE FILE: all of them, or with a number only that one.
blocks () {
  awk -v lang="$1" -v only="${3:-0}" '
    /^```/ { if (inside) inside = 0
             else if ($0 == "```" lang) { n++; inside = !only || n == only }
             next }
    inside' "$2"
}

in_tmp () {
  sed -E -e "s,(/run|/var/lib)/nbdfleece,$tmp\1,g" \
         -e "s,(/etc/nbdfleece|/srv|/backup|/var/tmp|/run/qemu)/,$tmp\1/,g" \
         -e "s,--filter=fleece,--filter=$NBDFLEECE_FILTER,g" \
         -e "s,\<fleece dir=,$NBDFLEECE_PLUGIN dir=,g"
}

PATH=$(dirname "$NBDFLEECED"):$(dirname "$NBDFLEECE"):$(dirname "$NBDFLEECE_COPY"):$PATH
mkdir -p "$tmp"/{run,var/lib,srv/images,srv/scratch,backup,etc/nbdfleece,var/tmp}
export NBDFLEECE_SOCKET=$tmp/run/control.sock

run_file () {
  local n
  for n in 1 2 3 4 5 6 7 8 9; do
    blocks yaml "$1" $n | in_tmp >"$tmp/etc/nbdfleece/nbdfleece.yaml.$n"
  done
  head -c 3M /dev/urandom >"$tmp/srv/images/web.raw"
  head -c 2M /dev/urandom >"$tmp/srv/images/disk.raw"
  { echo "state-dir: $tmp/var/lib"; echo "run-dir: $tmp/run"
    cat "$tmp/etc/nbdfleece/nbdfleece.yaml.1"; } \
    >"$tmp/etc/nbdfleece/nbdfleece.yaml"
  start nbdfleeced -f -c "$tmp/etc/nbdfleece/nbdfleece.yaml" \
    2>"$tmp/nbdfleeced.log"
  daemon=$pid
  wait_for 30 nbdfleece status >/dev/null 2>&1

  { echo "set -ex"; blocks sh "$1" | in_tmp; } >"$tmp/commands"
  [ "$(wc -l <"$tmp/commands")" -gt 1 ] || fail "$1: nothing to run"
  bash "$tmp/commands" >"$tmp/commands.log" 2>&1 ||
    fail "a command of $1 failed"
}

cd "$tmp"
run_file "$abs_top_srcdir/README"
cmp "$tmp/backup/web.raw" "$tmp/srv/images/web.raw"
cmp "$tmp/backup/monday.raw" "$tmp/srv/images/web.raw"
qemu-img compare -f qcow2 -F raw "$tmp/backup/web.qcow2" "$tmp/srv/images/web.raw"
cmp "$tmp/backup/pulled.raw" "$tmp/srv/images/disk.raw"
for p in disk snapshots; do
  n=$(cat "$tmp/srv/$p.pid")
  kill "$n"
  wait_for 30 dead "$n"
done
stop "$daemon"

# Hooks: with an agent to speak with.
rm -f "$tmp"/etc/nbdfleece/nbdfleece.yaml.*
mkdir -p "$tmp/etc/nbdfleece/hooks" "$tmp/run/qemu"
cp "$abs_top_srcdir/docs/examples/guest-agent" "$tmp/etc/nbdfleece/hooks/"
start "$PYTHON" "$abs_top_srcdir/tests/fake-agent.py" "$tmp/run/qemu/web.agent" \
      "$tmp/agent"
wait_for 30 test -S "$tmp/run/qemu/web.agent"
run_file "$abs_top_srcdir/docs/hooks.md"
qemu-img compare -f qcow2 -F raw "$tmp/backup/web-data.qcow2" "$tmp/srv/images/disk.raw"
[ "$(grep -c freeze-freeze "$tmp/agent") $(grep -c freeze-thaw "$tmp/agent")" = "2 2" ]
stop "$daemon"
for n in 1 2; do
  "$abs_top_builddir/tests/show-conf" "$tmp/etc/nbdfleece/nbdfleece.yaml.$n" \
    >"$tmp/shown" || fail "docs/hooks.md: configuration $n"
done

# Links between the pages, and files that they name.
for f in "$abs_top_srcdir"/README "$abs_top_srcdir"/docs/*.md; do
  for target in $(grep -oE '\]\([^)#]+' "$f" | cut -c3-); do
    [[ $target = *:* ]] ||
    [ -e "$(dirname "$f")/$target" ] || fail "$f: $target does not exist"
  done
done

# Every manual page named is one that there is.
for page in $(grep -o '`man [a-z.-]*`' "$abs_top_srcdir/README" | tr -d '`' |
                cut -d' ' -f2); do
  find "$abs_top_srcdir"/{*/,server/front/} -maxdepth 1 -name "$page.[1-8]" |
    finds . || fail "no manual page $page"
done
