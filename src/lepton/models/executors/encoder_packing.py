"""What an encoder's matrices become in the native core, and the memory they take there."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from lepton.kernels import _native
from lepton.models.executors.base import Quantize
from lepton.models.executors.encoder_base import Dtype
from lepton.models.executors.packing import FLOAT_TYPES, PANEL_ROWS, packed_bytes
from lepton.models.stages import Attention, Embed, GatedMlp, Linear, Mlp, Stage

if TYPE_CHECKING:
    from lepton.models.encoder_loader import EncoderNetwork

ProductType = Literal["float32", "bfloat16", "int8", "int16"]

_STEP_BYTES = 4
"""Of one output, in one step along the inputs."""
_OUTPUT_BYTES = {"float32": 0, "bfloat16": 0, "int8": 12, "int16": 8}
"""Of one output beside its weights: scale, sum, and in int8 where sums of products start."""
_ELEMENT_BYTES = {"float32": 4, "bfloat16": 2, "int8": 1, "int16": 2}


@dataclass(frozen=True)
class EncoderTypes:
    """What the weights of products are rounded to, and vectors that are looked up."""

    product: ProductType
    table: Literal["float32", "bfloat16"]


def choose_types(dtype: Dtype, quantize: Quantize, isa: str = "") -> EncoderTypes:
    """The types for these choices on this machine."""
    if dtype == "auto":
        dtype = "bfloat16" if _native.has_bfloat16_products(isa) else "int16"
    table: Literal["float32", "bfloat16"] = "bfloat16" if dtype == "bfloat16" else "float32"
    return EncoderTypes("int8" if quantize == "int8" else dtype, table)


def joined_linears(stage: Stage) -> list[tuple[Linear, ...]]:
    """The matrices of a stage; maps of the same input are one, their outputs end to end."""
    match stage:
        case Attention():
            return [(stage.query, stage.key, stage.value), (stage.output,)]
        case GatedMlp():
            return [(stage.gate, stage.up), (stage.down,)]
        case Mlp():
            return [(stage.up,), (stage.down,)]
        case _:
            return []


def encoder_bytes(network: EncoderNetwork, types: EncoderTypes) -> int:
    """Bytes that matrices and the table of tokens take once they are loaded."""
    return sum(_sizes(network, types))


def _sizes(network: EncoderNetwork, types: EncoderTypes) -> Iterator[int]:
    for stage in network.stages:
        if isinstance(stage, Embed):
            info = network.checkpoint.info(stage.weight)
            floats = info.type in FLOAT_TYPES
            yield (
                math.prod(info.shape) * _ELEMENT_BYTES[types.table]
                if floats
                else packed_bytes(info, info.type)
            )
        for linears in joined_linears(stage):
            outputs = sum(outputs_of(network, linear) for linear in linears)
            columns = network.checkpoint.info(linears[0].weight).shape[1]
            rows = math.ceil(outputs / PANEL_ROWS) * PANEL_ROWS
            steps = math.ceil(columns * _ELEMENT_BYTES[types.product] / _STEP_BYTES)
            yield rows * (steps * _STEP_BYTES + _OUTPUT_BYTES[types.product])


def outputs_of(network: EncoderNetwork, linear: Linear) -> int:
    """Outputs of a linear map."""
    if linear.part is not None:
        return linear.part.stop - linear.part.start
    return network.checkpoint.info(linear.weight).shape[0]
