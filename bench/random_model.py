"""Llama-shaped GGUF files of random weights, written in quantized form, tensor by tensor.

Speed depends on shapes and types, not on what the weights say, and models of a billion weights are
not to be had everywhere. Every block is a valid one: random codes, scales such that the values have
a mean of zero and a standard deviation of 0.02, as trained weights about have. The tokenizer is
that of a real file, filled up with unused tokens. One tensor is held at a time.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import numpy.typing as npt

from lepton.kernels.quants import TensorType, block_bytes, block_values, dequantize, row_bytes
from lepton.models.weights import open_checkpoint

Bytes = npt.NDArray[np.uint8]

_DEVIATION = 0.02
_SCALE_SPREAD = (0.75, 1.25)
_BLOCKS_AT_ONCE = 1 << 16
_SAMPLED_BLOCKS = 4096

# Byte offsets of a block's float16 scale and, where there is one, of its float16 minimum.
_SCALE_OFFSETS: dict[TensorType, tuple[int, ...]] = {
    TensorType.Q4_0: (0,),
    TensorType.Q4_1: (0, 2),
    TensorType.Q5_0: (0,),
    TensorType.Q5_1: (0, 2),
    TensorType.Q8_0: (0,),
    TensorType.Q2_K: (80, 82),
    TensorType.Q3_K: (108,),
    TensorType.Q4_K: (0, 2),
    TensorType.Q5_K: (0, 2),
    TensorType.Q6_K: (208,),
    TensorType.IQ4_NL: (0,),
    TensorType.IQ4_XS: (0,),
}
_FLOAT_TYPES = (TensorType.F32, TensorType.F16, TensorType.BF16)
_UNUSED_TOKEN = 5  # TokenType of the GGUF specification


@dataclass(frozen=True)
class LlamaShape:
    """The sizes of a Llama model."""

    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    vocab_size: int
    tied_embeddings: bool
    context_length: int = 16_384
    rope_theta: float = 500_000.0


@dataclass(frozen=True)
class TypeMix:
    """Which type each matrix has; ``wide`` is for those that quantizing harms most."""

    main: TensorType
    wide: TensorType
    head: TensorType

    def of(self, matrix: str, layer: int, num_layers: int) -> TensorType:
        """The type of a matrix of a layer: llama.cpp's K_M mixes widen half of two of them."""
        eighth = num_layers // 8
        widened = (
            layer < eighth or layer >= 7 * num_layers // 8 or (layer - eighth) % 3 == 2
        ) and matrix in ("attn_v", "ffn_down")
        return self.wide if widened else self.main


def pure(tensor_type: TensorType) -> TypeMix:
    """All layers of one type; the head keeps six bits at least, as quantizers do."""
    narrow = tensor_type not in (*_FLOAT_TYPES, TensorType.Q8_0)
    return TypeMix(tensor_type, tensor_type, TensorType.Q6_K if narrow else tensor_type)


Q4_K_M = TypeMix(TensorType.Q4_K, TensorType.Q6_K, TensorType.Q6_K)


def write_random_llama(
    path: Path, shape: LlamaShape, mix: TypeMix, tokenizer_from: Path, seed: int = 0
) -> None:
    """Write a model of random weights to ``path``, which appears only when it is complete.

    Raises OSError when the disk is full, ValueError when a row is no whole number of blocks.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    writer = gguf.GGUFWriter(partial, "llama")
    _add_sizes(writer, shape, path.stem)
    _copy_tokenizer(writer, tokenizer_from, shape.vocab_size)
    tensors = list(_tensors(shape, mix))
    for name, tensor_type, dimensions in tensors:
        writer.add_tensor_info(
            name,
            (*dimensions[:-1], row_bytes(tensor_type, dimensions[-1])),
            np.dtype(np.uint8),
            _nbytes(tensor_type, dimensions),
            gguf.GGMLQuantizationType(tensor_type),
        )
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    random = np.random.default_rng(seed)
    for name, tensor_type, dimensions in tensors:
        values = np.empty(_nbytes(tensor_type, dimensions), np.uint8)
        _fill(values, tensor_type, random, is_norm=name.endswith("norm.weight"))
        writer.write_tensor_data(values)
    writer.close()
    partial.rename(path)


def _add_sizes(writer: gguf.GGUFWriter, shape: LlamaShape, name: str) -> None:
    writer.add_name(name)
    writer.add_context_length(shape.context_length)
    writer.add_embedding_length(shape.hidden_size)
    writer.add_feed_forward_length(shape.intermediate_size)
    writer.add_block_count(shape.num_layers)
    writer.add_head_count(shape.num_heads)
    writer.add_head_count_kv(shape.num_kv_heads)
    writer.add_rope_dimension_count(shape.hidden_size // shape.num_heads)
    writer.add_rope_freq_base(shape.rope_theta)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(shape.vocab_size)


def _copy_tokenizer(writer: gguf.GGUFWriter, source: Path, vocab_size: int) -> None:
    """Take a file's tokenizer, cut or filled up to ``vocab_size`` tokens."""
    checkpoint = open_checkpoint(source)
    metadata = checkpoint.metadata
    checkpoint.close()

    def value(name: str) -> Any:
        return metadata[f"tokenizer.ggml.{name}"]

    tokens, types = list(value("tokens")), list(map(int, value("token_type")))
    missing = vocab_size - len(tokens)
    if missing < 0:
        raise ValueError(f"{source} has {len(tokens)} tokens, more than {vocab_size}")
    writer.add_tokenizer_model(value("model"))
    writer.add_tokenizer_pre(value("pre"))
    writer.add_token_list(tokens + [f"<|unused_{i}|>" for i in range(missing)])
    writer.add_token_types(types + [_UNUSED_TOKEN] * missing)
    writer.add_token_merges(value("merges"))
    writer.add_bos_token_id(value("bos_token_id"))
    writer.add_eos_token_id(value("eos_token_id"))
    writer.add_add_bos_token(False)


