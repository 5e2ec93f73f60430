"""ModernBERT, arXiv:2412.13663: rotary positions, gated MLPs, two windowed layers to each full."""

from __future__ import annotations

from dataclasses import replace

from lepton.models.config import LayerKind
from lepton.models.decoder import read_layer_kinds, read_rope
from lepton.models.encoder import (
    EncoderConfig,
    EncoderHead,
    EncoderNames,
    attention_of,
    read_activation,
    read_encoder,
)
from lepton.models.fields import Fields
from lepton.models.rope import build_rope
from lepton.models.stages import (
    Dense,
    Embed,
    FinalNorm,
    GatedMlp,
    LayerNorm,
    Linear,
    Part,
    Stage,
)
from lepton.models.weights import Checkpoint

_GLOBAL_BASE, _LOCAL_BASE = 160_000.0, 10_000.0


def configure(fields: Fields, checkpoint: Checkpoint) -> EncoderConfig:
    """Read the configuration of a ModernBERT checkpoint."""
    return read_encoder("modernbert", _with_common_keys(fields), checkpoint)


def stages(config: EncoderConfig, checkpoint: Checkpoint) -> list[Stage]:
    """Embedding, layers normalized before attention and MLP, and a last norm."""
    fields = _with_common_keys(Fields.of(checkpoint))
    names = EncoderNames(
        checkpoint,
        first="embeddings.tok_embeddings",
        layers="layers",
        prefixes=("", "model."),
        gguf={},
    )
    ropes = {
        kind: build_rope(
            read_rope(
                fields,
                checkpoint,
                config.head_dim,
                config.context_length,
                layer_type=f"{kind}_attention",
            ),
            config.head_dim,
        )
        for kind in ("full", "sliding")
    }
    # Half of the window lies on either side of a token.
    window = fields.integer("local_attention", 128) // 2 + 1
    norm_bias = fields.flag("norm_bias", default=False)
    attention_bias = fields.flag("attention_bias", default=False)
    mlp_bias = fields.flag("mlp_bias", default=False)

    def norm(module: str, layer: int | None = None) -> LayerNorm:
        return names.norm(module, layer, epsilon=config.norm_epsilon, bias=norm_bias)

    def part(module: str, layer: int, number: int, size: int, of: int, bias: bool) -> Linear:
        whole = names.linear(module, layer, bias=bias)
        return replace(whole, part=Part(number * size, (number + 1) * size, of * size))

    layers: list[Stage] = [
        Embed(names.tensor("embeddings.tok_embeddings"), norm=norm("embeddings.norm"))
    ]
    for layer, kind in enumerate(_layer_kinds(fields, config.num_layers)):
        query, key, value = (
            part("attn.Wqkv", layer, number, config.hidden_size, 3, attention_bias)
            for number in range(3)
        )
        attention = attention_of(
            config,
            query=query,
            key=key,
            value=value,
            output=names.linear("attn.Wo", layer, bias=attention_bias),
            residual_norm=None,
        )
        layers += [
            replace(
                attention,
                # The embedding has been normalized.
                norm=norm("attn_norm", layer) if layer else None,
                rope=ropes[kind],
                window=window if kind == "sliding" else None,
            ),
            GatedMlp(
                norm=norm("mlp_norm", layer),
                gate=part("mlp.Wi", layer, 0, config.intermediate_size, 2, mlp_bias),
                up=part("mlp.Wi", layer, 1, config.intermediate_size, 2, mlp_bias),
                down=names.linear("mlp.Wo", layer, bias=mlp_bias),
                activation=config.activation,
            ),
        ]
    return [*layers, FinalNorm(norm("final_norm"))]


def heads(fields: Fields) -> dict[str, EncoderHead]:
    """A map with a norm, then a linear map; of the first token or the mean, or of every token."""
    bias = fields.flag("classifier_bias", default=False)
    norm_bias = fields.flag("norm_bias", default=False)
    epsilon = fields.number("norm_eps", 1e-5)
    pooling = fields.text("classifier_pooling") or "cls"
    if pooling not in ("cls", "mean"):
        raise fields.error("classifier_pooling", f"is {pooling!r:.80}, neither cls nor mean")
    first = Dense(
        Linear("head.dense.weight", "head.dense.bias" if bias else None),
        read_activation(fields, "classifier_activation", "gelu"),
        LayerNorm("head.norm.weight", "head.norm.bias" if norm_bias else None, epsilon),
    )
    classifier = Dense(Linear("classifier.weight", "classifier.bias"))
    return {
        "SequenceClassification": EncoderHead(
            "cls" if pooling == "cls" else "mean", (first, classifier)
        ),
        "TokenClassification": EncoderHead(None, (first, classifier)),
    }


def _with_common_keys(fields: Fields) -> Fields:
    """The fields with this family's keys under the names that the others use."""
    return fields.with_defaults(
        {
            "layer_norm_eps": fields.get("norm_eps") or 1e-5,
            "hidden_act": fields.get("hidden_activation"),
            "rope_theta": fields.get("global_rope_theta") or _GLOBAL_BASE,
            "rope_local_base_freq": fields.get("local_rope_theta") or _LOCAL_BASE,
        }
    )


def _layer_kinds(fields: Fields, num_layers: int) -> tuple[LayerKind, ...]:
    period = fields.integer("global_attn_every_n_layers", 3)
    kinds: tuple[LayerKind, ...] = tuple(
        "sliding" if layer % period else "full" for layer in range(num_layers)
    )
    kinds = read_layer_kinds(fields, kinds)
    if len(kinds) != num_layers:
        raise fields.error("layer_types", f"has {len(kinds)} entries, not one a layer")
    return kinds
