from __future__ import annotations

import json
import typing
from typing import Any

import openai.types.chat.completion_create_params as chat_types
import openai.types.completion_create_params as completion_types
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from lepton.errors import RequestError
from lepton.server import fields
from lepton.server.body import _parse
from lepton.server.schemas import ChatCompletionRequest, CompletionRequest, Message

CHAT: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}


@pytest.mark.parametrize(
    ("types", "schema", "unsupported"),
    [
        (chat_types, ChatCompletionRequest, fields.CHAT),
        (completion_types, CompletionRequest, fields.COMPLETION),
    ],
)
def test_every_field_of_the_official_client_is_known(
    types: Any, schema: Any, unsupported: fields.Harmless
) -> None:
    official = set(typing.get_type_hints(types.CompletionCreateParamsBase))
    assert official <= schema.model_fields.keys() | unsupported.keys()
    assert not schema.model_fields.keys() & unsupported.keys()


@pytest.mark.parametrize("name", sorted(fields.CHAT))
def test_unsupported_fields_pass_only_when_they_ask_for_nothing(name: str) -> None:
    for harmless in (None, *fields.CHAT[name]):
        ChatCompletionRequest.model_validate(CHAT | {name: harmless})
    for wish in ([{"x": 1}], {"x": 1}, "x", 1, 0, [0]):
        with pytest.raises(ValidationError) as caught:
            ChatCompletionRequest.model_validate(CHAT | {name: wish})
        error = caught.value.errors()[0]
        assert error["type"] == "unsupported_parameter"
        assert error["ctx"]["field"] == name


def test_content_parts_are_joined_and_developer_means_system() -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "你"}]
    message = Message.model_validate({"role": "developer", "content": parts})
    assert message.for_template() == {"role": "system", "content": "a你"}


def test_an_answer_of_the_official_client_can_be_sent_back() -> None:
    from openai.types.chat import ChatCompletionMessage

    answer = ChatCompletionMessage(role="assistant", content="Paris").model_dump()
    assert Message.model_validate(answer).content == "Paris"


@pytest.mark.parametrize(
    ("prompt", "prompts"),
    [
        ("a", ("a",)),
        (["a", "b"], ("a", "b")),
        ([1, 2], ((1, 2),)),
        ([[1, 2], [3]], ((1, 2), (3,))),
    ],
)
def test_prompts_of_all_four_kinds(prompt: Any, prompts: Any) -> None:
    assert CompletionRequest.model_validate({"model": "m", "prompt": prompt}).prompt == prompts


@pytest.mark.parametrize(
    "prompt", [None, [], 1, True, {}, [1, "a"], [[]], [[1], "a"], [True], [1.0]]
)
def test_other_prompts_are_refused(prompt: Any) -> None:
    with pytest.raises(ValidationError):
        CompletionRequest.model_validate({"model": "m", "prompt": prompt})


VALUES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
NAMES = st.sampled_from([*sorted(ChatCompletionRequest.model_fields), "unknown"])


@settings(max_examples=60)
@given(NAMES, VALUES | st.lists(VALUES, max_size=3) | st.dictionaries(NAMES, VALUES, max_size=2))
def test_any_json_is_accepted_or_explained(name: str, value: Any) -> None:
    error = refusal(json.dumps(CHAT | {name: value}))
    assert error is None or (error.code and (error.param or name).startswith(name))


def refusal(body: str) -> RequestError | None:
    try:
        _parse(body.encode(), ChatCompletionRequest)
    except RequestError as error:
        return error
    return None
