#!/usr/bin/env bash
# SPDX-FileCopyrightText: The nbdfleece authors
# SPDX-License-Identifier: BSD-3-Clause

# README: what it says to give to QEMU, to libvirt and to the daemon, and not to
# a shell.  The blocks are indented there; test-docs.sh has the others.

. "${abs_top_srcdir:-$(dirname "$0")/..}/tests/functions.sh"
. "$abs_top_srcdir/tests/daemon.sh"
. "$abs_top_srcdir/tests/checkpoints.sh"
requires_tool qemu-system-x86_64 nbdinfo certtool

# indented FIRST: the indented lines from one that has FIRST to the next that is
# not indented.
indented () {
  awk -v first="$1" '
    !/^    / { inside = 0 }
    /^    / && index ($0, first) { inside = 1; found = 1 }
    inside { print substr ($0, 5) }
    END { exit !found }' "$abs_top_srcdir/README" |
    sed -e "s,/run/nbdfleece,$run,g" -e "s,/etc/pki,$tmp,g" -e "s,/srv,$tmp,g"
}

mkdir "$tmp/images" "$tmp/nbdfleece"
head -c 3M /dev/urandom >"$tmp/images/web.raw"
write_config <<X
exports:
  - name: vda
    disk: $tmp/images/web.raw
X
start_daemon

say "QEMU takes the disk as README says, and writes to it"
indented qemu-system-x86_64 >"$tmp/command"
# Without the processor's help, as little of a machine as goes, and a monitor.
sed -i -e 's/-accel kvm/-accel tcg/' -e 's/-m 2G/-m 64M/' "$tmp/command"
sed -i "\$s,\$, -S -nodefaults -display none -qmp unix:$tmp/qmp\,server=on\,wait=off," \
    "$tmp/command"
sed -i '1s/^/exec /' "$tmp/command"
start bash "$tmp/command"
qemu=$pid
qemu_is_up () { [ -S "$tmp/qmp" ] || dead "$qemu"; }
wait_for 60 qemu_is_up
alive "$qemu" || fail "QEMU ended"
"$PYTHON" - "$tmp/qmp" <<'PY'
import json, socket, sys
s = socket.socket(socket.AF_UNIX)
s.connect(sys.argv[1])
f = s.makefile("rw")
f.readline()
def do(command, **arguments):
    f.write(json.dumps({"execute": command, "arguments": arguments}) + "\n")
    f.flush()
    while True:
        answer = json.loads(f.readline())
        assert "error" not in answer, answer
        if "return" in answer:
            return answer["return"]
do("qmp_capabilities")
node, = [n for n in do("query-named-block-nodes") if n["node-name"] == "vda"]
assert node["drv"] == "nbd" and not node["ro"], node
assert node["image"]["virtual-size"] == 3 << 20, node
# As the machine itself would, through its disk.
disk = "qemu-io -d /machine/peripheral-anon/device[0]/virtio-backend "
for command in ("write -P 0x5a 1M 64k", "flush"):
    do("human-monitor-command", **{"command-line": disk + '"%s"' % command})
do("quit")
PY
wait_for 30 dead "$qemu"
head -c 65536 /dev/zero | tr '\0' '\132' | cmp -n 65536 -i 0:1048576 - "$tmp/images/web.raw"

say "libvirt's disk is the same one"
indented "<disk" >"$tmp/disk.xml"
"$PYTHON" - "$tmp/disk.xml" "$tmp/command" "$run" <<'PY'
import sys, xml.etree.ElementTree as tree
disk = tree.parse(sys.argv[1]).getroot()
qemu = open(sys.argv[2]).read()
assert disk.get("type") == "network" and disk.get("device") == "disk"
source = disk.find("source")
assert source.get("protocol") == "nbd"
assert "export=%s," % source.get("name") in qemu
host = source.find("host")
assert host.get("transport") == "unix"
assert "server.path=%s," % host.get("socket") in qemu
assert "reconnect-delay=%s," % source.find("reconnect").get("delay") in qemu
assert "discard=%s," % disk.find("driver").get("discard") in qemu
PY

say "the map of what is dirty"
nf snapshot create vda sat --checkpoint sunday >/dev/null
guest vda "h.pwrite (b'x' * 512, 0)"
nf snapshot create vda monday >/dev/null
indented "nbdinfo --map=qemu" >"$tmp/command"
bash "$tmp/command" | finds 'dirty$' || fail "nothing is dirty"
stop_daemon

say "an address to listen at, and a rule"
{ sed -n '/^state-dir\|^run-dir/p' "$config"; indented backup:; } >"$tmp/other.yaml"
certtool --generate-privkey --outfile "$tmp/nbdfleece/server-key.pem" 2>/dev/null
printf 'cn = localhost\nca\n' >"$tmp/template"
certtool --generate-self-signed --load-privkey "$tmp/nbdfleece/server-key.pem" \
  --template "$tmp/template" --outfile "$tmp/nbdfleece/server-cert.pem" 2>/dev/null
cp "$tmp/nbdfleece/server-cert.pem" "$tmp/nbdfleece/ca-cert.pem"
"$NBDFLEECED" -n -c "$tmp/other.yaml"
