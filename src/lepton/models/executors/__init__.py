"""Executors: what runs the stages of a model on one ragged batch."""

from __future__ import annotations

from lepton.models.executors.base import BLOCK_SIZE, Batch, Executor

__all__ = ["BLOCK_SIZE", "Batch", "Executor"]
