# SPDX-FileCopyrightText: The nbdfleece authors
# SPDX-License-Identifier: BSD-3-Clause

# For tests with other people's programs: sourced after daemon.sh.

# make_tree BYTES: files in $tmp/tree, the least of them of that size.
make_tree () {
  local i
  mkdir -p "$tmp/tree/a/b" "$tmp/tree/text"
  cp "$abs_top_srcdir"/common/*.[ch] "$tmp/tree/text"
  for i in 1 2 3 4; do
    head -c $((i * $1)) /dev/urandom >"$tmp/tree/a/random$i"
  done
  truncate -s $(($1 * 4)) "$tmp/tree/a/b/hole"
  printf end >>"$tmp/tree/a/b/hole"
  ln "$tmp/tree/a/random1" "$tmp/tree/a/b/link"
  ln -s ../random2 "$tmp/tree/a/b/symlink"
}

# make_disk FILE MIB: an ext4 image that holds the tree.
make_disk () {
  [ -d "$tmp/tree" ] || make_tree 700001
  truncate -s "$2M" "$1"
  mke2fs -q -t ext4 -d "$tmp/tree" "$1"
}

# same_tree DIR: it holds $tmp/tree.
same_tree () {
  diff -r --no-dereference -x lost+found "$tmp/tree" "$1" >&2 ||
    fail "the files in $1 are not what they were"
}

# check_image FILE: a raw image that holds $tmp/tree and needs no repair.
check_image () {
  e2fsck -fn "$1" >"$tmp/e2fsck.out" 2>&1 ||
    { cat "$tmp/e2fsck.out" >&2; fail "e2fsck has complaints about $1"; }
  rm -rf "$tmp/dumped"
  mkdir "$tmp/dumped"
  debugfs -R "rdump / $tmp/dumped" "$1" 2>"$tmp/debugfs.out"
  same_tree "$tmp/dumped"
}

# start_guest EXPORT: overwrites all of the live disk, over and over, until
# stop_guest.  Returns when each block has been overwritten once.
start_guest () {
  cat >"$tmp/guest.py" <<'PY'
import nbd, os, random, sys
uri, once, stop = sys.argv[1:]
h = nbd.NBD()
h.connect_uri(uri)
size = h.get_size()
places = list(range(0, size, 65536))
while not os.path.exists(stop):
    random.shuffle(places)
    for at in places:
        n = min(65536, size - at)
        if random.random() < 0.1:
            h.zero(n, at)
        elif random.random() < 0.1:
            h.trim(n, at)
        h.pwrite(os.urandom(n // 2 or 1), at)
        h.pwrite(os.urandom(n - n // 2 or 1), at + n // 2)
        if os.path.exists(stop):
            break
    else:
        open(once, "w").close()
h.shutdown()
PY
  rm -f "$tmp/guest.once" "$tmp/guest.stop"
  start "$PYTHON" "$tmp/guest.py" "$(guest_uri "$1")" "$tmp/guest.once" \
        "$tmp/guest.stop"
  guest=$pid
}
guest_was_everywhere () { [ -e "$tmp/guest.once" ] || dead "$guest"; }
# wait_for_guest: until it has overwritten all.
wait_for_guest () {
  wait_for 120 guest_was_everywhere
  alive "$guest" || fail "the guest ended"
}
stop_guest () {
  : >"$tmp/guest.stop"
  wait_for 60 dead "$guest"
  wait "$guest" || fail "the guest failed"
}

# Mounts of a test go before its directory does.
mounts=()
unmount_all () {
  local i
  for ((i = ${#mounts[@]} - 1; i >= 0; i--)); do
    umount "${mounts[i]}" 2>/dev/null ||
      fusermount3 -u "${mounts[i]}" 2>/dev/null ||
      umount -l "${mounts[i]}"
  done
  mounts=()
}
# A status that is not 0 must not end the trap before it has cleaned up.
trap 'status=$?; trap - ERR; set +eE; unmount_all; (exit $status); cleanup' EXIT

# mount_nbd URI DIR [OPTIONS]: nbdfuse and a loop device; DIR.nbd/nbd is the
# disk.
mount_nbd () {
  local uri=$1 dir=$2
  shift 2
  mkdir -p "$dir" "$dir.nbd"
  start nbdfuse "$dir.nbd/nbd" "$uri"
  mounts+=("$dir.nbd")
  fuse=$pid
  wait_for 30 nbdfuse_serves "$dir.nbd/nbd"
  alive "$fuse" || fail "nbdfuse ended"
  mount "$@" "$dir.nbd/nbd" "$dir"
  mounts+=("$dir")
}
nbdfuse_serves () { [ -s "$1" ] || dead "$fuse"; }

requires_loop_mount () {
  requires_tool nbdfuse fusermount3 mount losetup
  requires test "$(id -u)" = 0
  requires test -c /dev/fuse -a -e /dev/loop-control
  requires losetup -f
}
