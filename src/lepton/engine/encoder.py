"""Encoders at work: texts in, vectors, scores or labels out."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
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
from lepton.errors import ConfigurationError, RequestError, UnavailableError
from lepton.kernels.reference import softmax
from lepton.models.encoder_head import HeadLayer, classifier_layers, projection_layers
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
    """One of the model's prompts, put before each text; token ids get none."""
    dimensions: int | None = None
    """Leading dimensions to keep (arXiv:2205.13147), for models trained to be cut."""
    normalize: bool | None = None
    """Whether vectors have length one."""
    long_texts: LongTexts = "window"


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


class EncoderEngine:
    """One encoder and its executor. Calls from several threads take turns, chunk by chunk."""

    def __init__(self, model: EncoderModel, config: EngineConfig) -> None:
        """Load the weights; ConfigurationError when an option does not fit the model."""
        self.model = model
        self.max_tokens = _max_tokens(model, config)
        """Tokens of one input, special ones included."""
        self._executor = _build_executor(model, config)
        settings = model.settings
        self._projections = projection_layers(settings.projections, self._executor.hidden_size)
        self._head = (
            [] if model.head is None else classifier_layers(model.head.layers, model.checkpoint)
        )
        self._lock = threading.Lock()
        self._closed = False

    @property
    def dimensions(self) -> int:
        """Columns of what ``embed`` returns."""
        return (
            len(self._projections[-1].weight) if self._projections else self._executor.hidden_size
        )

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
        if self.model.task != "embed":
            raise RequestError(f"{self.model.name} is made to {self.model.task}, not to embed")
        width = self._width(options.dimensions)
        rules = InputRules(
            self.max_tokens, options.long_texts, prompt_of(self.model, options.prompt_name)
        )
        result = np.empty((len(inputs), width), np.float32)
        for start in range(0, len(inputs), _GROUP_TEXTS):
            group = inputs[start : start + _GROUP_TEXTS]
            vectors = self._pooled(list(windows(self.model, group, rules)), len(group), progress)
            vectors = _apply(self._projections, vectors)[:, :width]
            normalize = self.model.settings.normalize
            if normalize if options.normalize is None else options.normalize:
                vectors = _unit(vectors)
            result[start : start + len(group)] = vectors
        return result

    def count_tokens(self, inputs: Sequence[TextInput], options: EmbedOptions) -> int:
        """Tokens that ``embed`` would compute for these inputs."""
        rules = InputRules(
            self.max_tokens, options.long_texts, prompt_of(self.model, options.prompt_name)
        )
        return sum(len(window.token_ids) for window in windows(self.model, inputs, rules))

    def classify(
        self, texts: Sequence[TextInput], progress: Progress | None = None
    ) -> Float32Array:
        """Probabilities float32 [texts, labels], of the beginning of each text.

        Raises RequestError when the model has no head for texts.
        """
        self._check_task("classify", "rank")
        found: list[Float32Array] = []
        rules = InputRules(self.max_tokens, "truncate")
        for start in range(0, len(texts), _GROUP_TEXTS):
            group = texts[start : start + _GROUP_TEXTS]
            logits = self._logits(list(windows(self.model, group, rules)), len(group), progress)
            found.append(softmax(logits) if logits.shape[1] > 1 else _sigmoid(logits))
        labels = len(self.model.config.labels)
        return np.concatenate(found) if found else np.empty((0, labels), np.float32)

    def score(self, pairs: Sequence[tuple[str, str]]) -> Float32Array:
        """How well the texts of each pair go together, float32 [pairs].

        A cross-encoder reads both as one; an embedding model gives the cosine of two vectors, the
        first with the prompt of queries and the second with that of documents.
        """
        if self.model.task == "embed":
            queries, documents = _prompts_for_retrieval(self.model)
            first = self._distinct(
                [pair[0] for pair in pairs], EmbedOptions(queries, normalize=True)
            )
            second = self._distinct(
                [pair[1] for pair in pairs], EmbedOptions(documents, normalize=True)
            )
            cosines: Float32Array = np.einsum("ij,ij->i", first, second)
            return cosines
        self._check_task("rank")
        found = [np.empty(0, np.float32)]
        for start in range(0, len(pairs), _GROUP_TEXTS):
            group = pairs[start : start + _GROUP_TEXTS]
            inputs = pair_windows(self.model, group, self.max_tokens)
            logits = self._logits(inputs, len(group), None)
            found.append((_sigmoid(logits) if self.model.score_sigmoid else logits)[:, 0])
        return np.concatenate(found)

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
            states = self._forward([Window(0, tokens, len(tokens))], None)
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

    def _logits(self, inputs: list[Window], count: int, progress: Progress | None) -> Float32Array:
        assert self.model.head is not None  # noqa: S101
        states = self._pooled(inputs, count, progress, self.model.head.pooling)
        return _apply(self._head, states)

    def _pooled(
        self,
        inputs: list[Window],
        count: int,
        progress: Progress | None,
        pooling: PoolingKind | None = None,
    ) -> Float32Array:
        """One state for each of ``count`` inputs: the mean of its windows by their weights."""
        pooling = pooling or self.model.settings.pooling
        sums = np.zeros((count, self._executor.hidden_size), np.float32)
        weights = np.zeros((count, 1), np.float32)
        for chunk in _chunks(inputs):
            states = self._forward(chunk, pooling)
            owners = [window.owner for window in chunk]
            shares = np.array([[window.weight] for window in chunk], np.float32)
            np.add.at(sums, owners, states * shares)
            np.add.at(weights, owners, shares)
            if progress is not None:
                progress(sum(not window.continues for window in chunk))
        return sums / weights

    def _forward(self, chunk: Sequence[Window], pooling: PoolingKind | None) -> Float32Array:
        lengths = [len(window.token_ids) for window in chunk]
        flat = np.fromiter((token for window in chunk for token in window.token_ids), np.int32)
        starts = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
        kinds = None
        if any(window.kinds is not None for window in chunk):
            kinds = np.concatenate(
                [window.kinds or [0] * len(window.token_ids) for window in chunk]
            ).astype(np.int32)
        skipped = np.array([window.skipped for window in chunk], np.int32)
        batch = EncoderBatch(flat, starts, kinds, skipped if skipped.any() else None)
        with self._lock:
            if self._closed:
                raise UnavailableError("this encoder is closed")
            return self._executor.forward(batch, pooling)


