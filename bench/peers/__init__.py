"""The engines that are measured, each behind one small interface and in a process of its own."""

from bench.peers.base import Engine, LoadError, Measurement, PeerError

__all__ = ["Engine", "LoadError", "Measurement", "PeerError"]
