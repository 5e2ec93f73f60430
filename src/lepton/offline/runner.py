"""From a file of prompts to a file of answers."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from lepton.engine import LLM, RequestOutput, SamplingParams, encode_chat, encode_prompt
from lepton.errors import (
    ConfigurationError,
    LeptonError,
    RequestError,
    UnavailableError,
    describe,
)
from lepton.offline.journal import Journal, journal_path
from lepton.offline.rows import Row, read_rows

logger = logging.getLogger(__name__)

WINDOW = 8192
"""Rows that are put into the order of best throughput, and held in memory, at a time."""

_FAILED = "internal_error"

Progress = Callable[[int, int, int], object]
"""Told the rows that are done, of how many, and the tokens generated in this run."""


@dataclass(frozen=True)
class Summary:
    """What a run did."""

    rows: int
    resumed: int
    """Rows whose answers an earlier run had left."""
    failed: int
    """Rows whose answer is an error."""
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int


def run_file(
    llm: LLM,
    source: Path,
    answers: Path,
    params: SamplingParams,
    *,
    raw: bool = False,
    system: str | None = None,
    progress: Progress | None = None,
) -> Summary:
    """Answer every row of ``source`` into ``answers``, in the order of the rows.

    A ``prompt`` is put to the model as a user's message, after ``system`` if given, unless ``raw``
    or the model has no chat template. When ``answers`` exists already it is replaced at the end.
    A run that was interrupted goes on where it was, see `Journal`. A row that can never be
    answered, because it is too long say, gets an ``error`` in place of a text; so does one whose
    completion failed, and failed again when all others had their answers.

    Raises RequestError when the file cannot be read or a line is not a row, and ConfigurationError
    when the answers would take the place of the prompts, before anything is computed.
    """
    _refuse_overwriting(source, answers)
    numbers = [row.number for row in read_rows(source)]
    fingerprint = _fingerprint(llm, source, params, raw, system)
    progress = progress or _ignore
    with Journal(answers, fingerprint) as journal:
        resumed = finished = len(journal.done)
        counts = {"prompt_tokens": 0, "cached_tokens": 0, "completion_tokens": 0}
        progress(finished, len(numbers), 0)
        for row, answer in _missing(llm, source, journal, params, raw, system):
            journal.add(row.number, answer)
            finished += 1
            for name, value in answer.get("usage", {}).items():
                counts[name] += value
            progress(finished, len(numbers), counts["completion_tokens"])
        failed = journal.finish(numbers)
    return Summary(rows=len(numbers), resumed=resumed, failed=failed, **counts)


def _refuse_overwriting(source: Path, answers: Path) -> None:
    for written in (answers, journal_path(answers)):
        if written.exists() and source.exists() and written.samefile(source):
            raise ConfigurationError(
                f"the answers in {answers} would overwrite the prompts in {source}: choose another "
                "file for the answers"
            )


def _ignore(*_: int) -> None:
    """Nobody wants to know."""


def _missing(
    llm: LLM,
    source: Path,
    journal: Journal,
    params: SamplingParams,
    raw: bool,
    system: str | None,
) -> Iterator[tuple[Row, dict[str, Any]]]:
    """The answers that a journal lacks; completions that failed come last, tried once more."""
    for last in (False, True):
        done, postponed = journal.done, False
        todo = (row for row in read_rows(source) if row.number not in done)
        while window := list(islice(todo, WINDOW)):
            for row, answer in _answers(llm, window, params, raw, system):
                if last or not _failed(answer):
                    yield row, answer
                else:
                    postponed = True
        if not postponed:
            return


def _answers(
    llm: LLM, rows: Sequence[Row], params: SamplingParams, raw: bool, system: str | None
) -> Iterator[tuple[Row, dict[str, Any]]]:
    """The answers of some rows as they are finished."""
    askable: list[Row] = []
    prompts: list[list[int]] = []
    for row in rows:
        try:
            tokens = _tokens(llm, row, raw, system)
            llm.check(tokens, row.params(params))
        except RequestError as error:
            yield row, {"id": row.id, "error": _error(error)}
        except UnavailableError:
            raise
        except Exception as error:
            logger.exception("row %d could not be prepared", row.number)
            yield row, _failure(row, describe(error))
        else:
            askable.append(row)
            prompts.append(tokens)
    for index, output in llm.generate_each(prompts, [row.params(params) for row in askable]):
        yield askable[index], _answer(askable[index], output)


def _tokens(llm: LLM, row: Row, raw: bool, system: str | None) -> list[int]:
    if row.messages is not None:
        return encode_chat(llm.model, row.messages)
    assert row.prompt is not None  # noqa: S101
    if raw or llm.model.chat_template is None:
        return encode_prompt(llm.model, row.prompt)
    turns = [{"role": "system", "content": system}] if system is not None else []
    return encode_chat(llm.model, [*turns, {"role": "user", "content": row.prompt}])


def _answer(row: Row, output: RequestOutput) -> dict[str, Any]:
    (completion,) = output.outputs
    if completion.finish_reason == "error":
        return _failure(row, completion.error or "the completion failed")
    return {
        "id": row.id,
        "text": completion.text,
        "finish_reason": completion.finish_reason,
        "usage": asdict(output.usage),
    }


def _failure(row: Row, message: str) -> dict[str, Any]:
    return {"id": row.id, "error": {"message": message, "code": _FAILED}}


def _failed(answer: Mapping[str, Any]) -> bool:
    """Whether a row has no answer for a reason that may be gone when it is tried again."""
    return bool(answer.get("error", {}).get("code") == _FAILED)


def _error(error: LeptonError) -> dict[str, Any]:
    return {
        "message": str(error),
        "param": getattr(error, "param", None),
        "code": getattr(error, "code", None),
    }


def _fingerprint(
    llm: LLM, source: Path, params: SamplingParams, raw: bool, system: str | None
) -> str:
    """Of everything that decides the answers, so that no journal goes on with anything else."""
    config = llm.config
    settings = {
        "model": llm.model.name,
        "weights": _contents(llm.model.path),
        "precision": [config.precision, config.kv_dtype, config.quantize],
        # As configured: what fits in the memory that is free may differ when the run goes on.
        "context_length": config.context_length,
        "params": asdict(params),
        "raw": raw,
        "system": system,
    }
    text = json.dumps([_contents(source), settings], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _contents(path: Path) -> list[str]:
    """Hashes of a file, or of all in a folder: about a second for a gigabyte."""
    hashes = []
    for file in sorted(path.iterdir()) if path.is_dir() else [path]:
        if file.is_file():
            with file.open("rb") as content:
                hashes.append(hashlib.file_digest(content, "sha256").hexdigest())
    return hashes
