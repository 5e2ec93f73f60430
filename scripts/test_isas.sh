#!/usr/bin/env bash
# test_isas.sh PYTHON: runs the kernel tests once on each instruction set. Those of x86 that this
# machine has not got run in emulation, which needs AVX2, and so do the core's own tests on all.
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

missing=()
for isa in avxvnni avx512 avx512bf16; do
  [[ " ${here[*]} " == *" $isa "* ]] || missing+=("$isa")
done
[[ " ${here[*]} " == *" avx2 "* && ${#missing[@]} -gt 0 ]] || exit 0
scripts/need.sh doctest-dev libsimde-dev
"$python" -m pip --disable-pip-version-check --no-input install --quiet --no-deps --no-build-isolation --upgrade \
  --target build/emulated --config-settings=build-dir=build/emulation \
  --config-settings=cmake.define.LEPTON_EMULATE_ISAS=ON .
PYTHONPATH=$PWD/build/emulated run_tests "${missing[@]}"

echo "The core's own tests on every instruction set:"
bin=$(cd "$(dirname "$python")" && pwd)
export PATH=$bin:$PATH
cmake -G Ninja -S . -B build/emulated-native --log-level=WARNING -DCMAKE_BUILD_TYPE=Release \
  -DLEPTON_NATIVE_TESTS=ON -DLEPTON_EMULATE_ISAS=ON
cmake --build build/emulated-native -- --quiet
build/emulated-native/tests/native/lepton_native_tests
