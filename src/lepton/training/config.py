"""What is trained and how: one frozen configuration for every method."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal, get_args, get_type_hints

from lepton.errors import ConfigurationError

Method = Literal[
    "auto", "linear", "head", "fewshot", "finetune", "bag", "cnn", "bilstm", "transformer"
]
Objective = Literal["single", "multi", "regression"]
Schedule = Literal["cosine", "linear", "plateau", "constant"]
Precision = Literal["float32", "bfloat16"]

METHODS: tuple[Method, ...] = get_args(Method)
OBJECTIVES: tuple[Objective, ...] = get_args(Objective)
SCHEDULES: tuple[Schedule, ...] = get_args(Schedule)
PRECISIONS: tuple[Precision, ...] = get_args(Precision)
CORPUS = "word2vec"
"""The value of ``vectors`` that learns them from the corpus."""
WIDTH = 128
"""Of a network whose width nothing else decides."""
ARCHITECTURES: tuple[Method, ...] = ("bag", "cnn", "bilstm", "transformer")
"""Methods that train a network of our own from nothing."""


@dataclass(frozen=True)
class _Defaults:
    epochs: int
    batch_size: int
    learning_rate: float
    max_tokens: int = 256


_DEFAULTS: dict[str, _Defaults] = {
    "fewshot": _Defaults(10, 40, 5e-5, max_tokens=64),
    "finetune": _Defaults(4, 16, 5e-5),
    "bag": _Defaults(30, 32, 3e-3),
    "cnn": _Defaults(20, 32, 1e-3),
    "bilstm": _Defaults(20, 32, 2e-3),
    "transformer": _Defaults(20, 32, 5e-4),
}


@dataclass(frozen=True)
class TrainingConfig:
    """Everything that decides what a run becomes, beside its data.

    Epochs, batch size and learning rate left at None take the method's own, see `resolved`.

    Raises:
        ConfigurationError: a value is out of its range.
    """

    method: Method = "auto"
    objective: Objective | None = None
    """None finds it out from the labels: numbers that are no whole numbers mean regression."""
    encoder: str | None = None
    """Catalogue name or folder of a pretrained encoder; None goes by the language."""
    seed: int = 0
    validation_share: float = 0.15
    """Share of the rows that networks and `finetune` are judged on, where no validation data is
    given."""
    fields: int = 1
    """Columns of a table that a text is made of, each on a line of its own and the last with all
    the rest; `head` gives each a vector."""
    class_weights: bool = False
    """Weigh rare labels up, inversely to how often they occur."""
    epochs: int | None = None
    batch_size: int | None = None
    accumulation: int = 1
    """Batches whose gradients are added up for one step."""
    learning_rate: float | None = None
    weight_decay: float = 0.01
    schedule: Schedule = "linear"
    warmup_share: float = 0.1
    """Share of all steps in which the learning rate rises from 0."""
    patience: int = 3
    """Epochs without a better validation score after which training ends."""
    label_smoothing: float = 0.0
    max_gradient_norm: float = 1.0
    max_tokens: int | None = None
    """Tokens of a text that are read; the rest is cut off. None: 256, but 64
    of each piece of a text for `fewshot`, and whole texts for `head`."""
    frozen_layers: int = 0
    """Lowest layers of an encoder that tuning leaves as they are, with its embeddings."""
    precision: Precision = "float32"
    """Of the products inside a tuned encoder; weights and their updates are float32 always."""
    vocabulary_size: int = 10_000
    width: int | None = None
    """Of a network's vectors. None: that of the file of ``vectors``, or 128."""
    heads: int = 4
    """Of `transformer`; its width must be a multiple of them."""
    layers: int = 2
    feed_forward: int = 512
    dropout: float = 0.1
    vectors: str | None = None
    """``word2vec`` trains word vectors on the corpus; a path loads them (GloVe, word2vec text)."""

    def __post_init__(self) -> None:
        for name, choices in (
            ("method", METHODS),
            ("objective", (None, *OBJECTIVES)),
            ("schedule", SCHEDULES),
            ("precision", PRECISIONS),
        ):
            if getattr(self, name) not in choices:
                known = ", ".join(str(choice) for choice in choices if choice is not None)
                raise ConfigurationError(
                    f"{name} cannot be {getattr(self, name)!r}; choose one of: {known}"
                )
        for name in _AT_LEAST_ONE:
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigurationError(f"{name} must be at least 1, not {value}")
        for name in ("validation_share", "warmup_share", "label_smoothing", "dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise ConfigurationError(
                    f"{name} must be from 0 to below 1, not {getattr(self, name)}"
                )
        for name in ("learning_rate", "max_gradient_norm", "validation_share"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ConfigurationError(f"{name} must be above 0, not {value}")
        if self.method == "transformer" and self.width is not None and self.width % self.heads:
            raise ConfigurationError(
                f"width {self.width} must be a multiple of the number of heads, {self.heads}"
            )

    def resolved(self) -> TrainingConfig:
        """The same with the method's defaults in place of None."""
        defaults = _DEFAULTS.get(self.method)
        if defaults is None:
            return self
        return replace(
            self,
            epochs=self.epochs or defaults.epochs,
            batch_size=self.batch_size or defaults.batch_size,
            learning_rate=self.learning_rate or defaults.learning_rate,
            max_tokens=self.max_tokens or defaults.max_tokens,
            width=self.width if self.vectors_file else self.width or WIDTH,
        )

    @property
    def vectors_file(self) -> Path | None:
        """The file that word vectors are read from."""
        if self.vectors is None or self.vectors == CORPUS:
            return None
        return Path(self.vectors).expanduser()

    def as_json(self) -> dict[str, Any]:
        """A JSON object of every field."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> TrainingConfig:
        """Read `as_json` back; fields of newer versions are refused.

        Raises:
            ConfigurationError: a field is unknown or holds another type.
        """
        types = get_type_hints(cls)
        known = {field.name for field in fields(cls)}
        for name, value in values.items():
            if name not in known:
                raise ConfigurationError(f"the configuration has an unknown field {name!r:.80}")
            if types[name] in (int, float, bool) and not isinstance(value, int | float):
                raise ConfigurationError(f"{name} must be a number, not {value!r:.80}")
        return cls(**values)


_AT_LEAST_ONE = (
    "fields",
    "epochs",
    "batch_size",
    "accumulation",
    "patience",
    "max_tokens",
    "vocabulary_size",
    "width",
    "heads",
    "layers",
    "feed_forward",
)
