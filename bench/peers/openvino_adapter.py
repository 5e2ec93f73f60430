"""OpenVINO GenAI's continuous batching pipeline."""

from __future__ import annotations

import numpy as np
import openvino
import openvino_genai

_CACHE_GIGABYTES = 2


class Adapter:
    """A loaded model."""

    def __init__(self, path: str, threads: int, prefix_cache: bool = True) -> None:
        scheduler = openvino_genai.SchedulerConfig()
        scheduler.cache_size = _CACHE_GIGABYTES
        scheduler.enable_prefix_caching = prefix_cache
        scheduler.max_num_seqs = 64
        self._pipeline = openvino_genai.ContinuousBatchingPipeline(
            path, scheduler, "CPU", {"INFERENCE_NUM_THREADS": threads}
        )

    def generate(self, prompts: list[list[int]], tokens: int) -> None:
        config = openvino_genai.GenerationConfig()
        config.do_sample = False
        config.max_new_tokens = tokens
        config.ignore_eos = True
        ids = [openvino.Tensor(np.array([prompt], np.int64)) for prompt in prompts]
        self._pipeline.generate(ids, [config] * len(prompts))

    def close(self) -> None:
        del self._pipeline
