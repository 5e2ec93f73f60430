"""Results of encoders: one machine a file, and tables that say who is how much faster."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import pytest
from bench.encoders.command import run_encoders
from bench.encoders.report import report
from bench.encoders.texts import Workload, cut_texts
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace

from lepton.models.tokenizer.text_encoder import TextEncoder

RESULTS = {
    "machine": {"processor": "Example 1", "instruction_set": "avx2", "threads": 2},
    "models": {
        "all-minilm-l6-v2": {
            "headlines": {
                "lepton int16": {"value": 300.0, "cosine": 0.99999},
                "lepton int8": {"value": 400.0, "cosine": 0.998},
                "onnxruntime float32": {"value": 200.0, "cosine": 1.0},
            },
            "query": {
                "lepton int16": {"value": 2.0, "cosine": 0.99999},
                "onnxruntime float32": {"value": 5.0, "cosine": 1.0},
            },
        }
    },
}


def test_the_fastest_comes_first_with_how_many_times_as_fast_we_are() -> None:
    page = report(RESULTS)
    assert "Example 1 with avx2, 2 threads" in page
    assert page.index("| lepton int8 | 400.00") < page.index("| lepton int16 | 300.00")
    assert "| onnxruntime float32 | 200.00 | 1.50 | 2.00 | 1.00000 |" in page
    assert "| onnxruntime float32 | 5.00 | 2.50 | 1.00000 |" in page


def test_results_of_another_machine_are_not_added_to(tmp_path: Path) -> None:
    file = tmp_path / "results.json"
    file.write_text(json.dumps(RESULTS))
    arguments = argparse.Namespace(results=file, models="", workloads="", rounds=1, together=False)
    with pytest.raises(SystemExit, match=r"another machine \(Example 1, avx2, 2\)"):
        run_encoders(arguments, lambda _: None)
    assert json.loads(file.read_text()) == RESULTS


def test_texts_are_cut_to_the_length_of_their_workload() -> None:
    library = Tokenizer(WordLevel({"word": 0, "[UNK]": 1}, unk_token="[UNK]"))
    library.pre_tokenizer = Whitespace()
    long = "word " * 300
    workload = Workload("articles", "", (long, "word word"), 256, 1)
    first, second = cut_texts(workload, TextEncoder(library))
    assert second == "word word"
    assert len(first.split()) == 248
    assert long.startswith(first)
