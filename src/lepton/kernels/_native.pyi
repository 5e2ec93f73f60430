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
    def __init__(
        self, tensor_type: int, rows: int, columns: int, source: _Bytes, pool: ThreadPool
    ) -> None: ...
    def unpack(self) -> _Floats: ...
    @property
    def rows(self) -> int: ...
    @property
    def columns(self) -> int: ...
    @property
    def nbytes(self) -> int: ...

def multiply(matrix: Matrix, inputs: _Floats, planes: int = 2, isa: str = "") -> _Floats: ...

class Norm:
    def __init__(self, weight: list[float], epsilon: float) -> None: ...

class Linear:
    def __init__(self, matrix: Matrix, bias: list[float]) -> None: ...

class Program:
    def __init__(
        self, pool: ThreadPool, hidden: int, num_blocks: int, planes: int, isa: str = ""
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
    ) -> _Floats: ...
    @property
    def vocab_size(self) -> int: ...
    @property
    def num_blocks(self) -> int: ...
    @property
    def bytes_per_block(self) -> int: ...
    @property
    def isa(self) -> str: ...
