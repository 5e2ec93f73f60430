"""Tiny models of random weights, built and run by transformers, in both formats."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
import transformers
from transformers import PreTrainedConfig, PreTrainedModel

from lepton.kernels.quants import TensorType
from lepton.models.weights import Checkpoint, TensorInfo

SIZES = {
    "vocab_size": 300,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "initializer_range": 0.15,
}
WINDOW = 24
GEMMA = {"head_dim": 32, "sliding_window": WINDOW, "query_pre_attn_scalar": 32}
KINDS = ["sliding_attention", "sliding_attention", "full_attention", "sliding_attention"]


def scaling(kind: str, **values: float) -> dict[str, object]:
    return {"rope_type": kind, "rope_theta": 10_000.0, "factor": 4.0, **values}


VARIANTS: dict[str, Callable[[], PreTrainedConfig]] = {
    "llama": lambda: transformers.LlamaConfig(**SIZES, tie_word_embeddings=True),
    "llama-biases": lambda: transformers.LlamaConfig(
        **SIZES, head_dim=32, attention_bias=True, mlp_bias=True
    ),
    "llama-llama3": lambda: transformers.LlamaConfig(
        **SIZES,
        rope_parameters=scaling(
            "llama3",
            low_freq_factor=1.0,
            high_freq_factor=4.0,
            original_max_position_embeddings=64,
        ),
    ),
    "llama-linear": lambda: transformers.LlamaConfig(**SIZES, rope_parameters=scaling("linear")),
    "llama-yarn": lambda: transformers.LlamaConfig(
        **SIZES, rope_parameters=scaling("yarn", original_max_position_embeddings=64)
    ),
    "mistral": lambda: transformers.MistralConfig(**SIZES, sliding_window=WINDOW),
    "qwen2": lambda: transformers.Qwen2Config(**SIZES),
    "qwen2-window": lambda: transformers.Qwen2Config(
        **SIZES, use_sliding_window=True, sliding_window=WINDOW, max_window_layers=2
    ),
    "qwen3": lambda: transformers.Qwen3Config(**SIZES, head_dim=32, tie_word_embeddings=True),
    "gemma3": lambda: transformers.Gemma3TextConfig(**SIZES, **GEMMA, layer_types=KINDS),
    "gemma3-linear": lambda: transformers.Gemma3TextConfig(
        **SIZES,
        **GEMMA,
        layer_types=KINDS,
        rope_parameters={
            "full_attention": scaling("linear"),
            "sliding_attention": {"rope_type": "default", "rope_theta": 1_000.0},
        },
    ),
    "gemma3-multimodal": lambda: transformers.Gemma3Config(
        text_config={**SIZES, **GEMMA, "query_pre_attn_scalar": 24, "layer_types": KINDS},
        vision_config={
            "hidden_size": 16,
            "intermediate_size": 16,
            "num_hidden_layers": 1,
            "num_attention_heads": 1,
            "image_size": 28,
            "patch_size": 14,
        },
        mm_tokens_per_image=4,
    ),
}
CLASSES = {
    "llama": transformers.LlamaForCausalLM,
    "mistral": transformers.MistralForCausalLM,
    "qwen2": transformers.Qwen2ForCausalLM,
    "qwen3": transformers.Qwen3ForCausalLM,
    "gemma3_text": transformers.Gemma3ForCausalLM,
    "gemma3": transformers.Gemma3ForConditionalGeneration,
}


@dataclass(frozen=True, eq=False)
class TinyModel:
    """A transformers model and the folder it was saved to."""

    variant: str
    model: PreTrainedModel
    path: Path

    @property
    def config(self) -> PreTrainedConfig:
        return self.model.config.get_text_config()

    @cache  # noqa: B019 (as many entries as the tests have sequences)
    def logits(self, token_ids: tuple[int, ...]) -> np.ndarray:
        """Float32 logits [tokens, vocab] of one forward pass."""
        with torch.no_grad():
            return self.model(input_ids=torch.tensor([token_ids])).logits[0].numpy()


def randomize(model: PreTrainedModel, seed: int) -> None:
    """Give norms and biases, which start as ones and zeros, values that matter."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 1:
                parameter += 0.3 * torch.randn(parameter.shape, generator=generator)


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], TinyModel]:
    """A function from the name of a variant to its model, built once."""
    built: dict[str, TinyModel] = {}
    torch.set_num_threads(1)

    def build(variant: str) -> TinyModel:
        if variant not in built:
            config = VARIANTS[variant]()
            torch.manual_seed(7)
            model = (
                CLASSES[config.model_type]
                ._from_config(config, dtype=torch.float32, attn_implementation="eager")
                .eval()
            )
            randomize(model, seed=11)
            path = tmp_path_factory.mktemp(variant)
            model.save_pretrained(path)
            built[variant] = TinyModel(variant, model, path)
        return built[variant]

    return build