def _build_executor(model: EncoderModel, config: EngineConfig) -> EncoderExecutor:
    if config.executor == "reference":
        from lepton.models.executors.encoder_reference import ReferenceEncoder

        return ReferenceEncoder(model)
    from lepton.models.executors.encoder_native import NativeEncoder

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


def _chunks(inputs: list[Window]) -> Iterator[list[Window]]:
    """Windows by falling length, as many together as fit in one call."""
    chunk: list[Window] = []
    tokens = 0
    for window in sorted(inputs, key=lambda window: -len(window.token_ids)):
        if chunk and tokens + len(window.token_ids) > _CHUNK_TOKENS:
            yield chunk
            chunk, tokens = [], 0
        chunk.append(window)
        tokens += len(window.token_ids)
    if chunk:
        yield chunk


def _prompts_for_retrieval(model: EncoderModel) -> tuple[str | None, str | None]:
    """Names of the prompts for queries and for documents, as sentence models call them."""
    prompts = model.settings.prompts
    documents = next((name for name in ("document", "passage") if name in prompts), None)
    return ("query" if "query" in prompts else None), documents


def _apply(layers: Sequence[HeadLayer], x: Float32Array) -> Float32Array:
    for layer in layers:
        x = layer.apply(x)
    return x


def _unit(vectors: Float32Array) -> Float32Array:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit: Float32Array = (vectors / np.maximum(lengths, 1e-12)).astype(np.float32)
    return unit


def _sigmoid(x: Float32Array) -> Float32Array:
    y: Float32Array = np.float32(1) / (np.float32(1) + np.exp(-x))
    return y
