"""Attention over the paged cache against float64, in any tiling, on every instruction set."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lepton.kernels import _native, isa_info
from lepton.kernels.reference import round_to_bfloat16

ISAS = isa_info().supported
# "rounded": a cache in bfloat16 that meets queries and weights rounded to bfloat16.
CACHE_TYPES = ["bfloat16", "rounded", "int8"]
POOLS = {threads: _native.ThreadPool(threads) for threads in (1, 2, 5)}
SEGMENT = 256


def cached(values: np.ndarray, cache_type: str) -> np.ndarray:
    """What the cache makes of keys or values [tokens, heads, d]."""
    if cache_type != "int8":
        return round_to_bfloat16(values).astype(np.float64)
    largest = np.abs(values).max(axis=-1, keepdims=True)
    inverse = np.divide(np.float32(127), largest, out=np.zeros_like(largest), where=largest > 0)
    return np.rint(values * inverse).astype(np.float64) * (largest / np.float32(127))


@dataclass
class Scene:
    """Random sequences whose keys and values lie scattered over a cache full of NaN."""

    heads: int
    kv_heads: int
    head_dim: int
    lengths: tuple[int, ...]
    """Positions of each sequence, its new rows included."""
    cache_type: str = "bfloat16"
    window: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        rng = np.random.default_rng(self.seed)
        self.scale = self.head_dim**-0.5
        counts = [-(-length // 16) for length in self.lengths]
        stored = "int8" if self.cache_type == "int8" else "bfloat16"
        self.cache = _native.KvCache(stored, sum(counts), self.kv_heads, self.head_dim)
        self.store(
            np.arange(sum(counts) * 16), *np.full((2, sum(counts) * 16, *self.shape), np.nan)
        )
        free = rng.permutation(sum(counts)).astype(np.int32)
        self.tables = np.full((len(counts), max(counts)), -1, np.int32)
        self.queries, self.keys, self.values = [], [], []
        for table, count, length in zip(self.tables, counts, self.lengths, strict=True):
            table[:count], free = free[:count], free[count:]
            key, value = rng.standard_normal((2, length, *self.shape)).astype(np.float32)
            places = np.arange(length)
            self.store(table[places // 16] * 16 + places % 16, key, value)
            self.keys.append(key)
            self.values.append(value)
            query = rng.standard_normal((length, self.heads, self.head_dim)).astype(np.float32)
            self.queries.append(query * np.float32(2))

    @property
    def shape(self) -> tuple[int, int]:
        return self.kv_heads, self.head_dim

    @property
    def rounded(self) -> bool:
        return self.cache_type == "rounded"

    @property
    def tolerance(self) -> float:
        return 2**-7 if self.rounded else 2e-5

    def store(self, slots: np.ndarray, key: np.ndarray, value: np.ndarray) -> None:
        rows = [x.reshape(len(slots), -1).astype(np.float32) for x in (key, value)]
        self.cache.store(slots.astype(np.int32), *rows)

    def attend(self, new: dict[int, range], threads: int = 2, isa: str = "") -> list[np.ndarray]:
        """Attention [rows, heads * d] of some sequences' rows, all in one step."""
        rows = np.concatenate([self.queries[s][list(part)] for s, part in new.items()])
        mixed = _native.attend(
            POOLS[threads],
            self.cache,
            rows.reshape(len(rows), -1),
            np.concatenate([np.array(part, np.int32) for part in new.values()]),
            np.cumsum([0, *map(len, new.values())]).astype(np.int32),
            self.tables[list(new)],
            scale=self.scale,
            window=self.window,
            rounded=self.rounded,
            isa=isa,
        )
        return np.split(mixed, np.cumsum([len(part) for part in new.values()])[:-1])

    def expected(self, sequence: int, rows: range) -> np.ndarray:
        """The same for one sequence in float64."""
        group = self.heads // self.kv_heads
        key = np.repeat(cached(self.keys[sequence], self.cache_type), group, axis=1)
        value = np.repeat(cached(self.values[sequence], self.cache_type), group, axis=1)
        query = self.queries[sequence][list(rows)]
        query = (round_to_bfloat16(query) if self.rounded else query).astype(np.float64)
        scores = np.einsum("rhd,lhd->hrl", query, key) * self.scale
        distance = np.array(rows)[:, None] - np.arange(len(key))[None]
        seen = (distance >= 0) & (distance < (self.window or len(key)))
        weights = np.where(seen, np.exp(scores - scores.max(axis=-1, keepdims=True)), 0)
        weights /= weights.sum(axis=-1, keepdims=True)
        return np.einsum("hrl,lhd->rhd", weights, value).reshape(len(query), -1)

    def check(self, new: dict[int, range], **settings: object) -> None:
        for (sequence, rows), found in zip(new.items(), self.attend(new, **settings), strict=True):
            np.testing.assert_allclose(
                found, self.expected(sequence, rows), rtol=0, atol=self.tolerance
            )


@pytest.mark.parametrize("cache_type", CACHE_TYPES)
@pytest.mark.parametrize("group", range(1, 9))
@pytest.mark.parametrize("head_dim", [2, 30, 64, 80, 256])
def test_shapes(head_dim: int, group: int, cache_type: str) -> None:
    scene = Scene(2 * group, 2, head_dim, (61, 300), cache_type)
    scene.check({0: range(61), 1: range(290, 300)})


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("cache_type", CACHE_TYPES)
def test_every_instruction_set(isa: str, cache_type: str) -> None:
    Scene(6, 2, 30, (300,), cache_type).check({0: range(200, 300)}, isa=isa)


