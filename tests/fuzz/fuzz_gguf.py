"""Coverage-guided fuzzing of the GGUF reader; not collected by pytest.

Run by hand: ``python tests/fuzz/fuzz_gguf.py -max_total_time=30`` (needs ``atheris``). An input
that fails is written to ``crash-*`` in the current folder.
"""

from __future__ import annotations

import struct
import sys
from pathlib import Path

import atheris
import numpy as np

with atheris.instrument_imports(include=["lepton"]):
    from lepton.errors import ModelFormatError
    from lepton.kernels.quants import TensorType, dequantize
    from lepton.models.weights.gguf_header import read_header

INPUTS = Path(__file__).parents[2] / "build" / "fuzz" / "gguf"
"""Inputs found so far, kept from run to run."""


def read_one(data: bytes) -> None:
    """Parse the bytes as a file; whatever is accepted must decode."""
    try:
        header = read_header(data, "fuzz.gguf")
    except ModelFormatError:
        return
    for name, info in header.tensors.items():
        stored = np.frombuffer(data, np.uint8, info.nbytes, header.offsets[name])
        assert dequantize(info.type, stored, info.shape).shape == info.shape


def seeds() -> list[bytes]:
    """Sound files to start from: empty, with a key of each kind, with a tensor of each type."""
    start = struct.Struct("<4sIQQ")
    kinds = [struct.pack("<QcI", 1, bytes([97 + kind]), kind) for kind in range(13)]
    values = [bytes(1), bytes(1), bytes(2), bytes(2), bytes(4), bytes(4), bytes(4), bytes(1)]
    values += [struct.pack("<Q2s", 2, b"ab"), struct.pack("<IQ2s", 0, 2, b"ab")]
    values += [bytes(8), bytes(8), bytes(8)]
    keys = b"".join(kind + value for kind, value in zip(kinds, values, strict=True))
    files = [start.pack(b"GGUF", 2, 0, 0), start.pack(b"GGUF", 3, 0, len(kinds)) + keys]
    for tensor_type in TensorType:
        entry = struct.pack("<QcIQIQ", 1, b"t", 1, 256, tensor_type, 0)
        files.append((start.pack(b"GGUF", 3, 1, 0) + entry).ljust(64, b"\0") + bytes(1024))
    return files


def main() -> None:
    """Hand the inputs and the command line to the fuzzer."""
    INPUTS.mkdir(parents=True, exist_ok=True)
    for number, data in enumerate(seeds()):
        read_header(data, f"seed {number}")
        (INPUTS / f"seed-{number}").write_bytes(data)
    atheris.Setup([*sys.argv, str(INPUTS)], read_one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
