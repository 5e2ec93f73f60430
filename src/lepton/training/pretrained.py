"""Pretrained encoders as `transformers` takes them, and tuned ones as the engine takes them.

A folder in the layout of the hub is read where it lies. The E5 container of the catalogue is
written as such a folder first, its weights dequantized.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from lepton.errors import ConfigurationError
from lepton.training.config import Precision
from lepton.training.encoder_scorer import ENCODER_FOLDER
from lepton.training.networks.tokens import padded

if TYPE_CHECKING:
    from lepton.models.weights.e5 import E5Checkpoint

_UNPACKED = "pretrained"
_TOKENIZER_FILES = (
    "tokenizer.json",
    "vocab.txt",
    "tokenizer_config.json",
    "special_tokens_map.json",
)
_KEPT, _STAND_IN = "～", "\ue000"
"""Full-width tilde: NFKC changes it, the normalization that E5's vocabulary was made with (nmt_nfkc
of SentencePiece) does not; a character of private use stands in for it meanwhile."""


@dataclass(frozen=True)
class Pretrained:
    """An encoder to start from."""

    name: str
    folder: Path
    """In the layout of the hub."""
    prompt: str
    """Stands before every text."""
    max_tokens: int
    """Tokens of a text, special ones included, that are read."""

    def encoder(self) -> Any:
        """The encoder in `transformers`, in float32."""
        from transformers import AutoModel
        from transformers.utils import logging

        logging.set_verbosity_error()  # type: ignore[no-untyped-call]
        logging.disable_progress_bar()  # type: ignore[no-untyped-call]
        return AutoModel.from_pretrained(
            self.folder, local_files_only=True, trust_remote_code=False, use_safetensors=True
        ).float()

    def tokens(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids with the special tokens of the model, at most ``max_tokens`` each."""
        return [encoding.ids for encoding in self._encodings(texts)]

    def pieces(self, texts: Sequence[str]) -> list[list[list[int]]]:
        """Each whole text as pieces like those of `tokens`, one after the other."""
        return [
            [encoding.ids, *(more.ids for more in encoding.overflowing)]
            for encoding in self._encodings(texts)
        ]

    def _encodings(self, texts: Sequence[str]) -> list[Any]:
        from lepton.models.tokenizer.text_encoder import library_from_folder

        library = library_from_folder(self.folder)
        library.no_padding()
        library.enable_truncation(self.max_tokens)
        clean = [self.prompt + text.encode("utf-8", "replace").decode("utf-8") for text in texts]
        encodings: list[Any] = library.encode_batch(clean)
        return encodings


def find_pretrained(name: str, max_tokens: int, state: Path) -> Pretrained:
    """The encoder of a catalogue name or folder; unpacked into ``state`` where that is needed.

    Raises:
        ModelNotFoundError: it is not on this machine.
        ConfigurationError: it is of a format that cannot be trained.
    """
    from lepton.models.encoder_loader import EncoderModel, load_any
    from lepton.models.weights.e5 import E5Checkpoint

    with load_any(name) as model:
        if not isinstance(model, EncoderModel):
            raise ConfigurationError(f"{name} generates text; training starts from an encoder")
        prompt = model.settings.prompts.get(model.settings.default_prompt or "", "")
        max_tokens = min(max_tokens, model.context_length)
        if isinstance(model.checkpoint, E5Checkpoint):
            folder = state / _UNPACKED
            _unpack(model.checkpoint, folder)
        elif model.checkpoint.format == "safetensors":
            folder = Path(model.path)
        else:
            raise ConfigurationError(
                f"{name} is neither a safetensors folder nor the catalogue's E5, which training "
                "starts from; method head takes it as it is"
            )
        return Pretrained(name, folder, prompt, max_tokens)


def pool(encoder: Any, rows: Sequence[Sequence[int]], precision: Precision) -> Tensor:
    """The mean over the last states of each row's tokens: float32 [rows, dimensions]."""
    ids, counts = padded(rows)
    lengths = torch.from_numpy(counts)
    mask = (torch.arange(ids.shape[1])[None, :] < lengths[:, None]).long()
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
        states = encoder(input_ids=torch.from_numpy(ids), attention_mask=mask).last_hidden_state
    pooled: Tensor = (states.float() * mask[..., None]).sum(dim=1) / lengths[:, None]
    return pooled


def freeze(encoder: Any, layers: int) -> None:
    """Leave the lowest ``layers`` and the embeddings as they are; 0 leaves nothing out."""
    parts: list[nn.Module] = [encoder.embeddings, *encoder.encoder.layer[:layers]] if layers else []
    for part in parts:
        part.requires_grad_(False)


def save_encoder(encoder: Any, source: Pretrained, state: Path) -> Path:
    """Write a sentence-transformers folder: the encoder, the mean over tokens, the prompt."""
    folder = state / ENCODER_FOLDER
    shutil.rmtree(folder, ignore_errors=True)
    encoder.save_pretrained(folder, safe_serialization=True)
    for name in _TOKENIZER_FILES:
        if (source.folder / name).is_file():
            shutil.copy(source.folder / name, folder / name)
    modules = [
        {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
        {
            "idx": 1,
            "name": "1",
            "path": "1_Pooling",
            "type": "sentence_transformers.models.Pooling",
        },
    ]
    pooling = {
        "word_embedding_dimension": int(encoder.config.hidden_size),
        "pooling_mode_mean_tokens": True,
    }
    prompts = {"prompts": {"text": source.prompt}, "default_prompt_name": "text"}
    (folder / "1_Pooling").mkdir()
    for file, value in (
        ("modules.json", modules),
        ("1_Pooling/config.json", pooling),
        ("sentence_bert_config.json", {"max_seq_length": source.max_tokens}),
        *((("config_sentence_transformers.json", prompts),) if source.prompt else ()),
    ):
        (folder / file).write_text(json.dumps(value, indent=2) + "\n", "utf-8")
    return folder


def _unpack(checkpoint: E5Checkpoint, folder: Path) -> None:
    """Write the container as a folder of the hub: configuration, weights, tokenizer."""
    from safetensors.numpy import save_file

    from lepton.models.tokenizer.text_encoder import e5_library

    folder.mkdir(exist_ok=True)
    save_file(
        {name: checkpoint.float32(name) for name in checkpoint.tensors},
        folder / "model.safetensors",
        metadata={"format": "pt"},
    )
    library = e5_library(checkpoint)
    library.normalizer = _normalizer()
    library.save(str(folder / "tokenizer.json"))
    (folder / "config.json").write_text(json.dumps(dict(checkpoint.metadata)) + "\n", "utf-8")


def _normalizer() -> Any:
    """What the container's table of characters does, as a normalizer of the tokenizers' library."""
    from tokenizers import Regex, normalizers

    return normalizers.Sequence(
        [
            normalizers.Replace(_KEPT, _STAND_IN),
            normalizers.Nmt(),
            normalizers.NFKC(),
            normalizers.Replace(_STAND_IN, _KEPT),
            normalizers.Replace(Regex(" {2,}"), " "),
        ]
    )
