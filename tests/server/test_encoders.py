"""Encoders over HTTP: small random weights behind the whole application."""

from __future__ import annotations

import asyncio
import base64
import json
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import openai
import pytest
from starlette.requests import ClientDisconnect
from starlette.testclient import TestClient

from lepton.engine import LLM, AsyncEncoder, EncoderEngine, EngineConfig
from lepton.models.encoder_loader import load_encoder
from lepton.server import ServerSettings, create_app

sys.path.append(str(Path(__file__).parents[1] / "models"))
from encoder_samples import save_bert, save_reranker


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, Path]:
    labels = {0: "refund", 1: "delivery", 2: "other"}
    return {
        "embedder": save_bert(tmp_path_factory.mktemp("embedder")),
        "classifier": save_bert(
            tmp_path_factory.mktemp("classifier"), "BertForSequenceClassification", id2label=labels
        ),
        "ranker": save_bert(
            tmp_path_factory.mktemp("ranker"), "BertForSequenceClassification", num_labels=1
        ),
    }


@pytest.fixture(scope="module")
def client(folders) -> Iterator[TestClient]:
    def load() -> dict[str, AsyncEncoder]:
        return {
            name: AsyncEncoder(EncoderEngine(load_encoder(folder), EngineConfig(threads=1)))
            for name, folder in folders.items()
        }

    with TestClient(create_app(None, encoders=load), base_url="http://localhost") as client:
        for _ in range(200):
            if client.get("/readyz").status_code == 200:
                break
        yield client


