#!/usr/bin/env bash
# SPDX-FileCopyrightText: The nbdfleece authors
# SPDX-License-Identifier: BSD-3-Clause

# The backup endpoint over TCP: IPv4, IPv6, TLS off, allowed and required,
# certificates and pre-shared keys; who sees which export; and all of that
# again after each process died.

. "${abs_top_srcdir:-$(dirname "$0")/..}/tests/functions.sh"
. "$abs_top_srcdir/tests/daemon.sh"
requires_tool certtool psktool nbdcopy nbdinfo
requires_python_nbd

# Blanks in paths and names are nobody's business.
pki="$tmp/p k%i"
mkdir "$pki"
cert () { # NAME CN LINES...
  local name=$1 cn=$2
  shift 2
  printf '%s\n' "$@" "cn = $cn" "dns_name = localhost" >"$tmp/template"
  certtool --generate-privkey --key-type=ecdsa --outfile "$pki/$name-key.pem" 2>/dev/null
  if [ "$name" = ca ]; then
    certtool --generate-self-signed --load-privkey "$pki/ca-key.pem" \
             --template "$tmp/template" --outfile "$pki/ca-cert.pem" 2>/dev/null
  else
    certtool --generate-certificate --load-ca-certificate "$pki/ca-cert.pem" \
             --load-ca-privkey "$pki/ca-key.pem" \
             --load-privkey "$pki/$name-key.pem" \
             --template "$tmp/template" --outfile "$pki/$name-cert.pem" 2>/dev/null
  fi
}
cert ca CA ca cert_signing_key
cert server localhost tls_www_server signing_key
cert client "the backup host" tls_www_client signing_key
psktool -u "carol" -p "$tmp/keys.psk" >/dev/null
psktool -u "dave" -p "$tmp/keys.psk" >/dev/null
cp "$tmp/keys.psk" "$tmp/client.psk"
ports=($("$PYTHON" -c 'import socket
s = [socket.socket() for i in range(4)]
for x in s: x.bind(("127.0.0.1", 0))
print(*[x.getsockname()[1] for x in s])'))

head -c 1M /dev/urandom >"$tmp/a.img"
truncate -s 1M "$tmp/b.img"
v6="[::1]:${ports[3]}"
"$PYTHON" -c 'import socket
socket.socket(socket.AF_INET6).bind(("::1", 0))' 2>/dev/null || v6=127.0.0.1:${ports[3]}
write_config <<X
backup:
  listen:
    - {tcp: "127.0.0.1:${ports[0]}", tls: off}
    - {tcp: "localhost:${ports[1]}", tls: require, tls-certificates: "$pki"}
    - {tcp: "localhost:${ports[2]}", tls: allow, tls-certificates: "$pki", tls-psk: "$tmp/keys.psk"}
    - {tcp: "$v6"}
  allow:
    - address: ::1/128
    - psk: carol
exports:
  - name: vda
    disk: $tmp/a.img
    allow:
      - certificate: the backup host
      - address: 127.0.0.0/8
  - name: vdb
    disk: $tmp/b.img
    allow: [{psk: dave}]
X
start_daemon
nf snapshot create vda,vdb monday >/dev/null

with_tls () { # PORT EXPORT [PSK-NAME]: connects and reads.
  "$PYTHON" - "$pki" "$tmp/client.psk" "$@" <<'PY'
import nbd, sys
pki, keys, port, export, *name = sys.argv[1:]
h = nbd.NBD()
h.set_tls(nbd.TLS_REQUIRE)
if name:
    h.set_tls_psk_file(keys)
    h.set_tls_username(name[0])
else:
    h.set_tls_certificates(pki)
h.set_export_name(export + "@monday")
h.connect_tcp("localhost", port)
assert h.get_tls_negotiated()
h.pread(4096, 0)
PY
}
pull () { nbdcopy "$1" "$tmp/pulled" && same "$tmp/a.img" "$tmp/pulled"; }

all () {
  pull "nbd://127.0.0.1:${ports[0]}/vda@monday"
  pull "nbd://$v6/vda@monday"
  with_tls "${ports[1]}" vda
  with_tls "${ports[2]}" vda
  with_tls "${ports[2]}" vdb dave
  with_tls "${ports[2]}" vda carol
  with_tls "${ports[2]}" vdb carol
  must_fail . with_tls "${ports[0]}" vda
  must_fail . with_tls "${ports[1]}" vda carol
  must_fail . nbdinfo "nbd://localhost:${ports[1]}/vda@monday"
  # What one may not see does not exist.
  must_fail 'no export named|No such file' \
    nbdinfo "nbd://127.0.0.1:${ports[0]}/vdb@monday"
  [ "$(nbdinfo --list --json "nbd://127.0.0.1:${ports[0]}" |
       json "[e['export-name'] for e in d['exports']]")" = "['vda@monday']" ]
  [ "$(nbdinfo --list --json "nbd+unix:///?socket=$run/backup.sock" |
       json "len (d['exports'])")" = 2 ]
}

say "each address has its TLS mode"
all
nf --json status | json "[e['tls'] for e in d['backup']['endpoints']]" >"$tmp/modes"
[ "$(cat "$tmp/modes")" = "['off', 'off', 'require', 'allow', 'off']" ]

say "and after they died; and after the daemon died; and both"
backup_is_up () { [ "$(nf --json status | json "d['backup']['state']")" = running ]; }
kill -KILL $(cat "$run"/backup*.pid)
wait_for 20 backup_is_up
all
kill_daemon
all
start_daemon
all
kill -KILL $(cat "$run"/backup*.pid)
wait_for 20 backup_is_up
all

say "certificates that are not good are told before anything changes"
cp "$config" "$tmp/good.yaml"
mkdir "$tmp/empty"
sed "s|\"$pki\"}|$tmp/empty}|" "$tmp/good.yaml" >"$config"
must_fail "empty/server-cert.pem: No such file" nf reload
must_fail "empty/server-cert.pem: No such file" "$NBDFLEECED" -n -c "$config"
echo nonsense >"$tmp/empty/server-cert.pem"
cp "$tmp/empty/server-cert.pem" "$tmp/empty/server-key.pem"
must_fail "empty/server-cert.pem: " nf reload
sed "s|$tmp/keys.psk|$tmp/none.psk|" "$tmp/good.yaml" >"$config"
must_fail "none.psk: " nf reload
cp "$tmp/good.yaml" "$config"
all

say "rules and keys that change; an address that somebody has"
grep -v dave "$tmp/client.psk" >"$tmp/keys.new"
mv "$tmp/keys.new" "$tmp/keys.psk"
sed 's|127.0.0.0/8|127.0.0.2|' "$tmp/good.yaml" >"$config"
front=$(cat "$run/backup.pid")
nf reload
[ "$(nbdinfo --list --json "nbd://127.0.0.1:${ports[0]}" |
     json "d['exports']")" = "[]" ]
must_fail . with_tls "${ports[2]}" vdb dave
with_tls "${ports[2]}" vdb carol
"$PYTHON" -c 'import socket, sys, time
s = socket.socket(); s.bind(("127.0.0.1", 0)); s.listen()
print(s.getsockname()[1], flush=True)
time.sleep(1000)' >"$tmp/port" &
pids+=($!)
wait_for 20 test -s "$tmp/port"
sed "s|^  allow:|    - tcp: 127.0.0.1:$(cat "$tmp/port")\n  allow:|;s|127.0.0.0/8|127.0.0.3|" \
    "$tmp/good.yaml" >"$config"
must_fail "keeps the one before: tcp:127.0.0.1:$(cat "$tmp/port"): Address already" \
          nf reload
[[ $(nf --json status | json "d['backup']['reason']") == *'already in use' ]]
with_tls "${ports[2]}" vdb carol
cp "$tmp/good.yaml" "$config"
cp "$tmp/client.psk" "$tmp/keys.psk"
nf reload
[ "$(nf --json status | json "d['backup']['reason']")" = None ]
all
[ "$(cat "$run/backup.pid")" = "$front" ] # it never had to be started again
stop_daemon
