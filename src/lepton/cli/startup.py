"""The models of one server, each opened once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from lepton import config
from lepton.cli.console import notices
from lepton.cli.language import say
from lepton.cli.models import pull_if_missing
from lepton.engine import AsyncEncoder, AsyncEngine, EncoderEngine, EngineConfig
from lepton.engine.encoder_memory import encoder_memory
from lepton.errors import ConfigurationError
from lepton.models.encoder_loader import EncoderModel, load_any, load_encoder
from lepton.models.loader import Model

EncoderQuantize = Literal["none", "int8"]
"""What float weights of encoders become when they are loaded."""


@dataclass
class ServedModels:
    """A model, which may be an encoder, and encoders beside it.

    All are opened before one takes memory, as a generator has to leave the encoders theirs.
    """

    main: str | None
    encoders: Sequence[str]
    engine_config: EngineConfig
    name: str | None = None
    """What clients call the main model."""
    pull: bool | None = None
    """Whether to fetch what is missing; None: only the default model."""
    encoder_quantize: EncoderQuantize | None = None
    """For the encoders beside the main model; None: int8 where that one's is, else none."""
    _opened: dict[str, tuple[EncoderModel, EngineConfig]] = field(default_factory=dict, init=False)

    def load_engine(self) -> AsyncEngine | None:
        """Open the models and load the one that generates, if there is one.

        Raises ModelNotFoundError, ModelFormatError, and ConfigurationError when two have the same
        name or the models do not fit into memory.
        """
        generator = None if self.main is None else self._open_main(self.main)
        beside = EngineConfig(threads=self.engine_config.threads, quantize=self._quantize_beside())
        for path in self.encoders:
            if self.pull:
                pull_if_missing(path)
            with notices.status(say("Loading {model}", model=path)):
                encoder = load_encoder(path)
            self._add(encoder.name, encoder, beside)
        if generator is None:
            return None
        name = self.name or generator.name
        if name in self._opened:
            raise _same_name(name)
        reserved = sum(encoder_memory(*opened) for opened in self._opened.values())
        with notices.status(say("Loading {model}", model=name)):
            return AsyncEngine(generator, replace(self.engine_config, reserved_memory=reserved))

    def load_encoders(self) -> dict[str, AsyncEncoder]:
        """The encoders that `load_engine` has opened, by the names that clients give.

        Raises ConfigurationError when one does not fit into memory.
        """
        loaded = {}
        for name, (model, choices) in self._opened.items():
            with notices.status(say("Loading {model}", model=name)):
                loaded[name] = AsyncEncoder(EncoderEngine(model, choices))
        return loaded

    def _open_main(self, path: str) -> Model | None:
        """The main model where it generates; an encoder joins the others."""
        if self.pull or (self.pull is None and path == config.DEFAULT_MODEL):
            pull_if_missing(path)
        draft = self.engine_config.draft_model
        if self.pull and isinstance(draft, str):
            pull_if_missing(draft)
        with notices.status(say("Loading {model}", model=path)):
            model = load_any(path)
        if not isinstance(model, EncoderModel):
            return model
        self._add(self.name or model.name, model, self.engine_config)
        return None

    def _quantize_beside(self) -> EncoderQuantize:
        if self.encoder_quantize is not None:
            return self.encoder_quantize
        return "int8" if self.engine_config.quantize == "int8" else "none"

    def _add(self, name: str, model: EncoderModel, choices: EngineConfig) -> None:
        if name in self._opened:
            raise _same_name(name)
        self._opened[name] = model, choices


def _same_name(name: str) -> ConfigurationError:
    return ConfigurationError(
        f"two models are called {name!r}: rename the folder or file of one, or call the main one "
        "something else with --model-name"
    )
