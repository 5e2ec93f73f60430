"""The engine in a script: no server, no event loop."""

from __future__ import annotations

import itertools
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, cast

from lepton.engine.batches import listed, progress_bar
from lepton.engine.config import EngineConfig
from lepton.engine.core import EngineCore
from lepton.engine.encoder import EncoderEngine
from lepton.engine.encoding import EncodingMethods
from lepton.engine.merging import RequestCollector
from lepton.engine.ordering import throughput_order
from lepton.engine.outputs import OutputDelta, RequestOutput
from lepton.engine.prompts import Message, Prompt, encode_chat, encode_prompt
from lepton.engine.sampling_params import SamplingParams
from lepton.engine.sequence import Request
from lepton.errors import RequestError, UnavailableError
from lepton.models.executors.base import Float32Array

if TYPE_CHECKING:
    from lepton.models.encoder_loader import EncoderModel
    from lepton.models.loader import Model
    from lepton.models.tokenizer import Tokenizer


_SEQUENCE_TOKENS = 512
"""Prompts and completions of scripts are short; a cache for full contexts would fill with what
nobody asks for again."""
_AHEAD = 64
"""Requests made and queued beyond those that run, so that the scheduler may choose among them."""


class LLM(EncodingMethods):
    """A loaded model that answers prompts, several at once, or embeds and classifies texts.

    ``model`` is a path, a name in the catalogue (already pulled) or a loaded model; ``options`` are
    the fields of EngineConfig, where ``sequence_tokens`` is 512 unless given. Safe to share between
    threads, which then take turns step by step.

    >>> with LLM("smollm2-135m-instruct") as llm:  # doctest: +SKIP
    ...     llm.generate("The capital of France is", SamplingParams(temperature=0, max_tokens=8))
    """

    def __init__(self, model: str | Path | Model | EncoderModel, **options: Any) -> None:
        from lepton.models.encoder_loader import EncoderModel, load_any

        config = EngineConfig(**{"sequence_tokens": _SEQUENCE_TOKENS, **options})
        self._owns_model = isinstance(model, (str, Path))
        if isinstance(model, (str, Path)):
            model = load_any(model)
        self._decoder: EngineCore | None = None
        if isinstance(model, EncoderModel):
            self._encoder = EncoderEngine(model, config)
        else:
            self._decoder = EngineCore(model, config)
        self._lock = threading.Lock()
        self._unread: dict[str, deque[OutputDelta]] = {}
        self._numbers = itertools.count(1)
        self._closed = False

    @property
    def _core(self) -> EngineCore:
        """What generates; RequestError when the model is an encoder."""
        if self._decoder is None:
            raise RequestError(
                f"{self.encoder.model.name} is an encoder and generates no text: use embed, "
                "rerank or classify, or load a model that generates"
            )
        return self._decoder

    @property
    def model(self) -> Model:
        """The loaded model, where it generates text; see ``encoder`` for others."""
        return self._core.model

    @property
    def config(self) -> EngineConfig:
        """The engine's limits and choices."""
        return self._core.config

    @property
    def tokenizer(self) -> Tokenizer:
        """The model's tokenizer."""
        return self._core.model.tokenizer

    @property
    def context_length(self) -> int:
        """Tokens of prompt and completion together."""
        return self._core.context_length

    def generate(
        self,
        prompts: Prompt | Sequence[Prompt],
        params: SamplingParams | Sequence[SamplingParams] | None = None,
        *,
        progress: bool = False,
    ) -> list[RequestOutput]:
        """Complete one prompt or several, each a text or token ids; one output per prompt.

        ``params`` holds for all prompts, or is one per prompt. Raises RequestError before anything
        is computed when one of them can never be answered.
        """
        tokens = [encode_prompt(self.model, prompt) for prompt in listed(prompts, param="prompts")]
        return self._complete(tokens, params, progress)

    def chat(
        self,
        messages: Sequence[Message] | Sequence[Sequence[Message]],
        params: SamplingParams | Sequence[SamplingParams] | None = None,
        *,
        progress: bool = False,
    ) -> list[RequestOutput]:
        """Answer one conversation or several; a message is ``{"role": …, "content": …}``.

        Raises RequestError when the model has no chat template.
        """
        one = bool(messages) and isinstance(messages[0], Mapping)
        talks = cast("Sequence[Sequence[Message]]", [messages] if one else messages)
        return self._complete([encode_chat(self.model, each) for each in talks], params, progress)

    def generate_each(
        self,
        prompts: Sequence[Sequence[int]],
        params: SamplingParams | Sequence[SamplingParams] | None = None,
    ) -> Iterator[tuple[int, RequestOutput]]:
        """Complete prompts of token ids; each output as soon as it is finished, with its place.

        They are computed in the order of best throughput, whatever theirs is: prompts that begin
        alike together, long ones first. Checked at the call, computed as it is read; closing the
        iterator ends what is left.
        """
        settings = self._settings(prompts, params)
        for prompt, each in zip(prompts, settings, strict=True):
            self.check(prompt, each)
        return self._collect(prompts, settings)

    def check(self, prompt: Sequence[int], params: SamplingParams | None = None) -> None:
        """Raise RequestError when token ids can never be completed with such parameters."""
        self._core.check_request(prompt, params or SamplingParams())

    def stream(
        self, prompt: Prompt | Sequence[Message], params: SamplingParams | None = None
    ) -> Iterator[OutputDelta]:
        """Complete a prompt, or answer a conversation, delta by delta.

        Checked at the call, computed as it is read; closing the iterator ends the request.
        """
        if not isinstance(prompt, str) and prompt and isinstance(prompt[0], Mapping):
            tokens = encode_chat(self.model, cast("Sequence[Message]", prompt))
        else:
            tokens = encode_prompt(self.model, cast("Prompt", prompt))
        return self._run([self._request(tokens, params or SamplingParams())])

    def logits(self, token_ids: Sequence[int]) -> Float32Array:
        """Logits float32 [len(token_ids), vocab] after each token of a text."""
        with self._lock:
            self._check_open()
            return self._core.logits(token_ids)

    def close(self) -> None:
        """End what is left and release the executor, and the model if it was loaded here."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            if self._decoder is None:
                self.encoder.close()
                model: Model | EncoderModel = self.encoder.model
            else:
                self._distribute(self._decoder.abort_all())
                self._decoder.close()
                model = self._decoder.model
            if self._owns_model:
                model.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _complete(
        self,
        prompts: list[list[int]],
        params: SamplingParams | Sequence[SamplingParams] | None,
        progress: bool,
    ) -> list[RequestOutput]:
        outputs: dict[int, RequestOutput] = {}
        with progress_bar("Generating", len(prompts), show=progress) as advance:
            for place, output in self.generate_each(prompts, params):
                outputs[place] = output
                advance(1)
        return [outputs[place] for place in range(len(prompts))]

    def _collect(
        self, prompts: Sequence[Sequence[int]], settings: Sequence[SamplingParams]
    ) -> Iterator[tuple[int, RequestOutput]]:
        """Place and output of each prompt; a request is made only when its turn is near."""
        places: dict[str, int] = {}
        collectors: dict[str, RequestCollector] = {}

        def requests() -> Iterator[Request]:
            for place in throughput_order(prompts):
                request = self._request(prompts[place], settings[place])
                request_id = request.request_id
                places[request_id] = place
                collectors[request_id] = RequestCollector(request_id, request.prompt_token_ids)
                yield request

        for delta in self._run(requests()):
            if collectors[delta.request_id].add(delta):
                yield places.pop(delta.request_id), collectors.pop(delta.request_id).output()

    def _settings(
        self,
        prompts: Sequence[Sequence[int]],
        params: SamplingParams | Sequence[SamplingParams] | None,
    ) -> Sequence[SamplingParams]:
        if params is None or isinstance(params, SamplingParams):
            return [params or SamplingParams()] * len(prompts)
        if len(params) != len(prompts):
            raise ValueError(f"{len(prompts)} prompts but {len(params)} sampling parameters")
        return params

    def _request(self, prompt: Sequence[int], params: SamplingParams) -> Request:
        return self._core.make_request(f"request-{next(self._numbers)}", prompt, params)

    def _run(self, requests: Iterable[Request]) -> Iterator[OutputDelta]:
        """Queue requests and yield their deltas, stepping the engine whenever none is unread.

        Requests are taken from the iterable as others finish. A step also serves the requests of
        other readers, who find their deltas in their queues.
        """
        unread: deque[OutputDelta] = deque()
        unfinished: set[str] = set()
        coming = iter(requests)
        room = self.config.max_sequences + _AHEAD
        try:
            while True:
                with self._lock:
                    for request in islice(coming, room - len(unfinished)):
                        self._check_open()
                        unfinished.add(request.request_id)
                        self._unread[request.request_id] = unread
                        self._core.add(request)
                    if not unfinished:
                        return
                    if not unread:
                        self._distribute(self._core.step())
                while unread:
                    delta = unread.popleft()
                    if delta.usage is not None:
                        unfinished.discard(delta.request_id)
                        self._unread.pop(delta.request_id, None)
                    yield delta
        finally:
            with self._lock:
                for request_id in unfinished:
                    self._core.abort(request_id)
                    self._unread.pop(request_id, None)

    def _distribute(self, deltas: Iterable[OutputDelta]) -> None:
        for delta in deltas:
            self._unread[delta.request_id].append(delta)

    def _check_open(self) -> None:
        if self._closed:
            raise UnavailableError("this LLM is closed")
