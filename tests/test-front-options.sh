#!/usr/bin/env bash
# SPDX-FileCopyrightText: The nbdfleece authors
# SPDX-License-Identifier: BSD-3-Clause

# Front: options that are wrong end it at the start, with one line that says
# why; the manual has those of --help.

. "${abs_top_srcdir:-$(dirname "$0")/..}/tests/functions.sh"
. "$abs_top_srcdir/tests/front.sh"

good=(--state "$state" --backend "$tmp/b" --listen "unix:$tmp/l")
bad () {                        # bad PATTERN ARGS: besides the good ones
  local pattern=$1
  shift
  must_fail "$pattern" "$NBDFLEECE_FRONT" --check "${good[@]}" "$@"
  [ "$(wc -l <"$tmp/must_fail.err")" = 1 ] || fail "more than one line: $*"
}

"$NBDFLEECE_FRONT" --check "${good[@]}"
echo somebody:00112233445566778899aabbccddeeff >"$tmp/k %y"
"$NBDFLEECE_FRONT" --check "${good[@]}" --listen=tcp:localhost:1 \
  --listen "tcp:[::1]:65535 tls=require psk=$tmp/k%20%25y" \
  --allow '* psk=x address=::1' --allow 'vda certificate=y' \
  --release vda@s --max-connections 10 --max-request 2M \
  --idle-timeout 0 --handshake-timeout=3600 --status /s --verbose --verbose
bad "unknown option '--nonsense'" --nonsense
bad "unexpected argument 'x'" x
bad 'state was given twice' --state /x
bad 'check has no value' --check=x
bad 'max-connections: expected N' --max-connections
for n in 0 -1 1x '' 99999999999999999999 10001 1K0; do
  bad 'max-connections: .*expected a number from 1 to 10000' --max-connections "$n"
done
bad 'max-request: .*from 2097152 to 67108864' --max-request 1M
bad 'max-request' --max-request 65M
bad 'max-request' --max-request 18446744073709551615M
bad 'expected unix:PATH' --listen /a
bad 'expected unix:PATH' --listen unix:
bad 'expected unix:PATH' --listen "unix:/$(printf %0200d 0)"
bad 'expected unix:PATH or tcp' --listen ' '
for a in tcp: tcp:x tcp::1 tcp:x: tcp:x:y tcp:x:65536 tcp:x:123456 tcp:::1:5 \
         'tcp:[]:5' tcp:x:-1; do
  bad 'expected tcp:HOST:PORT' --listen "$a"
done
bad 'tls=maybe: expected off' --listen 'tcp:x:1 tls=maybe'
bad 'need certificates= or psk=' --listen 'tcp:x:1 tls=allow'
bad 'need certificates= or psk=' --listen 'tcp:x:1 psk=/x'
bad "'psk=relative': expected" --listen 'tcp:x:1 tls=allow psk=relative'
bad 'comes after another one' --listen 'tcp:x:1 tls=allow psk=/a psk=/b'
bad "'more': expected" --listen 'tcp:x:1 more'
for a in % %2 %2x %00; do
  bad 'two hex digits' --listen "tcp:x:1 tls=allow psk=/a$a"
  bad 'two hex digits' --allow "vda psk=$a"
done
bad 'server-cert.pem: No such' --listen 'tcp:x:1 tls=allow certificates=/none'
bad '/none.psk: ' --listen 'tcp:x:1 tls=allow psk=/none.psk'
bad "expected an export's name" --allow ''
bad "expected an export's name" --allow '../x address=::1'
bad 'expected a condition' --allow vda
bad 'expected address=CIDR' --allow 'vda from=::1'
for a in 1 1.2.3 1.2.3.4/33 ::1/129 1.2.3.4/ ::1/x ::1/-1 '1.2.3.4/5 address=::1'; do
  bad 'address: expected' --allow "vda address=$a"
done
bad 'expected a name after the =' --allow 'vda psk='
bad 'expected a name after the =' --allow 'vda psk=a psk=b'
bad 'expected EXPORT@SNAPSHOT' --release vda
bad 'backend: expected|backend was given' --backend "/$(printf %0200d 0)"
bad "$tmp/none: No such file" --config "$tmp/none"
printf '\n# comment\n  status /x  \nlisten\n' >"$tmp/conf"
bad "$tmp/conf:4: listen: expected ADDRESS" --config "$tmp/conf"
printf 'check\n' >"$tmp/conf"
bad "$tmp/conf:1: unknown option 'check'" --config "$tmp/conf"
head -c 20000 /dev/zero | tr '\0' x >"$tmp/conf"
bad "$tmp/conf:1: a line is too long" --config "$tmp/conf"
head -c 10000 /dev/urandom >"$tmp/conf"
bad "$tmp/conf:[0-9]*: " --config "$tmp/conf"
mkdir "$tmp/dir"
bad "$tmp/dir: " --config "$tmp/dir"
must_fail '--state is needed' "$NBDFLEECE_FRONT" --backend /b --listen unix:/l
must_fail '--listen is needed' "$NBDFLEECE_FRONT" --backend /b --state /l

# What only shows when it starts.
must_fail "$tmp/none: No such file" "$NBDFLEECE_FRONT" --state "$tmp/none" \
  --backend "$tmp/b" --listen "unix:$tmp/l"
must_fail 'server-cert.pem' "$NBDFLEECE_FRONT" "${good[@]}" \
  --listen "tcp:localhost:1 tls=require certificates=$tmp/dir"
must_fail "$tmp/none/x: " "$NBDFLEECE_FRONT" --state "$state" \
  --backend "$tmp/b" --listen "unix:$tmp/none/x"
must_fail "$tmp/none/x: " "$NBDFLEECE_FRONT" "${good[@]}" --status "$tmp/none/x"
must_fail "no.host.invalid" "$NBDFLEECE_FRONT" "${good[@]}" --listen tcp:no.host.invalid:1
[ ! -e "$tmp/l" ] || fail "a socket was left"
"$NBDFLEECE_FRONT" --version | finds '^nbdfleece-front [0-9.]*$'

# --help and the manual: the same options, and each text begins the same.
"$NBDFLEECE_FRONT" --help | awk '
  function emit() { if (what != "") print what "|" text }
  /^--/ { emit(); what = $0; text = ""; next }
  /^    [0-9]+ to / { next }
  what != "" { sub (/^    /, ""); text = text (text == "" ? "" : " ") $0 }
  END { emit() }' >"$tmp/help"
awk '
  function emit() { if (what != "") print what "|" text; what = text = "" }
  /^\.S[hs]/ { emit(); on = $2 == "OPTIONS"; next }
  !on || /^\.(\\"|Bl|El)/ { next }
  /^\.It/ { emit(); sub (/^\.It Fl Fl /, "--"); sub (/ Ar /, " "); what = $0; next }
  { text = text (text == "" ? "" : " ") $0 }' \
  "$abs_top_srcdir/server/front/nbdfleece-front.8" >"$tmp/manual"
diff <(cut -d'|' -f1 "$tmp/help") <(cut -d'|' -f1 "$tmp/manual") ||
  fail "options differ (<: --help, >: manual)"
[ "$(wc -l <"$tmp/help")" -ge 15 ] || fail "--help was not understood"
while IFS='|' read -r what text <&3 && IFS='|' read -r _ manual <&4; do
  case $manual in
    "$text"*) ;;
    *) fail "$what: '$manual' does not begin with '$text'" ;;
  esac
done 3<"$tmp/help" 4<"$tmp/manual"
