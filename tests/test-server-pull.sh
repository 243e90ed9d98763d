#!/usr/bin/env bash
# SPDX-FileCopyrightText: The nbdfleece authors
# SPDX-License-Identifier: BSD-3-Clause

# Pull backups from the daemon with other people's programs, unchanged, through
# the unix socket and through TLS: full and incremental ones, maps, who reads
# what, and snapshots whose clusters clients release.

. "${abs_top_srcdir:-$(dirname "$0")/..}/tests/functions.sh"
. "$abs_top_srcdir/tests/daemon.sh"
. "$abs_top_srcdir/tests/checkpoints.sh"
requires_tool nbdinfo nbdcopy qemu-img certtool
export PYTHONPATH=$abs_top_srcdir/tests PYTHONDONTWRITEBYTECODE=1

pki=$tmp/pki
mkdir "$pki"
cert () { # NAME CN LINES...
  local name=$1 cn=$2 ca=()
  shift 2
  printf '%s\n' "$@" "cn = $cn" "dns_name = localhost" >"$tmp/template"
  certtool --generate-privkey --key-type=ecdsa --outfile "$pki/$name-key.pem" 2>/dev/null
  ca=(--generate-certificate --load-ca-certificate "$pki/ca-cert.pem"
      --load-ca-privkey "$pki/ca-key.pem")
  [ "$name" != ca ] || ca=(--generate-self-signed)
  certtool "${ca[@]}" --load-privkey "$pki/$name-key.pem" \
           --template "$tmp/template" --outfile "$pki/$name-cert.pem" 2>/dev/null
}
cert ca CA ca cert_signing_key
cert server localhost tls_www_server signing_key
cert client backup-host tls_www_client signing_key
port=$("$PYTHON" -c 'import socket
s = socket.socket()
s.bind(("127.0.0.1", 0))
print(s.getsockname()[1])')

# An image with data and holes, not a multiple of anything.
size=$((24 * 1048576 + 1000))
truncate -s $size "$tmp/a.img"
head -c 5000000 /dev/urandom | dd of="$tmp/a.img" bs=1M seek=3 conv=notrunc status=none
printf 'the end' | dd of="$tmp/a.img" bs=1 seek=$((size - 7)) conv=notrunc status=none
write_config <<X
backup:
  listen: [{tcp: "localhost:$port", tls: require, tls-certificates: $pki}]
exports:
  - name: vda
    disk: $tmp/a.img
    cluster-size: 64K
    allow: [{certificate: backup-host}]
X
start_daemon
tls_uri () { echo "nbds://localhost:$port/vda@$1?tls-certificates=$pki"; }
incremental () { "$PYTHON" "$abs_top_srcdir/tests/front-incremental.py" "$@"; }
# point NAME CHECKPOINT: what the disk is then, is in $tmp/then-NAME.
point () {
  nf snapshot create vda "$1" --checkpoint "$2" >/dev/null
  cp --sparse=always "$tmp/a.img" "$tmp/then-$1"
}

say "three snapshots with checkpoints; the guest goes on"
point s1 c1
guest vda "h.pwrite (b'7' * 100000, 5000000)
h.pwrite (b'8', $size - 1)
h.pwrite (b'9', 0)
h.flush ()"
point s2 c2
guest vda "h.pwrite (b'a' * 70000, 20000000)
h.zero (1000, 5000000)
h.flush ()"
point s3 c3
guest vda "h.pwrite (b'b' * 1000000, 1000000)
h.flush ()"

say "nbdinfo: what there is, its contexts, its maps"
nbdinfo --list --json "nbd+unix:///?socket=$run/backup.sock" >"$tmp/list"
"$PYTHON" - "$tmp/list" <<'PY'
import json, sys
e = {e["export-name"]: e for e in json.load(open(sys.argv[1]))["exports"]}
assert list(e) == ["vda@s1", "vda@s2", "vda@s3"], list(e)
for name, n in (("vda@s1", 0), ("vda@s2", 1), ("vda@s3", 2)):
    x = e[name]
    assert x["is_read_only"] and x["can_multi_conn"], x
    assert x["block_size_preferred"] == 65536 and x["description"], x
    assert sorted(x["contexts"]) == sorted(
        ["base:allocation", "qemu:allocation-depth"] +
        ["qemu:dirty-bitmap:c%d" % (i + 1) for i in range(n)]), x["contexts"]
PY
got=$(nbdinfo --map=qemu:dirty-bitmap:c1 "$(snapshot_uri vda s3)" | tr -s ' ' | tr '\n' ';')
want=" 0 65536 1 dirty; 65536 4915200 0 clean; 4980736 131072 1 dirty; 5111808 14876672 0 clean; 19988480 131072 1 dirty; 20119552 5046272 0 clean; 25165824 1000 1 dirty;"
[ "$got" = "$want" ] || fail "nbdinfo --map: $got"
got=$(nbdinfo --map=qemu:dirty-bitmap:c2 "$(tls_uri s3)" | tr -s ' ' | grep -c ' 1 dirty$')
[ "$got" = 2 ] || fail "nbdinfo --map through TLS: $got"
nbdinfo --map "$(snapshot_uri vda s1)" | finds 'hole,zero' || fail "no holes"

say "qemu-img: map with x-dirty-bitmap, convert, compare"
got=$(qemu-img map --output=json --image-opts "driver=raw,file.driver=nbd,file.server.type=unix,file.server.path=$run/backup.sock,file.export=vda@s3,file.x-dirty-bitmap=qemu:dirty-bitmap:c1" |
  json '" ".join ("%d:%d" % (e["start"], e["length"]) for e in d if not e["data"])')
[ "$got" = "0:65536 4980736:131072 19988480:131072 25165824:1000 25166824:24" ] ||
  fail "x-dirty-bitmap: $got"
for s in s1 s2 s3; do
  qemu-img convert -f raw -O raw "$(snapshot_uri vda $s)" "$tmp/copy"
  truncate -s $size "$tmp/copy"
  same "$tmp/copy" "$tmp/then-$s"
  qemu-img compare -q -f raw -F raw "$(snapshot_uri vda $s)" "$tmp/then-$s"
  rm "$tmp/copy"
done

say "nbdcopy over TLS, and nbdsh"
for s in s1 s2 s3; do
  nbdcopy "$(tls_uri $s)" "$tmp/copy"
  same "$tmp/copy" "$tmp/then-$s"
done
"$PYTHON" - "$(tls_uri s3)" "$tmp/then-s3" <<'PY'
import nbd, sys
h = nbd.NBD()
h.set_uri_allow_local_file(True)
h.add_meta_context("base:allocation")
h.add_meta_context("qemu:dirty-bitmap:c2")
h.add_meta_context("qemu:allocation-depth")
h.connect_uri(sys.argv[1])
assert h.is_read_only() and h.can_multi_conn() and h.get_tls_negotiated()
seen = {}
h.block_status(h.get_size(), 0, lambda name, offset, entries, error:
               seen.setdefault(name, []).extend(entries[::2]))
assert len(seen) == 3
for lengths in seen.values():
    assert sum(lengths) == h.get_size()
disk = open(sys.argv[2], "rb").read()
assert h.pread(100000, 4950000) == disk[4950000:5050000]
h.shutdown()
PY

say "incremental pulls with libnbd alone rebuild the disk exactly"
for uri in snapshot_uri tls_uri; do
  at () { if [ $uri = tls_uri ]; then tls_uri "$1"; else snapshot_uri vda "$1"; fi; }
  rm -f "$tmp/backup"
  n=$(incremental "$(at s1)" "$tmp/backup")
  [ "$n" -lt 10000000 ] || fail "holes were read, too: $n"
  same "$tmp/backup" "$tmp/then-s1"
  cp "$tmp/backup" "$tmp/backup2"
  n=$(incremental "$(at s2)" "$tmp/backup" c1)
  [ "$n" = $((65536 * 3 + 1000)) ] || fail "read $n"
  same "$tmp/backup" "$tmp/then-s2"
  n=$(incremental "$(at s3)" "$tmp/backup" c2)
  [ "$n" = $((65536 * 3)) ] || fail "read $n"
  same "$tmp/backup" "$tmp/then-s3"
  incremental "$(at s3)" "$tmp/backup2" c1
  same "$tmp/backup2" "$tmp/then-s3"
done
# A checkpoint that goes: what changed since those before it stays known.
nf checkpoint delete vda c2
got=$(nbdinfo --map=qemu:dirty-bitmap:c1 "$(snapshot_uri vda s3)" | tr -s ' ' | tr '\n' ';')
[ "$got" = "$want" ] || fail "after c2 was deleted: $got"
must_fail . nbdinfo --map=qemu:dirty-bitmap:c2 "$(snapshot_uri vda s3)"

say "who reads what, and how far"
"$PYTHON" - "$(tls_uri s3)" "$(snapshot_uri vda s2)" "$NBDFLEECE" "$run/control.sock" <<'PY'
import json, nbd, os, subprocess, sys, time
tls, unix, nbdfleece, control = sys.argv[1:]
def status(*how):
    return subprocess.check_output([nbdfleece, "-s", control, *how, "status"],
                                   text=True)
def connect(uri, *contexts):
    h = nbd.NBD()
    h.set_uri_allow_local_file(True)
    for c in contexts:
        h.add_meta_context(c)
    h.connect_uri(uri)
    return h
a = [connect(tls, "qemu:dirty-bitmap:c1") for i in range(3)]
b = connect(unix)
for i in range(12):
    a[i % 3].pread(1 << 20, i << 20)
b.pread(65536, 0)
d = json.loads(status("--json"))["backup"]
assert d["connections"] == 4 and d["refused"] == 0
c = {c["snapshot"]: c for c in d["clients"]}
x = c["s3"]
assert x["export"] == "vda" and x["tls"] and x["pid"] is None
assert x["address"] in ("127.0.0.1", "::1"), x
assert x["identity"] == "certificate:backup-host"
assert x["contexts"] == ["qemu:dirty-bitmap:c1"] and x["connections"] == 3
assert x["bytes"] == 12 << 20 and 0.49 < x["part-read"] < 0.51, x
assert x["bytes-per-second"] >= 0 and x["idle-seconds"] < 60
y = c["s2"]
assert y["address"] == "unix" and y["pid"] == os.getpid() and not y["tls"]
assert y["identity"] is None and y["contexts"] == []
assert d["snapshot-server"]["state"] == "running"
text = status()
assert "certificate:backup-host" in text and "qemu:dirty-bitmap:c1" in text
assert "vda@s3" in text and " 49%" in text, text
for h in a + [b]:
    h.shutdown()
deadline = time.monotonic() + 30
while True:                     # the front has yet to see that they are gone
    d = json.loads(status("--json"))["backup"]
    if d["connections"] == 0 and d["clients"] == []:
        break
    assert time.monotonic() < deadline, d
PY

say "release: what a client trims is gone, and its room in the scratch free"
nf --json snapshot create vda rel --release >"$tmp/created"
[ "$(json "d['snapshots'][0]['release']" <"$tmp/created")" = True ]
[ "$(nf --json snapshot list vda | json "[s['release'] for s in d['snapshots']]")" = \
  "[False, False, False, True]" ]
cp "$tmp/a.img" "$tmp/then-rel"
guest vda "h.pwrite (os.urandom (8 << 20), 4 << 20)
h.flush ()"
scratch () {
  nf --json snapshot list vda |
    json "[s['scratch-bytes'] for s in d['snapshots'] if s['name'] == 'rel'][0]"
}
# In an older snapshot nobody may.
"$PYTHON" - "$(snapshot_uri vda s3)" <<'PY'
import errno, nbd, sys
h = nbd.NBD()
h.set_strict_mode(0)
h.connect_uri(sys.argv[1])
assert h.is_read_only() and not h.can_trim()
try:
    h.trim(65536, 0)
    raise SystemExit("it was trimmed")
except nbd.Error as e:
    assert e.errnum == errno.EPERM, e
PY
# pull_and_release FROM TO: compares and trims MiB after MiB.
pull_and_release () {
  "$PYTHON" - "$(snapshot_uri vda rel)" "$tmp/then-rel" "$1" "$2" <<'PY'
import errno, nbd, sys
then = open(sys.argv[2], "rb").read()
first, last = map(int, sys.argv[3:])
h = nbd.NBD()
h.set_strict_mode(0)
h.connect_uri(sys.argv[1])
assert h.can_trim() and not h.is_read_only()
for at in range(first << 20, last << 20, 1 << 20):
    assert h.pread(1 << 20, at) == then[at:at + (1 << 20)]
    h.trim(1 << 20, at)
def refused(what, f):
    try:
        f()
        raise SystemExit(what)
    except nbd.Error as e:
        assert e.errnum == errno.EPERM, e
refused("it can still be read", lambda: h.pread(512, first << 20))
refused("it could be written", lambda: h.pwrite(bytes(512), 0))
refused("it could be zeroed", lambda: h.zero(512, 0))
h.shutdown()
PY
}
before=$(scratch)
[ "$before" -ge $((3 << 20)) ] || fail "the scratch has $before bytes"
pull_and_release 0 6
[ "$(scratch)" -le $((before - (2 << 20))) ] || fail "still $(scratch) bytes"
say "that stays so when the daemon and the front are killed, and when it is moved"
kill_daemon
kill -KILL "$(cat "$run/backup.pid")" "$(cat "$run/backup.data.pid")"
start_daemon
pull_and_release 6 12
[ "$(scratch)" = 0 ] || fail "still $(scratch) bytes"
nf snapshot rearm vda rel >/dev/null
cp "$tmp/a.img" "$tmp/then-rel"
pull_and_release 0 2
same "$tmp/a.img" "$tmp/then-rel"

for s in s1 s2 s3 rel; do nf snapshot delete vda $s; done
no_snapshot_files
stop_daemon
