"""What ``LLM`` offers when its model is an encoder."""

from __future__ import annotations

from collections.abc import Sequence

from lepton.engine.batches import listed, progress_bar
from lepton.engine.encoder import EncoderEngine
from lepton.engine.encoder_inputs import LongTexts, TextInput
from lepton.engine.encoder_types import EmbedOptions, RankedDocument, TaggedToken
from lepton.errors import RequestError
from lepton.models.executors.base import Float32Array


class EncodingMethods:
    """Embedding, ranking and classifying with an encoder."""

    _encoder: EncoderEngine | None = None

    @property
    def encoder(self) -> EncoderEngine:
        """The encoder at work; RequestError when the model generates text instead."""
        if self._encoder is None:
            raise RequestError(
                "this model generates text: to embed, rank or classify, load an encoder "
                "(see: lepton models list)"
            )
        return self._encoder

    def embed(
        self,
        texts: TextInput | Sequence[TextInput],
        *,
        prompt_name: str | None = None,
        prompt: str | None = None,
        dimensions: int | None = None,
        normalize: bool | None = None,
        long_texts: LongTexts = "window",
        progress: bool = False,
    ) -> Float32Array:
        """Vectors float32 [texts, dimensions] of texts (or lists of token ids).

        Args:
            texts: one or several.
            prompt_name: one of the model's prompts, such as "query", put before each text; the
                model's default one if None, none if "".
            prompt: text to put before each text, instead of one of the model's prompts.
            dimensions: keep only the first so many, for models trained to be cut.
            normalize: whether vectors get length one; as the model's files say if None.
            long_texts: what becomes of texts beyond the model's length: "window" embeds all of a
                text piece by piece, "truncate" its beginning, "error" refuses it.
            progress: show a bar.

        Raises RequestError for an invalid text, prompt or number of dimensions.

        >>> with LLM("all-minilm-l6-v2") as llm:  # doctest: +SKIP
        ...     llm.embed(["How do I change my password?", "Resetting a password"])
        """
        inputs = listed(texts, param="input")
        options = EmbedOptions(prompt_name, dimensions, normalize, long_texts, prompt)
        with progress_bar("Embedding", len(inputs), show=progress) as advance:
            return self.encoder.embed(inputs, options, advance)

    def rerank(
        self, query: str, documents: Sequence[str], *, top_n: int | None = None
    ) -> list[RankedDocument]:
        """The documents that answer a query, best first.

        A cross-encoder scores each with the query; an embedding model compares their vectors.
        Raises RequestError for an invalid text, or ``top_n`` below 1.
        """
        return self.encoder.rerank(query, documents, top_n)

    def classify(
        self, texts: TextInput | Sequence[TextInput], *, progress: bool = False
    ) -> list[dict[str, float]]:
        """The probability of each label, for each text.

        They sum to one, unless the model's labels hold independently of one another; a model of a
        regression gives its values.

        Raises RequestError when the model has no classification head.
        """
        inputs = listed(texts, param="input")
        with progress_bar("Classifying", len(inputs), show=progress) as advance:
            chances = self.encoder.classify(inputs, advance)
        labels = self.encoder.model.config.labels
        return [dict(zip(labels, row, strict=True)) for row in chances.tolist()]

    def tag(self, texts: str | Sequence[str]) -> list[list[TaggedToken]]:
        """The likeliest label of each token, for models that label tokens."""
        return self.encoder.tag([texts] if isinstance(texts, str) else texts)
