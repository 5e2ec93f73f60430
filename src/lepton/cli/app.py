"""The command tree, and what becomes of an error."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from lepton import __version__, config
from lepton.cli import (
    chat,
    complete,
    data,
    doctor,
    embed,
    evaluate,
    keys,
    models,
    predict,
    serve,
    top,
    train,
)
from lepton.cli.console import fail, output
from lepton.cli.language import chinese, say, translate
from lepton.errors import (
    ConfigurationError,
    DataError,
    LeptonError,
    ModelNotFoundError,
    RequestError,
)

_USAGE_ERRORS = (ConfigurationError, DataError, ModelNotFoundError, RequestError)


class LeptonGroup(TyperGroup):
    """The root command: turns errors into one line and an exit code, 2 for the user's own."""

    def invoke(self, ctx: Any) -> Any:
        """Run the chosen command."""
        try:
            return super().invoke(ctx)
        except LeptonError as error:
            if config.debugging():
                raise
            fail(str(error))
            raise typer.Exit(2 if isinstance(error, _USAGE_ERRORS) else 1) from None
        except Exception as error:
            # Typer's own exits and usage errors carry a code; broken pipes and the end of input
            # are handled further up.
            passing = hasattr(error, "exit_code") or isinstance(error, (typer.Abort, EOFError))
            if passing or isinstance(error, BrokenPipeError) or config.debugging():
                raise
            fail(
                say(
                    "unexpected {kind}: {error}; LEPTON_DEBUG=1 shows where",
                    kind=type(error).__name__,
                    error=error,
                )
            )
            raise typer.Exit(1) from None


app = typer.Typer(
    name="lepton",
    cls=LeptonGroup,
    help="Large language models on hardware you own.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("serve")(serve.serve)
app.command("chat")(chat.chat)
app.command("run")(complete.run)
app.command("train")(train.train)
app.command("evaluate")(evaluate.evaluate)
app.command("predict")(predict.predict)
app.command("embed")(embed.embed)
app.command("top")(top.top)
app.add_typer(models.app, name="models")
app.add_typer(data.app, name="data")
app.command("doctor")(doctor.doctor)
app.add_typer(keys.app, name="keys")


def _show_version(wanted: bool) -> None:
    if wanted:
        output.print(f"lepton {__version__}", highlight=False)
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_show_version, is_eager=True, help="Show the version and exit."
        ),
    ] = False,
) -> None:
    """Large language models on hardware you own."""


def run() -> None:
    """Parse the arguments of the process and run the command they name."""
    if chinese():
        # The framed help cuts off long words, which is what it takes a Chinese sentence for.
        app.rich_markup_mode = None
    command = typer.main.get_command(app)
    translate(command)
    command(prog_name="lepton")
