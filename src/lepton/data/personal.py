"""Signs of personal data: what a person should look at before a table leaves the house.

Patterns with check digits where a number has them; names and addresses are not found.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

_PATTERNS = (
    (
        "email",
        re.compile(r"[A-Za-z0-9._%+-]{1,64}@[A-Za-z0-9-]{1,63}(?:\.[A-Za-z0-9-]{1,63}){1,4}"),
    ),
    ("chinese id", re.compile(r"(?<!\d)[1-9]\d{16}[\dXx](?!\d)")),
    ("bank card", re.compile(r"(?<!\d)(?:\d[ -]?){12,18}\d(?!\d)")),
    ("phone", re.compile(r"(?<!\d)1[3-9]\d[ -]?\d{4}[ -]?\d{4}(?!\d)")),
    ("phone", re.compile(r"(?<![\d+])\+\d{1,3}(?:[ ()-]{0,2}\d){7,12}(?!\d)")),
    ("phone", re.compile(r"(?<!\d)0\d{2,4}[ -]\d{6,8}(?!\d)")),
    ("ip address", re.compile(r"(?<![\d.])(?:\d{1,3}\.){3}\d{1,3}(?![\d.])")),
)
_NUMBER = re.compile(r"\d[\d .()-]{5,}\d")
"""What every pattern but the first has in it."""
_ID_WEIGHTS = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
_ID_CHECKS = "10X98765432"

KINDS = ("email", "phone", "chinese id", "bank card", "ip address")
"""What is looked for."""


@dataclass(frozen=True, slots=True)
class PersonalData:
    """A place in a text that looks like personal data."""

    kind: str
    start: int
    end: int


def find_personal_data(text: str) -> list[PersonalData]:
    """Places in order, without overlaps."""
    found: list[PersonalData] = []
    for place in _matches(text):
        if all(place.end <= other.start or place.start >= other.end for other in found):
            found.append(place)
    return sorted(found, key=lambda place: place.start)


def mask_personal_data(text: str) -> str:
    """``text`` with each place replaced by its kind in brackets: ``[phone]``."""
    for place in reversed(find_personal_data(text)):
        text = f"{text[: place.start]}[{place.kind}]{text[place.end :]}"
    return text


def _matches(text: str) -> Iterator[PersonalData]:
    email = _PATTERNS[:1] if "@" in text else ()
    numbers = _PATTERNS[1:] if _NUMBER.search(text) else ()
    for kind, pattern in (*email, *numbers):
        for match in pattern.finditer(text):
            if _plausible(kind, match[0]):
                yield PersonalData(kind, *match.span())


def _plausible(kind: str, found: str) -> bool:
    if kind == "chinese id":
        total = sum(
            int(digit) * weight for digit, weight in zip(found[:17], _ID_WEIGHTS, strict=True)
        )
        return found[-1].upper() == _ID_CHECKS[total % 11]
    if kind == "bank card":
        digits = [int(character) for character in found if character.isdigit()]
        return _luhn(digits)
    if kind == "ip address":
        return all(int(part) < 256 for part in found.split("."))
    return True


def _luhn(digits: list[int]) -> bool:
    """ISO/IEC 7812-1, annex B."""
    doubled = [digit * 2 - 9 * (digit > 4) for digit in digits[-2::-2]]
    return (sum(doubled) + sum(digits[-1::-2])) % 10 == 0 and any(digits)
