from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lepton.engine import SamplingParams
from lepton.errors import RequestError
from lepton.offline import Row, read_rows


def rows_of(folder: Path, *lines: str) -> list[Row]:
    path = folder / "prompts.jsonl"
    path.write_text("\n".join(lines))
    return list(read_rows(path))


def test_rows_have_ids_and_parameters_of_their_own(tmp_path: Path) -> None:
    first, second, third = rows_of(
        tmp_path,
        '{"id": "a", "prompt": "x", "max_tokens": 7, "stop": "END"}',
        "",
        '{"prompt": "y"}',
        '{"id": 9, "messages": [{"role": "user", "content": "hi"}]}',
    )
    common = SamplingParams(temperature=0, max_tokens=3)
    assert (first.id, first.params(common).max_tokens, first.params(common).stop) == (
        "a",
        7,
        ("END",),
    )
    assert first.params(common).greedy
    assert (second.id, second.number, second.params(common)) == (3, 3, common)
    assert third.messages == [{"role": "user", "content": "hi"}]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{", "line 2: not JSON"),
        ("[]", "line 2: expected an object"),
        ("{}", "either 'prompt' or 'messages'"),
        ('{"prompt": "x", "messages": []}', "either 'prompt' or 'messages'"),
        ('{"prompt": 1}', "'prompt' must be a text"),
        ('{"messages": [{"role": "user"}]}', "'messages' must be"),
        ('{"prompt": "x", "id": 1.5}', "'id' must be"),
        ('{"prompt": "x", "id": true}', "'id' must be"),
        ('{"prompt": "x", "id": "a"}', "the id 'a' is that of line 1 too"),
        ('{"prompt": "x", "tempreature": 1}', "'tempreature' is not known"),
        ('{"prompt": "x", "temperature": "hot"}', "temperature"),
        ('{"prompt": "x", "stop": [1]}', "stop"),
        ('{"prompt": "x", "n": 2}', "'n' is not known"),
    ],
)
def test_what_is_no_row_is_named_with_its_line(tmp_path: Path, line: str, reason: str) -> None:
    with pytest.raises(RequestError, match=reason) as caught:
        rows_of(tmp_path, '{"id": "a", "prompt": "x"}', line)
    assert "prompts.jsonl" in str(caught.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"none\.jsonl cannot be read"):
        list(read_rows(tmp_path / "none.jsonl"))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
)
NAMES = st.sampled_from(["id", "prompt", "messages", "temperature", "stop", "seed", "top_k", "x"])


@given(content=st.dictionaries(NAMES, JSON))
def test_any_object_is_a_row_or_a_request_error(
    tmp_path_factory: pytest.TempPathFactory, content: dict[str, Any]
) -> None:
    folder = tmp_path_factory.mktemp("rows")
    try:
        (row,) = rows_of(folder, json.dumps(content))
    except RequestError:
        return
    row.params(SamplingParams())
    assert (row.prompt is None) != (row.messages is None)
