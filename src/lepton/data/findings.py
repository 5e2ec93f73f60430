"""What a profile of a table tells, and what of it to mind before training."""

from __future__ import annotations

from dataclasses import dataclass, field

from lepton.data.table import RowProblem

MAX_LABELS = 10_000
"""Labels beyond which no further ones are counted."""


@dataclass(frozen=True, slots=True)
class Example:
    """A row that shows a finding; personal data is masked, and long texts are cut."""

    row: int
    line: int
    label: str | None
    text: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Lengths:
    """How long texts are, in characters or words."""

    mean: float
    quantiles: dict[str, int]
    """By percent: "0", "5", "25", "50", "75", "95", "100"."""
    histogram: list[tuple[int, int, int]]
    """From, up to (not including), and how many."""


@dataclass(frozen=True, slots=True)
class LabelProfile:
    """One label."""

    name: str
    rows: int
    share: float
    median_characters: int
    words: dict[str, tuple[str, ...]]
    """By part of speech: words that are more frequent here than elsewhere."""


@dataclass(slots=True)
class Profile:
    """What was found in a table."""

    source: str
    columns: tuple[str, ...]
    text_columns: tuple[str, ...]
    label_column: str | None
    encoding: str | None
    delimiter: str | None
    rows: int = 0
    sampled_rows: int = 0
    rejected: dict[str, int] = field(default_factory=dict)
    mended: dict[str, int] = field(default_factory=dict)
    problems: list[RowProblem] = field(default_factory=list)
    """The first of them."""
    problems_file: str | None = None
    """The table that lists them all, where one was written."""
    missing_text: int = 0
    missing_label: int = 0
    missing_by_column: dict[str, int] = field(default_factory=dict)
    characters: Lengths | None = None
    words: Lengths | None = None
    languages: dict[str, int] = field(default_factory=dict)
    labels: list[LabelProfile] = field(default_factory=list)
    label_count: int = 0
    label_variants: list[list[str]] = field(default_factory=list)
    """Labels that differ only in case, spaces or signs."""
    duplicate_rows: int = 0
    """Rows that repeat an earlier one in all but case, width, signs and spaces."""
    conflicting_texts: int = 0
    """Texts that stand under several labels."""
    near_duplicate_rows: int = 0
    """Of the sample: rows with an earlier near-duplicate, exact ones left out."""
    personal_data: dict[str, int] = field(default_factory=dict)
    """Rows of the table by kind."""
    markup: dict[str, int] = field(default_factory=dict)
    """Rows with HTML, web addresses, traditional Chinese."""
    longest_normal: int = 0
    too_long_rows: int = 0
    strange_rows: int = 0
    """Of the sample."""
    examples: dict[str, list[Example]] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)


def warnings_of(found: Profile) -> list[str]:
    """What to mind before training, the gravest first."""
    warnings = []
    if found.label_column is None:
        warnings.append("no column of labels was named or found: labels were not looked at")
    elif found.label_count == 0:
        warnings.append(f"the column {found.label_column!r} holds no label at all")
    elif found.label_count == 1:
        warnings.append(f"only one label, {found.labels[0].name!r}: nothing to classify")
    if found.label_count >= MAX_LABELS:
        warnings.append(
            f"more than {MAX_LABELS:,} labels: is this a column of numbers or of names?"
        )
    lonely = [label.name for label in found.labels if label.rows == 1]
    if lonely:
        names = ", ".join(lonely[:5]) + (", …" if len(lonely) > 5 else "")
        warnings.append(f"{len(lonely):,} labels with a single row cannot be tested: {names}")
    if found.labels and found.labels[0].rows > 20 * max(found.labels[-1].rows, 1):
        warnings.append(
            f"unbalanced: {found.labels[0].rows:,} rows of {found.labels[0].name!r}, "
            f"{found.labels[-1].rows:,} of {found.labels[-1].name!r}"
        )
    rejected = sum(found.rejected.values())
    if rejected:
        warnings.append(f"{rejected:,} rows could not be read and are not in these figures")
    if found.conflicting_texts:
        warnings.append(f"{found.conflicting_texts:,} texts stand under several labels")
    if found.duplicate_rows:
        warnings.append(
            f"{found.duplicate_rows:,} rows repeat another: clean before splitting, "
            "or the test set leaks"
        )
    if found.personal_data:
        kinds = ", ".join(f"{kind} in {count:,}" for kind, count in found.personal_data.items())
        warnings.append(f"possible personal data ({kinds} rows)")
    return warnings
