"""From a configuration to what guesses at tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lepton.engine.cache_plan import BuiltExecutors
from lepton.engine.config import EngineConfig
from lepton.engine.draft_model import DraftModel
from lepton.engine.prompt_lookup import LookupSource
from lepton.engine.proposals import ProposalSource
from lepton.engine.speculation import Speculator
from lepton.engine.step_pacer import StepPacer

if TYPE_CHECKING:
    from lepton.models.loader import Model

_CATCH_UP = 0.5
"""The share of ``step_seconds`` in which a draft model may read what it does not know yet."""


def build_speculator(
    config: EngineConfig, built: BuiltExecutors, draft: Model | None, pacer: StepPacer
) -> Speculator | None:
    """What the configuration chooses; None when nothing is to be guessed."""
    source: ProposalSource
    if draft is not None and built.draft is not None:
        source = DraftModel(
            built.draft,
            built.main.vocab_size,
            draft.config.context_length,
            config.step_seconds * _CATCH_UP,
        )
    elif config.speculation == "lookup":
        source = LookupSource()
    else:
        return None
    return Speculator(source, pacer, config.max_draft_tokens)
