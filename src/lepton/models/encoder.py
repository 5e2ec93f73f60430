"""What an encoder looks like, and what the families of BERT have in common."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, cast, get_args

from lepton.models.fields import MAX_HEAD_DIM, Fields
from lepton.models.stages import (
    Activation,
    Attention,
    Dense,
    LayerNorm,
    Linear,
    Mlp,
    PoolingKind,
    Stage,
)
from lepton.models.weights import Checkpoint

ACTIVATIONS: dict[str, Activation] = {
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "relu": "relu",
    "silu": "silu",
    "swish": "silu",
}
"""Names of activations in config.json."""


ProblemType = Literal["single_label_classification", "multi_label_classification", "regression"]
"""What the outputs of a classification head are: logits of labels of which one holds, of labels
that hold independently of one another, or values."""


@dataclass(frozen=True)
class EncoderConfig:
    """An encoder's configuration, the same whatever the format of its checkpoint.

    ``context_length`` counts tokens, special ones included.
    """

    model_type: str
    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    norm_epsilon: float
    context_length: int
    activation: Activation = "gelu"
    labels: tuple[str, ...] = ()
    """Labels of the classification head, where there is one."""
    problem_type: ProblemType | None = None
    """None: the number of labels decides, several being alternatives and one standing alone."""


@dataclass(frozen=True)
class EncoderHead:
    """A classification head: layers after pooling, or on every token where ``pooling`` is None."""

    pooling: PoolingKind | None
    layers: tuple[Dense, ...]


class EncoderArchitecture(Protocol):
    """What the module ``lepton.models.<model_type>`` of an encoder holds."""

    def configure(self, fields: Fields, checkpoint: Checkpoint) -> EncoderConfig:
        """Read the configuration. Raises ModelFormatError."""

    def stages(self, config: EncoderConfig, checkpoint: Checkpoint) -> list[Stage]:
        """The model's stages, from Embed to the last layer."""

    def heads(self, fields: Fields, /) -> dict[str, EncoderHead]:
        """Heads by the ending of the names in ``architectures``, such as TokenClassification."""


class EncoderNames:
    """Turns a module's name in Hugging Face's spelling into the tensor's name in one checkpoint.

    A published model may keep the encoder under a name of its own (``bert.``), and GGUF has other
    names: ``gguf`` maps modules to them, those of layers and others alike.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        *,
        first: str,
        layers: str,
        prefixes: Sequence[str],
        gguf: Mapping[str, str],
    ) -> None:
        """``first`` is the module whose weight every checkpoint of the family has."""
        self.is_gguf = checkpoint.format == "gguf"
        self._gguf = gguf
        self._layers = layers
        self._tensors = checkpoint.tensors
        present = (prefix for prefix in prefixes if f"{prefix}{first}.weight" in self._tensors)
        self._prefix = next(present, "")

    def layer_prefix(self, layer: int) -> str:
        """What the names of all tensors of a layer begin with."""
        return f"blk.{layer}." if self.is_gguf else f"{self._prefix}{self._layers}.{layer}."

    def tensor(self, module: str, layer: int | None = None, kind: str = "weight") -> str:
        """Name of the ``weight`` or ``bias`` of a module, inside a layer or outside of all."""
        name = self._gguf.get(module, module) if self.is_gguf else module
        if layer is not None:
            return f"{self.layer_prefix(layer)}{name}.{kind}"
        return f"{name}.{kind}" if self.is_gguf else f"{self._prefix}{name}.{kind}"

    def linear(self, module: str, layer: int | None = None, *, bias: bool = True) -> Linear:
        """A linear map with this checkpoint's names."""
        return Linear(
            self.tensor(module, layer), self.tensor(module, layer, "bias") if bias else None
        )

    def norm(
        self, module: str, layer: int | None = None, *, epsilon: float, bias: bool = True
    ) -> LayerNorm:
        """A norm with this checkpoint's names; very old ones call its weight gamma."""
        weight, shift = self.tensor(module, layer), self.tensor(module, layer, "bias")
        old = self.tensor(module, layer, "gamma")
        if weight not in self._tensors and old in self._tensors:
            weight, shift = old, self.tensor(module, layer, "beta")
        return LayerNorm(weight, shift if bias else None, epsilon)


