#!/usr/bin/env bash
# test_isas.sh PYTHON: runs the kernel tests once on each instruction set. Those of x86 that this
# machine has not got run in emulation, which needs AVX2.
set -euo pipefail
cd "$(dirname "$0")/.."
python=$1

supported() {
  "$python" -c 'from lepton.kernels import isa_info; print(*isa_info().supported)'
}

run_tests() {
  for isa in "$@"; do
    echo "On $isa:"
    LEPTON_ISA=$isa "$python" -m pytest --quiet tests/kernels
  done
}

read -ra here <<<"$(supported)"
run_tests "${here[@]}"

[[ $(uname -m) == x86_64 && ${#here[@]} -lt 4 ]] || exit 0
scripts/need.sh libsimde-dev
"$python" -m pip --disable-pip-version-check --no-input install --quiet --no-deps --no-build-isolation --upgrade \
  --target build/emulated --config-settings=build-dir=build/emulation \
  --config-settings=cmake.define.LEPTON_EMULATE_ISAS=ON .
export PYTHONPATH=$PWD/build/emulated
for isa in $(supported); do
  [[ " ${here[*]} " == *" $isa "* ]] || run_tests "$isa"
done
