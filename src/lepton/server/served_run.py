"""A trained run behind asyncio: texts that arrive together are scored together, versions swap.

A thread of its own scores what waits. Another looks for newer versions of the run's name, loads
the newest beside the one at work and then puts it in its place: a request is answered by the
version that was newest when its batch began, and none fails.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
from collections.abc import Hashable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lepton.errors import (
    CapacityError,
    LeptonError,
    ModelNotFoundError,
    RequestError,
    UnavailableError,
)
from lepton.files import state_of
from lepton.training.run import locate_run, split_name, versions
from lepton.training.scorers import Floats
from lepton.training.trained_model import Prediction, TrainedModel, check_threshold

_log = logging.getLogger("lepton.server")

POLL_SECONDS = 2.0
_BATCH_TEXTS = 256
_QUEUE_REQUESTS = 4096
_STOP_SECONDS = 30.0
_OTHER_VERSIONS = 3
"""Versions that stay loaded beside the newest, the last ones that were asked for."""


@dataclass(frozen=True)
class Classified:
    """The answer to one request."""

    model: TrainedModel
    predictions: list[Prediction]
    probabilities: Floats | None
    """[texts, labels]; None for a regression."""


@dataclass(frozen=True)
class _Request:
    texts: Sequence[str]
    model: TrainedModel | None
    """A version that was asked for; None takes the newest."""
    threshold: float | None
    future: Future[Classified]


class ServedRun:
    """One name with its newest version at work; older ones are loaded when they are asked for."""

    def __init__(
        self,
        path: str | Path,
        *,
        threshold: float | None = None,
        poll_seconds: float = POLL_SECONDS,
    ) -> None:
        """Load the newest version of ``path`` (a run, or a name such as ``runs/intents``).

        Args:
            path: the run.
            threshold: a best label less probable than this is left out; None takes each version's
                own.
            poll_seconds: between two looks for a newer version.

        Raises:
            ModelNotFoundError: there is no finished run.
            ModelFormatError: it is damaged.
            RequestError: the threshold is not between 0 and 1.
        """
        check_threshold(threshold)
        folder = locate_run(path)
        self._current = TrainedModel.load(folder)
        name, version = split_name(folder.name)
        # A run that is named with its version stays; a name follows its newest.
        follows = version is not None and folder != Path(path).expanduser()
        self._name_path = folder.with_name(name) if follows else None
        self._threshold = threshold
        self._refused: dict[int, Hashable] = {}
        """Newer versions that cannot be loaded, as their files were; said once."""
        self._others: dict[int, TrainedModel] = {}
        self._remembering = threading.Lock()
        self._queue: queue.SimpleQueue[_Request | None] = queue.SimpleQueue()
        self._stopping = threading.Event()
        self._poll_seconds = poll_seconds
        self._worker = threading.Thread(target=self._score, name="lepton-run", daemon=True)
        self._watcher = threading.Thread(target=self._watch, name="lepton-runs", daemon=True)
        self._worker.start()
        if self._name_path is not None:
            self._watcher.start()

    @property
    def name(self) -> str:
        """What clients call it, without a version."""
        return self._current.manifest.name

    @property
    def current(self) -> TrainedModel:
        """The version at work."""
        return self._current

    async def classify(
        self,
        texts: Sequence[str],
        version: int | None = None,
        threshold: float | None = None,
    ) -> Classified:
        """Answer ``texts`` with the newest version, or with one that is asked for.

        A best label less probable than ``threshold`` is left out; None takes the server's.

        Raises:
            RequestError: there is no such version, or the threshold is not between 0 and 1.
            CapacityError: too many requests wait.
            UnavailableError: the server is shutting down.
        """
        model = None if version is None else await asyncio.to_thread(self._version, version)
        if self._stopping.is_set():
            raise UnavailableError("the model is shutting down")
        if self._queue.qsize() >= _QUEUE_REQUESTS:
            raise CapacityError(f"{_QUEUE_REQUESTS:,} requests are waiting; try again later")
        least = self._threshold if threshold is None else threshold
        check_threshold(least)
        request = _Request(texts, model, least, Future())
        self._queue.put(request)
        return await asyncio.wrap_future(request.future)

    def close(self) -> None:
        """Answer what waits, then end the threads. May be called twice."""
        if not self._stopping.is_set():
            self._stopping.set()
            self._queue.put(None)
        self._worker.join(_STOP_SECONDS)

    def refresh(self) -> bool:
        """Put the newest version that can be loaded to work; whether there was a newer one.

        One that cannot be loaded is tried again when its files change.
        """
        if self._name_path is None:
            return False
        for version, folder in sorted(versions(self._name_path).items(), reverse=True):
            if version <= self._current.manifest.version:
                return False
            state = state_of(folder)
            if self._refused.get(version) == state:
                continue
            try:
                model = TrainedModel.load(folder)
            except (LeptonError, OSError) as error:
                self._refused[version] = state
                _log.warning("%s@%d cannot be used: %s", self.name, version, error)
                continue
            self._remember(self._current)
            self._current = model
            _log.info("%s is at work now", model.name)
            return True
        return False

    def _version(self, version: int) -> TrainedModel:
        current = self._current
        if version == current.manifest.version:
            return current
        found = self._others.get(version)
        if found is None:
            folders = versions(self._name_path) if self._name_path is not None else {}
            if version not in folders:
                raise RequestError(
                    f"There is no version {version} of {self.name!r}.",
                    param="model",
                    code="model_not_found",
                )
            try:
                found = TrainedModel.load(folders[version])
            except ModelNotFoundError as error:
                raise RequestError(
                    f"{self.name}@{version} cannot be loaded: {error}",
                    param="model",
                    code="model_not_found",
                ) from error
        self._remember(found)
        return found

    def _remember(self, model: TrainedModel) -> None:
        with self._remembering:
            self._others.pop(model.manifest.version, None)
            self._others[model.manifest.version] = model
            while len(self._others) > _OTHER_VERSIONS:
                del self._others[next(iter(self._others))]

    def _watch(self) -> None:
        while not self._stopping.wait(self._poll_seconds):
            try:
                self.refresh()
            except OSError as error:
                _log.warning("no newer version of %s can be looked for: %s", self.name, error)

    def _score(self) -> None:
        stop = False
        while not stop:
            batch: list[_Request] = []
            texts = 0
            request = self._queue.get()
            while request is not None:
                batch.append(request)
                texts += len(request.texts)
                if texts >= _BATCH_TEXTS or self._queue.empty():
                    break
                request = self._queue.get()
            stop = request is None
            current = self._current
            by_model: dict[int, list[_Request]] = {}
            for each in batch:
                by_model.setdefault(id(each.model or current), []).append(each)
            for requests in by_model.values():
                _answer(requests[0].model or current, requests)


def _answer(model: TrainedModel, requests: Sequence[_Request]) -> None:
    # From here on none can be cancelled; those that were are left out.
    running = [each for each in requests if each.future.set_running_or_notify_cancel()]
    try:
        answers = _answers(model, running)
    except Exception as error:
        for request in running:
            request.future.set_exception(error)
    else:
        for request, answer in zip(running, answers, strict=True):
            request.future.set_result(answer)


def _answers(model: TrainedModel, requests: Sequence[_Request]) -> list[Classified]:
    if not requests:
        return []
    values = model.scores([text for request in requests for text in request.texts])
    regression = model.manifest.objective == "regression"
    if not regression:
        values = model.as_probabilities(values)
    ends = np.cumsum([len(request.texts) for request in requests])[:-1]
    answers = []
    for request, part in zip(requests, np.split(values, ends), strict=True):
        if regression:
            numbers = [Prediction((), None, value) for value in part[:, 0].tolist()]
            answers.append(Classified(model, numbers, None))
        else:
            answers.append(Classified(model, model.decide(part, request.threshold), part))
    return answers
