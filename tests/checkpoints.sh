# SPDX-FileCopyrightText: The nbdfleece authors
# SPDX-License-Identifier: BSD-3-Clause

# For tests of checkpoints: sourced after daemon.sh.

requires_python_nbd

# guest EXPORT CODE: Python with h connected as a guest.
guest () {
  "$PYTHON" -c "import nbd, os, sys
h = nbd.NBD ()
h.connect_uri (sys.argv[1])
$2" "$(guest_uri "$1")"
}
# touch_clusters EXPORT NUMBER...: writes into each of these clusters of 4K.
touch_clusters () {
  local export=$1 code='' c
  shift
  for c; do code+="h.pwrite (os.urandom (100), $c * 4096 + 50)"$'\n'; done
  guest "$export" "$code"
}

# checkpoint EXPORT[,EXPORT] NAME: makes one, with a snapshot that goes again.
checkpoint () {
  local ex
  nf snapshot create "$1" "for-$2" --checkpoint "$2" >/dev/null
  for ex in ${1//,/ }; do nf snapshot delete "$ex" "for-$2"; done
}

# cp_field EXPORT NAME FIELD
cp_field () {
  nf --json checkpoint list "$1" |
    json "[c for c in d['checkpoints'] if c['name'] == '$2'][0]['$3']"
}
# changed EXPORT NAME BYTES: so much has changed since.
changed () {
  local got
  got=$(cp_field "$1" "$2" changed-bytes)
  [ "$got" = "$3" ] || fail "$1: since $2 $got bytes have changed, not $3"
}
# checkpoints EXPORT: their names.
checkpoints () {
  nf --json checkpoint list "$1" |
    json "' '.join (c['name'] for c in d['checkpoints'])"
}
# inconsistent EXPORT NAME PATTERN
inconsistent () {
  local got
  got=$(cp_field "$1" "$2" reason)
  [ "$(cp_field "$1" "$2" state)" = inconsistent ] ||
    fail "$1: $2 is consistent"
  # shellcheck disable=SC2053
  [[ $got == $3 ]] || fail "$1: $2 is inconsistent: $got"
  [ "$(cp_field "$1" "$2" changed-bytes)" = None ]
}
consistent () {
  [ "$(cp_field "$1" "$2" state)" = consistent ] ||
    fail "$1: $2 is inconsistent: $(cp_field "$1" "$2" reason)"
}
# dirty_files EXPORT NUMBER: so many tracking files are there, of whatever name.
dirty_files () {
  [ "$(find "$state/exports/$1" -name '*.dirty' | wc -l)" = "$2" ]
}
# of FILE WORDS: what the file says, or changes in it.
of () { "$PYTHON" "$abs_top_srcdir/tests/bmfile.py" "$@"; }
# uuid_of FILE: as in the names of files.
uuid_of () {
  of "$1" uuid | sed 's/\(.\{8\}\)\(....\)\(....\)\(....\)/\1-\2-\3-\4-/'
}
