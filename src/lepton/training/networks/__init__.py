"""Text networks of our own: described as stages, trained by torch, run by numpy."""

from lepton.training.networks.scorer import NetworkScorer

__all__ = ["NetworkScorer"]
