"""Requests in, tokens out: scheduling, the block cache, sampling and the step loop."""

from lepton.engine.async_encoder import AsyncEncoder, Encoded
from lepton.engine.async_engine import AsyncEngine, RequestStream
from lepton.engine.config import EngineConfig
from lepton.engine.encoder import EncoderEngine
from lepton.engine.encoder_inputs import LongTexts, TextInput
from lepton.engine.encoder_types import EmbedOptions, RankedDocument, TaggedToken
from lepton.engine.llm import LLM
from lepton.engine.outputs import (
    CompletionOutput,
    EngineStats,
    FinishReason,
    OutputDelta,
    RequestOutput,
    RequestTimings,
    TokenChance,
    TokenLogprob,
    Usage,
)
from lepton.engine.prompts import encode_chat, encode_prompt
from lepton.engine.request_options import RequestOptions
from lepton.engine.sampling_params import SamplingParams

__all__ = [
    "LLM",
    "AsyncEncoder",
    "AsyncEngine",
    "CompletionOutput",
    "EmbedOptions",
    "Encoded",
    "EncoderEngine",
    "EngineConfig",
    "EngineStats",
    "FinishReason",
    "LongTexts",
    "OutputDelta",
    "RankedDocument",
    "RequestOptions",
    "RequestOutput",
    "RequestStream",
    "RequestTimings",
    "SamplingParams",
    "TaggedToken",
    "TextInput",
    "TokenChance",
    "TokenLogprob",
    "Usage",
    "encode_chat",
    "encode_prompt",
]