@pytest.fixture(scope="session")
def tiny_gguf(tmp_path_factory: pytest.TempPathFactory) -> Callable[[TinyModel], Path]:
    """A function that writes a tiny model as GGUF, as its converters do, and gives the file."""

    def write(tiny: TinyModel) -> Path:
        path = tmp_path_factory.mktemp("gguf") / f"{tiny.variant}.gguf"
        write_gguf(tiny, path)
        return path

    return write


def write_gguf(tiny: TinyModel, path: Path) -> None:
    config = tiny.config
    name = {"mistral": "llama", "gemma3_text": "gemma3"}.get(config.model_type, config.model_type)
    architecture = next(key for key, text in gguf.MODEL_ARCH_NAMES.items() if text == name)
    names = gguf.get_tensor_name_map(architecture, config.num_hidden_layers)
    writer = gguf.GGUFWriter(path, name)
    write_metadata(writer, config, name)
    for key, tensor in tiny.model.state_dict().items():
        if key == "lm_head.weight" and config.tie_word_embeddings:
            continue
        values = tensor.numpy()
        if name == "gemma3" and key.endswith("norm.weight"):
            values = values + np.float32(1)
        if name == "llama" and "q_proj" in key:
            values = interleave(values, config.num_attention_heads)
        if name == "llama" and "k_proj" in key:
            values = interleave(values, config.num_key_value_heads)
        writer.add_tensor(names.get_name(key, try_suffixes=(".weight", ".bias")), values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def interleave(values: np.ndarray, heads: int) -> np.ndarray:
    """Reorder the rows of each head so that elements i and i + d/2 become 2i and 2i + 1."""
    halves = values.reshape(heads, 2, -1, *values.shape[1:])
    return np.ascontiguousarray(halves.swapaxes(1, 2)).reshape(values.shape)


def write_metadata(writer: gguf.GGUFWriter, config: PreTrainedConfig, name: str) -> None:
    head_dim = getattr(config, "head_dim", None)
    head_dim = head_dim or config.hidden_size // config.num_attention_heads
    rope = config.rope_parameters
    rope = rope.get("full_attention", rope)
    writer.add_vocab_size(config.vocab_size)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(head_dim)
    writer.add_value_length(head_dim)
    writer.add_rope_dimension_count(head_dim)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(rope["rope_theta"])
    if config.model_type in ("mistral", "gemma3_text"):
        writer.add_sliding_window(config.sliding_window)
    if name == "gemma3":
        writer.add_sliding_window_pattern([kind == "sliding_attention" for kind in KINDS])
        writer.add_rope_freq_base_swa(config.rope_parameters["sliding_attention"]["rope_theta"])
    if rope["rope_type"] in ("linear", "yarn"):
        writer.add_rope_scaling_type(gguf.RopeScalingType(rope["rope_type"]))
        writer.add_rope_scaling_factor(rope["factor"])
    if rope["rope_type"] == "yarn":
        writer.add_rope_scaling_orig_ctx_len(rope["original_max_position_embeddings"])
    if rope["rope_type"] == "llama3":
        plain = 1 / 10_000.0 ** (np.arange(0, head_dim, 2, dtype=np.float32) / head_dim)
        scaled, _ = transformers.modeling_rope_utils.ROPE_INIT_FUNCTIONS["llama3"](config)
        writer.add_tensor("rope_freqs.weight", (plain / scaled.numpy()).astype(np.float32))


class FakeCheckpoint(Checkpoint):
    """A checkpoint of given metadata and tensors of zeros, of which only the shapes are known."""

    def __init__(
        self,
        metadata: Mapping[str, object],
        shapes: Mapping[str, tuple[int, ...]],
        path: Path = Path("fake"),
    ) -> None:
        self.format = "gguf" if "general.architecture" in metadata else "safetensors"
        self.path = path
        self.metadata = metadata
        self.tensors = {
            name: TensorInfo(name, TensorType.F32, shape, 4 * math.prod(shape))
            for name, shape in shapes.items()
        }

    def raw(self, name: str) -> np.ndarray:
        return np.zeros(self.tensors[name].nbytes, np.uint8)

    def release_pages(self) -> None:
        pass

    def close(self) -> None:
        pass


@pytest.fixture(scope="session")
def fake_checkpoint() -> type[FakeCheckpoint]:
    return FakeCheckpoint