def read_encoder(
    model_type: str, fields: Fields, checkpoint: Checkpoint, *, default_activation: str = "gelu"
) -> EncoderConfig:
    """The fields that BERT and its relatives share.

    Raises ModelFormatError for missing or absurd values and for features not supported.
    """
    hidden_size = fields.integer("hidden_size")
    num_heads = fields.integer("num_attention_heads")
    if hidden_size % num_heads:
        raise fields.error(
            "num_attention_heads", f"is {num_heads}, no divisor of hidden size {hidden_size}"
        )
    head_dim = hidden_size // num_heads
    if head_dim % 2 or head_dim > MAX_HEAD_DIM:
        raise fields.error("num_attention_heads", f"gives heads of {head_dim} dimensions")
    num_layers, num_tensors = fields.integer("num_hidden_layers"), len(checkpoint.tensors)
    if num_layers >= num_tensors:
        raise fields.error(
            "num_hidden_layers", f"is {num_layers}, but there are {num_tensors} tensors"
        )
    fields.refuse("is_decoder", "attention.causal")
    kind = fields.text("position_embedding_type") or "absolute"
    if kind != "absolute":
        raise fields.error("position_embedding_type", f"is {kind!r:.80}; only absolute is known")
    embedding = checkpoint.tensors.get("token_embd.weight")
    counted = embedding is not None and fields.is_gguf
    return EncoderConfig(
        model_type=model_type,
        vocab_size=(embedding.shape[0] if counted and embedding else fields.integer("vocab_size")),
        hidden_size=hidden_size,
        intermediate_size=fields.integer("intermediate_size"),
        num_layers=num_layers,
        num_heads=num_heads,
        num_kv_heads=num_heads,
        head_dim=head_dim,
        norm_epsilon=fields.number("layer_norm_eps", 1e-12),
        context_length=fields.integer("max_position_embeddings"),
        activation=read_activation(fields, "hidden_act", default_activation),
        labels=read_labels(fields),
        problem_type=read_problem_type(fields),
    )


def read_activation(fields: Fields, key: str, default: str) -> Activation:
    """An activation by its name in config.json."""
    name = fields.text(key) or default
    if name not in ACTIVATIONS:
        raise fields.error(key, f"is {name!r:.80}; known are {', '.join(ACTIVATIONS)}")
    return ACTIVATIONS[name]


def read_labels(fields: Fields) -> tuple[str, ...]:
    """Labels of the classification head by number, from ``id2label`` or ``num_labels``."""
    named = fields.get("id2label")
    if named is None:
        return tuple(f"LABEL_{index}" for index in range(fields.integer("num_labels", 2)))
    if not isinstance(named, Mapping):
        raise fields.error("id2label", "is not an object")
    try:
        return tuple(str(named[key]) for key in (str(index) for index in range(len(named))))
    except KeyError as error:
        raise fields.error("id2label", f"has no entry {error.args[0]}") from None


def read_problem_type(fields: Fields) -> ProblemType | None:
    """What the classification head was trained for, where config.json tells."""
    name = fields.text("problem_type")
    if name is not None and name not in get_args(ProblemType):
        known = ", ".join(get_args(ProblemType))
        raise fields.error("problem_type", f"is {name!r:.80}; known are {known}")
    return cast("ProblemType | None", name)


def attention_of(
    config: EncoderConfig,
    query: Linear,
    key: Linear,
    value: Linear,
    output: Linear,
    residual_norm: LayerNorm | None,
) -> Attention:
    """Attention to all tokens, normalized after the sum, as in the original transformer."""
    return Attention(
        norm=None,
        query=query,
        key=key,
        value=value,
        output=output,
        num_heads=config.num_heads,
        num_kv_heads=config.num_kv_heads,
        head_dim=config.head_dim,
        scale=1 / math.sqrt(config.head_dim),
        rope=None,
        causal=False,
        residual_norm=residual_norm,
    )


def mlp_of(config: EncoderConfig, up: Linear, down: Linear, residual_norm: LayerNorm) -> Mlp:
    """The MLP of such a layer."""
    return Mlp(None, up, down, config.activation, residual_norm)
