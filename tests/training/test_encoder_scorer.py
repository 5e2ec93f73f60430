"""How encoders are shared and released, with a stand-in for the engine."""

from __future__ import annotations

import gc
import shutil
import threading
import time
import weakref
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from lepton.training.encoder_scorer import Encoder


class Engine:
    """Embeds every text as the number in its encoder's file."""

    encoder = SimpleNamespace(dimensions=1)
    loaded = 0

    def __init__(self, model: str, context_length: int | None = None) -> None:
        self.context_length = context_length
        type(self).loaded += 1
        time.sleep(0.01)
        self._number = float((Path(model) / "weights").read_text())

    def embed(self, texts: list[str], **_: object) -> np.ndarray:
        return np.full((len(texts), 1), self._number, np.float32)


@pytest.fixture(autouse=True)
def engine(monkeypatch: pytest.MonkeyPatch) -> type[Engine]:
    monkeypatch.setattr("lepton.engine.LLM", Engine)
    monkeypatch.setattr(Engine, "loaded", 0)
    return Engine


def folder_of(path: Path, number: int) -> str:
    path.mkdir()
    (path / "weights").write_text(str(number))
    return str(path)


def test_several_encoders_stay_loaded(tmp_path: Path, engine: type[Engine]) -> None:
    encoders = [Encoder(folder_of(tmp_path / str(number), number)) for number in range(4)]
    for _ in range(3):
        for number, encoder in enumerate(encoders):
            assert encoder.embed(["a", "b"]).tolist() == [[number], [number]]
    assert engine.loaded == 4


def test_all_that_ask_share_one(
    tmp_path: Path, engine: type[Engine], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = folder_of(tmp_path / "encoder", 1)
    monkeypatch.chdir(tmp_path)
    encoders = [Encoder(name) for name in (folder, "encoder", "./encoder") * 3]
    barrier = threading.Barrier(len(encoders))

    def load(encoder: Encoder) -> object:
        barrier.wait()
        return encoder.llm

    with ThreadPoolExecutor(len(encoders)) as pool:
        assert len(set(map(id, pool.map(load, encoders)))) == 1
    assert engine.loaded == 1
    assert Encoder(folder, max_tokens=8).llm.context_length == 8
    assert engine.loaded == 2


def test_it_is_released_with_the_last_that_uses_it(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "encoder", 1)
    first, second = Encoder(folder), Encoder(folder)
    engine = weakref.ref(first.llm)
    assert second.llm is engine()
    del first
    gc.collect()
    assert engine() is not None
    del second
    gc.collect()
    assert engine() is None


def test_another_encoder_in_the_same_place_is_another(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "encoder", 1)
    old = Encoder(folder)
    assert old.embed(["a"]).tolist() == [[1]]
    shutil.rmtree(folder)
    folder_of(tmp_path / "encoder", 2)
    assert Encoder(folder).embed(["a"]).tolist() == [[2]]
    assert old.embed(["a"]).tolist() == [[1]]


def test_no_texts_have_no_vectors(tmp_path: Path) -> None:
    assert Encoder(folder_of(tmp_path / "encoder", 1)).embed([]).shape == (0, 1)
