"""Tokens of text networks: byte-pair encoding learned from the corpus, or whole words."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import tokenizers
from tokenizers import models, normalizers, pre_tokenizers, trainers

from lepton.errors import ModelFormatError, ModelNotFoundError
from lepton.training.analyzer import words

Ids = npt.NDArray[np.int64]

TOKENIZER = "tokenizer.json"
PADDING, UNKNOWN = "[PAD]", "[UNK]"


class NetworkTokenizer:
    """Texts to token ids. With ``whole_words`` the texts are cut into words first (rjieba)."""

    def __init__(self, library: tokenizers.Tokenizer, max_tokens: int, whole_words: bool) -> None:
        self.library = library
        self.max_tokens = max_tokens
        self.whole_words = whole_words
        library.enable_truncation(max_tokens)

    @classmethod
    def train(
        cls, texts: Sequence[str], size: int, max_tokens: int, *, whole_words: bool
    ) -> NetworkTokenizer:
        """Learn at most ``size`` tokens from ``texts``."""
        special = [PADDING, UNKNOWN]
        trainer: trainers.Trainer
        if whole_words:
            library = tokenizers.Tokenizer(models.WordLevel(unk_token=UNKNOWN))
            library.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
            trainer = trainers.WordLevelTrainer(
                vocab_size=size, special_tokens=special, show_progress=False
            )
        else:
            library = tokenizers.Tokenizer(models.BPE(unk_token=UNKNOWN))
            library.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
            library.pre_tokenizer = pre_tokenizers.Whitespace()
            trainer = trainers.BpeTrainer(
                vocab_size=size, special_tokens=special, show_progress=False, min_frequency=2
            )
        tokenizer = cls(library, max_tokens, whole_words)
        library.train_from_iterator(map(tokenizer._prepared, texts), trainer)
        return tokenizer

    @classmethod
    def load(cls, folder: Path, max_tokens: int, whole_words: bool) -> NetworkTokenizer:
        """Read ``tokenizer.json`` of a run; raises ModelFormatError where it is damaged."""
        file = folder / TOKENIZER
        if not file.is_file():
            raise ModelNotFoundError(f"{folder} has no {TOKENIZER}")
        try:
            library = tokenizers.Tokenizer.from_file(str(file))
        except Exception as error:  # the library raises bare exceptions
            raise ModelFormatError(f"not a usable tokenizer: {error}", file=file) from error
        return cls(library, max_tokens, whole_words)

    def save(self, folder: Path) -> None:
        """Write ``tokenizer.json``."""
        self.library.save(str(folder / TOKENIZER))

    @property
    def size(self) -> int:
        """Number of tokens."""
        return int(self.library.get_vocab_size())

    def pieces(self) -> list[str]:
        """The tokens by id."""
        vocabulary = self.library.get_vocab()
        return sorted(vocabulary, key=vocabulary.__getitem__)

    def encode(self, texts: Iterable[str]) -> list[list[int]]:
        """Token ids of every text, at most ``max_tokens`` each."""
        prepared = [self._prepared(text) for text in texts]
        return [encoding.ids for encoding in self.library.encode_batch(prepared)]

    def _prepared(self, text: str) -> str:
        # A lone surrogate has no UTF-8, which the library needs.
        clean = text.encode("utf-8", "replace").decode("utf-8")
        return " ".join(words(clean)) if self.whole_words else clean


def padded(rows: Sequence[Sequence[int]]) -> tuple[Ids, Ids]:
    """Token ids [texts, longest] filled up with zeros, and the lengths [texts]."""
    lengths = np.asarray([len(row) for row in rows], np.int64)
    ids = np.zeros((len(rows), max(1, int(lengths.max(initial=0)))), np.int64)
    for index, row in enumerate(rows):
        ids[index, : len(row)] = row
    return ids, lengths
