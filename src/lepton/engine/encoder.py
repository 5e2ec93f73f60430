"""Encoders at work: texts in, vectors, scores or labels out."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING

import numpy as np

from lepton.engine.config import EngineConfig
from lepton.engine.encoder_inputs import (
    InputRules,
    LongTexts,
    TextInput,
    Window,
    pair_windows,
    prompt_of,
    windows,
)
from lepton.engine.encoder_memory import check_memory
from lepton.errors import ConfigurationError, RequestError, UnavailableError
from lepton.kernels.reference import softmax
from lepton.models.encoder_head import HeadLayer, head_layers, projection_layers, unit_rows
from lepton.models.executors.base import Float32Array
from lepton.models.executors.encoder_base import EncoderBatch

if TYPE_CHECKING:
    from lepton.models.encoder_loader import EncoderModel
    from lepton.models.executors.encoder_base import EncoderExecutor
    from lepton.models.stages import PoolingKind

_GROUP_TEXTS = 4096
"""Inputs that are tokenized and sorted by length together."""
_CHUNK_TOKENS = 4096
"""Tokens that go through the executor in one call."""

Progress = Callable[[int], object]
"""Told how many inputs are done since the last call."""


@dataclass(frozen=True)
class EmbedOptions:
    """How texts are embedded; what is None follows the model's own files."""

    prompt_name: str | None = None
    """One of the model's prompts, put before each text; "": none. Token ids get none."""
    dimensions: int | None = None
    """Leading dimensions to keep (arXiv:2205.13147), for models trained to be cut."""
    normalize: bool | None = None
    """Whether vectors have length one."""
    long_texts: LongTexts = "window"
    prompt: str | None = None
    """Text to put before each text, instead of one of the model's prompts."""


@dataclass(frozen=True)
class RankedDocument:
    """A document's place in the list that was given, and how well it answers the query."""

    index: int
    score: float


@dataclass(frozen=True)
class TaggedToken:
    """A token of a text, characters ``start`` to ``end`` (exclusive), with its likeliest label."""

    start: int
    end: int
    label: str
    score: float


class PooledJob:
    """Windows of ``count`` inputs on their way through the executor, longest first.

    The state of an input is the mean of those of its windows, by their weights.
    """

    def __init__(self, inputs: Sequence[Window], count: int, width: int) -> None:
        self.count = count
        self.num_tokens = sum(len(window.token_ids) for window in inputs)
        self.pending = deque(sorted(inputs, key=lambda window: -len(window.token_ids)))
        self._sums = np.zeros((count, width), np.float32)
        self._weights = np.zeros((count, 1), np.float32)
        self._whole = len(inputs) == count
        """Whether every input is one window, whose state is the input's."""

    def take(self, tokens: int) -> list[Window]:
        """The next windows, as many as have so many tokens together, at least one."""
        chunk: list[Window] = []
        while self.pending and (not chunk or tokens >= len(self.pending[0].token_ids)):
            chunk.append(self.pending.popleft())
            tokens -= len(chunk[-1].token_ids)
        return chunk

    def add(self, chunk: Sequence[Window], states: Float32Array) -> None:
        """Take in the states [windows, width] of windows that were taken."""
        owners = [window.owner for window in chunk]
        if self._whole:
            self._sums[owners] = states
            return
        shares = np.array([[window.weight] for window in chunk], np.float32)
        np.add.at(self._sums, owners, states * shares)
        np.add.at(self._weights, owners, shares)

    def states(self) -> Float32Array:
        """The state of each input [count, width], once nothing is pending."""
        if self._whole:
            return self._sums
        mean: Float32Array = self._sums / self._weights
        return mean


