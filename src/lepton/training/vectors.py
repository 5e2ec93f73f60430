"""Word vectors: learned from the corpus (Word2Vec, arXiv:1301.3781) or read from a file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from lepton.errors import ConfigurationError, DataError

_EPOCHS = 10
_MAX_LINE_CHARACTERS = 1 << 16

Floats = npt.NDArray[np.float32]


def corpus_vectors(rows: Sequence[Sequence[int]], vocabulary: int, width: int, seed: int) -> Floats:
    """Vectors [vocabulary, width] from token ids by Word2Vec (skip-gram); NaN for unseen tokens.

    Raises:
        ConfigurationError: gensim is not installed.
    """
    try:
        from gensim.models import Word2Vec
    except ModuleNotFoundError:
        raise ConfigurationError(
            "word vectors are learned with gensim, which is not installed: "
            "pip install 'lepton-engine[train]'"
        ) from None
    # One worker: with more the result depends on their race.
    model = Word2Vec(
        sentences=[[str(token) for token in row] for row in rows],
        vector_size=width,
        sg=1,
        min_count=2,
        epochs=_EPOCHS,
        seed=seed + 1,
        workers=1,
    )
    vectors = np.full((vocabulary, width), np.nan, np.float32)
    for token in model.wv.index_to_key:
        vectors[int(token)] = model.wv[token]
    return vectors


def vectors_width(file: Path) -> int:
    """How many numbers stand behind a word in a text file of GloVe or word2vec.

    Raises:
        DataError: the file is missing, or its second line is no vector.
    """
    try:
        with file.open(encoding="utf-8", errors="replace") as stream:
            stream.readline(_MAX_LINE_CHARACTERS)
            width = len(stream.readline(_MAX_LINE_CHARACTERS).split()) - 1
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror}", file=file) from error
    if width < 1:
        raise DataError("holds no vectors", file=file, line=2)
    return width


def read_vectors(file: Path, tokens: Sequence[str], width: int) -> Floats:
    """Vectors of ``tokens`` from a text file of GloVe or word2vec; NaN for those not in it.

    Each line is a word and its numbers; word2vec begins with a line of two counts. Only the lines
    of wanted words are parsed.

    Raises:
        DataError: the file is missing, or its vectors are not ``width`` long.
    """
    wanted = {token: index for index, token in enumerate(tokens)}
    vectors = np.full((len(tokens), width), np.nan, np.float32)
    try:
        with file.open(encoding="utf-8", errors="replace") as stream:
            number = 0
            while line := stream.readline(_MAX_LINE_CHARACTERS):
                number += 1
                word, _, rest = line.rstrip().partition(" ")
                index = wanted.get(word)
                if index is None or (number == 1 and rest.count(" ") == 0):
                    continue
                try:
                    values = np.array(rest.split(), np.float32)
                except ValueError:
                    values = np.zeros(0, np.float32)
                if len(values) != width:
                    raise DataError(
                        f"the vector of {word!r:.40} has {len(values)} numbers, not {width}; "
                        "leave the width out to take that of the file",
                        file=file,
                        line=number,
                    )
                vectors[index] = values
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror}", file=file) from error
    if np.isnan(vectors).all():
        raise DataError("holds none of the words of the data", file=file)
    return vectors
