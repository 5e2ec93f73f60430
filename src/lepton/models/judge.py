"""Decoders that judge: how well a document answers a query is what they think of "yes" and "no".

As Qwen3-Reranker does it (arXiv:2506.05176): a fixed conversation asks whether a document meets the
requirements, and the score is the probability of "yes" against "no" as the next token.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lepton.errors import ModelFormatError
from lepton.kernels.reference import Float32Array
from lepton.models.stages import Linear
from lepton.models.tokenizer.text_encoder import TextEncoder
from lepton.models.weights import Checkpoint

JUDGE_TOKENS = 8192
"""Of one question by default: what the models were trained for."""

_BEFORE = (
    "<|im_start|>system\nJudge whether the Document meets the requirements based on the Query and "
    'the Instruct provided. Note that the answer can only be "yes" or "no".<|im_end|>\n'
    "<|im_start|>user\n"
)
_QUESTION = (
    "<Instruct>: Given a web search query, retrieve relevant passages that answer the query\n"
    "<Query>: {query}\n<Document>: {document}"
)
_AFTER = "<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"


@dataclass(frozen=True)
class Judge:
    """How a decoder is asked, and the tokens that it answers with."""

    before: tuple[int, ...]
    """Tokens before the question, and after it."""
    after: tuple[int, ...]
    output: Linear
    """The model's head, of which two rows are used."""
    no: int
    yes: int

    def question(self, query: str, document: str) -> str:
        """A pair as the model reads it, between its fixed beginning and end."""
        return _QUESTION.format(query=query, document=document)

    def wrap(self, question: Sequence[int], limit: int) -> list[int]:
        """A question's tokens with what surrounds them; its end is cut where there is no room."""
        room = limit - len(self.before) - len(self.after)
        return [*self.before, *question[: max(0, room)], *self.after]

    def difference(self, checkpoint: Checkpoint) -> Float32Array:
        """What the state of the last token is multiplied with to give yes - no, [1, hidden]."""
        no, yes = (
            checkpoint.float32_rows(self.output.weight, row, row + 1) for row in (self.no, self.yes)
        )
        return yes - no


def is_judge(checkpoint: Checkpoint) -> bool:
    """Whether a decoder's folder says that it judges.

    Either ``classifier_from_token`` in config.json lists two answers, or the folder is called a
    reranker and holds a Qwen3: as they are published, its files say nothing of it.
    """
    if checkpoint.format == "gguf":
        return False
    if checkpoint.metadata.get("classifier_from_token") is not None:
        return True
    return (
        checkpoint.metadata.get("model_type") == "qwen3"
        and "reranker" in checkpoint.path.name.lower()
    )


def read_judge(checkpoint: Checkpoint, tokenizer: TextEncoder, output: Linear) -> Judge:
    """The judge of a checkpoint for which ``is_judge`` holds; raises ModelFormatError."""
    answers = checkpoint.metadata.get("classifier_from_token") or ["no", "yes"]
    if not isinstance(answers, list) or len(answers) != 2:
        raise ModelFormatError(
            "'classifier_from_token' must list two tokens, no and yes", file=checkpoint.path
        )
    tokens = tokenizer.tokens([str(answer) for answer in answers])
    if any(len(each) != 1 for each in tokens):
        raise ModelFormatError(
            f"the answers {answers!r:.80} are not one token each", file=checkpoint.path
        )
    if output.bias is not None or output.part is not None:
        raise ModelFormatError(
            "a reranker whose head has a bias, or is a part of a tensor, is not supported",
            file=checkpoint.path,
            tensor=output.weight,
        )
    before, after = tokenizer.tokens([_BEFORE, _AFTER])
    return Judge(tuple(before), tuple(after), output, no=tokens[0][0], yes=tokens[1][0])
