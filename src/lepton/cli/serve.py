"""``lepton serve``: the HTTP server."""

from __future__ import annotations

from enum import StrEnum
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lepton import config
from lepton.cli import options
from lepton.cli.console import notices, output
from lepton.cli.language import say
from lepton.cli.startup import EncoderQuantize, ServedModels
from lepton.cli.training_options import Threshold
from lepton.engine import EngineConfig
from lepton.errors import ConfigurationError
from lepton.telemetry import configure_logging
from lepton.telemetry.tracing import collector_from_environment
from lepton.training.run import is_run

if TYPE_CHECKING:
    from lepton.server.served_run import ServedRun


class LogLevel(StrEnum):
    """Levels of the log, the most talkative first."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class LogFormat(StrEnum):
    """Ways to write a log entry."""

    TEXT = "text"
    JSON = "json"


def serve(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="Name of the catalogue, or path of a model.")
    ] = config.DEFAULT_MODEL,
    host: Annotated[str, typer.Option(help="Address to listen at.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen at.")] = 8000,
    pull: Annotated[
        bool | None,
        typer.Option(
            "--pull/--no-pull",
            help="Fetch the model first if it is missing; only the default model if not given.",
            show_default=False,
        ),
    ] = None,
    model_name: Annotated[
        str | None, typer.Option(metavar="NAME", help="What clients call the model.")
    ] = None,
    api_keys: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Key file, see: lepton keys generate."),
    ] = None,
    allow_anonymous: Annotated[
        bool, typer.Option("--allow-anonymous", help="Serve other machines without API keys.")
    ] = False,
    cors_origin: Annotated[
        list[str] | None,
        typer.Option(metavar="ORIGIN", help="Web origin that may call; may be repeated."),
    ] = None,
    allowed_host: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Host name accepted without keys; may be repeated."),
    ] = None,
    encoder: Annotated[
        list[str] | None,
        typer.Option(metavar="MODEL", help="Encoder to serve beside the model; may be repeated."),
    ] = None,
    encoder_quantize: Annotated[
        EncoderQuantize | None,
        typer.Option(
            help="As --quantize, for encoders beside the model; int8 if that is, else none.",
            show_default=False,
        ),
    ] = None,
    run: Annotated[
        list[str] | None,
        typer.Option(metavar="RUN", help="Trained run to serve beside the model; may be repeated."),
    ] = None,
    threshold: Threshold = None,
    context_length: options.ContextLength = None,
    cache_memory: options.CacheMemory = None,
    max_sequences: Annotated[
        int, typer.Option(min=1, metavar="N", help="Completions computed together.")
    ] = 32,
    max_queue: Annotated[
        int, typer.Option(min=1, metavar="N", help="Requests that may wait; more get HTTP 429.")
    ] = 256,
    max_queue_seconds: Annotated[
        float | None,
        typer.Option(
            min=0.0,
            metavar="SECONDS",
            help="Longest wait in the queue; requests that would wait longer get HTTP 429.",
        ),
    ] = None,
    request_timeout: Annotated[
        float | None,
        typer.Option(
            min=0.0, metavar="SECONDS", help="Time after which a request ends with what it has."
        ),
    ] = None,
    max_requests: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            help="API requests in progress, reading and answering included; at least 512, and all "
            "that may wait or be computed, if not given.",
        ),
    ] = None,
    max_body: Annotated[
        int | None,
        typer.Option(
            parser=options.bytes_of,
            metavar="BYTES",
            help="Largest request body, such as 4M; 1M if not given. Larger ones get HTTP 413.",
        ),
    ] = None,
    liveness_seconds: Annotated[
        float,
        typer.Option(
            min=5.0, metavar="SECONDS", help="Time after which a step that hangs turns /livez red."
        ),
    ] = 30.0,
    step_seconds: Annotated[
        float,
        typer.Option(
            min=0.001,
            metavar="SECONDS",
            help="Longest step while prompts are read beside others' answers: bounds their gaps.",
        ),
    ] = EngineConfig.step_seconds,
    prefix_cache: Annotated[
        bool,
        typer.Option(
            "--prefix-cache/--no-prefix-cache", help="Find beginnings of prompts read before."
        ),
    ] = True,
    cache_spill: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Keep on disk, in this folder, what must leave the prefix cache."
        ),
    ] = None,
    cache_spill_gb: Annotated[
        float, typer.Option(min=0.0, metavar="N", help="Most GB on disk.")
    ] = EngineConfig.cache_spill_bytes / 2**30,
    speculation: options.Speculation = EngineConfig.speculation,
    draft_model: options.DraftModel = None,
    max_tokens: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Most tokens of one completion.")
    ] = None,
    threads: options.Threads = 0,
    precision: options.Precision = EngineConfig.precision,
    kv_dtype: options.KvDtype = EngineConfig.kv_dtype,
    quantize: options.Quantize = EngineConfig.quantize,
    grace: Annotated[
        float,
        typer.Option(min=0.0, metavar="SECONDS", help="Time to finish requests after SIGTERM."),
    ] = 30.0,
    otlp_endpoint: Annotated[
        str | None,
        typer.Option(
            envvar="OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
            metavar="URL",
            help="OpenTelemetry collector for traces: http://127.0.0.1:4318/v1/traces",
        ),
    ] = None,
    log_level: Annotated[LogLevel, typer.Option(help="Least level that is logged.")] = (
        LogLevel.INFO
    ),
    log_format: Annotated[LogFormat, typer.Option(help="How log entries are written.")] = (
        LogFormat.TEXT
    ),
) -> None:
    """Serve a model over HTTP, compatible with the OpenAI API, with a page to try it."""
    if find_spec("fastapi") is None or find_spec("uvicorn") is None:
        raise ConfigurationError(
            say("the server is not installed: pip install 'lepton-engine[serve]'")
        )
    from lepton.server import ServerSettings, bind
    from lepton.server import serve as serve_http

    configure_logging(log_level.value, log_format.value)
    settings = ServerSettings(
        host=host,
        port=port,
        model_name=model_name,
        keys_file=api_keys,
        allow_anonymous=allow_anonymous,
        cors_origins=tuple(cors_origin or ()),
        allowed_hosts=tuple(allowed_host or ()),
        max_body_bytes=ServerSettings.max_body_bytes if max_body is None else max_body,
        max_tokens=max_tokens,
        max_requests=max_requests or max(ServerSettings.max_requests, max_queue + max_sequences),
        liveness_seconds=liveness_seconds,
        max_queue_seconds=max_queue_seconds,
        request_seconds=request_timeout,
        otlp_endpoint=otlp_endpoint or collector_from_environment(),
        drain_seconds=grace,
    )
    engine_config = EngineConfig(
        context_length=context_length,
        cache_memory=cache_memory,
        max_sequences=max_sequences,
        max_step_tokens=max(EngineConfig.max_step_tokens, max_sequences),
        max_queue=max_queue,
        max_queue_seconds=max_queue_seconds,
        step_seconds=step_seconds,
        prefix_cache=prefix_cache,
        cache_spill=cache_spill,
        cache_spill_bytes=int(cache_spill_gb * 2**30),
        speculation=options.speculation_for(speculation, draft_model),
        draft_model=draft_model,
        threads=threads,
        precision=precision,
        kv_dtype=kv_dtype,
        quantize=quantize,
    )
    with bind(settings) as listener:
        trained = is_run(model)
        models = ServedModels(
            None if trained else model,
            encoder or [],
            engine_config,
            name=model_name,
            pull=pull,
            encoder_quantize=encoder_quantize,
        )
        run_paths = [*([model] if trained else []), *(run or [])]
        serve_http(
            models.load_engine,
            settings,
            encoders=models.load_encoders,
            runs=partial(_load_runs, run_paths, threshold) if run_paths else None,
            listener=listener,
            on_ready=_announce,
        )


def _load_runs(paths: list[str], threshold: float | None) -> dict[str, ServedRun]:
    """Trained runs by name; ConfigurationError where two have the same."""
    from lepton.server.served_run import ServedRun

    found: dict[str, ServedRun] = {}
    for path in paths:
        with notices.status(say("Loading {model}", model=path)):
            served = ServedRun(path, threshold=threshold)
        if served.name in found:
            raise ConfigurationError(
                f"two runs are called {served.name!r}: serve the name, which has all its versions"
            )
        found[served.name] = served
    return found


def _announce(url: str) -> None:
    output.print(say("Lepton answers at {url} (Ctrl-C ends it)", url=url), highlight=False)
