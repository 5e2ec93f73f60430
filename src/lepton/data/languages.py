"""Which writing a text is in, told by its letters: Chinese, Latin, a mixture, and others."""

from __future__ import annotations

import re

from lepton.data.scripts import HAN, KANA, LATIN

_SCRIPTS = (
    ("chinese", re.compile(f"[{HAN}]+")),
    ("japanese", re.compile(f"[{KANA}]+")),
    ("korean", re.compile(r"[\uac00-\ud7af\u1100-\u11ff]+")),
    ("cyrillic", re.compile(r"[\u0400-\u04ff]+")),
    ("arabic", re.compile(r"[\u0600-\u06ff]+")),
)
# A Latin word carries about as much as a Chinese character and a half.
_LATIN_WORD = re.compile(rf"[{LATIN}][{LATIN}'’-]+")
_MIXED_SHARE = 0.2

LANGUAGES = ("chinese", "latin", "mixed", "japanese", "korean", "cyrillic", "arabic", "none")
"""What ``language`` answers."""


def language(text: str) -> str:
    """One of ``LANGUAGES``: "latin" is English or another language in Latin letters.

    "mixed" is Chinese and Latin words, each at least a fifth of the text; "none" has no letters.
    """
    latin = 1.5 * len(_LATIN_WORD.findall(text))
    if text.isascii():
        return "latin" if latin else "none"
    counts = {name: sum(map(len, pattern.findall(text))) for name, pattern in _SCRIPTS}
    if counts["japanese"]:
        counts["japanese"] += counts.pop("chinese")
    main = max(counts, key=lambda name: counts[name])
    if not counts[main] and not latin:
        return "none"
    if main == "chinese" and latin:
        share = latin / (latin + counts[main])
        if _MIXED_SHARE <= share <= 1 - _MIXED_SHARE:
            return "mixed"
    return main if counts[main] >= latin else "latin"
