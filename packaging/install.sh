# SPDX-FileCopyrightText: The nbdfleece authors
# SPDX-License-Identifier: BSD-3-Clause

# shellcheck shell=bash
# Installs missing packages; sourced by ./quickstart and ./check.

packages_file=$(dirname "${BASH_SOURCE[0]}")/packages

# packages_for COLUMN USE...: the names in that column of the list.
packages_for () {
  local column=$1 use deb rpm
  shift
  while read -r use deb rpm _; do
    case " $* " in *" $use "*) ;; *) continue ;; esac
    [ "$column" = deb ] || deb=$rpm
    [ "$deb" = - ] || echo "${deb/ARCH/$(package_arch)}"
  done < <(grep -v '^#' "$packages_file")
}

package_arch () {
  if command -v dpkg >/dev/null; then dpkg --print-architecture; else arch; fi
}

deb_installed () {
  [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}
rpm_installed () { rpm -q --whatprovides "$1" >/dev/null 2>&1; }

# as_root COMMAND...: as root, or not at all.
as_root () {
  if [ "$(id -u)" = 0 ]; then
    "$@"
  elif [ -t 0 ] && [ -t 2 ]; then
    sudo "$@"
  else
    sudo -n "$@"
  fi
}
may_be_root () {
  [ "$(id -u)" = 0 ] || { command -v sudo && { [ -t 0 ] || sudo -n true; }; }
} >/dev/null 2>&1

# install_needed USE...: makes sure that the packages of these uses are there.
# Says what it installs.  If it may not, it says what to install, and ends the
# script.  NBDFLEECE_INSTALL=no forbids it.
install_needed () {
  local kind installer p missing=()
  if command -v apt-get >/dev/null; then
    kind=deb installer="apt-get install -y --no-install-recommends"
  elif command -v dnf >/dev/null; then
    kind=rpm installer="dnf install -y"
  else
    echo "Neither apt nor dnf is here; what is needed is listed in" \
         "$packages_file, and I go on as if it were there."
    return
  fi
  for p in $(packages_for $kind "$@"); do
    ${kind}_installed "$p" || missing+=("$p")
  done
  [ ${#missing[@]} != 0 ] || return 0
  if [ "$NBDFLEECE_INSTALL" = no ] || ! may_be_root; then
    echo "These packages are missing, and I may not install them:"
    printf '  %s\n' "${missing[@]}"
    echo "As root: $installer ${missing[*]}"
    exit 1
  fi >&2
  echo "Installing what is missing: ${missing[*]}"
  [ $kind = rpm ] || as_root apt-get update -q || true
  # shellcheck disable=SC2086 # several words
  as_root env DEBIAN_FRONTEND=noninteractive $installer "${missing[@]}" || {
    echo "Installing failed. These packages are needed: ${missing[*]}" >&2
    exit 1
  }
}
