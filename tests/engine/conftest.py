"""A model small enough to see through: logits are a hash of the history found in the cache."""

from __future__ import annotations

import codecs
import random
import zlib
from collections.abc import Callable, Iterable, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from lepton.engine.config import EngineConfig
from lepton.engine.core import EngineCore
from lepton.engine.merging import RequestCollector
from lepton.engine.outputs import RequestOutput
from lepton.engine.sampling_params import SamplingParams
from lepton.engine.speculation import Guess, Speculator
from lepton.models.executors.base import BLOCK_SIZE, Batch

PIECES: list[bytes] = [
    b"<eos>",
    b"<end>",
    *(bytes([letter]) for letter in b"abcdefght \n"),
    b"ab",
    b"bc",
    b"abc",
    b"the ",
    "é".encode(),
    *(bytes([byte]) for byte in "汉语".encode()),
    *(bytes([byte]) for byte in "😀".encode()),
    "中".encode(),
]
VOCAB_SIZE = len(PIECES)
EOS = 0


class HashExecutor:
    """Keeps tokens and positions in its blocks, as a real one keeps keys and values.

    Where a few of the largest logits suffice, it gives no others.
    Logits depend on every token of the history and on the order, read through the block table;
    anything inconsistent in a batch raises ValueError.
    """

    def __init__(self, num_blocks: int, vocab_size: int = VOCAB_SIZE) -> None:
        self.vocab_size = vocab_size
        self.num_blocks = num_blocks
        memory = np.full((num_blocks, 2 * BLOCK_SIZE), -1)
        self.tokens, self.positions = memory[:, :BLOCK_SIZE], memory[:, BLOCK_SIZE:]
        self.cache = memory.view(np.uint8)
        self.bytes_per_block = self.cache.shape[1]
        self.batches: list[Batch] = []
        self.closed = False
        self.fail_next: Exception | None = None
        self.spoil: Callable[[np.ndarray], None] | None = None

    def forward(self, batch: Batch) -> np.ndarray:
        if self.fail_next is not None:
            error, self.fail_next = self.fail_next, None
            raise error
        self.batches.append(batch)
        self._check(batch)
        for _, table, rows in self._sequences(batch):
            for row in rows:
                place = self._place(table, int(batch.positions[row]))
                self.tokens[place] = batch.token_ids[row]
                self.positions[place] = batch.positions[row]
        logits = np.empty((len(batch.logit_rows), self.vocab_size), dtype=np.float32)
        owners = {row: table for _, table, rows in self._sequences(batch) for row in rows}
        for out, row in zip(logits, batch.logit_rows.tolist(), strict=True):
            out[:] = history_logits(
                self._history(owners[row], int(batch.positions[row])), self.vocab_size
            )
            if self.spoil is not None:
                self.spoil(out)
        if batch.num_best is not None:
            for out, count in zip(logits, batch.num_best.tolist(), strict=True):
                if 0 < count < len(out):
                    out[out < np.sort(out)[-count]] = np.finfo(np.float32).min
        return logits

    def close(self) -> None:
        self.closed = True

    def _history(self, table: np.ndarray, last: int) -> list[int]:
        places = [self._place(table, position) for position in range(last + 1)]
        found = [int(self.positions[place]) for place in places]
        if found != list(range(last + 1)):
            raise AssertionError(f"the cache holds positions {found}")
        return [int(self.tokens[place]) for place in places]

    @staticmethod
    def _place(table: np.ndarray, position: int) -> tuple[int, int]:
        return int(table[position // BLOCK_SIZE]), position % BLOCK_SIZE

    @staticmethod
    def _sequences(batch: Batch) -> Iterable[tuple[int, np.ndarray, range]]:
        starts = batch.row_starts.tolist()
        for index, table in enumerate(batch.block_tables):
            yield index, table, range(starts[index], starts[index + 1])

    def _check(self, batch: Batch) -> None:
        if len(batch.token_ids) == 0 or len(batch.token_ids) != batch.row_starts[-1]:
            raise ValueError("rows do not add up")
        written: dict[int, int] = {}
        for index, table, rows in self._sequences(batch):
            positions = batch.positions[list(rows)]
            if len(rows) == 0 or (np.diff(positions) != 1).any():
                raise ValueError("positions are not consecutive")
            for position in positions.tolist():
                block = self._place(table, position)[0]
                if not 0 <= block < self.num_blocks:
                    raise ValueError(f"block {block} is out of range")
                if written.setdefault(block, index) != index:
                    raise ValueError(f"two sequences write to block {block}")
        for index, table, _ in self._sequences(batch):
            for block in table.tolist():
                if written.get(block, index) != index:
                    raise ValueError(f"block {block} is read by a sequence that does not own it")


def history_logits(history: list[int], vocab_size: int = VOCAB_SIZE) -> np.ndarray:
    seed = zlib.crc32(np.asarray(history, dtype=np.int64).tobytes())
    return 3 * np.random.default_rng(seed).standard_normal(vocab_size, dtype=np.float32)


class Guesser:
    """Drafts for every completion: right tokens as far as chance has it, then a wrong one.

    Stands in for the whole speculator, so that drafts are verified where they do not pay.
    """

    def __init__(self, seed: int, longest: int = 5) -> None:
        self.random = random.Random(seed)
        self.longest = longest

    def drafts(self, sequences: Any) -> dict[Any, list[int]]:
        return {
            sequence: self._draft(sequence.token_ids)
            for sequence in sequences
            if sequence.num_pending == 1 and sequence.num_generated
        }

    def forget(self, sequence: Any, *, trusted: bool = True) -> None:
        """Nothing is kept."""

    clear = close = lambda self: None

    def _draft(self, token_ids: list[int]) -> list[int]:
        history = list(token_ids)
        for _ in range(self.random.randint(0, self.longest)):
            logits = history_logits(history)
            right = int(logits.argmax())
            wrong = self.random.randrange(2, VOCAB_SIZE)
            history.append(right if self.random.random() < 0.7 else wrong)
        return history[len(token_ids) :]


class EagerSpeculator(Speculator):
    """Asks for and verifies all that its source proposes, whether it pays or not."""

    def _may_pay(self, rows: int) -> bool:
        return True

    def _counts(self, sequences: Sequence[Any], guesses: Sequence[Guess]) -> list[int]:
        return [self._max_tokens] * len(guesses)

    def _best(self, rows: int, chances: Sequence[float], seconds: float = 0.0) -> int:
        return len(chances)


class PieceTokenizer:
    """One id per piece; ids 0 and 1 are special and have no text."""

    vocab_size = VOCAB_SIZE
    bos_token_id = None
    eos_token_ids = frozenset({EOS})

    def encode(self, text: str, *, add_special_tokens: bool = True) -> list[int]:
        single = {piece: index for index, piece in enumerate(PIECES)}
        data, ids = text.encode(), []
        while data:
            length = next(size for size in range(min(5, len(data)), 0, -1) if data[:size] in single)
            ids.append(single[data[:length]])
            data = data[length:]
        return ids

    def token_text(self, token_id: int) -> str:
        return PIECES[token_id].decode(errors="replace")

    def token_bytes(self, token_id: int) -> bytes:
        return PIECES[token_id]

    def detokenizer(self, *, continuation: bool = False) -> PieceDetokenizer:
        return PieceDetokenizer()

    def decode(self, ids: Iterable[int]) -> str:
        return b"".join(PIECES[token] for token in ids if token > 1).decode(errors="replace")


class PieceDetokenizer:
    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def add(self, token_id: int) -> str:
        return self._decoder.decode(PIECES[token_id] if token_id > 1 else b"")

    def flush(self) -> str:
        return self._decoder.decode(b"", final=True)


class PieceTemplate:
    def render(self, messages: Any, *, add_generation_prompt: bool = True) -> str:
        text = "".join(f"{message['content']}\n" for message in messages)
        return text + ("the " if add_generation_prompt else "")


def make_model(context_length: int = 512, *, chat: bool = True) -> Any:
    return SimpleNamespace(
        name="pieces",
        config=SimpleNamespace(
            context_length=context_length,
            vocab_size=VOCAB_SIZE,
            num_layers=1,
            num_kv_heads=1,
            head_dim=2,
        ),
        tokenizer=PieceTokenizer(),
        chat_template=PieceTemplate() if chat else None,
        close=lambda: None,
    )


def make_config(num_blocks: int = 256, **options: Any) -> EngineConfig:
    return EngineConfig(executor=lambda _model, _blocks: HashExecutor(num_blocks), **options)


def run_all(core: EngineCore, limit: int = 10_000) -> dict[str, RequestOutput]:
    """Step until nothing is left, checking the invariants after every step."""
    collectors = {
        sequence.request.request_id: RequestCollector(
            sequence.request.request_id, sequence.request.prompt_token_ids
        )
        for sequence in [*core.scheduler.running, *core.scheduler.waiting]
    }
    for _ in range(limit):
        if not core.has_work:
            break
        for delta in core.step():
            collectors[delta.request_id].add(delta)
        core.scheduler.check_integrity()
    assert not core.has_work, "the engine does not finish"
    return {request_id: collector.output() for request_id, collector in collectors.items()}


def run_one(
    prompt: list[int], params: SamplingParams, *, echo_logprobs: bool = False, **options: Any
) -> RequestOutput:
    """One request alone in an engine of its own."""
    core = EngineCore(make_model(), make_config(**options))
    core.add(core.make_request("only", prompt, params, echo_logprobs=echo_logprobs))
    return run_all(core)["only"]


@pytest.fixture(scope="session")
def toy() -> Any:
    """Everything above, for tests that drive the engine without a real model."""
    return SimpleNamespace(
        Guesser=Guesser,
        EagerSpeculator=EagerSpeculator,
        HashExecutor=HashExecutor,
        PIECES=PIECES,
        VOCAB_SIZE=VOCAB_SIZE,
        EOS=EOS,
        PieceTokenizer=PieceTokenizer,
        history_logits=history_logits,
        make_model=make_model,
        make_config=make_config,
        run_all=run_all,
        run_one=run_one,
    )
