"""Real models, dequantized into transformers in float32, against both executors."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pytest
import torch
import transformers

from lepton.models.config import ModelConfig
from lepton.models.executors import BLOCK_SIZE, Batch, build_executor
from lepton.models.loader import Model, load_model

TEXT = '''\
The library at the end of Harbour Street kept its lamps lit until midnight, although hardly anyone \
came after nine. Mrs Alder, who had looked after the reading room for thirty-one years, said that \
a lit window is a promise: somebody is awake, and the books are where you left them. On a wet \
Thursday in March a boy came in with a map that was folded into eighths and asked, very politely, \
whether a river could move. She took down three atlases, from 1887, 1931 and 2004, and they \
watched the delta creep eastwards, page by page, like a slow animal looking for a warmer place.

城里的老图书馆每天晚上都亮着灯，哪怕已经没有什么读者了。管理员说，灯光是一种承诺：告诉路过的人，\
这里还有人醒着，书也还在原来的地方。三月里一个下雨的星期四，一个男孩拿着一张折了又折的地图走进来，\
很有礼貌地问：“河流会自己搬家吗？”她从架子上取下三本不同年代的地图册，两个人一页一页地翻，\
看着三角洲慢慢向东移动。如果您的订单在七天之内没有送达，请联系客服并提供订单号，我们会为您办理退款。

```python
from dataclasses import dataclass
import heapq


@dataclass(order=True)
class Edge:
    """A road to a town, with its length in kilometres."""

    length: float
    town: str


def shortest_path(roads: dict[str, list[Edge]], start: str, goal: str) -> float:
    distances = {start: 0.0}
    queue = [Edge(0.0, start)]
    while queue:
        edge = heapq.heappop(queue)
        if edge.town == goal:
            return edge.length
        for road in roads.get(edge.town, []):
            total = edge.length + road.length
            if total < distances.get(road.town, float("inf")):
                distances[road.town] = total
                heapq.heappush(queue, Edge(total, road.town))
    raise ValueError(f"no road leads from {start} to {goal}")
```

Q: What is 17 × 24? A: 17 × 24 = 408. The meeting (会议) moves to 2031-05-06, 14:30 — see \
https://example.org/agenda?id=42&lang=zh for the agenda 🙂.
'''
MODELS = {"smollm2_path": "llama", "gemma3_path": "gemma3"}
SHORT = 96


@dataclass(frozen=True)
class Oracle:
    """A model, the tokens of the text, and what transformers makes of them in float32."""

    model: Model
    token_ids: list[int]
    logits: np.ndarray


@pytest.fixture(scope="module", params=MODELS)
def oracle(request) -> Iterator[Oracle]:
    with load_model(request.getfixturevalue(request.param)) as model:
        assert model.config.model_type == MODELS[request.param]
        token_ids = model.tokenizer.encode(TEXT)
        assert len(token_ids) >= 500
        with torch.no_grad():
            network = dequantize_into_transformers(model)
            logits = network(input_ids=torch.tensor([token_ids])).logits[0].numpy()
        del network
        yield Oracle(model, token_ids, logits)


def dequantize_into_transformers(model: Model) -> transformers.PreTrainedModel:
    """The model as transformers has it, with the tensors renamed and restored by hand."""
    config, checkpoint = model.config, model.checkpoint
    with torch.device("meta"):
        network = hugging_face_model(config)
    weights = {}
    for name in checkpoint.tensors:
        values = checkpoint.float32(name)
        if config.model_type == "llama" and name.endswith(("attn_q.weight", "attn_k.weight")):
            values = split_halves(values, config.head_dim)
        if config.model_type == "gemma3" and name.endswith("norm.weight"):
            values = values - np.float32(1)
        weights[hugging_face_name(name, config.model_type)] = torch.from_numpy(values)
    weights["lm_head.weight"] = weights["model.embed_tokens.weight"]
    network.load_state_dict(weights, assign=True)
    # What is computed from the configuration was left without values on the meta device.
    network.model.rotary_emb = type(network.model.rotary_emb)(network.config)
    if config.model_type == "gemma3":
        network.model.embed_tokens.embed_scale = torch.tensor(config.hidden_size**0.5)
    return network.eval()


def hugging_face_model(config: ModelConfig) -> transformers.PreTrainedModel:
    sizes = {
        "vocab_size": config.vocab_size,
        "hidden_size": config.hidden_size,
        "intermediate_size": config.intermediate_size,
        "num_hidden_layers": config.num_layers,
        "num_attention_heads": config.num_heads,
        "num_key_value_heads": config.num_kv_heads,
        "head_dim": config.head_dim,
        "rms_norm_eps": config.norm_epsilon,
        "max_position_embeddings": config.context_length,
        "tie_word_embeddings": True,
        "attn_implementation": "eager",
    }
    if config.model_type == "llama":
        return transformers.LlamaForCausalLM(
            transformers.LlamaConfig(
                **sizes, rope_parameters={"rope_type": "default", "rope_theta": 100_000.0}
            )
        )
    return transformers.Gemma3ForCausalLM(
        transformers.Gemma3TextConfig(**sizes, sliding_window=512, query_pre_attn_scalar=256)
    )


def hugging_face_name(name: str, model_type: str) -> str:
    outside = {
        "token_embd.weight": "model.embed_tokens.weight",
        "output_norm.weight": "model.norm.weight",
    }
    if name in outside:
        return outside[name]
    inside = {
        "attn_norm": "input_layernorm",
        "attn_q": "self_attn.q_proj",
        "attn_k": "self_attn.k_proj",
        "attn_v": "self_attn.v_proj",
        "attn_output": "self_attn.o_proj",
        "attn_q_norm": "self_attn.q_norm",
        "attn_k_norm": "self_attn.k_norm",
        "post_attention_norm": "post_attention_layernorm",
        "ffn_norm": "post_attention_layernorm",
        "ffn_gate": "mlp.gate_proj",
        "ffn_up": "mlp.up_proj",
        "ffn_down": "mlp.down_proj",
        "post_ffw_norm": "post_feedforward_layernorm",
    }
    if model_type == "gemma3":
        inside["ffn_norm"] = "pre_feedforward_layernorm"
    _, layer, module, kind = name.split(".")
    return f"model.layers.{layer}.{inside[module]}.{kind}"


def split_halves(values: np.ndarray, head_dim: int) -> np.ndarray:
    """Undo the converters' reordering: rows 2i and 2i + 1 of a head become i and i + d/2."""
    pairs = values.reshape(-1, head_dim // 2, 2, values.shape[1])
    return np.ascontiguousarray(pairs.swapaxes(1, 2)).reshape(values.shape)


def run(oracle: Oracle, kind: str, token_ids: list[int], chunk: int) -> np.ndarray:
    """Logits of all tokens, prefilled ``chunk`` at a time."""
    num_blocks = -(-len(token_ids) // BLOCK_SIZE)
    executor = build_executor(oracle.model, kind, num_blocks=num_blocks)
    parts = []
    for start in range(0, len(token_ids), chunk):
        piece = np.array(token_ids[start : start + chunk], np.int32)
        rows = np.arange(len(piece), dtype=np.int32)
        batch = Batch(
            token_ids=piece,
            positions=rows + np.int32(start),
            row_starts=np.array([0, len(piece)], np.int32),
            block_tables=np.arange(num_blocks, dtype=np.int32)[None],
            logit_rows=rows,
        )
        parts.append(executor.forward(batch))
    executor.close()
    return np.concatenate(parts)


def mean_divergence(expected: np.ndarray, found: np.ndarray) -> float:
    """Mean KL(expected ‖ found) of the rows' distributions in nats, in float64."""
    total = 0.0
    for rows in np.array_split(np.arange(len(expected)), len(expected) // 32):
        p, q = (torch.log_softmax(torch.from_numpy(x[rows]).double(), 1) for x in (expected, found))
        total += (p.exp() * (p - q)).sum().item()
    return total / len(expected)


def test_native_is_near_float32(oracle) -> None:
    found = run(oracle, "native", oracle.token_ids, chunk=200)
    agreement = np.mean(found.argmax(1) == oracle.logits.argmax(1))
    divergence = mean_divergence(oracle.logits, found)
    print(f"mean KL {divergence:.2e}, argmax agreement {agreement:.4f} on {len(found)} tokens")
    assert divergence <= 1e-3
    assert agreement >= 0.98


def test_reference_is_float32(oracle) -> None:
    found = run(oracle, "reference", oracle.token_ids[:SHORT], chunk=40)
    expected = oracle.logits[:SHORT]
    error = np.linalg.norm(found - expected) / np.linalg.norm(expected)
    assert error <= 1e-4
    assert (found.argmax(1) == expected.argmax(1)).all()


def test_the_oracle_knows_its_text(oracle) -> None:
    """The float32 model predicts the English well, so the weights were restored as they were."""
    log_probabilities = torch.log_softmax(torch.from_numpy(oracle.logits[:SHORT]), 1)
    following = torch.tensor(oracle.token_ids[1 : SHORT + 1])
    mean = log_probabilities.gather(1, following[:, None]).mean().item()
    assert mean > -4.5
