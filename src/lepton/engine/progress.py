"""What a sampled token means for its completion."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from lepton.engine.logprobs import token_logprob
from lepton.engine.outputs import FinishReason, TokenLogprob
from lepton.engine.sampler import Choice, Sampler
from lepton.engine.sequence import Sequence
from lepton.engine.step_plan import Chunk
from lepton.models.executors.base import Float32Array
from lepton.models.tokenizer import Tokenizer


@dataclass
class Gain:
    """What a completion has gained in one step."""

    text: str = ""
    token_ids: list[int] = field(default_factory=list)
    logprobs: list[TokenLogprob] = field(default_factory=list)
    finish_reason: FinishReason | None = None


def advance(sequence: Sequence, choice: Choice, gain: Gain, tokenizer: Tokenizer) -> None:
    """Append the next token, settle its text and see whether the sequence ends with it."""
    token_id, row_logprobs = choice
    if row_logprobs is not None:
        gain.logprobs.append(token_logprob(token_id, row_logprobs, tokenizer))
    sequence.token_ids.append(token_id)
    gain.token_ids.append(token_id)
    if sequence.request.first_token is None:
        sequence.request.first_token = time.monotonic()
    text, gain.finish_reason = _settle(sequence, token_id)
    gain.text += text


def _settle(sequence: Sequence, token_id: int) -> tuple[str, FinishReason | None]:
    """The text a new token settles, and why the sequence ends with it, if it does."""
    request, stream = sequence.request, sequence.text
    if token_id in request.stop_token_ids:
        return stream.flush(), "stop"
    num_generated = sequence.num_generated
    text = stream.add(token_id, match_stops=num_generated > request.params.min_tokens)
    if stream.stopped:
        return text, "stop"
    if num_generated >= request.max_tokens:
        return text + stream.flush(), "length"
    return text, None


def collect_prompt_logprobs(
    chunk: Chunk, logits: Float32Array, rows: range, sampler: Sampler, tokenizer: Tokenizer
) -> None:
    """Take the log probabilities of prompt tokens from a chunk's rows of logits, where wanted."""
    sequence = chunk.sequence
    if sequence.prompt_logprobs is None or not sequence.wants_prompt_logprobs:
        return
    first = chunk.end - chunk.num_logits + 1
    tokens = sequence.token_ids[first : min(chunk.end + 1, sequence.num_prompt_tokens)]
    count = sequence.request.params.logprobs or 0
    found = sampler.logprobs(logits, list(rows)[: len(tokens)], tokens, count)
    sequence.prompt_logprobs += [
        token_logprob(token, row, tokenizer) for token, row in zip(tokens, found, strict=True)
    ]
