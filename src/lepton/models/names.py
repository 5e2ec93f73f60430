"""Tensor names. Architectures use Hugging Face's; a checkpoint in GGUF is asked for its own."""

from __future__ import annotations

from collections.abc import Mapping

from lepton.models.stages import Linear, RmsNorm
from lepton.models.weights import Checkpoint

_GGUF_NAMES = {
    "embed_tokens": "token_embd",
    "norm": "output_norm",
    "lm_head": "output",
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
_PREFIXES = {
    "model.": "",
    "model.language_model.": "",
    "language_model.model.": "language_model.",
    "": "",
}
"""Where safetensors files keep the decoder, and where its output head then is."""


class TensorNames:
    """Turns a module's name (``self_attn.q_proj``) into the tensor's name in one checkpoint.

    ``gguf_names`` adds to, or replaces, the GGUF names that the architectures have in common.
    """

    def __init__(self, checkpoint: Checkpoint, gguf_names: Mapping[str, str] | None = None) -> None:
        self.is_gguf = checkpoint.format == "gguf"
        self._gguf_names = {**_GGUF_NAMES, **(gguf_names or {})}
        self._prefix = next(
            (
                prefix
                for prefix in _PREFIXES
                if f"{prefix}embed_tokens.weight" in checkpoint.tensors
            ),
            "model.",
        )

    def layer_prefix(self, layer: int) -> str:
        """What the names of all tensors of a layer begin with."""
        return f"blk.{layer}." if self.is_gguf else f"{self._prefix}layers.{layer}."

    def tensor(self, module: str, layer: int | None = None, kind: str = "weight") -> str:
        """Name of the ``weight`` or ``bias`` of a module, inside a layer or outside of all."""
        name = self._gguf_names[module] if self.is_gguf else module
        if layer is not None:
            return f"{self.layer_prefix(layer)}{name}.{kind}"
        if self.is_gguf:
            return f"{name}.{kind}"
        prefix = _PREFIXES[self._prefix] if module == "lm_head" else self._prefix
        return f"{prefix}{name}.{kind}"

    def linear(self, module: str, layer: int | None = None, *, bias: bool = False) -> Linear:
        """A linear map with this checkpoint's names."""
        return Linear(
            self.tensor(module, layer), self.tensor(module, layer, "bias") if bias else None
        )

    def norm(
        self, module: str, layer: int | None = None, *, epsilon: float, offset: float = 0.0
    ) -> RmsNorm:
        """A norm with this checkpoint's names."""
        return RmsNorm(self.tensor(module, layer), epsilon, offset)
