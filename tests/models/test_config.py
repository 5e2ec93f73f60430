"""Configurations: what published files say, and what no file may ask for."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lepton.errors import ModelFormatError
from lepton.models.config import find_architecture, read_config, supported_model_types
from lepton.models.rope import LinearScaling, Llama3Scaling, RopeConfig, YarnScaling
from lepton.models.validation import check_tensors, expected_tensors

LLAMA: dict[str, Any] = {
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 300,
    "max_position_embeddings": 256,
    "rms_norm_eps": 1e-5,
    "rope_theta": 500_000.0,
    "tie_word_embeddings": True,
}
GEMMA3: dict[str, Any] = {
    **LLAMA,
    "model_type": "gemma3_text",
    "hidden_activation": "gelu_pytorch_tanh",
    "head_dim": 32,
    "rope_local_base_freq": 10_000.0,
    "sliding_window": 24,
    "sliding_window_pattern": 2,
    "query_pre_attn_scalar": 32,
}
GGUF: dict[str, Any] = {
    "general.architecture": "llama",
    "llama.embedding_length": 64,
    "llama.feed_forward_length": 96,
    "llama.block_count": 2,
    "llama.attention.head_count": 4,
    "llama.attention.head_count_kv": 2,
    "llama.context_length": 256,
    "llama.attention.layer_norm_rms_epsilon": 1e-5,
    "llama.rope.freq_base": 500_000.0,
    "llama.rope.dimension_count": 16,
}
MANY = {f"tensor {index}": (300, 64) for index in range(40)} | {"token_embd.weight": (300, 64)}


@pytest.fixture
def read(fake_checkpoint):
    return lambda metadata: read_config(fake_checkpoint(metadata, MANY))


def test_llama_is_the_same_from_both_formats(read) -> None:
    config = read(LLAMA)
    assert config == read(GGUF)
    assert (config.head_dim, config.num_kv_heads, config.norm_epsilon) == (16, 2, 1e-5)
    assert config.rope == RopeConfig(500_000.0)
    assert config.attention_scale == 0.25
    assert config.tied_embeddings
    assert config.window(1) is None


def test_gguf_heads_may_be_given_per_layer(read) -> None:
    key = "llama.attention.head_count_kv"
    assert read({**GGUF, key: np.array([2, 2])}).num_kv_heads == 2
    with pytest.raises(ModelFormatError, match=f"{key}.*differs between layers"):
        read({**GGUF, key: np.array([2, 4])})


@pytest.mark.parametrize("key", ["rope_type", "type"])
def test_older_spelling_of_scaling(read, key) -> None:
    values = {"factor": 8.0, "original_max_position_embeddings": 64}
    llama3 = {key: "llama3", "low_freq_factor": 1.0, "high_freq_factor": 4.0, **values}
    scaling = read({**LLAMA, "rope_scaling": llama3}).rope.scaling
    assert scaling == Llama3Scaling(8.0, 1.0, 4.0, 64)
    yarn = {key: "yarn", "attention_factor": 0.5, "beta_fast": 16, **values}
    scaling = read({**LLAMA, "rope_scaling": yarn}).rope.scaling
    assert scaling == YarnScaling(8.0, 64, beta_fast=16, attention_factor=0.5)


def test_newer_spelling_of_rope(read) -> None:
    rope = {"rope_theta": 777.0, "rope_type": "linear", "factor": 2}
    assert read({**LLAMA, "rope_parameters": rope}).rope == RopeConfig(777.0, LinearScaling(2.0))


def test_mistral_has_a_window_unless_it_is_null(read) -> None:
    mistral = {**LLAMA, "model_type": "mistral"}
    assert read(mistral).window(0) == 4096
    assert read({**mistral, "sliding_window": 77}).window(1) == 77
    assert read({**mistral, "sliding_window": None}).window(0) is None
    assert read({**GGUF, "llama.attention.sliding_window": 77}).window(0) == 77


@pytest.mark.parametrize("model_type", ["qwen2", "qwen3"])
def test_qwen_has_no_window_unless_it_is_used(read, model_type) -> None:
    qwen = {**LLAMA, "model_type": model_type, "sliding_window": 77, "max_window_layers": 1}
    assert [read(qwen).window(layer) for layer in range(2)] == [None, None]
    windowed = read({**qwen, "use_sliding_window": True})
    assert [windowed.window(layer) for layer in range(2)] == [None, 77]


def test_gemma3(read) -> None:
    config = read({**GEMMA3, "num_hidden_layers": 4, "rope_theta": 1e6})
    assert config.layer_kinds == ("sliding", "full", "sliding", "full")
    assert config.rope_of(0) == RopeConfig(10_000.0)
    assert config.rope_of(1) == RopeConfig(1e6)
    kinds = ["full_attention", "sliding_attention"]
    assert read({**GEMMA3, "layer_types": kinds}).layer_kinds == ("full", "sliding")


def test_gemma3_scales_only_the_layers_that_see_all(read) -> None:
    config = read({**GEMMA3, "rope_scaling": {"rope_type": "linear", "factor": 8.0}})
    assert config.rope.scaling == LinearScaling(8.0)
    assert config.local_rope == RopeConfig(10_000.0)


def test_gemma3_inside_a_larger_model_leaves_much_out(read) -> None:
    """As the text_config of the published 4B model, which names only these keys."""
    text = {
        "hidden_size": 2560,
        "intermediate_size": 10240,
        "model_type": "gemma3_text",
        "num_hidden_layers": 34,
        "rope_scaling": {"factor": 8.0, "rope_type": "linear"},
        "sliding_window": 1024,
    }
    config = read({"model_type": "gemma3", "text_config": text})
    assert (config.num_heads, config.num_kv_heads, config.head_dim) == (8, 4, 256)
    assert (config.vocab_size, config.context_length) == (262_208, 131_072)
    assert (config.rope.base, config.attention_scale) == (1e6, 1 / 16)
    assert config.tied_embeddings
    assert config.layer_kinds[:6] == ("sliding",) * 5 + ("full",)


def test_unknown_architecture_lists_the_known(read) -> None:
    known = [
        "bert",
        "camembert",
        "distilbert",
        "gemma3",
        "gemma3_text",
        "llama",
        "mistral",
        "modernbert",
        "qwen2",
        "qwen3",
        "roberta",
        "xlm-roberta",
    ]
    assert supported_model_types() == known
    for name in ("falcon", "loader", "../llama", "", "config", None, 7):
        with pytest.raises(ModelFormatError, match=", ".join(known)):
            read({**LLAMA, "model_type": name})


@pytest.mark.parametrize(
    ("base", "key", "value"),
    [
        (LLAMA, "hidden_size", None),
        (LLAMA, "hidden_size", "64"),
        (LLAMA, "hidden_size", True),
        (LLAMA, "hidden_size", 2**31),
        (LLAMA, "num_hidden_layers", 0),
        (LLAMA, "num_hidden_layers", -3),
        (LLAMA, "num_hidden_layers", 2**30),
        (LLAMA, "num_attention_heads", 5),
        (LLAMA, "num_key_value_heads", 3),
        (LLAMA, "head_dim", 15),
        (LLAMA, "head_dim", 2**20),
        (LLAMA, "rms_norm_eps", 0),
        (LLAMA, "rms_norm_eps", float("nan")),
        (LLAMA, "rms_norm_eps", 10**400),
        (LLAMA, "rope_theta", -1.0),
        (LLAMA, "rope_theta", 1.0),
        (LLAMA, "hidden_act", "relu"),
        (LLAMA, "quantization_config", {"bits": 4}),
        (LLAMA, "num_local_experts", 8),
        (LLAMA, "is_causal", False),
        (LLAMA, "partial_rotary_factor", 0.5),
        (LLAMA, "tie_word_embeddings", "yes"),
        (LLAMA, "rope_scaling", "yarn"),
        (GEMMA3, "attn_logit_softcapping", 50.0),
        (GEMMA3, "final_logit_softcapping", 30.0),
        (GEMMA3, "use_bidirectional_attention", True),
        (GEMMA3, "layer_types", ["full_attention"]),
        (GEMMA3, "layer_types", ["full_attention", "chunked_attention"]),
        (GEMMA3, "layer_types", [[], {}]),
        (GGUF, "llama.expert_count", 8),
        (GGUF, "llama.logit_scale", 0.5),
        (GGUF, "llama.attention.causal", False),
        (GGUF, "llama.final_logit_softcapping", 30.0),
        (GGUF, "llama.rope.dimension_count", 8),
        (GGUF, "llama.attention.value_length", 8),
        (GGUF, "llama.rope.scaling.type", "longrope"),
    ],
)
def test_refuses_by_the_name_of_the_key(read, base, key, value) -> None:
    with pytest.raises(ModelFormatError) as caught:
        read({**base, key: value})
    assert repr(key) in str(caught.value)


@pytest.mark.parametrize("kind", ["dynamic", "longrope", "su", "proportional"])
def test_refuses_unknown_scaling(read, kind) -> None:
    with pytest.raises(ModelFormatError, match=r"rope_scaling\.rope_type.*" + kind):
        read({**LLAMA, "rope_scaling": {"rope_type": kind, "factor": 2.0}})


def test_quantization_of_a_larger_model_is_refused(read) -> None:
    metadata = {"model_type": "gemma3", "text_config": {}, "quantization_config": {"bits": 4}}
    with pytest.raises(ModelFormatError, match="quantization_config"):
        read(metadata)


VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-5, 5),
    st.integers(),
    st.floats(),
    st.sampled_from(["linear", "yarn", "llama3", "default", "none", "sliding_attention", ""]),
    st.lists(st.sampled_from(["full_attention", 1, None]), max_size=3),
    st.just({}),
    st.just(np.array([], np.int32)),
    st.just(np.array([2, 2])),
)
ROPE_KEYS = [
    "rope_type",
    "rope_theta",
    "factor",
    "low_freq_factor",
    "high_freq_factor",
    "original_max_position_embeddings",
    "beta_fast",
    "beta_slow",
    "attention_factor",
    "truncate",
]
GGUF_KEYS = [
    *(f"llama.rope.scaling.{key}" for key in ("type", "factor", "attn_factor", "yarn_beta_slow")),
    "llama.vocab_size",
    "llama.attention.key_length",
    "llama.attention.sliding_window",
]


@settings(max_examples=400, deadline=None)
@given(
    base=st.sampled_from([LLAMA, {**LLAMA, "model_type": "qwen2"}, GEMMA3, GGUF]),
    data=st.data(),
)
def test_any_configuration_is_read_or_refused(fake_checkpoint, base, data) -> None:
    """Never another error, and nothing built that is out of proportion."""
    metadata = copy.deepcopy(base)
    rope = st.dictionaries(st.sampled_from(ROPE_KEYS), VALUES)
    for key in data.draw(st.lists(st.sampled_from([*base, *GGUF_KEYS]), max_size=3)):
        metadata[key] = data.draw(VALUES)
    for key in data.draw(st.lists(st.sampled_from(["rope_scaling", "rope_parameters"]))):
        metadata[key] = data.draw(rope)
    checkpoint = fake_checkpoint(metadata, MANY)
    try:
        config = read_config(checkpoint)
        stages = find_architecture(checkpoint).stages(config, checkpoint)
    except ModelFormatError:
        return
    assert len(stages) == 2 * config.num_layers + 2
    assert np.isfinite(
        [f for stage in stages[1:-1:2] for f in stage.rope.inverse_frequencies]
    ).all()
    exact = fake_checkpoint(metadata, expected_tensors(stages, config))
    check_tensors(stages, config, exact)
