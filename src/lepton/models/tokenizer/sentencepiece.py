"""Merges of a SentencePiece vocabulary, recovered from its scores.

SentencePiece's byte-pair encoding joins, again and again, the two neighbours whose concatenation is
the best-scored piece. The `tokenizers` library wants the pairs ranked instead: every way to cut
every piece in two known pieces, best piece first.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt


def ranked_merges(
    pieces: Sequence[str],
    scores: npt.NDArray[np.float64],
    first: Sequence[int],
    then: Sequence[int],
) -> list[tuple[str, str]]:
    """Pairs of pieces to merge, best first.

    Args:
        pieces: text of every token id.
        scores: score of every token id; higher is merged earlier.
        first: ascending ids ranked ahead of every score: SentencePiece keeps user-defined symbols
            whole whatever their score.
        then: ascending ids ranked by score, ties by id.
    """
    by_score = np.argsort(-scores[list(then)], kind="stable")
    ranked = [pieces[token] for token in (*first, *(then[place] for place in by_score.tolist()))]
    known = set(ranked)
    # The longest left part first: the order in which equal ranks are tried.
    return [
        (left, right)
        for piece in ranked
        for cut in range(len(piece) - 1, 0, -1)
        if (left := piece[:cut]) in known and (right := piece[cut:]) in known
    ]
