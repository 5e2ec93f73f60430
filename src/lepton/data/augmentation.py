"""More training rows from those that there are, measured before they are believed.

Only ever for the training part: the dev part is read to score with, and no text of it, nor of the
test part, may come out of an augmentation.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from lepton.data.normalization import comparison_key
from lepton.data.rewriting import METHODS, Batch, Rewrite
from lepton.data.scoring import Score
from lepton.errors import DataError

METHOD = "augmentation"
"""Column that names how a new row was made."""
GROUP = "augmentation_group"
"""Column that a row and its rewrites have the same value in; training never parts them."""
_TRIES = 8

Scorer = Callable[[Sequence[str], Sequence[str], Sequence[str], Sequence[str]], Score]
"""Trains on (texts, labels) and scores on (dev texts, dev labels)."""


@dataclass(frozen=True, slots=True)
class Augmented:
    """A new training row."""

    source: int
    """Index of the row that it was made from."""
    text: str
    label: str
    method: str


@dataclass(frozen=True, slots=True)
class Gain:
    """The score of one scorer without and with the new rows, and how many there were."""

    before: Score
    after: Score
    added: int

    @property
    def helps(self) -> bool:
        """Whether macro-F1 on the dev part rose."""
        return self.after.macro_f1 > self.before.macro_f1


def wanted_rows(
    labels: Sequence[str], *, factor: float = 0.0, balance: float = 0.0
) -> dict[str, int]:
    """How many rows to add for each label.

    Args:
        labels: of the training rows.
        factor: new rows for every row there is.
        balance: bring every label to this share of the most frequent one's rows; 1 for all equal.

    Raises:
        DataError: a number is negative.
    """
    if factor < 0 or not 0 <= balance <= 1:
        raise DataError("factor must not be negative, and balance lies between 0 and 1")
    counts = Counter(labels)
    target = balance * max(counts.values(), default=0)
    return {label: round(max(count * factor, target - count)) for label, count in counts.items()}


def augment(
    texts: Sequence[str],
    labels: Sequence[str],
    wanted: Mapping[str, int],
    *,
    methods: Mapping[str, Rewrite] | None = None,
    held_out: Sequence[str] = (),
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> list[Augmented]:
    """Rewrite training rows until every label has the ``wanted`` new ones, or none can be found.

    Args:
        texts: of the training part.
        labels: of the training part.
        wanted: new rows by label, see ``wanted_rows``.
        methods: rewrites by name, taken in turn; those of ``METHODS`` if not given.
        held_out: texts of the dev and test parts, which must not come out.
        seed: the same seed gives the same rows.
        progress: called with how many rows were tried, of how many.

    Returns:
        New rows, no two of them alike in all but case, width and signs, and none like a given one.
    """
    methods = METHODS if methods is None else methods
    rng = random.Random(seed)  # noqa: S311
    taken = {comparison_key(text) for text in (*texts, *held_out)}
    by_label: dict[str, list[int]] = {}
    for index, label in enumerate(labels):
        by_label.setdefault(label, []).append(index)
    total = sum(wanted.values())
    result: list[Augmented] = []
    done = 0
    for label, count in wanted.items():
        sources = by_label.get(label, [])
        for turn in range(count if sources else 0):
            new = _one(texts, sources, list(methods.items()), turn, taken, rng)
            if new is not None:
                result.append(Augmented(new[0], new[1], label, new[2]))
            done += 1
            if progress is not None and done % 100 == 0:
                progress(done, total)
    return result


def paraphrase(
    texts: Sequence[str],
    labels: Sequence[str],
    wanted: Mapping[str, int],
    rewriter: Batch,
    *,
    method: str = "paraphrase",
    held_out: Sequence[str] = (),
    seed: int = 0,
    batch_size: int = 32,
) -> list[Augmented]:
    """As ``augment``, through a model that takes a batch of texts (see ``back_translation``).

    Raises:
        DataError: the model does not answer with as many texts as it was given.
    """
    rng = random.Random(seed)  # noqa: S311
    taken = {comparison_key(text) for text in (*texts, *held_out)}
    chosen = []
    for label, count in wanted.items():
        sources = [index for index, other in enumerate(labels) if other == label]
        if sources:
            chosen.extend(rng.choices(sources, k=count))
    result = []
    for start in range(0, len(chosen), batch_size):
        batch = chosen[start : start + batch_size]
        answers = rewriter([texts[index] for index in batch])
        if len(answers) != len(batch):
            raise DataError(f"{method}: {len(answers)} answers to {len(batch)} texts")
        for index, answer in zip(batch, answers, strict=True):
            key = comparison_key(answer)
            if key and key not in taken:
                taken.add(key)
                result.append(Augmented(index, answer.strip(), labels[index], method))
    return result


def measure_gain(
    train: tuple[Sequence[str], Sequence[str]],
    dev: tuple[Sequence[str], Sequence[str]],
    added: Sequence[Augmented],
    scorer: Scorer,
) -> Gain:
    """Score the dev part after training without and with the new rows."""
    texts, labels = train
    before = scorer(texts, labels, *dev)
    after = scorer(
        [*texts, *(new.text for new in added)], [*labels, *(new.label for new in added)], *dev
    )
    return Gain(before, after, len(added))


def _one(
    texts: Sequence[str],
    sources: Sequence[int],
    methods: Sequence[tuple[str, Rewrite]],
    turn: int,
    taken: set[str],
    rng: random.Random,
) -> tuple[int, str, str] | None:
    for attempt in range(_TRIES):
        source = sources[turn % len(sources)] if attempt == 0 else rng.choice(sources)
        name, rewrite = methods[(turn + attempt) % len(methods)]
        text = rewrite(texts[source], rng).strip()
        key = comparison_key(text)
        if key and key not in taken:
            taken.add(key)
            return source, text, name
    return None
