from __future__ import annotations

import json
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st

from lepton.errors import ModelFormatError, RequestError
from lepton.models.tokenizer import ChatTemplate, Tokenizer
from lepton.models.weights import Checkpoint

CONVERSATIONS = [
    [{"role": "user", "content": "What is the capital of France?"}],
    [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "你好！"}],
    [
        {"role": "user", "content": "1 < 2 && 'x' != \"y\"  \n\n"},
        {"role": "assistant", "content": "  true\t👩‍💻"},
        {"role": "user", "content": "{{ 7 * 7 }} {% raw %}<|im_end|>"},
    ],
    [{"role": "user", "content": ""}],
]
QWEN_STYLE = """
{%- if messages[0].role == 'system' %}
    {{- '<|im_start|>system\\n' + messages[0].content + '<|im_end|>\\n' }}
{%- endif %}
{%- set ns = namespace(last=messages|length - 1, found=false) %}
{%- for message in messages[::-1] %}
    {%- set index = (messages|length - 1) - loop.index0 %}
    {%- if not ns.found and message.role == "user" and message.content is string %}
        {%- set ns.found = true %}
        {%- set ns.last = index %}
    {%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- if message.role == "system" and loop.first %}{% continue %}{% endif %}
    {%- set content = message.content.split('</think>')[-1].lstrip('\\n') %}
    {%- generation %}{{- '<|im_start|>' ~ message.role ~ '\\n' ~ content ~ '<|im_end|>\\n' }}
    {%- endgeneration %}
{%- endfor %}
{%- if tools %}{{- tools|tojson(indent=2) }}{%- endif %}
{{- {'roles': messages|map(attribute='role')|list, 'é': '<&>'}|tojson }}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
{%- endif %}
"""


def user(content: Any = "hi") -> list[dict[str, Any]]:
    return [{"role": "user", "content": content}]


@pytest.fixture(scope="module")
def smollm2_template(smollm2_checkpoint: Checkpoint, smollm2: Tokenizer) -> ChatTemplate:
    template = ChatTemplate.from_checkpoint(smollm2_checkpoint, smollm2)
    assert template is not None
    return template


def by_transformers(template: ChatTemplate, messages: list[dict[str, Any]], **options: Any) -> str:
    library = json.dumps({"version": "1.0", "model": {"type": "BPE", "vocab": {}, "merges": []}})
    oracle = transformers.PreTrainedTokenizerFast(
        tokenizer_object=transformers.tokenization_utils_tokenizers.TokenizerFast.from_str(library)
    )
    return oracle.apply_chat_template(
        messages, chat_template=template.source, tokenize=False, **options
    )


@pytest.mark.parametrize("add_generation_prompt", [True, False])
@pytest.mark.parametrize("messages", CONVERSATIONS)
def test_smollm2_equals_transformers(
    smollm2_template: ChatTemplate, messages: list[dict[str, Any]], add_generation_prompt: bool
) -> None:
    ours = smollm2_template.render(messages, add_generation_prompt=add_generation_prompt)
    assert ours == by_transformers(
        smollm2_template, messages, add_generation_prompt=add_generation_prompt
    )
    assert ours.endswith("<|im_start|>assistant\n") == add_generation_prompt


@pytest.mark.parametrize("messages", CONVERSATIONS)
def test_a_template_of_many_features_equals_transformers(messages: list[dict[str, Any]]) -> None:
    template = ChatTemplate(QWEN_STYLE)
    ours = template.render(messages)
    assert ours == by_transformers(template, messages, add_generation_prompt=True)
    assert '"é": "<&>"' in ours


@settings(deadline=None)
@given(contents=st.lists(st.text(max_size=30), min_size=1, max_size=5))
def test_any_content_is_kept(smollm2_template: ChatTemplate, contents: list[str]) -> None:
    messages = [{"role": "user", "content": content} for content in contents]
    prompt = smollm2_template.render(messages)
    for content in contents:
        assert f"<|im_start|>user\n{content}<|im_end|>\n" in prompt


def test_special_tokens_are_variables() -> None:
    template = ChatTemplate("{{ bos_token }}{{ messages[0].content }}", {"bos_token": "<s>"})
    assert template.render(user()) == "<s>hi"


def test_text_parts_are_joined() -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    assert ChatTemplate("{{ messages[0].content }}").render(user(parts)) == "a\nb"


