"""Loading encoders: stages, weights, tokenizer, pooling, prompts and heads."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, cast

from lepton.errors import ModelFormatError
from lepton.models import catalogue
from lepton.models.config import find_architecture
from lepton.models.decoder_encoder import read_decoder_encoder
from lepton.models.encoder import EncoderArchitecture, EncoderConfig, EncoderHead
from lepton.models.fields import Fields
from lepton.models.judge import JUDGE_TOKENS, Judge, is_judge, read_judge
from lepton.models.loader import Model, load_model, model_name
from lepton.models.sentence_transformers import SentenceSettings, read_sentence_settings
from lepton.models.stages import PoolingKind, Stage
from lepton.models.tokenizer.text_encoder import TextEncoder
from lepton.models.validation import check_dense, check_encoder
from lepton.models.weights import Checkpoint, open_checkpoint

EncoderTask = Literal["embed", "classify", "rank", "tag"]
"""What a model is for: vectors, labels of texts, scores of pairs, labels of tokens."""

_E5_SETTINGS = SentenceSettings(
    pooling="mean",
    normalize=True,
    prompts={"query": "query: ", "passage": "passage: "},
    default_prompt="query",
)
"""As its authors ask: "query" for questions and all symmetric tasks, "passage" for documents."""

_GGUF_POOLINGS: dict[int, PoolingKind] = {1: "mean", 2: "cls", 3: "last"}


@dataclass(frozen=True)
class EncoderNetwork:
    """What an executor runs: stages, and the open checkpoint that holds their weights."""

    path: Path
    config: EncoderConfig
    stages: tuple[Stage, ...]
    checkpoint: Checkpoint

    def close(self) -> None:
        """Release the checkpoint's files. Executors may have weights of their own by then."""
        self.checkpoint.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exception_type: type[BaseException] | None,
        exception: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


@dataclass(frozen=True)
class EncoderModel(EncoderNetwork):
    """An encoder with its tokenizer, its way of pooling and, maybe, a classification head."""

    name: str
    tokenizer: TextEncoder
    settings: SentenceSettings
    task: EncoderTask
    head: EncoderHead | None = None
    judge: Judge | None = None
    """How a decoder that ranks is asked."""
    score_sigmoid: bool = True
    """Whether the score of a pair is squashed to 0 … 1."""

    @property
    def pooling(self) -> PoolingKind:
        """How the states of a text become one."""
        return (self.head.pooling if self.head is not None else None) or self.settings.pooling

    @property
    def dimensions(self) -> int:
        """Of a vector, or of a token's state where there is a classification head."""
        projections = self.settings.projections
        return projections[-1].outputs if projections else self.config.hidden_size

    @property
    def max_tokens(self) -> int:
        """Tokens of one input by default, special ones included."""
        return min(self.settings.max_tokens or self.config.context_length, self.context_length)

    @property
    def context_length(self) -> int:
        """The most tokens that the model has positions for."""
        return self.config.context_length


def is_encoder(checkpoint: Checkpoint) -> bool:
    """Whether a checkpoint embeds or classifies rather than generates."""
    if _encoder_module(checkpoint) is not None or is_judge(checkpoint):
        return True
    if checkpoint.format == "gguf":
        return bool(_gguf_pooling(checkpoint))
    return (checkpoint.path / "modules.json").is_file()


def load_any(path_or_name: str | Path) -> Model | EncoderModel:
    """Load whatever a path or a catalogue name stands for, as ``load_model`` does."""
    checkpoint = open_checkpoint(catalogue.locate(path_or_name))
    try:
        encoder = is_encoder(checkpoint)
    except BaseException:
        checkpoint.close()
        raise
    return (load_encoder if encoder else load_model)(path_or_name, checkpoint)


def load_encoder(path_or_name: str | Path, checkpoint: Checkpoint | None = None) -> EncoderModel:
    """Load an encoder from a file, a folder or, by its catalogue name, from the cache.

    Takes over ``checkpoint`` where it is open already. Nothing is downloaded. Raises as
    ``load_model`` does.
    """
    checkpoint = checkpoint or open_checkpoint(catalogue.locate(path_or_name))
    try:
        return _load(model_name(path_or_name), checkpoint)
    except BaseException:
        checkpoint.close()
        raise


