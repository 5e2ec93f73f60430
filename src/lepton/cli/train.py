"""``lepton train``: from a table to a run."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from lepton.cli import options
from lepton.cli import training_options as shared
from lepton.cli.console import fail, output
from lepton.cli.language import say
from lepton.training.config import TrainingConfig
from lepton.training.loading import load_dataset
from lepton.training.run import METRICS, read_json, read_manifest
from lepton.training.trainer import train as train_run

_NETWORK = "Networks"
_DEFAULT = TrainingConfig()
_MAX_METRICS_BYTES = 64 << 20


def train(
    data: Annotated[
        str,
        typer.Argument(metavar="DATA", help="CSV, TSV, JSONL, Parquet, Excel or a folder a label."),
    ],
    out: Annotated[
        Path,
        typer.Option(metavar="NAME", help="Name of the run; it becomes NAME@1, NAME@2 and so on."),
    ],
    text: shared.Text = None,
    label: shared.Label = None,
    encoding: shared.Encoding = None,
    delimiter: shared.Delimiter = None,
    sheet: shared.Sheet = None,
    validation: Annotated[
        str | None,
        typer.Option(metavar="DATA", help="Rows to choose on; part of DATA if not given."),
    ] = None,
    method: Annotated[
        shared.MethodName, typer.Option(help="How; auto tries what suits the data.")
    ] = shared.MethodName.AUTO,
    objective: Annotated[
        shared.ObjectiveName | None,
        typer.Option(help="One label, several (separated by |), or a number. Found out."),
    ] = None,
    encoder: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL",
            help="Encoder for head, fewshot and finetune; by language if not given.",
        ),
    ] = None,
    validation_share: Annotated[
        float,
        typer.Option(
            metavar="SHARE",
            help="Share of DATA to choose on, for networks and finetune without --validation.",
        ),
    ] = _DEFAULT.validation_share,
    seed: Annotated[int, typer.Option(help="Makes training repeatable.")] = 0,
    class_weights: Annotated[
        bool, typer.Option("--class-weights", help="Weigh rare labels up.")
    ] = False,
    epochs: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Most passes.", rich_help_panel=_NETWORK)
    ] = None,
    batch_size: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Texts a batch.", rich_help_panel=_NETWORK),
    ] = None,
    accumulation: Annotated[
        int, typer.Option(min=1, metavar="N", help="Batches a step.", rich_help_panel=_NETWORK)
    ] = _DEFAULT.accumulation,
    learning_rate: Annotated[
        float | None, typer.Option(help="Largest step size.", rich_help_panel=_NETWORK)
    ] = None,
    weight_decay: Annotated[
        float, typer.Option(min=0.0, help="AdamW's decay.", rich_help_panel=_NETWORK)
    ] = _DEFAULT.weight_decay,
    schedule: Annotated[
        shared.ScheduleName,
        typer.Option(help="How the step size falls after warm-up.", rich_help_panel=_NETWORK),
    ] = shared.ScheduleName.LINEAR,
    warmup: Annotated[
        float,
        typer.Option(min=0.0, help="Share of steps that warm up.", rich_help_panel=_NETWORK),
    ] = _DEFAULT.warmup_share,
    patience: Annotated[
        int,
        typer.Option(
            min=1,
            metavar="N",
            help="Epochs without progress that end it.",
            rich_help_panel=_NETWORK,
        ),
    ] = _DEFAULT.patience,
    label_smoothing: Annotated[
        float,
        typer.Option(min=0.0, help="Share of doubt in each label.", rich_help_panel=_NETWORK),
    ] = _DEFAULT.label_smoothing,
    dropout: Annotated[
        float,
        typer.Option(
            min=0.0,
            help="Share of values dropped while a network learns.",
            rich_help_panel=_NETWORK,
        ),
    ] = _DEFAULT.dropout,
    max_gradient_norm: Annotated[
        float,
        typer.Option(
            min=0.0, help="Length that longer gradients are cut to.", rich_help_panel=_NETWORK
        ),
    ] = _DEFAULT.max_gradient_norm,
    max_tokens: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Tokens of a text read.", rich_help_panel=_NETWORK),
    ] = None,
    frozen_layers: Annotated[
        int,
        typer.Option(
            min=0,
            metavar="N",
            help="Lowest layers of the encoder that are left alone.",
            rich_help_panel=_NETWORK,
        ),
    ] = _DEFAULT.frozen_layers,
    precision: Annotated[
        shared.PrecisionName,
        typer.Option(help="Of the products inside a tuned encoder.", rich_help_panel=_NETWORK),
    ] = shared.PrecisionName.FLOAT32,
    vectors: Annotated[
        str | None,
        typer.Option(
            metavar="word2vec|FILE",
            help="Word vectors: trained on the data, or GloVe or word2vec text.",
            rich_help_panel=_NETWORK,
        ),
    ] = None,
    vocabulary_size: Annotated[
        int,
        typer.Option(
            min=1, metavar="N", help="Most tokens a network knows.", rich_help_panel=_NETWORK
        ),
    ] = _DEFAULT.vocabulary_size,
    width: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            help="Of a network's vectors; that of the --vectors file, or 128, if not given.",
            rich_help_panel=_NETWORK,
        ),
    ] = None,
    layers: Annotated[
        int,
        typer.Option(min=1, metavar="N", help="Of a transformer.", rich_help_panel=_NETWORK),
    ] = _DEFAULT.layers,
    heads: Annotated[
        int,
        typer.Option(
            min=1,
            metavar="N",
            help="Of a transformer; they divide its width.",
            rich_help_panel=_NETWORK,
        ),
    ] = _DEFAULT.heads,
    feed_forward: Annotated[
        int,
        typer.Option(
            min=1,
            metavar="N",
            help="Width inside a transformer's layer.",
            rich_help_panel=_NETWORK,
        ),
    ] = _DEFAULT.feed_forward,
    as_json: options.Json = False,
) -> None:
    """Train a model on a table of texts and leave a run behind; interrupted, it is continued."""
    config = TrainingConfig(
        method=method.value,
        objective=objective.value if objective else None,
        encoder=encoder,
        validation_share=validation_share,
        seed=seed,
        class_weights=class_weights,
        epochs=epochs,
        batch_size=batch_size,
        accumulation=accumulation,
        learning_rate=learning_rate,
        weight_decay=weight_decay,
        schedule=schedule.value,
        warmup_share=warmup,
        patience=patience,
        label_smoothing=label_smoothing,
        max_gradient_norm=max_gradient_norm,
        max_tokens=max_tokens,
        frozen_layers=frozen_layers,
        precision=precision.value,
        vocabulary_size=vocabulary_size,
        width=width,
        heads=heads,
        layers=layers,
        feed_forward=feed_forward,
        dropout=dropout,
        vectors=vectors,
    )
    try:
        with shared.training_bar() as bar:
            loaded = load_dataset(
                data,
                text=text,
                label=label,
                encoding=encoding,
                delimiter=delimiter,
                sheet=sheet,
                objective=config.objective,
                progress=lambda done, total: bar("read", done, total, {}),
            )
            checked = None
            if validation is not None:
                checked = load_dataset(
                    validation,
                    text=loaded.text_columns,
                    label=loaded.label_column,
                    encoding=encoding,
                    delimiter=delimiter,
                    sheet=sheet,
                    objective=loaded.dataset.objective,
                    labels=loaded.dataset.labels or None,
                )
            shared.tell_left_out(loaded, data)
            config = replace(config, fields=len(loaded.text_columns))
            folder = train_run(
                loaded.dataset,
                config,
                out=out,
                validation=checked.dataset if checked else None,
                source=Path(data).name,
                text_columns=loaded.text_columns,
                progress=bar,
            )
    except KeyboardInterrupt:
        fail(say("interrupted; the same command continues the training"))
        raise typer.Exit(130) from None
    _tell(folder, as_json)


def _tell(folder: Path, as_json: bool) -> None:
    manifest = read_manifest(folder)
    metrics = read_json(folder / METRICS, _MAX_METRICS_BYTES)
    if as_json:
        fields = {"run": str(folder), "method": manifest.method, **metrics}
        output.print_json(json.dumps(fields))
        return
    table = Table(box=None, header_style="bold")
    for heading in ("Measure", "Value", "95 % interval"):
        table.add_column(say(heading))
    for name, number in metrics["held_out"].items():
        low, high = number.get("low"), number.get("high")
        between = "" if low is None else f"{low:.3f} – {high:.3f}"
        table.add_row(name.replace("_", " "), f"{number['value']:.3f}", between)
    output.print(table)
    rows = metrics["held_out_rows"]
    output.print(
        say("Measured on {rows:,} rows that the model had not seen.", rows=rows), highlight=False
    )
    output.print(
        f"[green]✓[/] {escape(str(folder))} ({manifest.method})", soft_wrap=True, highlight=False
    )
