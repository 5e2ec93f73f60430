"""``lepton run``: one prompt, one answer; or a file of prompts, a file of answers."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from lepton.cli import options
from lepton.cli.console import answers_bar, harmless, note, output
from lepton.cli.language import say
from lepton.engine import LLM, EngineConfig, SamplingParams
from lepton.errors import RequestError
from lepton.offline import run_file

_SEQUENCES = 64


def run(
    model: options.Model,
    prompt: Annotated[
        str | None,
        typer.Option(
            "--prompt", "-p", metavar="TEXT", help="The prompt; standard input if not given."
        ),
    ] = None,
    source: Annotated[
        Path | None,
        typer.Option(
            "--input",
            metavar="FILE",
            help="Prompts as JSON lines: objects with prompt or messages, and id if wanted.",
        ),
    ] = None,
    answers: Annotated[
        Path | None,
        typer.Option(
            "--out",
            metavar="FILE",
            help="Answers as JSON lines, for --input; an interrupted run is resumed.",
        ),
    ] = None,
    max_sequences: Annotated[
        int | None,
        typer.Option(
            min=1, metavar="N", help="Completions computed together, for --input; 64 if not given."
        ),
    ] = None,
    system: options.System = None,
    raw: Annotated[
        bool, typer.Option("--raw", help="Continue the text as it is, without the chat template.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object when the answer is complete.")
    ] = False,
    max_tokens: options.MaxTokens = None,
    temperature: options.Temperature = 1.0,
    top_k: options.TopK = 0,
    top_p: options.TopP = 1.0,
    min_p: options.MinP = 0.0,
    repetition_penalty: options.RepetitionPenalty = 1.0,
    presence_penalty: options.PresencePenalty = 0.0,
    frequency_penalty: options.FrequencyPenalty = 0.0,
    seed: options.Seed = None,
    stop: options.Stop = None,
    context_length: options.ContextLength = None,
    cache_memory: options.CacheMemory = None,
    threads: options.Threads = 0,
    precision: options.Precision = EngineConfig.precision,
    kv_dtype: options.KvDtype = EngineConfig.kv_dtype,
    quantize: options.Quantize = EngineConfig.quantize,
    speculation: options.Speculation = EngineConfig.speculation,
    draft_model: options.DraftModel = None,
) -> None:
    """Answer one prompt and print the answer as it is written, or a file of prompts.

    The exit status is 1 when a row of a file has an error for its answer.
    """
    params = SamplingParams(
        max_tokens=max_tokens,
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        min_p=min_p,
        repetition_penalty=repetition_penalty,
        presence_penalty=presence_penalty,
        frequency_penalty=frequency_penalty,
        seed=seed,
        stop=tuple(stop or ()),
    )
    if (source is None) != (answers is None):
        raise RequestError(say("give both --input and --out, or neither"))
    if source is not None and (prompt is not None or as_json):
        raise RequestError(say("--input takes the place of --prompt and --json"))
    text = _prompt(prompt) if source is None else ""
    sequences = 1 if source is None else max_sequences or _SEQUENCES
    with LLM(
        model,
        context_length=context_length,
        cache_memory=cache_memory,
        threads=threads,
        precision=precision,
        kv_dtype=kv_dtype,
        quantize=quantize,
        speculation=options.speculation_for(speculation, draft_model),
        draft_model=draft_model,
        max_sequences=sequences,
        max_step_tokens=max(EngineConfig.max_step_tokens, sequences),
    ) as llm:
        if source is not None and answers is not None:
            _run_file(llm, source, answers, params, raw=raw, system=system)
            return
        request = _request(llm, text, system, raw)
        if as_json:
            _print_json(llm, request, params)
        else:
            _print_stream(llm, request, params)


def _run_file(
    llm: LLM,
    source: Path,
    answers: Path,
    params: SamplingParams,
    *,
    raw: bool,
    system: str | None,
) -> None:
    with answers_bar() as progress:
        summary = run_file(llm, source, answers, params, raw=raw, system=system, progress=progress)
    note(
        say(
            "{rows} rows, {resumed} of them from an earlier run, {failed} with an error; "
            "{tokens} tokens generated, {cached} of {prompt} prompt tokens found in the cache",
            rows=summary.rows,
            resumed=summary.resumed,
            failed=summary.failed,
            tokens=summary.completion_tokens,
            cached=summary.cached_tokens,
            prompt=summary.prompt_tokens,
        )
    )
    output.print(str(answers), markup=False, highlight=False, soft_wrap=True)
    if summary.failed:
        raise typer.Exit(1)


def _prompt(given: str | None) -> str:
    text = sys.stdin.read() if given in (None, "-") else given
    if not text:
        raise RequestError(say("the prompt is empty: give --prompt TEXT or standard input"))
    return text


def _request(
    llm: LLM, text: str, system: str | None, raw: bool
) -> str | Sequence[Mapping[str, Any]]:
    if raw or llm.model.chat_template is None:
        if system is not None:
            raise RequestError(say("--system needs a chat template, and --raw uses none"))
        return text
    messages = [{"role": "system", "content": system}] if system is not None else []
    return [*messages, {"role": "user", "content": text}]


def _print_stream(
    llm: LLM, request: str | Sequence[Mapping[str, Any]], params: SamplingParams
) -> None:
    terminal = sys.stdout.isatty()
    for delta in llm.stream(request, params):
        sys.stdout.write(harmless(delta.text) if terminal else delta.text)
        sys.stdout.flush()
    sys.stdout.write("\n")


def _print_json(
    llm: LLM, request: str | Sequence[Mapping[str, Any]], params: SamplingParams
) -> None:
    deltas = list(llm.stream(request, params))
    last = deltas[-1]
    document = {
        "text": "".join(delta.text for delta in deltas),
        "token_ids": [token for delta in deltas for token in delta.token_ids],
        "finish_reason": last.finish_reason,
        "usage": {
            "prompt_tokens": last.usage.prompt_tokens,
            "completion_tokens": last.usage.completion_tokens,
            "cached_tokens": last.usage.cached_tokens,
        }
        if last.usage
        else None,
    }
    output.print_json(json.dumps(document))
