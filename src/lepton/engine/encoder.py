"""Encoders at work: texts in, vectors, scores or labels out."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import TYPE_CHECKING

import numpy as np

from lepton.engine.config import EngineConfig
from lepton.engine.encoder_inputs import (
    INPUTS,
    PAIRS,
    InputNames,
    InputRules,
    TextInput,
    Window,
    distinct_texts,
    pair_windows,
    prompt_of,
    windows,
)
from lepton.engine.encoder_job import PooledJob
from lepton.engine.encoder_limits import TokenAllowance, characters_of, groups
from lepton.engine.encoder_setup import build_executor, max_tokens
from lepton.engine.encoder_types import EmbedOptions, RankedDocument, TaggedToken
from lepton.errors import RequestError, UnavailableError
from lepton.kernels.reference import softmax
from lepton.models.encoder_head import HeadLayer, head_layers, projection_layers, unit_rows
from lepton.models.executors.base import Float32Array
from lepton.models.executors.encoder_base import EncoderBatch
from lepton.models.tokenizer.text_encoder import check_text

if TYPE_CHECKING:
    from lepton.models.encoder_loader import EncoderModel
    from lepton.models.stages import PoolingKind

_CHUNK_TOKENS = 4096
"""Tokens that go through the executor in one call."""

Progress = Callable[[int], object]
"""Told how many inputs are done since the last call."""


class EncoderEngine:
    """One encoder and its executor. Calls from several threads take turns, chunk by chunk."""

    def __init__(self, model: EncoderModel, config: EngineConfig) -> None:
        """Load the weights; ConfigurationError when an option does not fit the model."""
        self.model = model
        self.config = config
        self.max_tokens = max_tokens(model, config)
        """Tokens of one input, special ones included."""
        self._executor = build_executor(model, config)
        settings = model.settings
        self._projections = projection_layers(settings.projections, self._executor.hidden_size)
        self._head = head_layers(model)
        self._lock = threading.Lock()
        self._closed = False

    @property
    def hidden_size(self) -> int:
        """Columns of the state of an input, before whatever follows pooling."""
        return self._executor.hidden_size

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
        return self._embed(inputs, options or EmbedOptions(), progress)

    def embed_job(
        self,
        inputs: Sequence[TextInput],
        options: EmbedOptions,
        names: InputNames = INPUTS,
        allowance: TokenAllowance | None = None,
    ) -> PooledJob:
        """What is to be computed for these inputs; raises as ``embed`` does.

        Messages call the inputs by ``names``; ``allowance`` bounds their tokens.
        """
        if self.model.task != "embed":
            raise RequestError(f"{self.model.name} is made to {self.model.task}, not to embed")
        self._width(options.dimensions)
        prompt = prompt_of(self.model, options.prompt_name, options.prompt)
        rules = InputRules(self.max_tokens, options.long_texts, prompt, names, allowance)
        return self._job(windows(self.model, inputs, rules), len(inputs))

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

        Those of a text sum to one, unless the model's labels hold independently of one another
        (``problem_type`` in its config.json); a model of a regression gives its values.

        Raises RequestError when the model has no head for texts.
        """
        found = [np.empty((0, len(self.model.config.labels)), np.float32)]
        for group in groups(map(characters_of, texts)):
            part = texts[group.start : group.stop]
            job = self.classify_job(part, INPUTS.part(group))
            self._run(job, progress)
            found.append(self.chances(job))
        return np.concatenate(found)

    def classify_job(
        self,
        texts: Sequence[TextInput],
        names: InputNames = INPUTS,
        allowance: TokenAllowance | None = None,
    ) -> PooledJob:
        """What is to be computed to classify texts; raises as ``classify`` does."""
        self._check_task("classify", *(["rank"] if self.model.head else []))
        rules = InputRules(self.max_tokens, "truncate", names=names, allowance=allowance)
        return self._job(windows(self.model, texts, rules), len(texts))

    def chances(self, job: PooledJob) -> Float32Array:
        """The probabilities of a job that has been computed."""
        logits = _apply(self._head, job.states())
        problem = self.model.config.problem_type
        if problem == "regression":
            return logits
        independent = problem == "multi_label_classification" or logits.shape[1] == 1
        return _sigmoid(logits) if independent else softmax(logits)

    def score(self, pairs: Sequence[tuple[str, str]]) -> Float32Array:
        """How well the texts of each pair go together, float32 [pairs].

        A cross-encoder reads both as one; an embedding model gives the cosine of two vectors, the
        first with the prompt of queries and the second with that of documents.
        """
        if self.model.task == "embed":
            return cosines(self._side(pairs, 0), self._side(pairs, 1))
        found = [np.empty(0, np.float32)]
        for group in groups(
            characters_of(first) + characters_of(second) for first, second in pairs
        ):
            job = self.score_job(pairs[group.start : group.stop], PAIRS.part(group))
            self._run(job, None)
            found.append(self.scores(job))
        return np.concatenate(found)

    def score_job(
        self,
        pairs: Sequence[tuple[str, str]],
        names: InputNames = PAIRS,
        allowance: TokenAllowance | None = None,
    ) -> PooledJob:
        """What a cross-encoder is to compute for pairs; raises as ``score`` does."""
        self._check_task("rank")
        rules = InputRules(self.max_tokens, names=names, allowance=allowance)
        return self._job(pair_windows(self.model, pairs, rules), len(pairs))

    def scores(self, job: PooledJob) -> Float32Array:
        """The scores of a job that has been computed."""
        logits = _apply(self._head, job.states())[:, 0]
        return _sigmoid(logits) if self.model.score_sigmoid else logits

    def rerank(
        self, query: str, documents: Sequence[str], top_n: int | None = None
    ) -> list[RankedDocument]:
        """The documents by falling score, the ``top_n`` best of them.

        Raises RequestError for a text that is not valid, and ``top_n`` below 1.
        """
        if top_n is not None and top_n < 1:
            raise RequestError(f"top_n must be at least 1, not {top_n}", param="top_n")
        if isinstance(documents, str):
            raise RequestError("documents must be a list of texts, not one text", param="documents")
        check_text(query, "the query")
        for number, document in enumerate(documents):
            check_text(document, f"document {number}")
        scores = self.score([(query, document) for document in documents])
        order = np.argsort(-scores, kind="stable")[:top_n]
        return [RankedDocument(int(index), float(scores[index])) for index in order]

    def tag(self, texts: Sequence[str]) -> list[list[TaggedToken]]:
        """The likeliest label of each token of each text, as far as the model reads it."""
        self._check_task("tag")
        tagged = []
        for number, text in enumerate(texts):
            check_text(text, f"input {number}")
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

    def _embed(
        self,
        inputs: Sequence[TextInput],
        options: EmbedOptions,
        progress: Progress | None = None,
        names: InputNames = INPUTS,
    ) -> Float32Array:
        found = [np.empty((0, self._width(options.dimensions)), np.float32)]
        for group in groups(map(characters_of, inputs)):
            part = slice(group.start, group.stop)
            job = self.embed_job(inputs[part], options, names.part(group))
            self._run(job, progress)
            found.append(self.vectors(job, options))
        return found[1] if len(found) == 2 else np.concatenate(found)

    def _side(self, pairs: Sequence[tuple[str, str]], side: int) -> Float32Array:
        """Vectors of one side of pairs, of which equal ones are embedded once."""
        distinct = distinct_texts(pairs, side)
        options = EmbedOptions(self.retrieval_prompts[side], normalize=True)
        return self._embed(distinct.texts, options, None, distinct.names)[distinct.rows]

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
