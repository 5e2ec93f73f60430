"""Tiny encoders of random weights against transformers, on every executor."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedConfig, PreTrainedModel

from lepton.engine import LLM
from lepton.errors import ModelFormatError, RequestError
from lepton.kernels import _native
from lepton.models.encoder_loader import EncoderModel, load_encoder
from lepton.models.executors.encoder_base import EncoderBatch, EncoderExecutor
from lepton.models.executors.encoder_native import NativeEncoder
from lepton.models.executors.encoder_packing import choose_types, encoder_bytes
from lepton.models.executors.encoder_reference import ReferenceEncoder

sys.path.append(str(Path(__file__).parent))
from encoder_samples import save_reranker

SIZES = {
    "vocab_size": 200,
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "max_position_embeddings": 80,
    "initializer_range": 0.2,
}
LABELS = {0: "no", 1: "perhaps", 2: "yes"}
LENGTHS = (1, 7, 40, 16, 33, 3)

CONFIGS: dict[str, Callable[[], PreTrainedConfig]] = {
    "bert": lambda: transformers.BertConfig(**SIZES, type_vocab_size=2),
    "bert-tanh": lambda: transformers.BertConfig(
        **(SIZES | {"hidden_size": 40, "intermediate_size": 72}), hidden_act="gelu_new"
    ),
    "roberta": lambda: transformers.RobertaConfig(**SIZES, pad_token_id=1, type_vocab_size=1),
    "xlm-roberta": lambda: transformers.XLMRobertaConfig(
        **SIZES, pad_token_id=1, type_vocab_size=1
    ),
    "distilbert": lambda: transformers.DistilBertConfig(
        vocab_size=200,
        dim=48,
        hidden_dim=80,
        n_layers=3,
        n_heads=4,
        max_position_embeddings=80,
        initializer_range=0.2,
    ),
    "modernbert": lambda: transformers.ModernBertConfig(
        **SIZES, local_attention=10, pad_token_id=0, cls_token_id=1, sep_token_id=2
    ),
    "modernbert-biases": lambda: transformers.ModernBertConfig(
        **SIZES,
        local_attention=10,
        attention_bias=True,
        mlp_bias=True,
        norm_bias=True,
        classifier_bias=True,
        classifier_pooling="mean",
        pad_token_id=0,
    ),
    "qwen3": lambda: transformers.Qwen3Config(**SIZES, num_key_value_heads=2, head_dim=16),
}


def tokenizer() -> Tokenizer:
    # RoBERTa counts positions without tokens of number 1.
    special = {"[PAD]": 0, "[MASK]": 1, "[CLS]": 2, "[SEP]": 3, "[UNK]": 4}
    words = special | {f"w{n}": n for n in range(5, 200)}
    library = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    library.pre_tokenizer = pre_tokenizers.Whitespace()
    library.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    return library


@cache
def _saved(variant: str, kind: str, folder: Path) -> PreTrainedModel:
    torch.manual_seed(5)
    config = CONFIGS[variant]()
    if kind != "Model":
        config.id2label = LABELS
        config.label2id = {label: number for number, label in LABELS.items()}
    network = getattr(transformers, f"AutoModel{kind.removeprefix('Model')}").from_config(config)
    for name, parameter in network.named_parameters():
        if "bias" in name or "norm" in name.lower():
            torch.nn.init.normal_(parameter, 1.0 if name.endswith("weight") else 0.0, 0.2)
    network.eval().save_pretrained(folder)
    tokenizer().save(str(folder / "tokenizer.json"))
    if variant == "qwen3":
        (folder / "modules.json").write_text("[]")
    return network


@pytest.fixture(scope="session")
def saved(tmp_path_factory) -> Callable[[str, str], tuple[Path, PreTrainedModel]]:
    folders: dict[tuple[str, str], Path] = {}

    def build(variant: str, kind: str = "Model") -> tuple[Path, PreTrainedModel]:
        key = (variant, kind)
        folder = folders.setdefault(key, tmp_path_factory.mktemp(variant))
        return folder, _saved(variant, kind, folder)

    return build


def texts(lengths: tuple[int, ...] = LENGTHS, seed: int = 0) -> list[list[int]]:
    random = np.random.default_rng(seed)
    return [random.integers(4, 200, length).tolist() for length in lengths]


def batch_of(ids: list[list[int]]) -> EncoderBatch:
    starts = np.cumsum([0, *map(len, ids)]).astype(np.int32)
    return EncoderBatch(np.concatenate(ids).astype(np.int32), starts)


def expected_states(network: PreTrainedModel, ids: list[list[int]]) -> np.ndarray:
    with torch.no_grad():
        return np.concatenate(
            [network(torch.tensor([text])).last_hidden_state[0].numpy() for text in ids]
        )


def isas() -> list[str]:
    return _native.supported_isas()


def cosines(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)


def _executor(model: EncoderModel, name: str) -> EncoderExecutor:
    if name == "reference":
        return ReferenceEncoder(model)
    return NativeEncoder(model, dtype="float32", isa=name)


@pytest.mark.parametrize("variant", CONFIGS)
def test_states_are_those_of_transformers(variant, saved) -> None:
    folder, network = saved(variant)
    ids = texts()
    expected = expected_states(network, ids)
    scale = np.abs(expected).max()
    with load_encoder(folder) as model:
        for name in ("reference", *isas()):
            found = _executor(model, name).forward(batch_of(ids), None)
            assert found.shape == expected.shape
            assert np.abs(found - expected).max() < 2e-5 * scale, name


@pytest.mark.parametrize("variant", CONFIGS)
def test_smaller_types_are_close(variant, saved) -> None:
    folder, network = saved(variant)
    ids = texts()
    expected = expected_states(network, ids)
    with load_encoder(folder) as model:
        words = [NativeEncoder(model, dtype="int16", isa=isa) for isa in isas()]
        states = [word.forward(batch_of(ids), None) for word in words]
        assert cosines(states[0], expected).min() > 0.99999
        for others in states[1:]:
            np.testing.assert_array_equal(states[0], others)
        rough = {
            isa: NativeEncoder(model, quantize="int8", isa=isa).forward(batch_of(ids), None)
            for isa in isas()
        }
        for isa, states_of_bytes in rough.items():
            assert cosines(states_of_bytes, expected).min() > 0.98
            if not _native.has_bfloat16_products(isa):  # Those keep states in bfloat16.
                np.testing.assert_array_equal(rough["scalar"], states_of_bytes)
        if _native.has_bfloat16_products():
            half = NativeEncoder(model, dtype="bfloat16").forward(batch_of(ids), None)
            assert cosines(half, expected).min() > 0.999


@pytest.mark.parametrize("variant", ["bert", "modernbert", "qwen3"])
@pytest.mark.parametrize("quantize", ["none", "int8"])
@pytest.mark.parametrize("dtype", ["float32", "int16", "auto"])
def test_the_memory_planned_for_weights_is_what_they_take(variant, quantize, dtype, saved) -> None:
    folder, _ = saved(variant)
    with load_encoder(folder) as model:
        planned = encoder_bytes(model, choose_types(dtype, quantize))
        assert NativeEncoder(model, dtype=dtype, quantize=quantize).weight_bytes == planned


@pytest.mark.parametrize("variant", ["bert", "modernbert", "qwen3"])
@pytest.mark.parametrize("quantize", ["none", "int8"])
@pytest.mark.parametrize("threads", [1, 3])
def test_a_text_does_not_depend_on_its_batch(variant, quantize, threads, saved) -> None:
    folder, _ = saved(variant)
    ids = texts((5, 70, 1, 64, 33, 80, 2, 80, 80, 80), seed=1)
    with load_encoder(folder) as model:
        executor = NativeEncoder(model, quantize=quantize, threads=threads)
        together = executor.forward(batch_of(ids), "mean")
        alone = np.concatenate([executor.forward(batch_of([text]), "mean") for text in ids])
    np.testing.assert_array_equal(together, alone)


POOLINGS: dict[str, Callable[[np.ndarray, int], np.ndarray]] = {
    "mean": lambda states, skipped: states[skipped:].mean(0),
    "cls": lambda states, skipped: states[skipped],
    "last": lambda states, _: states[-1],
    "max": lambda states, skipped: states[skipped:].max(0),
    "weighted": lambda states, skipped: np.average(
        states[skipped:], axis=0, weights=np.arange(1, len(states) + 1)[skipped:]
    ),
}
"""Of the states of one text, less the tokens at its beginning that are left out."""


@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("executor", ["reference", "native"])
def test_pooling(pooling, executor, saved) -> None:
    folder, network = saved("bert")
    ids, skipped = texts((9, 1, 30)), (2, 0, 5)
    batch = batch_of(ids)
    batch = replace(batch, pool_starts=np.array(skipped, np.int32))
    expected = [
        POOLINGS[pooling](expected_states(network, [text]), left_out)
        for text, left_out in zip(ids, skipped, strict=True)
    ]
    with load_encoder(folder) as model:
        found = _executor(model, isas()[0] if executor == "native" else executor)
        np.testing.assert_allclose(found.forward(batch, pooling), expected, rtol=1e-4, atol=1e-5)


SENTENCES = ["w5 w9 w120 w7", "w8", "w60 w61 w62 nothing w63 w5", ""]


@pytest.mark.parametrize("variant", [name for name in CONFIGS if name != "qwen3"])
def test_classification_is_that_of_transformers(variant, saved) -> None:
    folder, network = saved(variant, "ModelForSequenceClassification")
    library = tokenizer()
    with torch.no_grad():
        expected = [
            network(torch.tensor([library.encode(text).ids])).logits.softmax(-1)[0].tolist()
            for text in SENTENCES
        ]
    with LLM(folder, dtype="float32") as llm:
        found = llm.classify(SENTENCES)
        assert [list(row) for row in found] == [list(LABELS.values())] * len(SENTENCES)
        np.testing.assert_allclose([list(row.values()) for row in found], expected, atol=2e-5)
        with pytest.raises(RequestError, match="not to embed"):
            llm.embed("w5")


@pytest.mark.parametrize("variant", [name for name in CONFIGS if name != "qwen3"])
def test_labels_of_tokens_are_those_of_transformers(variant, saved) -> None:
    folder, network = saved(variant, "ModelForTokenClassification")
    library = tokenizer()
    with torch.no_grad():
        logits = network(torch.tensor([library.encode(SENTENCES[0]).ids])).logits[0, 1:-1]
    with LLM(folder, dtype="float32") as llm:
        (found,) = llm.tag(SENTENCES[0])
    assert [token.label for token in found] == [LABELS[n] for n in logits.argmax(-1).tolist()]
    best = logits.softmax(-1).max(-1).values.tolist()
    np.testing.assert_allclose([token.score for token in found], best, atol=2e-5)
    assert [SENTENCES[0][token.start : token.end] for token in found] == SENTENCES[0].split()


def test_a_reranker_scores_pairs_as_transformers_does(saved, tmp_path) -> None:
    torch.manual_seed(6)
    config = transformers.BertConfig(**SIZES, type_vocab_size=2, num_labels=1)
    network = transformers.BertForSequenceClassification(config).eval()
    network.save_pretrained(tmp_path)
    library = tokenizer()
    library.save(str(tmp_path / "tokenizer.json"))
    documents = ["w5 w6", "w9 w10 w11 " * 40, "w12", ""]
    pairs = [library.encode("w5 w77 w78", document) for document in documents]
    library.enable_truncation(80)
    pairs = [library.encode("w5 w77 w78", document) for document in documents]
    with torch.no_grad():
        expected = [
            network(torch.tensor([pair.ids]), token_type_ids=torch.tensor([pair.type_ids]))
            .logits.sigmoid()[0, 0]
            .item()
            for pair in pairs
        ]
    with LLM(tmp_path, dtype="float32") as llm:
        ranked = llm.rerank("w5 w77 w78", documents)
    assert [entry.index for entry in ranked] == np.argsort(expected)[::-1].tolist()
    np.testing.assert_allclose(
        [entry.score for entry in ranked], sorted(expected, reverse=True), atol=2e-5
    )


def test_inputs_that_cannot_be_embedded(saved) -> None:
    folder, _ = saved("bert")
    with LLM(folder) as llm:
        with pytest.raises(RequestError, match="U\\+D800 at character 1"):
            llm.embed(["w5", "a\ud800"])
        with pytest.raises(RequestError, match="input 1 has token ids outside"):
            llm.embed([[5], [200]])
        with pytest.raises(RequestError, match="input 0 has no tokens"):
            llm.embed([[]])
        with pytest.raises(RequestError, match="input 2 is not valid Unicode"):
            llm.embed([[5], [6], "\ud800"])
        with pytest.raises(RequestError, match="input 5000 is not valid Unicode"):
            llm.embed(["w5"] * 5000 + ["\ud800"])
        for wrong in ([["w5", "w6"]], ["w5", None], [[5.7]]):
            with pytest.raises(RequestError, match=f"input {len(wrong) - 1} is neither a text"):
                llm.embed(wrong)
        with pytest.raises(RequestError, match="not NoneType"):
            llm.embed(None)
        with pytest.raises(RequestError, match="one of window, truncate, error, not 'Truncate'"):
            llm.embed("w5", long_texts="Truncate")
        with pytest.raises(RequestError, match="dimensions must be from 1 to 48"):
            llm.embed("w5", dimensions=49)
        with pytest.raises(RequestError, match="no prompt 'query'"):
            llm.embed("w5", prompt_name="query")
        with pytest.raises(RequestError, match="90 tokens and there is room for 78"):
            llm.embed("w5 " * 90, long_texts="error")
        with pytest.raises(RequestError, match="generates no text"):
            llm.generate("w5")
        assert llm.embed([]).shape == (0, 48)


def test_long_texts(saved) -> None:
    folder, _ = saved("bert")
    long = " ".join(f"w{5 + n % 150}" for n in range(200))
    words = long.split()
    with LLM(folder, dtype="float32") as llm:
        truncated = llm.embed(long, long_texts="truncate")
        np.testing.assert_array_equal(truncated, llm.embed(" ".join(words[:78])))
        parts = [" ".join(words[start : start + 78]) for start in (0, 78, 156)]
        weights = np.array([78, 78, 44], np.float32)[:, None] / 200
        expected = (llm.embed(parts) * weights).sum(0)
        np.testing.assert_allclose(llm.embed(long)[0], expected, atol=1e-5)
        many = llm.embed(["w5 " * 50_000, "w6"])
        assert np.isfinite(many).all()


def test_many_inputs_in_one_call(saved) -> None:
    folder, _ = saved("bert")
    inputs = [f"w{5 + n % 190}" for n in range(10_000)]
    with LLM(folder) as llm:
        vectors = llm.embed(inputs)
        np.testing.assert_array_equal(vectors[:190], vectors[190:380])
        np.testing.assert_array_equal(vectors[9_999], llm.embed(inputs[9_999])[0])


def test_dimensions_and_normalization(saved) -> None:
    folder, _ = saved("bert")
    with LLM(folder, dtype="float32") as llm:
        whole = llm.embed("w5 w6")
        cut = llm.embed("w5 w6", dimensions=16, normalize=True)
    expected = whole[:, :16] / np.linalg.norm(whole[:, :16])
    np.testing.assert_allclose(cut, expected, rtol=1e-5)


def test_a_missing_tensor_is_named(saved, tmp_path) -> None:
    from safetensors.numpy import load_file, save_file

    folder, _ = saved("bert")
    tensors = load_file(folder / "model.safetensors")
    del tensors["encoder.layer.1.output.dense.bias"]
    save_file(tensors, tmp_path / "model.safetensors")
    for name in ("config.json", "tokenizer.json"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    with pytest.raises(ModelFormatError, match=r"encoder\.layer\.1\.output\.dense\.bias"):
        load_encoder(tmp_path)


def expected_score(folder: Path, network: PreTrainedModel, query: str, document: str) -> float:
    """As the model's card asks for it."""
    before = (
        "<|im_start|>system\nJudge whether the Document meets the requirements based on the Query "
        'and the Instruct provided. Note that the answer can only be "yes" or "no".<|im_end|>\n'
        "<|im_start|>user\n"
    )
    question = (
        "<Instruct>: Given a web search query, retrieve relevant passages that answer the query\n"
        f"<Query>: {query}\n<Document>: {document}"
    )
    after = "<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"
    library = Tokenizer.from_file(str(folder / "tokenizer.json"))
    ids = [token for part in (before, question, after) for token in library.encode(part).ids]
    with torch.no_grad():
        logits = network(torch.tensor([ids])).logits[0, -1]
    no, yes = library.token_to_id("no"), library.token_to_id("yes")
    return float(logits[[no, yes]].softmax(0)[1])


