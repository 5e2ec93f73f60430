"""How far logits are from those of float32 on the same weights.

The text is the project's own: English, Chinese and code, in windows of 512 tokens. As in
llama-perplexity, whose measurement of llama.cpp uses the very same tokens and reference, the second
half of each window counts, so that every prediction has a context. The reference computes in
float32 with the dequantized weights (lepton.models.executors.reference).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bench.cache import bench_directory
from bench.peers import PeerError
from bench.peers.llama_logits import LogitsFile, compare
from bench.shape import read_shape
from lepton import LLM
from lepton.telemetry.machine import inspect_machine

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]

WINDOW = 512
_FIRST = WINDOW // 2
_ROWS_AT_ONCE = 32
_REPOSITORY = Path(__file__).parents[1]
# None of them tells what is measured with it.
_TEXTS = ("docs/data.md", "docs/data.zh-CN.md", "CONTRIBUTING.md", "src/lepton/engine/scheduler.py")
_VARIANTS: dict[str, dict[str, Any]] = {
    "lepton exact": {"precision": "exact"},
    "lepton fast": {"precision": "fast"},
    "lepton exact, int8 cache": {"precision": "exact", "kv_dtype": "int8"},
    "lepton fast, int8 cache": {"precision": "fast", "kv_dtype": "int8"},
}
# Float weights are computed with as they are, or quantized while they are loaded.
_FLOAT_VARIANTS: dict[str, dict[str, Any]] = {
    "lepton": {},
    "lepton fast, weights to int8": {"precision": "fast", "quantize": "int8"},
    "lepton fast, weights to int4": {"precision": "fast", "quantize": "int4"},
}


@dataclass(frozen=True)
class Fidelity:
    """An engine's distance from float32: KL in nats, both perplexities."""

    model: str
    engine: str
    tokens: int
    agreement: float
    divergence: float
    perplexity: float
    reference: float


@dataclass
class Divergence:
    """Sums over tokens of what separates two models."""

    tokens: int = 0
    agreeing: int = 0
    divergence: float = 0.0
    surprise: float = 0.0
    reference_surprise: float = 0.0

    def add(self, reference: Floats, found: Floats, following: npt.NDArray[np.int64]) -> None:
        """Compare logits [tokens, vocab] of one window; ``following`` are the tokens to predict."""
        self.tokens += len(following)
        self.agreeing += int((reference.argmax(1) == found.argmax(1)).sum())
        for start in range(0, len(following), _ROWS_AT_ONCE):
            rows = slice(start, start + _ROWS_AT_ONCE)
            p, q = _log_softmax(reference[rows]), _log_softmax(found[rows])
            self.divergence += float((np.exp(p) * (p - q)).sum())
            each = np.arange(len(p)), following[rows]
            self.reference_surprise -= float(p[each].sum())
            self.surprise -= float(q[each].sum())

    def summary(self, model: str, engine: str) -> Fidelity:
        """The means over all tokens."""
        return Fidelity(
            model,
            engine,
            self.tokens,
            self.agreeing / self.tokens,
            self.divergence / self.tokens,
            math.exp(self.surprise / self.tokens),
            math.exp(self.reference_surprise / self.tokens),
        )


def measure_fidelity(
    model: str, path: Path, tell: Callable[[str], object], windows: int | None = None
) -> list[Fidelity]:
    """Measure Lepton's variants and, where it can be had, llama.cpp on one file.

    ``windows`` limits how much of the text is read.
    """
    logits_file = bench_directory() / "logits"
    options_of = _FLOAT_VARIANTS if read_shape(path).float_weights else _VARIANTS
    sums = {name: Divergence() for name in options_of}
    with ExitStack() as stack:
        reference = stack.enter_context(_open(path, executor="reference"))
        variants = {
            name: stack.enter_context(_open(path, **options))
            for name, options in options_of.items()
        }
        texts = _windows(reference)[:windows]
        writer = stack.enter_context(LogitsFile(logits_file, texts))
        for number, tokens in enumerate(texts, 1):
            tell(f"{model}: window {number} of {len(texts)}")
            following = np.array(tokens[_FIRST + 1 :])
            expected = reference.logits(tokens)[_FIRST:-1]
            writer.write(expected)
            for name, llm in variants.items():
                sums[name].add(expected, llm.logits(tokens)[_FIRST:-1], following)
    found = [each.summary(model, name) for name, each in sums.items()]
    try:
        peer = compare(path, logits_file, WINDOW, inspect_machine().threads)
    except PeerError as error:
        tell(str(error))
    else:
        found.append(replace(found[0], engine="llama.cpp", **asdict(peer)))
    logits_file.unlink()
    return found


def _open(path: Path, **options: Any) -> LLM:
    return LLM(path, context_length=WINDOW, max_sequences=1, **options)


def _windows(llm: LLM) -> list[list[int]]:
    """The text in windows of equal length, each beginning as the model wants texts to."""
    encode = llm.tokenizer.encode
    text = "\n\n".join((_REPOSITORY / name).read_text() for name in _TEXTS)
    start, tokens = encode(""), encode(text, add_special_tokens=False)
    length = WINDOW - len(start)
    return [
        start + tokens[begin : begin + length]
        for begin in range(0, len(tokens) - length + 1, length)
    ]


def _log_softmax(logits: Floats) -> Doubles:
    shifted: Doubles = logits.astype(np.float64) - logits.max(1, keepdims=True)
    normaliser: Doubles = np.log(np.exp(shifted).sum(1, keepdims=True))
    return np.subtract(shifted, normaliser)
