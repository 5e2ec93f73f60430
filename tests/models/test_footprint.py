from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lepton.models import catalogue
from lepton.models.executors import Quantize
from lepton.models.footprint import CACHE_SHARE, PROCESS_BYTES, Footprint
from lepton.models.summary import summarize
from lepton.models.weights import open_checkpoint

CHOICES: tuple[Quantize, ...] = ("none", "int8", "int4")
SMALL = Footprint(weights=1000, layers=2, kv_heads=3, head_dim=16, context_length=1 << 40)


def test_cache_per_token_counts_keys_and_values_of_every_layer() -> None:
    assert SMALL.cache_per_token == 2 * 2 * 3 * 16 * 2


def test_int8_keys_and_values_take_half_and_a_scale() -> None:
    small = replace(SMALL, kv_dtype="int8")
    assert small.cache_per_token == 2 * 2 * 3 * (16 + 4)


def test_weights_are_counted_as_they_are_kept(tiny_model: Callable[[str], Any]) -> None:
    path = tiny_model("qwen3").path
    with open_checkpoint(path) as checkpoint:
        sizes = [summarize(checkpoint, quantize=choice).footprint.weights for choice in CHOICES]
    float32, eight, four = sizes
    assert float32 == pytest.approx((path / "model.safetensors").stat().st_size, rel=0.05)
    assert eight == pytest.approx(float32 * 34 / 128, rel=0.02)
    assert four < 0.8 * eight


def test_memory_grows_with_context_and_sequences() -> None:
    assert SMALL.memory(10, sequences=3) == PROCESS_BYTES + 1000 + 384 * 30


@pytest.mark.parametrize("memory", [0, PROCESS_BYTES, PROCESS_BYTES + 1000])
def test_nothing_fits_without_room_for_weights(memory: int) -> None:
    assert SMALL.largest_context(memory) == 0


def test_largest_context_fits_and_one_more_token_does_not() -> None:
    memory = PROCESS_BYTES + 1000 + 384 * 500 + 50
    assert SMALL.largest_context(memory) == 500
    assert SMALL.memory(500) <= memory < SMALL.memory(501)


def test_the_cache_is_held_to_its_share() -> None:
    memory = 100 * PROCESS_BYTES
    assert SMALL.largest_context(memory) == memory // CACHE_SHARE // 384


def test_the_model_itself_has_a_limit() -> None:
    assert Footprint(1000, 2, 3, 16, context_length=64).largest_context(10**12) == 64


@pytest.mark.parametrize(
    ("name", "fixture"),
    [("smollm2-135m-instruct", "smollm2_path"), ("gemma-3-270m", "gemma3_path")],
)
def test_catalogue_agrees_with_the_files(
    name: str, fixture: str, request: pytest.FixtureRequest
) -> None:
    path: Path = request.getfixturevalue(fixture)
    with open_checkpoint(path) as checkpoint:
        summary, entry = summarize(checkpoint), catalogue.entry(name)
    assert summary.architecture == entry.architecture
    assert summary.parameters == entry.parameters
    assert summary.chat_template == entry.chat
    assert summary.footprint == Footprint(
        summary.footprint.weights,
        entry.layers,
        entry.kv_heads,
        entry.head_dim,
        entry.context_length,
    )
    assert sum(summary.types.values()) > 100
    assert summary.footprint.weights < path.stat().st_size
