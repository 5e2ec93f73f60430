"""Lepton through ``LLM``, in the worker's process."""

from __future__ import annotations

from typing import Any

from lepton import LLM, SamplingParams


class Adapter:
    """A loaded model."""

    def __init__(self, path: str, **options: Any) -> None:
        # Every token is computed: no prompt is found again and no draft verified.
        off: dict[str, Any] = {"prefix_cache": False, "speculation": "off"}
        self._llm = LLM(path, **{"max_sequences": 64, **off, **options})

    def generate(self, prompts: list[list[int]], tokens: int) -> None:
        params = SamplingParams(temperature=0, max_tokens=tokens, ignore_eos=True)
        self._llm.generate(prompts, params)

    def close(self) -> None:
        self._llm.close()