class EncoderEngine:
    """One encoder and its executor. Calls from several threads take turns, chunk by chunk."""

    def __init__(self, model: EncoderModel, config: EngineConfig) -> None:
        """Load the weights; ConfigurationError when an option does not fit the model."""
        self.model = model
        self.config = config
        self.max_tokens = _max_tokens(model, config)
        """Tokens of one input, special ones included."""
        self._executor = _build_executor(model, config)
        settings = model.settings
        self._projections = projection_layers(settings.projections, self._executor.hidden_size)
        self._head = head_layers(model)
        self._lock = threading.Lock()
        self._closed = False

    @property
    def dimensions(self) -> int:
        """Columns of what ``embed`` returns."""
        return self.model.dimensions

    @property
    def retrieval_prompts(self) -> tuple[str | None, str | None]:
        """Names of the prompts for queries and for documents, as sentence models call them."""
        prompts = self.model.settings.prompts
        documents = next((name for name in ("document", "passage") if name in prompts), None)
        return ("query" if "query" in prompts else None), documents

    def embed(
        self,
        inputs: Sequence[TextInput],
        options: EmbedOptions | None = None,
        progress: Progress | None = None,
    ) -> Float32Array:
        """Vectors float32 [inputs, dimensions].

        Raises RequestError for an input that is not valid, a prompt that the model does not have,
        more dimensions than it has, or a model that is no sentence encoder.
        """
        options = options or EmbedOptions()
        found = [np.empty((0, self._width(options.dimensions)), np.float32)]
        for start in range(0, len(inputs), _GROUP_TEXTS):
            job = self.embed_job(inputs[start : start + _GROUP_TEXTS], options)
            self._run(job, progress)
            found.append(self.vectors(job, options))
        return found[1] if len(found) == 2 else np.concatenate(found)

    def embed_job(self, inputs: Sequence[TextInput], options: EmbedOptions) -> PooledJob:
        """What is to be computed for these inputs; raises as ``embed`` does."""
        if self.model.task != "embed":
            raise RequestError(f"{self.model.name} is made to {self.model.task}, not to embed")
        self._width(options.dimensions)
        prompt = prompt_of(self.model, options.prompt_name, options.prompt)
        rules = InputRules(self.max_tokens, options.long_texts, prompt)
        return self._job(list(windows(self.model, inputs, rules)), len(inputs))

    def vectors(self, job: PooledJob, options: EmbedOptions) -> Float32Array:
        """The vectors of a job that has been computed."""
        vectors = _apply(self._projections, job.states())[:, : self._width(options.dimensions)]
        normalize = self.model.settings.normalize
        return (
            unit_rows(vectors)
            if (normalize if options.normalize is None else options.normalize)
            else vectors
        )

    def classify(
        self, texts: Sequence[TextInput], progress: Progress | None = None
    ) -> Float32Array:
        """Probabilities float32 [texts, labels], of the beginning of each text.

        Raises RequestError when the model has no head for texts.
        """
        found = [np.empty((0, len(self.model.config.labels)), np.float32)]
        for start in range(0, len(texts), _GROUP_TEXTS):
            job = self.classify_job(texts[start : start + _GROUP_TEXTS])
            self._run(job, progress)
            found.append(self.chances(job))
        return np.concatenate(found)

    def classify_job(self, texts: Sequence[TextInput]) -> PooledJob:
        """What is to be computed to classify texts; raises as ``classify`` does."""
        self._check_task("classify", *(["rank"] if self.model.head else []))
        rules = InputRules(self.max_tokens, "truncate")
        return self._job(list(windows(self.model, texts, rules)), len(texts))

    def chances(self, job: PooledJob) -> Float32Array:
        """The probabilities of a job that has been computed."""
        logits = _apply(self._head, job.states())
        return softmax(logits) if logits.shape[1] > 1 else _sigmoid(logits)

    def score(self, pairs: Sequence[tuple[str, str]]) -> Float32Array:
        """How well the texts of each pair go together, float32 [pairs].

        A cross-encoder reads both as one; an embedding model gives the cosine of two vectors, the
        first with the prompt of queries and the second with that of documents.
        """
        if self.model.task == "embed":
            queries, documents = self.retrieval_prompts
            first = self._distinct(
                [pair[0] for pair in pairs], EmbedOptions(queries, normalize=True)
            )
            second = self._distinct(
                [pair[1] for pair in pairs], EmbedOptions(documents, normalize=True)
            )
            return cosines(first, second)
        found = [np.empty(0, np.float32)]
        for start in range(0, len(pairs), _GROUP_TEXTS):
            job = self.score_job(pairs[start : start + _GROUP_TEXTS])
            self._run(job, None)
            found.append(self.scores(job))
        return np.concatenate(found)

    def score_job(self, pairs: Sequence[tuple[str, str]]) -> PooledJob:
        """What a cross-encoder is to compute for pairs; raises as ``score`` does."""
        self._check_task("rank")
        return self._job(pair_windows(self.model, pairs, self.max_tokens), len(pairs))

    def scores(self, job: PooledJob) -> Float32Array:
        """The scores of a job that has been computed."""
        logits = _apply(self._head, job.states())[:, 0]
        return _sigmoid(logits) if self.model.score_sigmoid else logits

    def rerank(
        self, query: str, documents: Sequence[str], top_n: int | None = None
    ) -> list[RankedDocument]:
        """The documents by falling score, the ``top_n`` best of them."""
        scores = self.score([(query, document) for document in documents])
        order = np.argsort(-scores, kind="stable")[:top_n]
        return [RankedDocument(int(index), float(scores[index])) for index in order]

    def tag(self, texts: Sequence[str]) -> list[list[TaggedToken]]:
        """The likeliest label of each token of each text, as far as the model reads it."""
        self._check_task("tag")
        tagged = []
        for text in texts:
            pieces = self.model.tokenizer.pieces(text)
            pieces = pieces[: self.max_tokens - self.model.tokenizer.special_tokens]
            tokens = self.model.tokenizer.wrap([token for token, _, _ in pieces])
            before = len(tokens) - len(pieces) - self.model.tokenizer.special_tokens_after
            states = self.forward([Window(0, tokens, len(tokens))], None)
            chances = softmax(_apply(self._head, states[before : before + len(pieces)]))
            best = chances.argmax(axis=1)
            tagged.append(
                [
                    TaggedToken(
                        start, end, self.model.config.labels[label], float(chances[row, label])
                    )
                    for row, ((_, start, end), label) in enumerate(
                        zip(pieces, best.tolist(), strict=True)
                    )
                ]
            )
        return tagged

    def close(self) -> None:
        """Release the weights."""
        with self._lock:
            self._closed = True
            self._executor.close()

    def _distinct(self, texts: list[str], options: EmbedOptions) -> Float32Array:
        """Vectors of texts, of which equal ones are embedded once."""
        places = {text: place for place, text in enumerate(dict.fromkeys(texts))}
        return self.embed(list(places), options)[[places[text] for text in texts]]

    def _check_task(self, *tasks: str) -> None:
        if self.model.task not in tasks:
            raise RequestError(
                f"{self.model.name} is made to {self.model.task}, not to {' or '.join(tasks)}: "
                "choose a model with such a head"
            )

    def _width(self, dimensions: int | None) -> int:
        if dimensions is None:
            return self.dimensions
        if not 1 <= dimensions <= self.dimensions:
            raise RequestError(
                f"dimensions must be from 1 to {self.dimensions}, not {dimensions}",
                param="dimensions",
            )
        return dimensions

    @property
    def pooling(self) -> PoolingKind:
        """How the states of a text become one."""
        return self.model.pooling

    def _job(self, inputs: list[Window], count: int) -> PooledJob:
        return PooledJob(inputs, count, self._executor.hidden_size)

    def _run(self, job: PooledJob, progress: Progress | None) -> None:
        while job.pending:
            chunk = job.take(_CHUNK_TOKENS)
            job.add(chunk, self.forward(chunk, self.pooling))
            if progress is not None:
                progress(sum(not window.continues for window in chunk))

    def forward(self, chunk: Sequence[Window], pooling: PoolingKind | None) -> Float32Array:
        """States of windows: one each, or one per token without ``pooling``."""
        lengths = [len(window.token_ids) for window in chunk]
        flat = np.array([token for window in chunk for token in window.token_ids], np.int32)
        starts = np.array([0, *accumulate(lengths)], np.int32)
        kinds = skipped = None
        if any(window.kinds for window in chunk):
            listed = [window.kinds or [0] * len(window.token_ids) for window in chunk]
            kinds = np.array([kind for each in listed for kind in each], np.int32)
        if any(window.skipped for window in chunk):
            skipped = np.array([window.skipped for window in chunk], np.int32)
        batch = EncoderBatch(flat, starts, kinds, skipped)
        with self._lock:
            if self._closed:
                raise UnavailableError("this encoder is closed")
            return self._executor.forward(batch, pooling)


