"""Files appear whole or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from lepton.files import part_of, replaced


def test_a_file_changes_only_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text("old")
    with replaced(path) as part:
        part.write_text("new")
        assert part == part_of(path)
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_what_a_failed_block_has_written_keeps_its_passing_name(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"

    def write_half() -> None:
        with replaced(path) as part:
            part.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_half()
    assert not path.exists()
    assert part_of(path).read_text() == "half"
