"""A frozen encoder with a linear layer on its vectors, and optionally one on counted terms.

The encoder runs in the engine: a model of the catalogue, or the folder that `finetune` leaves
in its run.
"""

from __future__ import annotations

import shutil
import threading
from collections.abc import Hashable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from weakref import WeakValueDictionary

import numpy as np

from lepton.errors import ModelFormatError
from lepton.files import state_of
from lepton.training.analyzer import han_share
from lepton.training.linear import LinearScorer
from lepton.training.run import read_tensors, write_tensors
from lepton.training.scorers import Floats, ProgressCallback, no_progress

if TYPE_CHECKING:
    from lepton.engine import LLM

ENGLISH_ENCODER = "all-minilm-l6-v2"
MULTILINGUAL_ENCODER = "multilingual-e5-small"
ENCODER_FOLDER = "encoder"
HEAD_WEIGHTS = "head.safetensors"

_TEXTS_AT_ONCE = 256

LongTexts = Literal["window", "truncate"]


@dataclass(frozen=True)
class Encoder:
    """An encoder of the engine and how it is asked."""

    model: str
    """Catalogue name, or a folder."""
    long_texts: LongTexts = "window"
    """What becomes of texts beyond the encoder's length: see `lepton.LLM.embed`."""
    normalize: bool = True
    max_tokens: int | None = None
    """Tokens of one piece of a text; None: as many as the encoder takes."""
    fields: int = 1
    """Lines of a text, the last with all the rest, that are embedded each by itself."""

    @cached_property
    def llm(self) -> LLM:
        """The engine with the encoder in it, loaded when it is first asked for."""
        return _load(self.model, self.max_tokens)

    def embed(self, texts: Sequence[str], progress: ProgressCallback = no_progress) -> Floats:
        """Vectors float32 [texts, fields · dimensions of the encoder]."""
        llm = self.llm
        if not texts:
            return np.zeros((0, self.fields * llm.encoder.dimensions), np.float32)
        parts = []
        for start in range(0, len(texts), _TEXTS_AT_ONCE):
            progress("embed", start, len(texts), {})
            rows = [_fields(text, self.fields) for text in texts[start : start + _TEXTS_AT_ONCE]]
            vectors = [
                llm.embed(list(column), normalize=self.normalize, long_texts=self.long_texts)
                for column in zip(*rows, strict=True)
            ]
            parts.append(np.hstack(vectors))
        return np.concatenate(parts)


@dataclass(frozen=True)
class EncoderScorer:
    """Scores = vectors · weight + bias, plus what counted terms add where there are ``terms``."""

    encoder: Encoder
    weight: Floats
    """[dimensions, outputs]"""
    bias: Floats
    """[outputs]"""
    terms: LinearScorer | None = None

    def scores(self, texts: Sequence[str]) -> Floats:
        """Float32 [texts, outputs]."""
        if not texts:
            return np.zeros((0, len(self.bias)), np.float32)
        scores: Floats = self.encoder.embed(texts) @ self.weight + self.bias
        return scores if self.terms is None else scores + self.terms.scores(texts)

    def save(self, folder: Path) -> dict[str, Any]:
        """Write the layer's weights, and the encoder where it belongs to the run."""
        write_tensors(folder / HEAD_WEIGHTS, {"weight": self.weight, "bias": self.bias})
        encoder = asdict(self.encoder)
        source = Path(self.encoder.model)
        if source.is_dir() and source.name == ENCODER_FOLDER:
            if source.parent != folder:
                shutil.copytree(source, folder / ENCODER_FOLDER)
            encoder["model"] = ENCODER_FOLDER
        described: dict[str, Any] = {"encoder": encoder, "dimensions": len(self.weight)}
        if self.terms is not None:
            described["terms"] = self.terms.save(folder)
        return described

    @classmethod
    def load(cls, folder: Path, model: dict[str, Any], num_outputs: int) -> EncoderScorer:
        """Read what `save` wrote.

        Raises:
            ModelFormatError: a file is damaged.
            ModelNotFoundError: the encoder is not on this machine.
        """
        try:
            encoder = Encoder(**model["encoder"])
            dimensions = int(model["dimensions"])
        except (KeyError, TypeError, ValueError) as error:
            raise ModelFormatError(f"the encoder is not described: {error}", file=folder) from None
        if encoder.model == ENCODER_FOLDER:
            encoder = replace(encoder, model=str(folder / ENCODER_FOLDER))
        shapes = {"weight": (dimensions, num_outputs), "bias": (num_outputs,)}
        tensors = read_tensors(folder / HEAD_WEIGHTS, shapes)
        terms = None
        if "terms" in model:
            terms = LinearScorer.load(folder, model["terms"], num_outputs)
        encoder.llm  # noqa: B018
        return cls(encoder, tensors["weight"], tensors["bias"], terms)


def _fields(text: str, count: int) -> list[str]:
    """The first lines, and the rest as the last; empty strings where the text has fewer."""
    lines = text.split("\n", count - 1)
    return lines + [""] * (count - len(lines))


def encoder_for(texts: Sequence[str]) -> str:
    """The default encoder of the language that most of the texts are in."""
    sample = texts[:: max(1, len(texts) // 200)]
    foreign = sum(
        han_share(text) > 0.1 or (not text.isascii() and _foreign(text)) for text in sample
    )
    return MULTILINGUAL_ENCODER if foreign > 0.05 * len(sample) else ENGLISH_ENCODER


def _foreign(text: str) -> bool:
    """Whether a tenth of the letters are beyond the Latin ones of English."""
    letters = [character for character in text if character.isalpha()]
    return sum(not letter.isascii() for letter in letters) > 0.1 * len(letters)


_loaded: WeakValueDictionary[Hashable, LLM] = WeakValueDictionary()
_loading = threading.Lock()


def _load(model: str, max_tokens: int | None) -> LLM:
    """The encoder: one for all that use the same files, released with the last of them."""
    from lepton.engine import LLM
    from lepton.models import catalogue

    path = catalogue.locate(model).resolve()
    with _loading:
        key = (path, state_of(path), max_tokens)
        llm = _loaded.get(key)
        if llm is None:
            llm = LLM(model) if max_tokens is None else LLM(model, context_length=max_tokens)
            _loaded[key] = llm
    return llm
