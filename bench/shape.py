"""How much a workload must read and compute at least, from the header of a model's file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from bench.workloads import Workload
from lepton.kernels.quants import TensorType
from lepton.models.loader import load_network
from lepton.models.stages import Attention

_FLOAT_TYPES = (TensorType.F32, TensorType.F16, TensorType.BF16)
_CACHE_BYTES = 2  # a key or value as every engine here stores it by default


@dataclass(frozen=True)
class ModelShape:
    """What bounds the speed of a model."""

    name: str
    file_bytes: int
    weight_bytes: int
    """Bytes of weights that one step reads: all but an embedding that is not the head as well."""
    parameters: int
    """Weights that each token is multiplied with, without the head."""
    head_parameters: int
    float_weights: bool
    """Whether most weights are floats, whose products are no integer products."""
    attention_width: int
    """Query values of a token in one layer."""
    cache_values: int
    """Keys and values of a token in one layer."""
    windows: tuple[int, ...]
    """For each layer, the tokens that it looks back on; 0: all."""

    def bytes_read(self, workload: Workload) -> float:
        """Bytes that a decode step, or the reading of a whole prompt, takes from memory."""
        if workload.kind == "prefill":
            return self.weight_bytes
        tokens = sum(self._visible(window, _middle(workload)) for window in self.windows)
        return self.weight_bytes + workload.streams * tokens * self.cache_values * _CACHE_BYTES

    def operations(self, workload: Workload) -> float:
        """Multiplications and additions of the same step or prompt in weight products."""
        if workload.kind == "prefill":
            return 2.0 * (self.parameters * workload.context + self.head_parameters)
        return 2.0 * (self.parameters + self.head_parameters) * workload.streams

    def attention_operations(self, workload: Workload) -> float:
        """Multiplications and additions of the same step or prompt in attention."""
        if workload.kind == "prefill":
            visible = sum(
                sum(self._visible(window, position) for window in self.windows)
                for position in range(workload.context)
            )
            return 4.0 * self.attention_width * visible
        tokens = sum(self._visible(window, _middle(workload)) for window in self.windows)
        return 4.0 * self.attention_width * tokens * workload.streams

    @staticmethod
    def _visible(window: int, position: float) -> float:
        return min(window, position + 1) if window else position + 1


def _middle(workload: Workload) -> float:
    """The mean position of the tokens that a decode workload generates."""
    return workload.context + workload.tokens / 2


def read_shape(path: Path) -> ModelShape:
    """Read a model's file, without its weights."""
    with load_network(path) as model:
        config, tensors = model.config, model.checkpoint.tensors
        matrices = {
            name: info
            for name, info in tensors.items()
            if len(info.shape) == 2 and name != "token_embd.weight"
        }
        head = matrices.pop("output.weight", tensors["token_embd.weight"])
        parameters = sum(info.shape[0] * info.shape[1] for info in matrices.values())
        floats = sum(
            info.shape[0] * info.shape[1] for info in matrices.values() if info.type in _FLOAT_TYPES
        )
        attention = [stage for stage in model.stages if isinstance(stage, Attention)]
        return ModelShape(
            name=path.stem,
            file_bytes=path.stat().st_size,
            weight_bytes=head.nbytes + sum(info.nbytes for info in matrices.values()),
            parameters=parameters,
            head_parameters=head.shape[0] * head.shape[1],
            float_weights=floats * 2 > parameters,
            attention_width=config.num_heads * config.head_dim,
            cache_values=2 * config.num_kv_heads * config.head_dim,
            windows=tuple(stage.window or 0 for stage in attention),
        )
