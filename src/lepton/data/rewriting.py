"""Ways to say a text a little differently, each a function of a text and a random generator.

Synonym, swap and delete follow "EDA" (Wei and Zou 2019, arXiv 1901.11196); homophones are the slips
of a Chinese input method. Paraphrase and back-translation call whatever model they are given.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path

from lepton.data.scripts import HAN, LATIN, has_han
from lepton.data.words import cut_chinese
from lepton.errors import DataError
from lepton.extras import import_extra

Rewrite = Callable[[str, random.Random], str]
"""Gives another wording, or the text itself where it finds none."""
Batch = Callable[[list[str]], Sequence[str]]
"""A model that answers every text with one text: a paraphraser or a translator."""

_PIECES = re.compile(rf"[{LATIN}'’-]+|[{HAN}]+|\s+|\d+|.", re.DOTALL)
_DELETED = 0.15
_LEXICON = Path(__file__).with_name("synonyms.txt")


def synonyms(lexicon: Mapping[str, Sequence[str]] | None = None) -> Rewrite:
    """Replaces one word, sometimes two, that ``lexicon`` (or the built-in one) has others for."""

    def rewrite(text: str, rng: random.Random) -> str:
        words = lexicon if lexicon is not None else _built_in_lexicon()
        pieces = _pieces(text)
        known = [place for place, piece in enumerate(pieces) if piece.lower() in words]
        for place in rng.sample(known, min(len(known), rng.choice((1, 1, 2)))):
            piece = pieces[place]
            chosen = rng.choice(words[piece.lower()])
            pieces[place] = chosen.capitalize() if piece[:1].isupper() else chosen
        return "".join(pieces)

    return rewrite


def swap(text: str, rng: random.Random) -> str:
    """Two neighbouring words change places."""
    pieces = _pieces(text)
    places = [place for place, piece in enumerate(pieces) if piece[0].isalnum()]
    if len(places) < 2:
        return text
    left = rng.randrange(len(places) - 1)
    first, second = places[left], places[left + 1]
    pieces[first], pieces[second] = pieces[second], pieces[first]
    return "".join(pieces)


def delete(text: str, rng: random.Random) -> str:
    """About one word in seven is left out, at least one, never the last that is left."""
    pieces = _pieces(text)
    places = [place for place, piece in enumerate(pieces) if piece[0].isalnum()]
    if len(places) < 3:
        return text
    gone = {place for place in places if rng.random() < _DELETED} or {rng.choice(places)}
    if len(gone) == len(places):
        return text
    left = (piece for place, piece in enumerate(pieces) if place not in gone)
    return re.sub(r" {2,}", " ", "".join(left)).strip()


def homophone(text: str, rng: random.Random) -> str:
    """One Chinese character becomes another everyday one that sounds the same, tone and all."""
    same = _homophones()
    places = [place for place, character in enumerate(text) if same.get(character)]
    if not places:
        return text
    place = rng.choice(places)
    return text[:place] + rng.choice(same[text[place]]) + text[place + 1 :]


def typo(text: str, rng: random.Random) -> str:
    """Two letters inside a Latin word change places, or one is lost."""
    places = [match.start() for match in re.finditer(r"(?<=[A-Za-z])[a-z](?=[a-z])", text)]
    if not places:
        return text
    place = rng.choice(places)
    if rng.random() < 0.5:
        return text[:place] + text[place + 1 :]
    return f"{text[:place]}{text[place + 1]}{text[place]}{text[place + 2 :]}"


METHODS: dict[str, Rewrite] = {
    "synonym": synonyms(),
    "swap": swap,
    "delete": delete,
    "homophone": homophone,
    "typo": typo,
}
"""What needs no model, by name."""


def back_translation(forward: Batch, backward: Batch) -> Batch:
    """A paraphraser from two translators, out of the texts' language and back into it."""
    return lambda texts: backward(list(forward(texts)))


def load_lexicon(path: str | Path) -> dict[str, tuple[str, ...]]:
    """A lexicon from a UTF-8 file with one group of synonyms a line, separated by white space.

    The first word of a line is replaced by the others, and by no one the other way round unless a
    line of its own says so.

    Raises:
        DataError: the file cannot be read, or a line holds a single word.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot be read as UTF-8: {error}", file=path) from error
    lexicon: dict[str, tuple[str, ...]] = {}
    for number, line in enumerate(lines, 1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        if len(words) < 2:
            raise DataError("a group needs two words at least", file=path, line=number)
        known = lexicon.get(words[0].lower(), ())
        lexicon[words[0].lower()] = (*known, *words[1:])
    return lexicon


@cache
def _built_in_lexicon() -> dict[str, tuple[str, ...]]:
    return load_lexicon(_LEXICON)


def _pieces(text: str) -> list[str]:
    """Words and what stands between them; joined they are the text again."""
    pieces: list[str] = []
    for piece in _PIECES.findall(text):
        pieces.extend(cut_chinese(piece) if has_han(piece) else [piece])
    return pieces


@cache
def _homophones() -> dict[str, list[str]]:
    """Everyday characters (level 1 of GB2312) by each of them, sound and tone equal."""
    pypinyin = import_extra("pypinyin")
    everyday = [
        bytes((lead, trail)).decode("gb2312")
        for lead in range(0xB0, 0xD8)
        for trail in range(0xA1, 0xFF if lead < 0xD7 else 0xFA)
    ]
    by_sound: dict[str, list[str]] = {}
    for character in everyday:
        sound = pypinyin.pinyin(character, style=pypinyin.Style.TONE3)[0][0]
        by_sound.setdefault(sound, []).append(character)
    return {
        character: [other for other in group if other != character]
        for group in by_sound.values()
        for character in group
    }