def post(client: TestClient, path: str, **body: object) -> dict:
    answer = client.post(path, json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_vectors_are_those_of_the_library(client, folders) -> None:
    texts = ["w5 w6", "", "w9 w10 w11"]
    answer = post(client, "/v1/embeddings", model="embedder", input=texts)
    with LLM(folders["embedder"], threads=1) as llm:
        expected = llm.embed(texts)
    found = np.array([entry["embedding"] for entry in answer["data"]], np.float32)
    np.testing.assert_array_equal(found, expected)
    assert answer["usage"] == {"prompt_tokens": 11, "total_tokens": 11}
    assert [entry["index"] for entry in answer["data"]] == [0, 1, 2]


def test_base64_dimensions_and_token_ids(client) -> None:
    plain = post(client, "/v1/embeddings", model="embedder", input=[[2, 5, 6, 3]], dimensions=8)
    coded = post(
        client, "/v1/embeddings", model="embedder", input="w5 w6", dimensions=8,
        encoding_format="base64",
    )  # fmt: skip
    vector = np.frombuffer(base64.b64decode(coded["data"][0]["embedding"]), "<f4")
    np.testing.assert_array_equal(vector, np.float32(plain["data"][0]["embedding"]))


def test_the_openai_client_embeds(client) -> None:
    api = openai.OpenAI(base_url="http://localhost/v1", api_key="none", http_client=client)
    answer = api.embeddings.create(model="embedder", input=["w5", "w6 w7"])
    assert [len(entry.embedding) for entry in answer.data] == [32, 32]


def test_rerank_score_and_classify(client, folders) -> None:
    documents = ["w20 w21", {"text": "w30"}, "w40 w41 w42"]
    ranked = post(
        client, "/v1/rerank", model="ranker", query="w5 w6", documents=documents, top_n=2,
        return_documents=True,
    )["results"]  # fmt: skip
    texts = ["w20 w21", "w30", "w40 w41 w42"]
    with LLM(folders["ranker"], threads=1) as llm:
        expected = llm.rerank("w5 w6", texts, top_n=2)
    assert [entry["index"] for entry in ranked] == [entry.index for entry in expected]
    assert ranked[0]["relevance_score"] == pytest.approx(expected[0].score, abs=1e-6)
    assert ranked[0]["document"] == {"text": texts[ranked[0]["index"]]}
    as_cohere = {"query": "w5 w6", "documents": texts, "top_n": 2, "max_tokens_per_doc": 4096}
    again = post(client, "/v2/rerank", model="ranker", **as_cohere)["results"]
    assert [entry["index"] for entry in again] == [entry["index"] for entry in ranked]
    scores = post(client, "/v1/score", model="ranker", text_1="w5 w6", text_2=texts)["data"]
    assert scores[expected[0].index]["score"] == pytest.approx(expected[0].score, abs=1e-6)
    (entry,) = post(client, "/v1/classify", input="w5")["data"]
    assert entry["num_classes"] == 3
    assert entry["scores"][entry["label"]] == max(entry["probs"])
    assert sum(entry["probs"]) == pytest.approx(1)
    (unsure,) = post(client, "/v1/classify", input="w5", threshold=1)["data"]
    assert unsure == {**entry, "label": None}


@pytest.mark.parametrize(
    ("path", "body", "status", "param"),
    [
        ("/v1/embeddings", {"model": "embedder"}, 400, "input"),
        ("/v1/embeddings", {"model": "nobody", "input": "w5"}, 404, "model"),
        ("/v1/embeddings", {"model": "embedder", "input": []}, 400, "input"),
        ("/v1/embeddings", {"model": "embedder", "input": [[7_000]]}, 400, "input"),
        ("/v1/embeddings", {"input": "w5", "dimensions": 33}, 400, "dimensions"),
        ("/v1/embeddings", {"model": "classifier", "input": "w5"}, 400, None),
        ("/v1/embeddings", {"input": "w5", "prompt_name": "x"}, 400, "prompt_name"),
        ("/v1/score", {"model": "ranker", "text_1": ["w5", "w6"], "text_2": ["w7"]}, 400, "text_2"),
        (
            "/v1/rerank",
            {"query": "w5", "documents": ["w6"], "max_tokens_per_doc": 9},
            400,
            "max_tokens_per_doc",
        ),
        ("/v1/classify", {"model": "ranker", "input": []}, 400, "input"),
        ("/v1/completions", {"model": "embedder", "prompt": "w5"}, 404, "model"),
    ],
)  # fmt: skip
def test_requests_that_cannot_be_answered(client, path, body, status, param) -> None:
    answer = client.post(path, json=body)
    assert answer.status_code == status, answer.text
    assert answer.json()["error"]["param"] == param


def test_answers_that_would_be_too_large(client, monkeypatch) -> None:
    monkeypatch.setattr("lepton.server.embeddings.MOST_VALUES", 3 * 32)
    answer = client.post("/v1/embeddings", json={"model": "embedder", "input": ["w5"] * 4})
    assert answer.status_code == 400
    assert "at most 3 inputs at a time" in answer.json()["error"]["message"]
    post(client, "/v1/embeddings", model="embedder", input=["w5"] * 4, dimensions=24)


def test_labels_that_hold_independently(tmp_path) -> None:
    labels = {0: "rude", 1: "angry", 2: "spam"}
    save_bert(
        tmp_path, "BertForSequenceClassification", id2label=labels,
        problem_type="multi_label_classification",
    )  # fmt: skip
    with LLM(tmp_path, threads=1) as llm:
        (expected,) = llm.classify("w5 w6")

    def load() -> dict[str, AsyncEncoder]:
        engine = EncoderEngine(load_encoder(tmp_path), EngineConfig(threads=1))
        return {"moderator": AsyncEncoder(engine)}

    with TestClient(create_app(None, encoders=load), base_url="http://localhost") as client:
        deadline = time.monotonic() + 60
        while client.get("/readyz").status_code != 200:
            assert time.monotonic() < deadline
        (entry,) = post(client, "/v1/classify", input="w5 w6")["data"]
        (all_of_them,) = post(client, "/v1/classify", input="w5 w6", threshold=0)["data"]
    assert entry["scores"] == pytest.approx(expected)
    assert entry["label"] == max(expected, key=expected.__getitem__)
    assert entry["labels"] == [label for label, score in expected.items() if score >= 0.5]
    assert all_of_them["labels"] == list(labels.values())


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/embeddings", {"model": "embedder", "input": "w5"}),
        ("/v1/rerank", {"model": "ranker", "query": "w5", "documents": ["w6"]}),
        ("/v1/score", {"model": "ranker", "text_1": "w5", "text_2": "w6"}),
        ("/v1/classify", {"model": "classifier", "input": "w5"}),
    ],
)
async def test_a_client_that_leaves_ends_its_work(folders, path, body) -> None:
    """The encoder never gets a turn, so that the request can only end by being dropped."""
    name = body["model"]
    encoder = AsyncEncoder(EncoderEngine(load_encoder(folders[name]), EngineConfig(threads=1)))
    stopped = asyncio.Event()

    async def never(*_: object) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            stopped.set()

    encoder._compute = never
    app = create_app(None, encoders=lambda: {name: encoder})
    messages = [
        {"type": "http.request", "body": json.dumps(body).encode(), "more_body": False},
        {"type": "http.disconnect"},
    ]

    async def receive() -> dict:
        return messages.pop(0) if messages else await asyncio.Event().wait()

    async def send(_message: object) -> None: ...

    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "POST",
        "path": path, "raw_path": path.encode(), "query_string": b"", "root_path": "",
        "scheme": "http", "server": ("localhost", 80), "client": ("127.0.0.1", 1),
        "headers": [(b"host", b"localhost"), (b"content-type", b"application/json")],
        "state": {},
    }  # fmt: skip
    async with app.router.lifespan_context(app):
        while not app.state.context.encoders:
            await asyncio.sleep(0.01)
        with suppress(ClientDisconnect):
            await asyncio.wait_for(app(scope, receive, send), timeout=60)
    assert stopped.is_set()


