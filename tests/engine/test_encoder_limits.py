"""Groups of texts are bounded by their number and by their characters."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from lepton.engine.encoder_limits import GROUP_CHARACTERS, GROUP_INPUTS, groups


def test_long_texts_make_small_groups() -> None:
    sizes = [400_000] * 5 + [10] * 5000
    assert [(group.start, group.stop) for group in groups(sizes)] == [
        (0, 3),
        (3, 4099),
        (4099, 5005),
    ]


@given(st.lists(st.integers(0, 2 * GROUP_CHARACTERS), max_size=60))
def test_groups_cover_everything_once(sizes) -> None:
    found = list(groups(sizes))
    assert [place for group in found for place in group] == list(range(len(sizes)))
    for group in found:
        assert 0 < len(group) <= GROUP_INPUTS
        assert sum(sizes[place] for place in group[:-1]) < GROUP_CHARACTERS
