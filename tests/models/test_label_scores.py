"""What the outputs of classification heads become, by the problem they were trained for."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers

from lepton.engine import LLM
from lepton.errors import ModelFormatError
from lepton.models.encoder_loader import load_encoder

sys.path.append(str(Path(__file__).parent))
from encoder_samples import save_bert, tokenizer

TEXT = "w5 w6 w7"


def logits_of(folder: Path) -> torch.Tensor:
    network = transformers.BertForSequenceClassification.from_pretrained(folder).eval()
    with torch.no_grad():
        return network(torch.tensor([tokenizer().encode(TEXT).ids])).logits[0]


@pytest.mark.parametrize(
    ("problem", "labels", "function"),
    [
        ("multi_label_classification", 3, torch.sigmoid),
        ("single_label_classification", 3, lambda logits: logits.softmax(-1)),
        (None, 3, lambda logits: logits.softmax(-1)),
        ("regression", 3, lambda logits: logits),
        ("regression", 1, lambda logits: logits),
        (None, 1, torch.sigmoid),
    ],
)
def test_scores_follow_the_problem(problem, labels, function, tmp_path) -> None:
    kind = "BertForSequenceClassification"
    folder = save_bert(tmp_path, kind, num_labels=labels, problem_type=problem)
    with LLM(folder, dtype="float32", threads=1) as llm:
        (found,) = llm.classify(TEXT)
    np.testing.assert_allclose(list(found.values()), function(logits_of(folder)), atol=2e-5)


def test_an_unknown_problem_is_refused(tmp_path) -> None:
    folder = save_bert(tmp_path, "BertForSequenceClassification")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"problem_type": "ordinal"}))
    with pytest.raises(ModelFormatError, match="'problem_type' is 'ordinal'"):
        load_encoder(folder)
