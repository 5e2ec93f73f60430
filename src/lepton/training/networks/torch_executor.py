"""Text networks in torch: what trains one. Computes what `numpy_executor` does, plus dropout."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as f
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from lepton.training.networks import stages as s
from lepton.training.networks.numpy_executor import NORM_EPSILON

_LSTM_NAMES = {
    "forward": {"input": "weight_ih_l0", "hidden": "weight_hh_l0", "bias": "bias_ih_l0"},
    "backward": {
        "input": "weight_ih_l0_reverse",
        "hidden": "weight_hh_l0_reverse",
        "bias": "bias_ih_l0_reverse",
    },
}


class TorchNetwork(nn.Module):
    """A network with parameters to learn, initialised from torch's generator."""

    def __init__(
        self,
        network: s.Network,
        dropout: float,
        vectors: npt.NDArray[np.float32] | None = None,
    ) -> None:
        """Take ``vectors`` [vocabulary, width] for the embedding where they are not NaN."""
        super().__init__()
        self.network = network
        self.dropout = dropout
        self.lstms = nn.ModuleDict()
        self.weights = nn.ParameterDict()
        for name, shape in network.shapes.items():
            if not name.startswith("lstm_"):
                self.weights[name] = nn.Parameter(_initial(name, shape))
        for stage in network.stages:
            if isinstance(stage, s.Lstm):
                inputs = network.shapes[f"{stage.name}_forward_input"][1]
                lstm = nn.LSTM(inputs, stage.units, batch_first=True, bidirectional=True)
                # One bias is enough; torch's second stays zero.
                for name, parameter in lstm.named_parameters():
                    if name.startswith("bias_hh"):
                        nn.init.zeros_(parameter)
                        parameter.requires_grad_(False)
                self.lstms[stage.name] = lstm
        if vectors is not None:
            known = torch.from_numpy(~np.isnan(vectors))
            with torch.no_grad():
                self.weights["embed"][known] = torch.from_numpy(vectors)[known]

    def forward(self, ids: Tensor, lengths: Tensor) -> Tensor:
        """Scores [texts, outputs] of token ids [texts, tokens] of the given lengths."""
        mask = (torch.arange(ids.shape[1])[None, :] < lengths[:, None])[..., None]
        states = torch.zeros(0)
        for stage in self.network.stages:
            match stage:
                case s.Embed():
                    states = f.embedding(ids, self.weights[stage.weight])
                    if stage.positions is not None:
                        states = states + self.weights[stage.positions][: ids.shape[1]]
                    states = self._drop(states)
                case s.Conv():
                    states = self._conv(stage, states)
                case s.Lstm():
                    states = self._lstm(stage, states, lengths)
                case s.SelfAttention():
                    states = states + self._drop(self._attention(stage, states, mask))
                case s.FeedForward():
                    states = states + self._drop(self._feed_forward(stage, states))
                case s.Norm():
                    states = self._norm(stage.name, states)
                case s.Pool():
                    states = _pool(stage, states, mask, lengths)
                    continue
                case s.Head():
                    states = self._drop(states)
                    return f.linear(states, self.weights[stage.weight], self.weights[stage.bias])
            states = states * mask
        return states

    def exported(self) -> dict[str, npt.NDArray[np.float32]]:
        """Every parameter by its stage's name for it."""
        tensors = {name: value.detach().numpy().copy() for name, value in self.weights.items()}
        for name, lstm in self.lstms.items():
            for direction, parts in _LSTM_NAMES.items():
                for part, torch_name in parts.items():
                    value = getattr(lstm, torch_name).detach().numpy().copy()
                    tensors[f"{name}_{direction}_{part}"] = value
        return tensors

    def load(self, tensors: Mapping[str, npt.NDArray[np.float32]]) -> None:
        """Take the parameters that `exported` gave."""
        with torch.no_grad():
            for name, value in self.weights.items():
                value.copy_(torch.from_numpy(tensors[name]))
            for name, lstm in self.lstms.items():
                for direction, parts in _LSTM_NAMES.items():
                    for part, torch_name in parts.items():
                        value = torch.from_numpy(tensors[f"{name}_{direction}_{part}"])
                        getattr(lstm, torch_name).copy_(value)

    def _drop(self, states: Tensor) -> Tensor:
        return f.dropout(states, self.dropout, self.training)

    def _conv(self, stage: s.Conv, states: Tensor) -> Tensor:
        found = []
        for name, size in stage.branches:
            left = (size - 1) // 2
            padded = f.pad(states, (0, 0, left, size - 1 - left))
            windows = padded.unfold(1, size, 1).transpose(2, 3).flatten(2)
            weight, bias = self.weights[f"{name}_weight"], self.weights[f"{name}_bias"]
            found.append(f.linear(windows, weight, bias))
        return torch.relu(torch.cat(found, dim=-1))

    def _lstm(self, stage: s.Lstm, states: Tensor, lengths: Tensor) -> Tensor:
        packed = pack_padded_sequence(
            states, lengths.clamp(min=1), batch_first=True, enforce_sorted=False
        )
        found, _ = self.lstms[stage.name](packed)
        padded, _ = pad_packed_sequence(found, batch_first=True, total_length=states.shape[1])
        return padded

    def _attention(self, stage: s.SelfAttention, states: Tensor, mask: Tensor) -> Tensor:
        name = stage.name
        texts, tokens, width = states.shape
        joined = f.linear(
            self._norm(f"{name}_norm", states),
            self.weights[f"{name}_qkv_weight"],
            self.weights[f"{name}_qkv_bias"],
        )
        parts = joined.view(texts, tokens, 3, stage.heads, width // stage.heads)
        query, key, value = parts.permute(2, 0, 3, 1, 4)
        hidden = torch.where(mask[:, None, None, :, 0], 0.0, -1e9)
        drop = self.dropout if self.training else 0.0
        mixed = f.scaled_dot_product_attention(query, key, value, hidden, drop)
        return f.linear(
            mixed.transpose(1, 2).reshape(texts, tokens, width),
            self.weights[f"{name}_output_weight"],
            self.weights[f"{name}_output_bias"],
        )

    def _feed_forward(self, stage: s.FeedForward, states: Tensor) -> Tensor:
        name = stage.name
        inner = f.linear(
            self._norm(f"{name}_norm", states),
            self.weights[f"{name}_up_weight"],
            self.weights[f"{name}_up_bias"],
        )
        inner = self._drop(f.gelu(inner, approximate="tanh"))
        return f.linear(
            inner, self.weights[f"{name}_down_weight"], self.weights[f"{name}_down_bias"]
        )

    def _norm(self, name: str, states: Tensor) -> Tensor:
        weight, bias = self.weights[f"{name}_weight"], self.weights[f"{name}_bias"]
        return f.layer_norm(states, (states.shape[-1],), weight, bias, NORM_EPSILON)


def _initial(name: str, shape: tuple[int, ...]) -> Tensor:
    if name.endswith("_bias"):
        return torch.zeros(shape)
    if name.endswith("norm_weight"):
        return torch.ones(shape)
    if name == "embed":
        return torch.randn(shape) * 0.1
    if name == "positions":
        return torch.randn(shape) * s.POSITIONS_SCALE
    bound = math.sqrt(6 / sum(shape))
    return torch.empty(shape).uniform_(-bound, bound)


def _pool(stage: s.Pool, states: Tensor, mask: Tensor, lengths: Tensor) -> Tensor:
    if stage.kind == "mean":
        return states.sum(dim=1) / lengths.clamp(min=1)[:, None]
    peaks = states.masked_fill(~mask, -torch.inf).amax(dim=1)
    return torch.where(lengths[:, None] > 0, peaks, torch.zeros(()))
