"""How byte-level vocabularies cut text before merging, by the names GGUF gives them.

Each rule is that of the family's published ``tokenizer.json``; a vocabulary is only usable with
the cut its merges were learned on.
"""

from __future__ import annotations

from dataclasses import dataclass

from tokenizers import Regex, normalizers, pre_tokenizers

_CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_WORDS = r"[^\r\n\p{L}\p{N}]?\p{L}+"
_SYMBOLS = r" ?[^\s\p{L}\p{N}]+[\r\n]*"
_WHITESPACE = r"\s*[\r\n]+|\s+(?!\S)|\s+"


def _pattern(digits: str) -> str:
    return "|".join((_CONTRACTIONS, _WORDS, digits, _SYMBOLS, _WHITESPACE))


LLAMA3_PATTERN = _pattern(r"\p{N}{1,3}")
QWEN2_PATTERN = _pattern(r"\p{N}")


@dataclass(frozen=True)
class PreTokenization:
    """The steps around the merges of one family.

    Attributes:
        pattern: regular expression that cuts the text; ``None`` is GPT-2's own cut.
        individual_digits: cut every digit apart first.
        compose: apply Unicode normalization form C.
        ignore_merges: take a whole word that is in the vocabulary without merging its pieces.
        adds_bos: begin with BOS unless the file says otherwise.
    """

    pattern: str | None = None
    individual_digits: bool = False
    compose: bool = False
    ignore_merges: bool = False
    adds_bos: bool = False

    def normalizer(self) -> normalizers.Normalizer | None:
        """Step applied to the text before it is cut."""
        return normalizers.NFC() if self.compose else None

    def pre_tokenizer(self, *, add_prefix_space: bool = False) -> pre_tokenizers.PreTokenizer:
        """Cut the text and spell its bytes in the byte-level alphabet."""
        steps: list[pre_tokenizers.PreTokenizer] = []
        if self.individual_digits:
            steps.append(pre_tokenizers.Digits(individual_digits=True))
        if self.pattern is not None:
            steps.append(pre_tokenizers.Split(Regex(self.pattern), behavior="isolated"))
        steps.append(
            pre_tokenizers.ByteLevel(
                add_prefix_space=add_prefix_space, use_regex=self.pattern is None
            )
        )
        return pre_tokenizers.Sequence(steps)


_GPT2 = PreTokenization()
_LLAMA3 = PreTokenization(pattern=LLAMA3_PATTERN, ignore_merges=True, adds_bos=True)

PRE_TOKENIZATIONS = {
    "default": _GPT2,
    "gpt-2": _GPT2,
    "llama-bpe": _LLAMA3,
    "llama-v3": _LLAMA3,
    "llama3": _LLAMA3,
    "qwen2": PreTokenization(pattern=QWEN2_PATTERN, compose=True),
    "smollm": PreTokenization(individual_digits=True),
}
"""Values of the GGUF key ``tokenizer.ggml.pre`` that are supported."""
