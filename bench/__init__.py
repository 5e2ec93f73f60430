"""Lepton beside other engines on the same machine: speed, memory, fidelity. Start: __main__.py."""
