from typing import overload

import numpy as np
import numpy.typing as npt

_Bytes = npt.NDArray[np.uint8]
_Ints = npt.NDArray[np.int32]
_Floats = npt.NDArray[np.float32]

def supported_isas() -> list[str]: ...
def selected_isa(name: str = "") -> str: ...

class ThreadPool:
    def __init__(self, threads: int) -> None: ...
    @property
    def threads(self) -> int: ...

class Matrix:
    @overload
    def __init__(
        self, tensor_type: int, rows: int, columns: int, *, split: bool = False
    ) -> None: ...
    @overload
    def __init__(
        self,
        tensor_type: int,
        rows: int,
        columns: int,
        source: _Bytes,
        pool: ThreadPool,
        *,
        split: bool = False,
    ) -> None: ...
    def pack_rows(
        self, first: int, source_type: int, source: _Bytes, pool: ThreadPool, isa: str = ""
    ) -> None: ...
    def unpack(self) -> _Floats: ...
    @property
    def rows(self) -> int: ...
    @property
    def columns(self) -> int: ...
    @property
    def nbytes(self) -> int: ...

def packed_bytes(tensor_type: int, rows: int, columns: int) -> int: ...
def multiply(
    matrix: Matrix, inputs: _Floats, precision: str = "exact", isa: str = ""
) -> _Floats: ...

class Norm:
    def __init__(self, weight: list[float], epsilon: float) -> None: ...

class Linear:
    def __init__(self, matrix: Matrix, bias: list[float]) -> None: ...

class KvCache:
    def __init__(
        self, cache_type: str, num_blocks: int, num_kv_heads: int, head_dim: int
    ) -> None: ...
    def store(self, slots: _Ints, keys: _Floats, values: _Floats) -> None: ...
    @property
    def bytes_per_block(self) -> int: ...

def attend(
    pool: ThreadPool,
    cache: KvCache,
    queries: _Floats,
    positions: _Ints,
    row_starts: _Ints,
    block_tables: _Ints,
    *,
    scale: float,
    window: int = 0,
    rounded: bool = False,
    isa: str = "",
) -> _Floats: ...

class Program:
    def __init__(
        self,
        pool: ThreadPool,
        hidden: int,
        num_blocks: int,
        precision: str,
        cache_type: str = "bfloat16",
        isa: str = "",
    ) -> None: ...
    def set_embedding(self, matrix: Matrix, scale: float) -> None: ...
    def add_rope(
        self, inverse_frequencies: list[float], interleaved: bool, magnitude: float
    ) -> int: ...
    def add_attention(
        self,
        *,
        norm: Norm,
        query: Linear,
        key: Linear,
        value: Linear,
        output: Linear,
        num_heads: int,
        num_kv_heads: int,
        head_dim: int,
        scale: float,
        rope: int,
        window: int,
        query_norm: Norm | None,
        key_norm: Norm | None,
        post_norm: Norm | None,
    ) -> None: ...
    def add_gated_mlp(
        self,
        *,
        norm: Norm,
        gate: Linear,
        up: Linear,
        down: Linear,
        gelu: bool,
        post_norm: Norm | None,
    ) -> None: ...
    def set_head(self, norm: Norm, output: Linear) -> None: ...
    def forward(
        self,
        token_ids: _Ints,
        positions: _Ints,
        row_starts: _Ints,
        block_tables: _Ints,
        logit_rows: _Ints,
        num_best: _Ints | None = None,
    ) -> _Floats: ...
    @property
    def vocab_size(self) -> int: ...
    @property
    def num_blocks(self) -> int: ...
    @property
    def bytes_per_block(self) -> int: ...
    @property
    def cache(self) -> npt.NDArray[np.uint8]: ...
    @property
    def isa(self) -> str: ...

NOT_FINITE: int
ALL_BARRED: int

class SamplingState:
    def __init__(
        self,
        *,
        temperature: float,
        top_k: int,
        top_p: float,
        min_p: float,
        repetition_penalty: float,
        presence_penalty: float,
        frequency_penalty: float,
        seed: int,
        index: int,
        num_prompt_tokens: int,
        stop_token_ids: list[int],
        min_tokens: int,
    ) -> None: ...
    def observe(self, token_ids: list[int]) -> None: ...
    @property
    def num_observed(self) -> int: ...
    def num_deciding(self, position: int) -> int: ...

class Sampler:
    def __init__(self, pool: ThreadPool, isa: str = "") -> None: ...
    def sample(
        self,
        logits: _Floats,
        rows: list[int],
        states: list[SamplingState],
        positions: list[int],
    ) -> list[int]: ...
    def sample_candidates(
        self,
        logits: _Floats,
        ids: _Ints,
        starts: list[int],
        states: list[SamplingState],
        positions: list[int],
    ) -> list[int]: ...
    def logprobs(
        self, logits: _Floats, rows: list[int], token_ids: list[int], num_top: list[int]
    ) -> list[tuple[float, list[int], list[float]]]: ...

def uniform(seed: int, index: int, position: int) -> float: ...
def has_bfloat16_products(isa: str = "") -> bool: ...

class DenseMatrix:
    def __init__(self, dtype: str, rows: int, columns: int) -> None: ...
    def pack_rows(self, first: int, rows: _Floats) -> None: ...
    @property
    def nbytes(self) -> int: ...

class VectorTable:
    def __init__(self, dtype: str, rows: int, columns: int) -> None: ...
    def pack_rows(self, first: int, rows: _Floats) -> None: ...
    @property
    def nbytes(self) -> int: ...

class EncoderNorm:
    def __init__(self, weight: _Floats, bias: _Floats | None, epsilon: float) -> None: ...

class DenseLinear:
    def __init__(self, matrix: DenseMatrix, bias: _Floats | None) -> None: ...

class EncoderRope:
    def __init__(
        self, inverse_frequencies: list[float], interleaved: bool, magnitude: float
    ) -> None: ...

class EncoderProgram:
    def __init__(self, pool: ThreadPool, hidden: int, dtype: str, isa: str = "") -> None: ...
    def set_embedding(
        self,
        *,
        table: VectorTable | None,
        matrix: Matrix | None,
        scale: float,
        positions: _Floats | None,
        position_offset: int,
        kinds: _Floats | None,
        norm: EncoderNorm | None,
    ) -> None: ...
    def add_attention(
        self,
        *,
        norm: EncoderNorm | None,
        joined: DenseLinear,
        output: DenseLinear,
        num_heads: int,
        num_kv_heads: int,
        head_dim: int,
        scale: float,
        causal: bool,
        window: int,
        rope: EncoderRope | None,
        query_norm: EncoderNorm | None,
        key_norm: EncoderNorm | None,
        post_norm: EncoderNorm | None,
        residual_norm: EncoderNorm | None,
    ) -> None: ...
    def add_mlp(
        self,
        *,
        norm: EncoderNorm | None,
        up: DenseLinear,
        down: DenseLinear,
        activation: str,
        gated: bool,
        post_norm: EncoderNorm | None,
        residual_norm: EncoderNorm | None,
    ) -> None: ...
    def set_final_norm(self, norm: EncoderNorm) -> None: ...
    def forward(
        self,
        token_ids: _Ints,
        row_starts: _Ints,
        pooling: str | None,
        kinds: _Ints | None = None,
        pool_starts: _Ints | None = None,
    ) -> _Floats: ...
    @property
    def isa(self) -> str: ...
