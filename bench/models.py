"""The models that are measured, and how their files are made."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bench.cache import bench_directory
from bench.peers import PeerError, llama_tools
from bench.random_model import Q4_K_M, LlamaShape, TypeMix, pure, write_random_llama
from bench.workloads import FULL, LARGE, SPEED
from lepton.kernels.quants import TensorType
from lepton.models import catalogue

_TOKENIZER_MODEL = "smollm2-135m-instruct"

LLAMA_1B = LlamaShape(2048, 8192, 16, 32, 8, vocab_size=128_256, tied_embeddings=True)
LLAMA_8B = LlamaShape(4096, 14_336, 32, 32, 8, vocab_size=128_256, tied_embeddings=False)


@dataclass(frozen=True)
class BenchModel:
    """A model's file by name, what is measured with it, and which peers can be expected to."""

    name: str
    title: str
    family: str
    """Formats of the same weights share a family: an engine's best format is looked for in it."""
    workloads: tuple[str, ...]
    obtain: Callable[[], Path]
    """Where the file is; makes or downloads it first. Raises PeerError, LeptonError or OSError."""
    origin: str
    scaling: bool = False
    """Whether it is measured with one thread as well."""
    large: bool = False
    """Whether it is too large for peers that keep weights wider than the file does, and for two
    engines to have it in memory at a time."""
    sweep: bool = False
    """Whether it is one of many weight types of a shape, which share a table."""
    temporary: bool = False
    """Whether the file is deleted after its turn."""


def _catalogue_model(name: str, title: str, family: str, *, scaling: bool) -> BenchModel:
    return BenchModel(
        name=f"{family}-{title.split()[-1].lower()}",
        title=title,
        family=family,
        workloads=FULL,
        obtain=lambda: catalogue.pull(name),
        origin=f"catalogue model {name}",
        scaling=scaling,
    )


def _requantized(quantization: str) -> BenchModel:
    """SmolLM2 in another format: the float32 of its Q4_1 weights, quantized by llama.cpp."""
    return BenchModel(
        name=f"smollm2-{quantization.lower()}",
        title=f"SmolLM2-135M {quantization}",
        family="smollm2",
        workloads=FULL,
        obtain=lambda: _requantize(quantization),
        origin="llama-quantize of the float32 of the Q4_1 weights",
    )


def _requantize(quantization: str) -> Path:
    path = bench_directory() / "models" / f"smollm2-{quantization.lower()}.gguf"
    if path.exists():
        return path
    if not llama_tools.folder().exists():
        raise PeerError("llama-quantize of the peer llama.cpp makes this file")
    source = smollm2_float32()
    partial = path.with_suffix(".partial")
    llama_tools.run("llama-quantize", source, partial, quantization)
    partial.rename(path)
    return path


def smollm2_float32() -> Path:
    """The float32 of SmolLM2's Q4_1 weights as GGUF; raises PeerError without llama.cpp."""
    path = bench_directory() / "models" / "smollm2-f32.gguf"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial")
        source = catalogue.pull(_TOKENIZER_MODEL)
        llama_tools.run("llama-quantize", "--allow-requantize", source, partial, "F32")
        partial.rename(path)
    return path


def _random(
    size: str, shape: LlamaShape, label: str, mix: TypeMix, workloads: tuple[str, ...], **more: bool
) -> BenchModel:
    name = f"llama-{size}-{label.lower()}"

    def obtain() -> Path:
        path = bench_directory() / "models" / f"{name}.gguf"
        if not path.exists():
            write_random_llama(path, shape, mix, catalogue.pull(_TOKENIZER_MODEL))
        return path

    return BenchModel(
        name=name,
        title=f"Llama {size.upper()} {label}, random weights",
        family=f"llama-{size}",
        workloads=workloads,
        obtain=obtain,
        origin=f"random weights: hidden {shape.hidden_size}, {shape.num_layers} layers, "
        f"{shape.vocab_size:,} tokens",
        large=True,
        temporary=True,
        **more,
    )


_ALL = (
    _catalogue_model(_TOKENIZER_MODEL, "SmolLM2-135M Q4_1", "smollm2", scaling=True),
    *(_requantized(quantization) for quantization in ("Q4_0", "Q8_0", "BF16")),
    _catalogue_model("gemma-3-270m", "Gemma-3-270M Q4_K_M", "gemma3", scaling=False),
    _random("1b", LLAMA_1B, "Q4_K_M", Q4_K_M, LARGE, scaling=True),
    *(_random("1b", LLAMA_1B, kind.name, pure(kind), SPEED, sweep=True) for kind in TensorType),
    _random("8b", LLAMA_8B, "Q4_K_M", Q4_K_M, LARGE),
)

MODELS = {model.name: model for model in _ALL}
QUICK_MODELS = ("smollm2-q4_1",)
