"""``lepton keys``: API keys for the server's key file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from lepton.cli.console import note, output
from lepton.cli.language import say
from lepton.errors import ConfigurationError
from lepton.security.keys import generate_key, hash_key, load_keys

app = typer.Typer(help="API keys of the server.", no_args_is_help=True)


@app.callback()
def keys() -> None:
    """API keys of the server."""


@app.command("generate")
def generate(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Who will use the key.")],
    file: Annotated[
        Path, typer.Option("--file", "-f", help="Key file; made if it does not exist.")
    ] = Path("keys.toml"),
) -> None:
    """Make a key, add its hash to the key file, and print the key: it is shown only now."""
    key = generate_key()
    _append(file, name, hash_key(key))
    output.print(key, highlight=False, soft_wrap=True)
    note(
        say(
            "Added {name} to {file}; serve with: lepton serve --api-keys {file}",
            name=name,
            file=file,
        )
    )


def _append(file: Path, name: str, digest: str) -> None:
    """Add an entry by way of a checked copy, so that a bad name leaves the file as it was."""
    if file.suffix == ".json":
        raise ConfigurationError(say("{file}: keys are added to TOML files only", file=file))
    entry = f"[[keys]]\nname = {json.dumps(name)}\nsha256 = {json.dumps(digest)}\n"
    draft = file.with_name(f".{file.name}.new")
    try:
        present = f"{file.read_text('utf-8')}\n" if file.exists() else ""
        mode = file.stat().st_mode & 0o777 if file.exists() else 0o600
        draft.touch(mode)
        draft.write_text(f"{present}{entry}", "utf-8")
        load_keys(draft)
        draft.replace(file)
    except OSError as error:
        raise ConfigurationError(
            say("{file} cannot be written: {reason}", file=file, reason=error.strerror)
        ) from error
    finally:
        draft.unlink(missing_ok=True)
