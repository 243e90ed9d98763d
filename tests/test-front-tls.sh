#!/usr/bin/env bash
# SPDX-FileCopyrightText: The nbdfleece authors
# SPDX-License-Identifier: BSD-3-Clause

# Front: TLS off, allowed and required; certificates and pre-shared keys.

. "${abs_top_srcdir:-$(dirname "$0")/..}/tests/functions.sh"
. "$abs_top_srcdir/tests/front.sh"
requires_tool nbdkit nbdcopy nbdinfo qemu-img certtool psktool
requires_python_nbd

# certificate DIR/NAME CA-DIR LINES...: CA-DIR is "-" for a CA.
certificate () {
  local name=$1 ca=$2
  shift 2
  printf '%s\n' "expiration_days = 30" "$@" >"$tmp/template"
  certtool --generate-privkey --key-type=ecdsa --outfile "$name-key.pem" \
           2>/dev/null
  if [ "$ca" = - ]; then
    certtool --generate-self-signed --load-privkey "$name-key.pem" \
             --template "$tmp/template" --outfile "$name-cert.pem" 2>/dev/null
  else
    certtool --generate-certificate --load-ca-certificate "$ca/ca-cert.pem" \
             --load-ca-privkey "$ca/ca-key.pem" \
             --load-privkey "$name-key.pem" \
             --template "$tmp/template" --outfile "$name-cert.pem" 2>/dev/null
  fi
}
mkdir "$tmp"/{ca,other,server,alice,bob,eve}
for ca in ca other; do
  certificate "$tmp/$ca/ca" - "cn = CA" ca cert_signing_key
done
certificate "$tmp/server/server" "$tmp/ca" "cn = localhost" \
            "dns_name = localhost" tls_www_server signing_key
certificate "$tmp/alice/client" "$tmp/ca" "cn = alice" tls_www_client signing_key
certificate "$tmp/bob/client" "$tmp/ca" "cn = somebody" \
            "dns_name = bob.example.com" tls_www_client signing_key
certificate "$tmp/eve/client" "$tmp/other" "cn = alice" tls_www_client signing_key
for d in server alice bob eve; do cp "$tmp/ca/ca-cert.pem" "$tmp/$d/"; done
psktool -u carol -p "$tmp/keys.psk" >/dev/null
psktool -u dave -p "$tmp/keys.psk" >/dev/null
psktool -u carol -p "$tmp/wrong.psk" >/dev/null

head -c 8M /dev/urandom >"$tmp/vda.disk"
truncate -s 1M "$tmp/vdb.disk"
new_snapshot vda s 8388608 65536
new_snapshot vdb s 1048576 65536
start_backend
p0=$(free_port) p1=$(free_port) p2=$(free_port)
cat >"$tmp/front.conf" <<EOF
# vdb is for everybody here, vda for some.
listen tcp:127.0.0.1:$p0
listen tcp:127.0.0.1:$p1 tls=allow certificates=$tmp/server psk=$tmp/keys.psk
listen tcp:localhost:$p2   tls=require certificates=$tmp/server psk=$tmp/keys.psk

allow vdb address=127.0.0.0/8
allow vdb address=::1
allow vda certificate=alice
allow vda certificate=bob.example.com
allow vda psk=carol
EOF
start_front --config "$tmp/front.conf"

"$PYTHON" "$abs_top_srcdir/tests/front-tls.py" $p0 $p1 $p2 "$tmp/alice" \
          "$tmp/vda.disk"

# uri_of WHO PORT: an URI for one of them.
uri_of () {
  case $1 in
    carol | dave)
      echo "nbds://$1@localhost:$2/vda@s?tls-psk-file=$tmp/keys.psk" ;;
    *) echo "nbds://localhost:$2/vda@s?tls-certificates=$tmp/$1" ;;
  esac
}
for who in alice bob carol; do
  for port in $p1 $p2; do
    nbdcopy "$(uri_of $who $port)" "$tmp/copy"
    same "$tmp/copy" "$tmp/vda.disk"
    rm "$tmp/copy"
  done
done
must_fail 'No such file' nbdinfo "$(uri_of dave $p2)"
nbdinfo "nbds://dave@localhost:$p2/vdb@s?tls-psk-file=$tmp/keys.psk" >/dev/null
must_fail . nbdinfo "$(uri_of eve $p2)"
must_fail . nbdinfo "nbds://carol@localhost:$p2/vda@s?tls-psk-file=$tmp/wrong.psk"
must_fail . nbdinfo "nbd://localhost:$p2/vdb@s"
must_fail . nbdinfo "$(uri_of alice $p0)"
qemu-img convert -O raw \
  --object tls-creds-x509,id=tls,dir="$tmp/alice",endpoint=client \
  --image-opts "driver=raw,file.driver=nbd,file.server.type=inet,file.server.host=localhost,file.server.port=$p2,file.export=vda@s,file.tls-creds=tls" \
  "$tmp/copy"
same "$tmp/copy" "$tmp/vda.disk"

# Status tells who it is.
"$PYTHON" - "$(uri_of bob $p2)" "$(uri_of carol $p2)" "$tmp/status.sock" <<'PY'
import json, nbd, socket, sys
hs = []
for uri in sys.argv[1:3]:
  h = nbd.NBD()
  h.set_uri_allow_local_file(True)
  h.connect_uri(uri)
  h.pread(65536, 0)
  hs.append(h)
s = socket.socket(socket.AF_UNIX)
s.connect(sys.argv[3])
d = json.loads(b"".join(iter(lambda: s.recv(65536), b"")))
got = sorted((c["identity"], c["tls"], c["snapshot"]) for c in d["clients"])
assert got == [("certificate:somebody", True, "vda@s"),
               ("psk:carol", True, "vda@s")], got
PY

# New certificates and keys come into effect on SIGHUP, and who is connected
# stays.
cat >"$tmp/pull.py" <<'PY'
import nbd, os, sys
h = nbd.NBD()
h.set_uri_allow_local_file(True)
h.connect_uri(sys.argv[1])
h.pread(512, 0)
print("connected", flush=True)
sys.stdin.readline()
h.pread(512, 0)
h.shutdown()
PY
mkfifo "$tmp/go"
exec 9<>"$tmp/go"
start "$PYTHON" "$tmp/pull.py" "$(uri_of alice $p2)" <&9 >"$tmp/pull.out"
wait_for 30 grep -q connected "$tmp/pull.out"
pull=$pid
cp "$tmp/other/ca-cert.pem" "$tmp/server/ca-cert.pem"
grep -v carol "$tmp/keys.psk" >"$tmp/keys.new"
cp "$tmp/keys.psk" "$tmp/keys.old"
mv "$tmp/keys.new" "$tmp/keys.psk"
kill -HUP "$front"
wait_for 30 grep -q 'read again' "$tmp/front.log"
must_fail . nbdinfo "$(uri_of alice $p2)"
nbdinfo "$(uri_of eve $p2)" >/dev/null
must_fail . nbdinfo "nbds://carol@localhost:$p2/vda@s?tls-psk-file=$tmp/keys.old"
echo >&9
wait_for 30 dead "$pull"
wait "$pull"

# A reload that is wrong changes nothing.
: >"$tmp/front.log"
mv "$tmp/server/server-key.pem" "$tmp/server/away.pem"
kill -HUP "$front"
wait_for 30 grep -q 'nothing has changed: .*server-key.pem' "$tmp/front.log"
nbdinfo "$(uri_of eve $p2)" >/dev/null
