"""Loading: from a path or a catalogue name to stages, weights, tokenizer and chat template."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from lepton.models import catalogue
from lepton.models.config import ModelConfig, find_architecture, read_config
from lepton.models.stages import Stage
from lepton.models.tokenizer import ChatTemplate, Tokenizer
from lepton.models.validation import check_tensors
from lepton.models.weights import Checkpoint, open_checkpoint


@dataclass(frozen=True)
class Network:
    """What an executor runs: stages, and the open checkpoint that holds their weights."""

    path: Path
    config: ModelConfig
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
class Model(Network):
    """A network with the tokenizer and chat template that came with it."""

    name: str
    tokenizer: Tokenizer
    chat_template: ChatTemplate | None


def load_network(path: Path) -> Network:
    """Open a checkpoint and check it against its configuration; no weight is read yet.

    Raises ModelNotFoundError when nothing is at ``path``, ModelFormatError naming the tensor or key
    when the checkpoint is damaged or needs a feature that is not supported.
    """
    return _read_network(open_checkpoint(path))


def _read_network(checkpoint: Checkpoint) -> Network:
    try:
        config = read_config(checkpoint)
        stages = tuple(find_architecture(checkpoint).stages(config, checkpoint))
        check_tensors(stages, config, checkpoint)
    except BaseException:
        checkpoint.close()
        raise
    return Network(checkpoint.path, config, stages, checkpoint)


def load_model(path_or_name: str | Path, checkpoint: Checkpoint | None = None) -> Model:
    """Load a model from a file, a folder or, by its catalogue name, from the cache.

    Takes over ``checkpoint`` where it is open already. Nothing is downloaded: a catalogue model
    that is not in the cache is a ModelNotFoundError that says how to fetch it. Raises
    ModelFormatError as ``load_network`` does.
    """
    network = _read_network(checkpoint or open_checkpoint(catalogue.locate(path_or_name)))
    try:
        tokenizer = Tokenizer.from_checkpoint(network.checkpoint)
        chat_template = ChatTemplate.from_checkpoint(network.checkpoint, tokenizer)
    except BaseException:
        network.close()
        raise
    return Model(
        path=network.path,
        config=network.config,
        stages=network.stages,
        checkpoint=network.checkpoint,
        name=model_name(path_or_name),
        tokenizer=tokenizer,
        chat_template=chat_template,
    )


def model_name(path_or_name: str | Path) -> str:
    """What the model is called: its catalogue name, or its file's or folder's."""
    if isinstance(path_or_name, str) and path_or_name in catalogue.entries():
        return path_or_name
    path = Path(path_or_name).expanduser().resolve()
    return path.stem if path.suffix == ".gguf" else path.name
