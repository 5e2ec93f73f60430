"""vLLM on the processor, in bfloat16, from a folder of safetensors."""

from __future__ import annotations

import vllm


class Adapter:
    """A loaded model."""

    def __init__(self, path: str) -> None:
        self._llm = vllm.LLM(
            path,
            dtype="bfloat16",
            skip_tokenizer_init=True,
            enable_prefix_caching=True,
            max_num_seqs=64,
            disable_log_stats=True,
        )

    def generate(self, prompts: list[list[int]], tokens: int) -> None:
        params = vllm.SamplingParams(
            temperature=0, max_tokens=tokens, ignore_eos=True, detokenize=False
        )
        inputs = [{"prompt_token_ids": prompt} for prompt in prompts]
        self._llm.generate(inputs, params, use_tqdm=False)

    def close(self) -> None:
        del self._llm
