"""Lepton through ``LLM``, in the worker's process."""

from __future__ import annotations

from typing import Any

from lepton import LLM, SamplingParams


class Adapter:
    """A loaded model."""

    def __init__(self, path: str, **options: Any) -> None:
        # No draft is verified. Prompts are found again, as by peers: those whose reading is
        # measured are new, and a long context is read once.
        self._llm = LLM(path, **{"max_sequences": 64, "speculation": "off", **options})

    def generate(self, prompts: list[list[int]], tokens: int) -> None:
        params = SamplingParams(temperature=0, max_tokens=tokens, ignore_eos=True)
        self._llm.generate(prompts, params)

    def close(self) -> None:
        self._llm.close()
