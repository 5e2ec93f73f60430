"""``lepton serve``: the HTTP server."""

from __future__ import annotations

import errno
import re
import socket
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from lepton import config
from lepton.cli import options
from lepton.cli.language import say
from lepton.cli.models import pull_if_missing
from lepton.errors import ConfigurationError

_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}


def bytes_of(text: str) -> int:
    """A number of bytes such as ``512M`` or ``4GiB``; raises typer.BadParameter."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmg]?)(?:i?b)?", text.strip().lower())
    if match is None:
        raise typer.BadParameter(say("write bytes such as 512M or 4G"))
    return int(float(match.group(1)) * _UNITS[match.group(2)])


def serve(
    model: Annotated[
        str, typer.Argument(metavar="[MODEL]", help="Name of the catalogue, or path of a model.")
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
    context_length: options.ContextLength = None,
    cache_memory: Annotated[
        int | None,
        typer.Option(
            parser=bytes_of,
            metavar="BYTES",
            help="Memory for the KV cache, such as 4G; a quarter of what is free if not given.",
        ),
    ] = None,
    max_sequences: Annotated[
        int, typer.Option(min=1, metavar="N", help="Completions computed together.")
    ] = 32,
    max_queue: Annotated[
        int, typer.Option(min=1, metavar="N", help="Requests that may wait; more get HTTP 429.")
    ] = 256,
    max_tokens: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Most tokens of one completion.")
    ] = None,
    threads: options.Threads = 0,
    grace: Annotated[
        float,
        typer.Option(min=0.0, metavar="SECONDS", help="Time to finish requests after SIGTERM."),
    ] = 30.0,
    log_level: Annotated[str, typer.Option(help="debug, info, warning or error.")] = "info",
    log_format: Annotated[str, typer.Option(help="text or json.")] = "text",
) -> None:
    """Serve a model over HTTP, compatible with the OpenAI API, with a page to try it."""
    if find_spec("fastapi") is None or find_spec("uvicorn") is None:
        raise ConfigurationError(
            say("the server is not installed: pip install 'lepton-engine[serve]'")
        )