@pytest.mark.parametrize(
    ("messages", "param"),
    [
        (user([{"type": "image_url", "image_url": {"url": "x"}}]), "messages[0].content[0]"),
        (user([{"type": "text"}]), "messages[0].content[0]"),
        (user(["a"]), "messages[0].content[0]"),
        (user(None), "messages[0].content"),
        (user(7), "messages[0].content"),
        (user({"type": "text"}), "messages[0].content"),
        ([*user(), {"content": "x"}], "messages[1].role"),
        ([*user(), {"role": 3, "content": "x"}], "messages[1].role"),
        (["x"], "messages[0]"),
    ],
)
def test_malformed_messages_are_named(messages: Any, param: str) -> None:
    with pytest.raises(RequestError) as caught:
        ChatTemplate("").render(messages)
    assert caught.value.param == param


def test_a_refusal_carries_the_templates_words() -> None:
    template = ChatTemplate("{{ raise_exception('Roles must alternate ' ~ messages[0].role) }}")
    with pytest.raises(RequestError, match="Roles must alternate user") as caught:
        template.render(user())
    assert (caught.value.param, caught.value.code) == ("messages", "chat_template_error")


def test_a_long_refusal_is_cut() -> None:
    with pytest.raises(RequestError) as caught:
        ChatTemplate("{{ raise_exception('x' * 100000) }}").render(user())
    assert len(str(caught.value)) < 1100


@pytest.mark.parametrize(
    "source", ["{{ 1 / 0 }}", "{{ nothing.at.all }}", "{{ messages[0]() }}", "{% include 'x' %}"]
)
def test_any_failure_is_a_request_error(source: str) -> None:
    with pytest.raises(RequestError, match="chat template failed"):
        ChatTemplate(source).render(user())


@pytest.mark.parametrize(
    "source",
    ["{% for %}", "{{ 'a' | nosuchfilter }}", "{{ " + "(" * 5000 + " }}", "{{ x.", "x" * 300_000],
)
def test_an_invalid_template_is_a_format_error(source: str) -> None:
    with pytest.raises(ModelFormatError, match=r"model\.gguf: the chat template"):
        ChatTemplate(source, file="model.gguf")


def test_rendering_in_many_threads(smollm2_template: ChatTemplate) -> None:
    results: dict[int, str] = {}

    def render(number: int) -> None:
        results[number] = smollm2_template.render(user(f"message {number}"))

    threads = [threading.Thread(target=render, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(f"message {number}<|im_end|>" in text for number, text in results.items())
    assert len(results) == 8


def folder_checkpoint(folder: Path) -> Any:
    return SimpleNamespace(format="safetensors", path=folder, metadata={})


NO_TOKENS: Any = SimpleNamespace(named_tokens={})


def test_folder_templates(tmp_path: Path) -> None:
    checkpoint = folder_checkpoint(tmp_path)
    assert ChatTemplate.from_checkpoint(checkpoint, NO_TOKENS) is None
    config = tmp_path / "tokenizer_config.json"
    config.write_text(json.dumps({"chat_template": "text"}))
    assert ChatTemplate.from_checkpoint(checkpoint, NO_TOKENS).source == "text"
    config.write_text(json.dumps({"chat_template": [3]}))
    assert ChatTemplate.from_checkpoint(checkpoint, NO_TOKENS) is None
    named = [{"name": "tool_use", "template": "no"}, {"name": "default", "template": "list"}]
    config.write_text(json.dumps({"chat_template": named}))
    assert ChatTemplate.from_checkpoint(checkpoint, NO_TOKENS).source == "list"
    (tmp_path / "chat_template.jinja").write_text("file", encoding="utf-8")
    assert ChatTemplate.from_checkpoint(checkpoint, NO_TOKENS).source == "file"


@pytest.mark.parametrize("value", [7, {"a": 1}, [{"name": "default", "template": 5}]])
def test_folder_template_of_the_wrong_type(tmp_path: Path, value: Any) -> None:
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"chat_template": value}))
    with pytest.raises(ModelFormatError, match="tokenizer_config"):
        ChatTemplate.from_checkpoint(folder_checkpoint(tmp_path), NO_TOKENS)


def test_a_base_model_has_none(gemma3_checkpoint: Checkpoint, gemma3: Tokenizer) -> None:
    assert ChatTemplate.from_checkpoint(gemma3_checkpoint, gemma3) is None
