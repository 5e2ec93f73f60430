"""What a tokenizer is made of, whichever file it came from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import tokenizers

from lepton.models.tokenizer.pieces import PieceBytes

END_OF_TURN_TOKENS = (
    "<|im_end|>",
    "<end_of_turn>",
    "<|eot_id|>",
    "<|eom_id|>",
    "<|end|>",
    "<|end_of_text|>",
    "<|endoftext|>",
)
"""Special tokens that end a turn or a text, in the families supported, beside the declared one."""


@dataclass(frozen=True)
class TokenizerParts:
    """Everything `Tokenizer` needs, gathered from GGUF metadata or a tokenizer.json.

    Attributes:
        library: encodes text; its own templates, padding and truncation are not used.
        pieces: the vocabulary's spelling of each token id; ``None`` where an id is unassigned.
        piece_bytes: turns the spelling of an ordinary token into bytes.
        added_tokens: texts of special and user-defined tokens, which stand for themselves.
        special_token_ids: ids that `skip_special_tokens` leaves out.
        named_tokens: ``bos_token``, ``eos_token``, … as chat templates name them.
        strip_leading_space: whether encoding puts a space before the text, which decoding removes.
    """

    library: tokenizers.Tokenizer
    pieces: Sequence[str | None]
    piece_bytes: PieceBytes
    added_tokens: Mapping[int, str]
    special_token_ids: frozenset[int]
    bos_token_id: int | None = None
    eos_token_id: int | None = None
    eos_token_ids: frozenset[int] = frozenset()
    add_bos: bool = False
    add_eos: bool = False
    strip_leading_space: bool = False
    named_tokens: Mapping[str, str] = field(default_factory=dict)


def end_of_turn_ids(special_tokens: Iterable[tuple[int, str]]) -> frozenset[int]:
    """Ids of the special tokens that are known to end a turn."""
    return frozenset(token for token, text in special_tokens if text in END_OF_TURN_TOKENS)