def _build_executor(model: EncoderModel, config: EngineConfig) -> EncoderExecutor:
    if config.executor == "reference":
        from lepton.models.executors.encoder_reference import ReferenceEncoder

        return ReferenceEncoder(model)
    from lepton.models.executors.encoder_native import NativeEncoder

    check_memory(model, config)
    return NativeEncoder(
        model, threads=config.threads, dtype=config.dtype, quantize=config.quantize
    )


def _max_tokens(model: EncoderModel, config: EngineConfig) -> int:
    if config.context_length is None:
        return model.max_tokens
    if config.context_length > model.context_length:
        raise ConfigurationError(
            f"context_length {config.context_length} is beyond the {model.context_length} tokens "
            "the model knows"
        )
    if config.context_length <= model.tokenizer.special_tokens_of_pair:
        raise ConfigurationError(f"context_length {config.context_length} leaves no room for text")
    return config.context_length


def _apply(layers: Sequence[HeadLayer], x: Float32Array) -> Float32Array:
    for layer in layers:
        x = layer.apply(x)
    return x


def cosines(first: Float32Array, second: Float32Array) -> Float32Array:
    """Of each row of one with that of the other, both [rows, dimensions] of length one: [rows]."""
    cosines: Float32Array = np.einsum("ij,ij->i", first, second)
    return cosines.clip(-1.0, 1.0)


def _sigmoid(x: Float32Array) -> Float32Array:
    y: Float32Array = np.float32(1) / (np.float32(1) + np.exp(-x))
    return y
