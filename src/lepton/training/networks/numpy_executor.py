"""Text networks in numpy: what runs a trained one."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from lepton.training.networks import stages as s

Floats = npt.NDArray[np.float32]
Ids = npt.NDArray[np.int64]
Weights = Mapping[str, Floats]

NORM_EPSILON = 1e-5


def run(network: s.Network, weights: Weights, ids: Ids, lengths: Ids) -> Floats:
    """Scores float32 [texts, outputs] of token ids [texts, tokens] of the given lengths."""
    mask = (np.arange(ids.shape[1])[None, :] < lengths[:, None])[..., None]
    states: Floats = np.zeros(0, np.float32)
    for stage in network.stages:
        match stage:
            case s.Embed():
                states = weights[stage.weight][ids]
                if stage.positions is not None:
                    states = states + weights[stage.positions][: ids.shape[1]]
            case s.Conv():
                states = _conv(stage, weights, states)
            case s.Lstm():
                states = _lstm(stage, weights, states, lengths)
            case s.SelfAttention():
                states = states + _attention(stage, weights, states, mask)
            case s.FeedForward():
                states = states + _feed_forward(stage, weights, states)
            case s.Norm():
                states = _norm(weights, stage.name, states)
            case s.Pool():
                states = _pool(stage, states, mask, lengths)
                continue
            case s.Head():
                return states @ weights[stage.weight].T + weights[stage.bias]
        states = states * mask
    return states


def _conv(stage: s.Conv, weights: Weights, states: Floats) -> Floats:
    found = []
    for name, size in stage.branches:
        left = (size - 1) // 2
        padded = np.pad(states, ((0, 0), (left, size - 1 - left), (0, 0)))
        windows = np.lib.stride_tricks.sliding_window_view(padded, size, axis=1)
        # [texts, tokens, inputs, size] → the kernel's order, size before inputs.
        flat = windows.swapaxes(2, 3).reshape(*states.shape[:2], -1)
        found.append(flat @ weights[f"{name}_weight"].T + weights[f"{name}_bias"])
    return np.maximum(np.concatenate(found, axis=-1), 0)


def _lstm(stage: s.Lstm, weights: Weights, states: Floats, lengths: Ids) -> Floats:
    tokens = states.shape[1]
    # Each text backwards, what is beyond its end left in place.
    places = np.arange(tokens)[None, :]
    backwards = np.where(places < lengths[:, None], lengths[:, None] - 1 - places, places)
    forward = _one_direction(f"{stage.name}_forward", stage.units, weights, states)
    reverse = np.take_along_axis(states, backwards[..., None], axis=1)
    backward = _one_direction(f"{stage.name}_backward", stage.units, weights, reverse)
    backward = np.take_along_axis(backward, backwards[..., None], axis=1)
    return np.concatenate([forward, backward], axis=-1)


def _one_direction(name: str, units: int, weights: Weights, states: Floats) -> Floats:
    inputs = states @ weights[f"{name}_input"].T + weights[f"{name}_bias"]
    recurrent = weights[f"{name}_hidden"].T
    hidden = np.zeros((len(states), units), np.float32)
    cell = np.zeros_like(hidden)
    found = np.empty((*states.shape[:2], units), np.float32)
    for token in range(states.shape[1]):
        gates = inputs[:, token] + hidden @ recurrent
        enter, forget, new, leave = np.split(gates, 4, axis=1)
        cell = _sigmoid(forget) * cell + _sigmoid(enter) * np.tanh(new)
        hidden = _sigmoid(leave) * np.tanh(cell)
        found[:, token] = hidden
    return found


def _attention(
    stage: s.SelfAttention, weights: Weights, states: Floats, mask: npt.NDArray[np.bool_]
) -> Floats:
    texts, tokens, width = states.shape
    name, heads = stage.name, stage.heads
    normed = _norm(weights, f"{name}_norm", states)
    joined = normed @ weights[f"{name}_qkv_weight"].T + weights[f"{name}_qkv_bias"]
    parts = joined.reshape(texts, tokens, 3, heads, width // heads)
    query, key, value = parts.transpose(2, 0, 3, 1, 4)
    match = query @ key.swapaxes(-1, -2) / np.float32(np.sqrt(width // heads))
    match = np.where(mask[:, None, None, :, 0], match, np.float32(-1e9))
    match = np.exp(match - match.max(axis=-1, keepdims=True))
    match /= match.sum(axis=-1, keepdims=True)
    mixed = (match @ value).transpose(0, 2, 1, 3).reshape(texts, tokens, width)
    result: Floats = mixed @ weights[f"{name}_output_weight"].T + weights[f"{name}_output_bias"]
    return result


def _feed_forward(stage: s.FeedForward, weights: Weights, states: Floats) -> Floats:
    name = stage.name
    inner = _norm(weights, f"{name}_norm", states)
    inner = inner @ weights[f"{name}_up_weight"].T
    inner += weights[f"{name}_up_bias"]
    _gelu(inner)
    result: Floats = inner @ weights[f"{name}_down_weight"].T + weights[f"{name}_down_bias"]
    return result


def _gelu(values: Floats) -> None:
    """GELU in its tanh form, in place: 0.5 · x · (1 + tanh(√(2/π) · (x + 0.044715 · x³)))."""
    # Products, as a power takes a hundred times as long.
    inner = values * values
    inner *= np.float32(0.044715)
    inner += 1
    inner *= values
    inner *= np.float32(np.sqrt(2 / np.pi))
    np.tanh(inner, out=inner)
    inner += 1
    inner *= np.float32(0.5)
    values *= inner


def _norm(weights: Weights, name: str, states: Floats) -> Floats:
    centred = states - states.mean(axis=-1, keepdims=True)
    variance = (centred * centred).mean(axis=-1, keepdims=True)
    result: Floats = (
        centred / np.sqrt(variance + np.float32(NORM_EPSILON)) * weights[f"{name}_weight"]
        + weights[f"{name}_bias"]
    )
    return result


def _pool(stage: s.Pool, states: Floats, mask: npt.NDArray[np.bool_], lengths: Ids) -> Floats:
    if stage.kind == "mean":
        mean: Floats = states.sum(axis=1) / np.maximum(lengths, 1)[:, None].astype(np.float32)
        return mean
    # A text without a token has nothing to take the maximum of.
    peaks = np.where(mask, states, np.float32(-np.inf)).max(axis=1)
    return np.where(lengths[:, None] > 0, peaks, np.float32(0))


def _sigmoid(values: Floats) -> Floats:
    result: Floats = np.float32(0.5) * (1 + np.tanh(np.float32(0.5) * values))
    return result