def _load(name: str, checkpoint: Checkpoint) -> EncoderModel:
    fields = Fields.of(checkpoint)
    module = _encoder_module(checkpoint)
    if module is None:
        return _load_decoder(name, fields, checkpoint)
    config = module.configure(fields, checkpoint)
    stages = module.stages(config, checkpoint)
    heads = module.heads(fields)
    check_encoder(stages, config, checkpoint)
    head = _head(checkpoint, heads)
    settings = _settings(checkpoint)
    task = _task(head, config)
    model = EncoderModel(
        path=checkpoint.path,
        config=config,
        stages=tuple(stages),
        checkpoint=checkpoint,
        name=name,
        tokenizer=TextEncoder.from_checkpoint(checkpoint, lowercase=settings.lowercase),
        settings=settings,
        task=task,
        head=head,
        score_sigmoid=task != "rank" or _score_sigmoid(checkpoint),
    )
    if head is None:
        return replace(model, config=replace(config, labels=()))
    check_dense(head.layers, config, checkpoint)
    return model


def _load_decoder(name: str, fields: Fields, checkpoint: Checkpoint) -> EncoderModel:
    config, stages, output = read_decoder_encoder(fields, checkpoint)
    check_encoder(stages, config, checkpoint)
    judged = is_judge(checkpoint)
    settings = (
        SentenceSettings(pooling="last", max_tokens=JUDGE_TOKENS)
        if judged
        else _settings(checkpoint)
    )
    tokenizer = TextEncoder.from_checkpoint(checkpoint, lowercase=settings.lowercase)
    return EncoderModel(
        path=checkpoint.path,
        config=config,
        stages=tuple(stages),
        checkpoint=checkpoint,
        name=name,
        tokenizer=tokenizer,
        settings=settings,
        task="rank" if judged else "embed",
        judge=read_judge(checkpoint, tokenizer, output) if judged else None,
    )


def _encoder_module(checkpoint: Checkpoint) -> EncoderArchitecture | None:
    """The architecture's module, or None for a decoder."""
    module = find_architecture(checkpoint)
    return cast("EncoderArchitecture", module) if hasattr(module, "heads") else None


def _head(checkpoint: Checkpoint, heads: dict[str, EncoderHead]) -> EncoderHead | None:
    names = checkpoint.metadata.get("architectures")
    name = names[0] if isinstance(names, list) and names else ""
    return next((head for ending, head in heads.items() if str(name).endswith(ending)), None)


def _task(head: EncoderHead | None, config: EncoderConfig) -> EncoderTask:
    if head is None:
        return "embed"
    if head.pooling is None:
        return "tag"
    return "rank" if len(config.labels) == 1 else "classify"


def _settings(checkpoint: Checkpoint) -> SentenceSettings:
    if checkpoint.format == "e5":
        return _E5_SETTINGS
    if checkpoint.format == "gguf":
        return SentenceSettings(pooling=_gguf_pooling(checkpoint) or "mean", normalize=True)
    return read_sentence_settings(checkpoint.path)


def _gguf_pooling(checkpoint: Checkpoint) -> PoolingKind | None:
    architecture = checkpoint.metadata.get("general.architecture")
    key = f"{architecture}.pooling_type"
    value = checkpoint.metadata.get(key)
    if value is None or int(value) == 0:
        return None
    if int(value) not in _GGUF_POOLINGS:
        raise ModelFormatError(f"{key!r} is {value}: not supported", file=checkpoint.path)
    return _GGUF_POOLINGS[int(value)]


def _score_sigmoid(checkpoint: Checkpoint) -> bool:
    """Whether a cross-encoder's score is squashed, under the name of today or of older versions."""
    section: Any = checkpoint.metadata.get("sentence_transformers")
    name = section.get("activation_fn") if isinstance(section, dict) else None
    if name is None:
        name = checkpoint.metadata.get("sbert_ce_default_activation_function")
    kind = "Sigmoid" if name is None else str(name).rsplit(".", 1)[-1]
    if kind not in ("Sigmoid", "Identity"):
        raise ModelFormatError(
            f"scores squashed by {name!r:.80} are not supported; Sigmoid and Identity are",
            file=checkpoint.path / "config.json",
        )
    return kind == "Sigmoid"
