#!/usr/bin/env bash
# need.sh PACKAGE...: installs those of Debian's packages that are missing where it may, or names
# them. PYTHON is the interpreter that python3-venv and python3-dev are to complete.
set -euo pipefail

# Compilers and interpreters from elsewhere are as good as Debian's.
present() {
  case $1 in
    g++) command -v c++ ;;
    python3-venv) "${PYTHON:-python3}" -c 'import ensurepip, venv' ;;
    python3-dev) "${PYTHON:-python3}" -c 'import pathlib, sys, sysconfig
sys.exit(not pathlib.Path(sysconfig.get_path("include"), "Python.h").exists())' ;;
    *) dpkg-query --show --showformat='${db:Status-Status}' "$1" | grep -qx installed ;;
  esac &>/dev/null
}

missing=()
for package in "$@"; do
  present "$package" || missing+=("$package")
done
((${#missing[@]})) || exit 0
if [[ $(id -u) == 0 ]] && command -v apt-get >/dev/null; then
  echo "Installing ${missing[*]}"
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
else
  echo "This needs more: apt-get install ${missing[*]}" >&2
  exit 1
fi