def test_only_models_that_are_fit_are_offered(client) -> None:
    answer = client.post("/v1/classify", json={"model": "nobody", "input": "w5"})
    assert answer.json()["error"]["message"].endswith("as 'model': classifier.")


def test_models_and_metrics(client) -> None:
    listed = {entry["id"]: entry for entry in client.get("/v1/models").json()["data"]}
    assert {name: entry["task"] for name, entry in listed.items()} == {
        "embedder": "embed",
        "classifier": "classify",
        "ranker": "rank",
    }
    post(client, "/v1/embeddings", model="embedder", input="w5")
    metrics = client.get("/metrics").text
    assert 'lepton_encoder_tokens_total{model_name="embedder"}' in metrics


def test_a_decoder_ranks_over_http(tmp_path) -> None:
    folder = tmp_path / "Qwen3-Reranker-tiny"
    folder.mkdir()
    save_reranker(folder)
    documents = ["w9 yes", "w60 w61", "no w8"]

    def load() -> dict[str, AsyncEncoder]:
        return {"judge": AsyncEncoder(EncoderEngine(load_encoder(folder), EngineConfig(threads=1)))}

    with LLM(folder, threads=1) as llm:
        expected = llm.rerank("w9", documents)
    with TestClient(create_app(None, encoders=load), base_url="http://localhost") as client:
        deadline = time.monotonic() + 60
        while client.get("/readyz").status_code != 200:
            assert time.monotonic() < deadline
        answer = post(client, "/v1/rerank", query="w9", documents=documents)
    assert [(each["index"], each["relevance_score"]) for each in answer["results"]] == [
        (each.index, each.score) for each in expected
    ]


def test_an_encoder_whose_step_hangs_turns_livez_red_and_its_end_green(folders) -> None:
    released = threading.Event()
    encoder = AsyncEncoder(EncoderEngine(load_encoder(folders["embedder"]), EngineConfig()))
    forward = encoder.engine.forward

    def hanging(*arguments):
        released.wait(60)
        return forward(*arguments)

    encoder.engine.forward = hanging  # type: ignore[method-assign]
    app = create_app(None, ServerSettings(liveness_seconds=0.1), encoders=lambda: {"e": encoder})
    with TestClient(app, base_url="http://localhost") as client:
        wait_for_status(client, "/readyz", 200)
        body = {"model": "e", "input": "x"}
        asking = threading.Thread(target=lambda: client.post("/v1/embeddings", json=body))
        asking.start()
        wait_for_status(client, "/livez", 503)
        assert "'e' has been in one step" in client.get("/livez").json()["reason"]
        assert client.get("/readyz").status_code == 503
        released.set()
        asking.join(60)
        assert client.get("/livez").status_code == 200


def test_an_encoder_whose_loop_has_ended_turns_livez_red(folders) -> None:
    encoder = AsyncEncoder(EncoderEngine(load_encoder(folders["embedder"]), EngineConfig()))
    app = create_app(None, encoders=lambda: {"e": encoder})
    with TestClient(app, base_url="http://localhost") as client:
        wait_for_status(client, "/livez", 200)
        encoder.close()
        wait_for_status(client, "/livez", 503)


def wait_for_status(client: TestClient, path: str, status: int) -> None:
    deadline = time.monotonic() + 60
    while client.get(path).status_code != status:
        assert time.monotonic() < deadline
        time.sleep(0.02)
