#!/usr/bin/env bash
# SPDX-FileCopyrightText: The nbdfleece authors
# SPDX-License-Identifier: BSD-3-Clause

# A virtual machine is backed up on four days, in full and as a chain of
# incrementals; each day's image is restored, mounts, and holds its files.

# The machine is libguestfs's appliance, as in test-guest.sh.  Its script runs the
# backups itself, while its file system is mounted and has just been synced.  A
# second machine has all restored disks at once: files, and, through the export
# that the first one had used, the disk itself, as it was on the second day.

. "${abs_top_srcdir:-$(dirname "$0")/..}/tests/functions.sh"
. "$abs_top_srcdir/tests/daemon.sh"
requires_tool guestfish qemu-img qemu-nbd e2fsck
requires sh -c 'for k in /boot/vmlinuz-*; do [ -r "$k" ] && exit; done; exit 1'
export LIBGUESTFS_BACKEND=direct LIBGUESTFS_BACKEND_SETTINGS=force_tcg

mkdir "$tmp/b"
truncate -s 40M "$tmp/a.img"
write_config <<X
exports:
  - {name: vda, disk: $tmp/a.img}
X
start_daemon

# backup_of DAY: lines for the machine's script.
backup_of () {
  local options="--checkpoint day$1 --manifest $tmp/b/$1.json"
  [ "$1" = 0 ] || options+=" --since day$(($1 - 1)) --backing $tmp/b/$(($1 - 1)).qcow2"
  [ "$1" != 2 ] || options+=' --compress zstd'
  cat <<X
sync
! "$NBDFLEECE" -s "$run/control.sock" backup vda qcow2:$tmp/b/$1.qcow2 $options >>"$tmp/backups.log" 2>&1 && touch $tmp/done$1
X
}

say "four days"
{
  cat <<X
add vda protocol:nbd server:unix:$run/vda.sock format:raw
run
mkfs ext4 /dev/sda
mount /dev/sda /
fill-pattern first 3000000 /first
write /day "day 0"
mkdir /dir
fill-pattern old 1000000 /dir/large
X
  backup_of 0
  cat <<X
write /day "day 1"
rm /dir/large
fill-pattern changed 500000 /dir/large
fill-pattern one 1000000 /one
X
  backup_of 1
  cat <<X
write /day "day 2"
rm /first
rm-rf /dir
fill-pattern two 700000 /two
fstrim /
X
  backup_of 2
  cat <<X
write /day "day 3"
rename /one /moved
fill-pattern three 1500000 /first
X
  backup_of 3
  echo 'umount /'
} >"$tmp/script"
guestfish -f "$tmp/script" >"$tmp/guest.log" 2>&1 || fail "the machine failed"
for i in 0 1 2 3; do
  [ -e "$tmp/done$i" ] || { cat "$tmp/backups.log" >&2; fail "backup $i failed"; }
done
# The incrementals have what changed, not everything.
[ "$(stat -c %s "$tmp/b/1.qcow2")" -lt $((8 << 20)) ] || fail "1.qcow2 is large"

say "restored"
no_clients () { [ "$(export_field vda clients)" = 0 ]; }
for i in 0 1 2 3; do
  nf restore "$tmp/b/$i.qcow2" "$tmp/r$i.raw" >/dev/null
  nf verify --manifest "$tmp/b/$i.json" "$tmp/r$i.raw" >/dev/null
done
wait_for 60 no_clients
nf restore "$tmp/b/1.qcow2" vda >/dev/null
cmp "$tmp/a.img" "$tmp/r1.raw" || fail "the disk is not as on the second day"

{
  for i in 0 1 2 3; do echo "add $tmp/r$i.raw format:raw"; done
  echo "add vda protocol:nbd server:unix:$run/vda.sock format:raw"
  echo run
  n=0
  for d in a b c d e; do
    cat <<X
mkmountpoint /$d
mount /dev/sd$d /$d
echo disk $n
cat /$d/day
echo
find /$d
-checksum sha256 /$d/first
-checksum sha256 /$d/dir/large
-checksum sha256 /$d/one
-checksum sha256 /$d/two
-checksum sha256 /$d/moved
umount /$d
X
    : $((n++))
  done
} >"$tmp/script"
guestfish -f "$tmp/script" >"$tmp/seen" 2>"$tmp/guest.log" || fail "the disks do not mount"

# pattern TEXT LENGTH: what fill-pattern makes.
pattern () {
  "$PYTHON" -c 'import hashlib, sys
t, n = sys.argv[1].encode (), int (sys.argv[2])
print (hashlib.sha256 ((t * (n // len (t) + 1))[:n]).hexdigest ())' "$@"
}
expected () {
  echo "disk $1"
  case $1 in 4) echo "day 1" ;; *) echo "day $1" ;; esac
  case $1 in
    0) printf '/%s\n' day dir dir/large first lost+found
       pattern first 3000000; pattern old 1000000 ;;
    1 | 4) printf '/%s\n' day dir dir/large first lost+found one
       pattern first 3000000; pattern changed 500000; pattern one 1000000 ;;
    2) printf '/%s\n' day lost+found one two
       pattern one 1000000; pattern two 700000 ;;
    3) printf '/%s\n' day first lost+found moved two
       pattern three 1500000; pattern two 700000; pattern one 1000000 ;;
  esac
}
for i in 0 1 2 3 4; do expected $i; done >"$tmp/expected"
diff "$tmp/expected" <(grep -v '^$' "$tmp/seen") || fail "files are not as they were"
for i in 0 1 2 3; do
  e2fsck -fn "$tmp/r$i.raw" >"$tmp/fsck.log" 2>&1 || { cat "$tmp/fsck.log"; fail "e2fsck: day $i"; }
done

stop_daemon
