"""PyTorch through the transformers package, in float32, its fastest on such files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, GgufConfig


class Adapter:
    """A loaded model."""

    def __init__(self, path: str, threads: int) -> None:
        torch.set_num_threads(threads)
        file = Path(path)
        self._model: Any = AutoModelForCausalLM.from_pretrained(
            file.parent,
            gguf_file=file.name,
            dtype=torch.float32,
            quantization_config=GgufConfig(dequantize=True),
        )

    @torch.inference_mode()
    def generate(self, prompts: list[list[int]], tokens: int) -> None:
        ids = torch.tensor(prompts)
        self._model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            do_sample=False,
            min_new_tokens=tokens,
            max_new_tokens=tokens,
            pad_token_id=0,
        )

    def close(self) -> None:
        del self._model
