"""Tables of texts: read, profile, clean, split, augment.

Names are imported on first use, so that reading a table does not load what cleaning one needs.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lepton.data.augmentation import (
        Augmented,
        Gain,
        augment,
        measure_gain,
        paraphrase,
        wanted_rows,
    )
    from lepton.data.cleaning import (
        Cleaning,
        CleaningOptions,
        CleaningReport,
        Conflicts,
        Reason,
        Removal,
    )
    from lepton.data.duplicates import Leak, duplicate_groups, find_leaks, similar_pairs
    from lepton.data.findings import Profile
    from lepton.data.gan import EmbeddingGan
    from lepton.data.languages import language
    from lepton.data.missing import MISSING
    from lepton.data.normalization import normalize_unicode, simplify_chinese
    from lepton.data.personal import find_personal_data, mask_personal_data
    from lepton.data.profiling import profile
    from lepton.data.reading import TableReader, read_table
    from lepton.data.rewriting import back_translation
    from lepton.data.scoring import Score, score_embeddings, score_texts
    from lepton.data.splitting import Split, folds, split
    from lepton.data.table import Problems, Row, RowProblem, Table
    from lepton.data.words import STOP_WORDS, segment, tag
    from lepton.data.writing import TableWriter, write_table

__all__ = [
    "MISSING",
    "STOP_WORDS",
    "Augmented",
    "Cleaning",
    "CleaningOptions",
    "CleaningReport",
    "Conflicts",
    "EmbeddingGan",
    "Gain",
    "Leak",
    "Problems",
    "Profile",
    "Reason",
    "Removal",
    "Row",
    "RowProblem",
    "Score",
    "Split",
    "Table",
    "TableReader",
    "TableWriter",
    "augment",
    "back_translation",
    "duplicate_groups",
    "find_leaks",
    "find_personal_data",
    "folds",
    "language",
    "mask_personal_data",
    "measure_gain",
    "normalize_unicode",
    "paraphrase",
    "profile",
    "read_table",
    "score_embeddings",
    "score_texts",
    "segment",
    "similar_pairs",
    "simplify_chinese",
    "split",
    "tag",
    "wanted_rows",
    "write_table",
]

_MODULES = {
    "Augmented": "augmentation",
    "Cleaning": "cleaning",
    "CleaningOptions": "cleaning",
    "CleaningReport": "cleaning",
    "Conflicts": "cleaning",
    "EmbeddingGan": "gan",
    "Gain": "augmentation",
    "Leak": "duplicates",
    "MISSING": "missing",
    "Problems": "table",
    "Profile": "findings",
    "Reason": "cleaning",
    "Removal": "cleaning",
    "Row": "table",
    "RowProblem": "table",
    "STOP_WORDS": "words",
    "Score": "scoring",
    "Split": "splitting",
    "Table": "table",
    "TableReader": "reading",
    "TableWriter": "writing",
    "augment": "augmentation",
    "back_translation": "rewriting",
    "duplicate_groups": "duplicates",
    "find_leaks": "duplicates",
    "find_personal_data": "personal",
    "folds": "splitting",
    "language": "languages",
    "mask_personal_data": "personal",
    "measure_gain": "augmentation",
    "normalize_unicode": "normalization",
    "paraphrase": "augmentation",
    "profile": "profiling",
    "read_table": "reading",
    "score_embeddings": "scoring",
    "score_texts": "scoring",
    "segment": "words",
    "similar_pairs": "duplicates",
    "simplify_chinese": "normalization",
    "split": "splitting",
    "tag": "words",
    "wanted_rows": "augmentation",
    "write_table": "writing",
}


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