@settings(max_examples=60, deadline=None)
@given(
    group=st.integers(1, 8),
    kv_heads=st.integers(1, 3),
    head_dim=st.sampled_from([2, 6, 16, 34]),
    lengths=st.lists(st.integers(1, 3 * SEGMENT), min_size=1, max_size=4),
    rows=st.integers(1, 40),
    window=st.sampled_from([0, 1, 5, 16, 255, 256, 300]),
    cache_type=st.sampled_from(CACHE_TYPES),
    threads=st.sampled_from(list(POOLS)),
)
def test_ragged_batches(
    group: int,
    kv_heads: int,
    head_dim: int,
    lengths: list[int],
    rows: int,
    window: int,
    cache_type: str,
    threads: int,
) -> None:
    """Prompts, single tokens and chunks together, with and without a sliding window."""
    scene = Scene(group * kv_heads, kv_heads, head_dim, tuple(lengths), cache_type, window)
    ends = dict(enumerate(lengths))
    new = {s: range(max(0, end - rows * (s % 2) - 1), end) for s, end in ends.items()}
    scene.check(new, threads=threads)


@pytest.mark.parametrize("cache_type", CACHE_TYPES)
@pytest.mark.parametrize("window", [0, 40, 260])
def test_a_row_depends_on_no_tiling(cache_type: str, window: int) -> None:
    """Alone, in chunks or beside others, on any number of threads and instruction set."""
    lengths = (700, 33, 513)
    scene = Scene(9, 3, 48, lengths, cache_type, window)
    together = scene.attend({s: range(length) for s, length in enumerate(lengths)})
    for isa in ISAS:
        for threads in POOLS:
            for sequence, row in ((0, 699), (0, 512), (1, 20), (2, 255), (2, 256), (2, 512)):
                (alone,) = scene.attend({sequence: range(row, row + 1)}, threads, isa)
                np.testing.assert_array_equal(alone[0], together[sequence][row], err_msg=isa)
    for size in (2, 7, 64):
        for begin in range(0, 640, size):
            (chunk,) = scene.attend({0: range(begin, begin + size)}, threads=1)
            np.testing.assert_array_equal(chunk, together[0][begin : begin + size])


@pytest.mark.parametrize("cache_type", CACHE_TYPES)
def test_a_long_context_is_split_without_a_trace(cache_type: str) -> None:
    scene = Scene(4, 1, 32, (20 * SEGMENT + 77,), cache_type)
    last = {0: range(20 * SEGMENT + 76, 20 * SEGMENT + 77)}
    scene.check(last)
    alone = scene.attend(last, threads=1)
    for threads in POOLS:
        np.testing.assert_array_equal(scene.attend(last, threads), alone)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("cache_type", CACHE_TYPES)
def test_scores_far_apart(cache_type: str, isa: str) -> None:
    """One key wins by hundreds, early or late: nothing overflows, the rest counts for nothing."""
    for winner in (3, 600):
        scene = Scene(1, 1, 16, (700,), cache_type)
        scene.queries[0][:] = 100
        scene.keys[0][winner] = 100
        slot = scene.tables[0, winner // 16] * 16 + winner % 16
        scene.store(np.array([slot]), scene.keys[0][winner], scene.values[0][winner])
        (found,) = scene.attend({0: range(699, 700)}, isa=isa)
        winning = cached(scene.values[0], cache_type)[winner, 0]
        np.testing.assert_allclose(found[0], winning, atol=1e-6)


@pytest.mark.parametrize("cache_type", CACHE_TYPES)
@pytest.mark.parametrize("spoilt", ["key", "value"])
def test_a_nan_shows_in_the_rows_that_see_it_alone(cache_type: str, spoilt: str) -> None:
    scene = Scene(4, 2, 16, (40,), cache_type)
    key, value = scene.keys[0][20].copy(), scene.values[0][20].copy()
    (key if spoilt == "key" else value)[0] = np.nan
    scene.store(np.array([scene.tables[0, 1] * 16 + 4]), key, value)
    (found,) = scene.attend({0: range(40)})
    tolerance = scene.tolerance
    np.testing.assert_allclose(found[:20], scene.expected(0, range(20)), atol=tolerance)
    assert np.isnan(found[20:, :32]).all()
    unspoilt = scene.expected(0, range(20, 40))[:, 32:]
    np.testing.assert_allclose(found[20:, 32:], unspoilt, atol=tolerance)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("cache_type", CACHE_TYPES)
def test_any_nan_of_a_query_stays_one(cache_type: str, isa: str) -> None:
    for bits in (0x7FC00000, 0x7F800001, 0x7FFFE000, 0xFFFFE000, 0xFFFFFFFF):
        scene = Scene(2, 1, 16, (20,), cache_type)
        scene.queries[0].view(np.uint32)[19, 1, 3] = bits
        (found,) = scene.attend({0: range(18, 20)}, isa=isa)
        assert np.isnan(found[1, 16:]).all()
        assert np.isfinite(found[0]).all()
        assert np.isfinite(found[1, :16]).all()


def test_sizes_and_refusals() -> None:
    assert _native.KvCache("bfloat16", 1, 3, 64).bytes_per_block == 16 * 3 * 64 * 4
    assert _native.KvCache("int8", 1, 3, 64).bytes_per_block == 16 * 3 * (64 * 2 + 8)
    with pytest.raises(ValueError, match="'bfloat16' or 'int8', not 'fp8'"):
        _native.KvCache("fp8", 1, 1, 64)
