"""What a sentence-transformers folder says of pooling, prompts and length.

https://sbert.net/docs/sentence_transformer/usage/custom_models.html
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

from lepton.errors import ModelFormatError
from lepton.models.stages import PoolingKind, Squash
from lepton.models.tokenizer.from_json import read_json_array, read_json_object

_POOLINGS: dict[str, PoolingKind] = {
    "cls_token": "cls",
    "mean_tokens": "mean",
    "max_tokens": "max",
    "weightedmean_tokens": "weighted",
    "lasttoken": "last",
}
_TRANSFORMER_FILES = tuple(
    f"sentence_{kind}_config.json"
    for kind in ("bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet")
)
"""Of which a folder has one; all but the first are names of older versions."""
_SQUASHES: dict[str, Squash] = {
    "identity": "none",
    "tanh": "tanh",
    "relu": "relu",
    "gelu": "gelu",
    "silu": "silu",
}


@dataclass(frozen=True)
class Projection:
    """A linear map after pooling, in a folder of its own."""

    folder: Path
    inputs: int
    outputs: int
    bias: bool
    activation: Squash
    unit_inputs: bool = False
    """Whether what it maps gets length one before."""


@dataclass(frozen=True)
class SentenceSettings:
    """How sentences are embedded: pooling, maps after it, normalization, prompts, length."""

    pooling: PoolingKind = "mean"
    projections: tuple[Projection, ...] = ()
    normalize: bool = False
    """Whether vectors get length one at the end."""
    prompts: Mapping[str, str] = field(default_factory=dict)
    default_prompt: str | None = None
    """Name of the prompt that is put before a text when none is named."""
    max_tokens: int | None = None
    """Tokens of a text that the model was trained for, special ones included."""
    pool_prompt: bool = True
    """Whether the prompt's own tokens take part in pooling."""
    lowercase: bool = False
    """Whether texts are put into lower case before they are cut into tokens."""


def read_sentence_settings(folder: Path) -> SentenceSettings:
    """The settings of a model's folder; without ``modules.json`` only the tokenizer's length.

    Raises ModelFormatError for a module or a way of pooling that is not supported.
    """
    settings = SentenceSettings(
        max_tokens=_positive(folder / "tokenizer_config.json", "model_max_length")
    )
    listing = folder / "modules.json"
    if not listing.is_file():
        return settings
    for module in _modules(listing):
        kind = str(module.get("type", "")).rsplit(".", 1)[-1]
        place = _place(folder, module, listing)
        if kind == "Transformer":
            settings = _with_transformer(settings, place)
        elif kind == "Pooling":
            settings = _with_pooling(settings, place / "config.json")
        elif kind == "Normalize":
            settings = replace(settings, normalize=True)
        elif kind == "Dense":
            projection = replace(_projection(place), unit_inputs=settings.normalize)
            settings = replace(
                settings, projections=(*settings.projections, projection), normalize=False
            )
        elif kind != "Dropout":
            raise ModelFormatError(f"module {kind!r:.80} is not supported", file=listing)
    return _with_prompts(settings, folder / "config_sentence_transformers.json")


def _modules(listing: Path) -> list[Mapping[str, Any]]:
    modules = read_json_array(listing)
    if not all(isinstance(module, dict) for module in modules):
        raise ModelFormatError("holds something other than modules", file=listing)
    return cast("list[Mapping[str, Any]]", modules)


def _place(folder: Path, module: Mapping[str, Any], listing: Path) -> Path:
    """The folder of a module: the model's own or a plain name inside it."""
    name = module.get("path", "")
    if not isinstance(name, str) or not re.fullmatch(r"[\w.-]*", name) or name.startswith("."):
        raise ModelFormatError(f"{name!r:.80} is not the name of a folder in it", file=listing)
    return folder / name


def _with_transformer(settings: SentenceSettings, folder: Path) -> SentenceSettings:
    files = [file for name in _TRANSFORMER_FILES if (file := folder / name).is_file()]
    if not files:
        return settings
    return replace(
        settings,
        max_tokens=_positive(files[0], "max_seq_length") or settings.max_tokens,
        lowercase=read_json_object(files[0]).get("do_lower_case") is True,
    )


def _positive(file: Path, key: str) -> int | None:
    """A whole number in a JSON file, which may be missing as the file may."""
    value = read_json_object(file).get(key)
    return value if type(value) is int and value > 0 else None


def _with_pooling(settings: SentenceSettings, file: Path) -> SentenceSettings:
    config = read_json_object(file, required=True)
    chosen = [
        key.removeprefix("pooling_mode_")
        for key, value in config.items()
        if key.startswith("pooling_mode_") and value is True
    ]
    mode = config.get("pooling_mode")
    if not chosen and isinstance(mode, str):
        chosen = [key for key in _POOLINGS if key.startswith(mode)]
    if len(chosen) != 1 or chosen[0] not in _POOLINGS:
        raise ModelFormatError(
            f"pooling {' + '.join(chosen) or 'of no kind'} is not supported; one of "
            f"{', '.join(_POOLINGS)} is",
            file=file,
        )
    return replace(
        settings,
        pooling=_POOLINGS[chosen[0]],
        pool_prompt=config.get("include_prompt", True) is not False,
    )


def _projection(folder: Path) -> Projection:
    file = folder / "config.json"
    config = read_json_object(file, required=True)
    name = str(config.get("activation_function", "torch.nn.modules.activation.Tanh"))
    squash = _SQUASHES.get(name.rsplit(".", 1)[-1].lower())
    inputs, outputs = config.get("in_features"), config.get("out_features")
    if squash is None or not isinstance(inputs, int) or not isinstance(outputs, int):
        raise ModelFormatError(
            f"a map of {inputs} to {outputs} with {name!r:.80} is not supported", file=file
        )
    return Projection(folder, inputs, outputs, config.get("bias", True) is True, squash)


def _with_prompts(settings: SentenceSettings, file: Path) -> SentenceSettings:
    config = read_json_object(file)
    prompts = config.get("prompts") or {}
    if not isinstance(prompts, dict) or not all(isinstance(text, str) for text in prompts.values()):
        raise ModelFormatError("'prompts' is not an object of texts", file=file)
    default = config.get("default_prompt_name")
    if default is not None and default not in prompts:
        raise ModelFormatError(f"'default_prompt_name' {default!r:.80} is no prompt", file=file)
    return replace(settings, prompts=prompts, default_prompt=default)