def _tensors(shape: LlamaShape, mix: TypeMix) -> Iterator[tuple[str, TensorType, tuple[int, ...]]]:
    """Name, type and dimensions of every tensor in the order of the file."""
    hidden, inner = shape.hidden_size, shape.intermediate_size
    cached = hidden // shape.num_heads * shape.num_kv_heads
    yield (
        "token_embd.weight",
        mix.head if shape.tied_embeddings else mix.main,
        (
            shape.vocab_size,
            hidden,
        ),
    )
    matrices = {
        "attn_q": (hidden, hidden),
        "attn_k": (cached, hidden),
        "attn_v": (cached, hidden),
        "attn_output": (hidden, hidden),
        "ffn_gate": (inner, hidden),
        "ffn_up": (inner, hidden),
        "ffn_down": (hidden, inner),
    }
    for layer in range(shape.num_layers):
        for norm in ("attn_norm", "ffn_norm"):
            yield f"blk.{layer}.{norm}.weight", TensorType.F32, (hidden,)
        for matrix, dimensions in matrices.items():
            kind = mix.of(matrix, layer, shape.num_layers)
            yield f"blk.{layer}.{matrix}.weight", kind, dimensions
    yield "output_norm.weight", TensorType.F32, (hidden,)
    if not shape.tied_embeddings:
        yield "output.weight", mix.head, (shape.vocab_size, hidden)


def _nbytes(tensor_type: TensorType, dimensions: tuple[int, ...]) -> int:
    rows = int(np.prod(dimensions[:-1]))
    return rows * row_bytes(tensor_type, dimensions[-1])


def _fill(
    values: Bytes, tensor_type: TensorType, random: np.random.Generator, *, is_norm: bool
) -> None:
    if is_norm:
        values.view(np.float32)[:] = 1
        return
    blocks = values.reshape(-1, block_bytes(tensor_type))
    if tensor_type in _FLOAT_TYPES:
        for start in range(0, values.size, _BLOCKS_AT_ONCE):
            part = values[start : start + _BLOCKS_AT_ONCE]
            part[:] = _float_bytes(tensor_type, part.size // block_bytes(tensor_type), random)
        return
    factors = _scale_and_minimum(tensor_type)
    for start in range(0, len(blocks), _BLOCKS_AT_ONCE):
        _fill_blocks(blocks[start : start + _BLOCKS_AT_ONCE], tensor_type, factors, random)


def _float_bytes(tensor_type: TensorType, count: int, random: np.random.Generator) -> Bytes:
    values = random.standard_normal(count, np.float32) * np.float32(_DEVIATION)
    if tensor_type is TensorType.F16:
        return values.astype(np.float16).view(np.uint8)
    if tensor_type is TensorType.BF16:
        return (values.view(np.uint32) >> 16).astype(np.uint16).view(np.uint8)
    return values.view(np.uint8)


def _fill_blocks(
    blocks: Bytes,
    tensor_type: TensorType,
    factors: tuple[float, ...],
    random: np.random.Generator,
) -> None:
    """Random codes; the block's scale and minimum vary together around ``factors``."""
    blocks[:] = np.frombuffer(random.bytes(blocks.size), np.uint8).reshape(blocks.shape)
    if tensor_type is TensorType.Q8_0:
        codes = blocks[:, 2:].view(np.int8)
        np.maximum(codes, -127, out=codes)
    spread = random.uniform(*_SCALE_SPREAD, (len(blocks), 1))
    for offset, factor in zip(_SCALE_OFFSETS[tensor_type], factors, strict=True):
        blocks[:, offset : offset + 2] = (factor * spread).astype("<f2").view(np.uint8)


@cache
def _scale_and_minimum(tensor_type: TensorType) -> tuple[float, ...]:
    """Factors with which random codes get a mean of zero and the deviation of trained weights."""
    offsets = _SCALE_OFFSETS[tensor_type]

    def values(*factors: float) -> npt.NDArray[np.float32]:
        blocks = np.empty((_SAMPLED_BLOCKS, block_bytes(tensor_type)), np.uint8)
        _fill_blocks(blocks, tensor_type, factors, np.random.default_rng(0))
        return dequantize(tensor_type, blocks.reshape(-1), (len(blocks), block_values(tensor_type)))

    if len(offsets) == 1:
        return (_DEVIATION / float(values(1.0).std()),)
    minimum = -float(values(1.0, 0.0).mean()) / float(values(0.0, 1.0).mean())
    scale = _DEVIATION / float(values(1.0, minimum).std())
    return scale, scale * minimum
