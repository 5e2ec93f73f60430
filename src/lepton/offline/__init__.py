"""Many prompts from a file, answered at the engine's best throughput, resumable at any moment."""

from lepton.offline.journal import Journal
from lepton.offline.rows import Row, read_rows
from lepton.offline.runner import Summary, run_file

__all__ = ["Journal", "Row", "Summary", "read_rows", "run_file"]