DOCUMENTS = ["w9 w10 yes", "w60", "", "w8 w9 w9 w9 no Document w120"]


def test_a_decoder_judges_as_transformers_does(tmp_path) -> None:
    folder = tmp_path / "Qwen3-Reranker-tiny"
    folder.mkdir()
    network = save_reranker(folder)
    expected = [expected_score(folder, network, "w9 w7", document) for document in DOCUMENTS]
    with LLM(folder, dtype="float32") as llm:
        ranked = llm.rerank("w9 w7", DOCUMENTS)
        assert llm.encoder.model.task == "rank"
        with pytest.raises(RequestError, match="made to rank"):
            llm.classify("w9")
    assert [each.index for each in ranked] == np.argsort([-score for score in expected]).tolist()
    found = {each.index: each.score for each in ranked}
    np.testing.assert_allclose([found[n] for n in range(4)], expected, atol=1e-5)


def test_answers_of_a_judge_are_named_in_its_configuration(tmp_path) -> None:
    folder = tmp_path / "some-model"
    folder.mkdir()
    network = save_reranker(folder)
    settings = json.loads((folder / "config.json").read_text())
    answers = settings | {"classifier_from_token": ["no", "yes"]}
    (folder / "config.json").write_text(json.dumps(answers))
    with LLM(folder, dtype="float32") as llm:
        (best,) = llm.rerank("w9", ["w30"])
    assert best.score == pytest.approx(expected_score(folder, network, "w9", "w30"), abs=1e-5)
    (folder / "config.json").write_text(json.dumps(settings | {"classifier_from_token": ["no"]}))
    with pytest.raises(ModelFormatError, match="two tokens"):
        load_encoder(folder)
