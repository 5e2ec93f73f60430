"""Rotary position embeddings: their configuration, and the frequencies that follow from it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lepton.models.stages import Rope

Float32Array = npt.NDArray[np.float32]


@dataclass(frozen=True)
class LinearScaling:
    """Position interpolation, arXiv:2306.15595: every frequency divided by ``factor``."""

    factor: float


@dataclass(frozen=True)
class Llama3Scaling:
    """Llama 3.1's scaling, arXiv:2407.21783: only waves long against the first context slow down.

    Wavelengths under original / high_factor are kept, over original / low_factor divided by
    ``factor``, and between the two interpolated.
    """

    factor: float
    low_factor: float
    high_factor: float
    original_context_length: int


@dataclass(frozen=True)
class YarnScaling:
    """YaRN, arXiv:2309.00071: interpolate the pairs that turn seldom, keep those that turn often.

    ``attention_factor`` multiplies cosines and sines; None stands for the paper's
    0.1 · ln(factor) + 1. ``truncate`` rounds the bounds of the ramp outwards to whole pairs.
    """

    factor: float
    original_context_length: int
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    attention_factor: float | None = None
    truncate: bool = True


@dataclass(frozen=True)
class FrequencyDivisors:
    """One divisor for each frequency, as GGUF stores Llama 3's scaling in ``rope_freqs.weight``."""

    divisors: tuple[float, ...]


RopeScaling = LinearScaling | Llama3Scaling | YarnScaling | FrequencyDivisors


@dataclass(frozen=True)
class RopeConfig:
    """Base wavelength (``rope_theta``) and scaling of one kind of attention layer."""

    base: float
    scaling: RopeScaling | None = None


def build_rope(config: RopeConfig, head_dim: int, *, interleaved: bool = False) -> Rope:
    """The rotation of heads of ``head_dim`` elements, in float32 as models are trained with.

    Raises ValueError when frequency divisors are not ``head_dim // 2`` in number.
    """
    exponents = np.arange(0, head_dim, 2, dtype=np.float32) / np.float32(head_dim)
    frequencies: Float32Array = np.float32(1) / np.float32(config.base) ** exponents
    magnitude = 1.0
    match config.scaling:
        case None:
            pass
        case LinearScaling(factor):
            frequencies /= np.float32(factor)
        case Llama3Scaling():
            frequencies = _scale_llama3(frequencies, config.scaling)
        case YarnScaling():
            frequencies = _scale_yarn(frequencies, config.base, config.scaling)
            magnitude = _yarn_magnitude(config.scaling)
        case FrequencyDivisors(divisors):
            if len(divisors) != len(frequencies):
                raise ValueError(f"{len(divisors)} divisors for {len(frequencies)} frequencies")
            frequencies /= np.array(divisors, dtype=np.float32)
    return Rope(tuple(frequencies.tolist()), interleaved=interleaved, magnitude=magnitude)


def _scale_llama3(frequencies: Float32Array, scaling: Llama3Scaling) -> Float32Array:
    turns = frequencies * np.float32(scaling.original_context_length / (2 * math.pi))
    kept = np.clip(
        (turns - scaling.low_factor) / (scaling.high_factor - scaling.low_factor), 0.0, 1.0
    ).astype(np.float32)
    scaled: Float32Array = (1 - kept) * frequencies / np.float32(scaling.factor)
    result: Float32Array = scaled + kept * frequencies
    return result


def _scale_yarn(frequencies: Float32Array, base: float, scaling: YarnScaling) -> Float32Array:
    pairs = len(frequencies)

    def pair_turning(times: float) -> float:
        """The pair, as a real number, that turns ``times`` times in the original context."""
        wavelength = scaling.original_context_length / (times * 2 * math.pi)
        return pairs * math.log(wavelength) / math.log(base)

    low, high = pair_turning(scaling.beta_fast), pair_turning(scaling.beta_slow)
    if scaling.truncate:
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, 2 * pairs - 1)
    width = high - low or 0.001
    interpolated = np.clip((np.arange(pairs, dtype=np.float32) - low) / width, 0.0, 1.0)
    slowed = frequencies / np.float32(scaling.factor) * interpolated
    result: Float32Array = (slowed + frequencies * (1 - interpolated)).astype(np.float32)
    return result


def _yarn_magnitude(scaling: YarnScaling) -> float:
    if scaling.attention_factor is not None:
        return scaling.attention_factor
    return 0.1 * math.log(scaling.factor) + 1.0 if scaling.factor > 1 else 1.0
