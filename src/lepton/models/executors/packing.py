"""Packs a checkpoint's matrices into the native core's panels."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

from lepton.kernels import _native
from lepton.kernels.quants import TensorType, row_bytes
from lepton.models.executors.base import Quantize
from lepton.models.stages import Attention, Embed, GatedMlp, Head, Stage
from lepton.models.weights import Checkpoint, TensorInfo

FLOAT_TYPES = (TensorType.F32, TensorType.F16, TensorType.BF16)
_QUANTIZED_COLUMNS = 32
PANEL_ROWS = 16
_PIECE_BYTES = 8 << 20


def packed_types(
    stages: Sequence[Stage], tensors: Mapping[str, TensorInfo], quantize: Quantize
) -> dict[str, TensorType]:
    """How each matrix of the stages is kept in memory, by its name.

    Float weights become Q8_0 (``int8``) or one of the types that ``_four_bits`` chooses (``int4``).
    Quantized weights stay what they are, and so do rows that are no whole number of blocks.
    """
    types = {}
    for name, smaller in _four_bits(stages):
        info = tensors[name]
        keep = info.type not in FLOAT_TYPES or info.shape[1] % _QUANTIZED_COLUMNS
        if quantize == "none" or keep:
            types[name] = info.type
        else:
            types[name] = TensorType.Q8_0 if quantize == "int8" else smaller
    return types


def packed_bytes(info: TensorInfo, kept: TensorType | None) -> int:
    """Memory a tensor takes: a matrix in panels of type ``kept``; others (None) as float32."""
    if kept is None:
        return 4 * math.prod(info.shape)
    rows, columns = info.shape
    return _native.packed_bytes(int(kept), rows, columns)


def pack_matrix(
    checkpoint: Checkpoint,
    name: str,
    kept: TensorType,
    pool: _native.ThreadPool,
    *,
    split: bool = False,
) -> _native.Matrix:
    """Pack a matrix piece by piece, so that little of the mapped file is in memory at a time.

    ``split`` keeps Q8_0 in two planes, of which a head can scan one. Raises ModelFormatError when
    the file changed its size.
    """
    info = checkpoint.info(name)
    rows, columns = info.shape
    matrix = _native.Matrix(int(kept), rows, columns, split=split)
    panel_bytes = PANEL_ROWS * row_bytes(info.type, columns)
    panels = max(1, _PIECE_BYTES // panel_bytes)
    for index, piece in enumerate(checkpoint.pieces(name, panels * panel_bytes)):
        matrix.pack_rows(index * panels * PANEL_ROWS, int(info.type), piece, pool)
    return matrix


def _four_bits(stages: Sequence[Stage]) -> Iterator[tuple[str, TensorType]]:
    """Every matrix with its type at ``int4``: about 5.3 bits a weight in all.

    Errors of the embedding, the head and the values cost most for their size, then those of the
    projection back from the gated layer.
    """
    for stage in stages:
        match stage:
            case Embed():
                yield stage.weight, TensorType.Q8_0
            case Attention():
                for linear in (stage.query, stage.key, stage.output):
                    yield linear.weight, TensorType.Q4_1
                yield stage.value.weight, TensorType.Q8_0
            case GatedMlp():
                yield stage.gate.weight, TensorType.Q4_1
                yield stage.up.weight, TensorType.Q4_1
                yield stage.down.weight, TensorType.Q5_1
            case Head():
                yield stage.output.weight, TensorType.Q8_0
