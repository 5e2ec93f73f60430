from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

from lepton.training.predict_stream import predict_stream
from lepton.training.trained_model import TrainedModel


def answers_to(run: Path, lines: list[str], source: Path, **options: Any) -> list[dict[str, Any]]:
    source.write_text("\n".join(lines))
    sink = io.BytesIO()
    with source.open("rb") as stream:
        answered = predict_stream(TrainedModel.load(run), stream, sink, **options)
    answers = [
        json.loads(line.decode("utf-8", "surrogatepass")) for line in sink.getvalue().splitlines()
    ]
    assert answered == len(answers)
    return answers


def test_a_stream_is_answered_line_by_line(linear_run: Path, tmp_path: Path) -> None:
    lines = ['{"id": 7, "text": "refund money"}', '"快递 物流"', "{", '{"id": 8}', ""]
    answers = answers_to(linear_run, lines, tmp_path / "in")
    assert len(answers) == 4
    assert answers[0]["id"] == 7
    assert [answer.get("label") for answer in answers] == ["refund", "delivery", None, None]
    assert answers[2]["error"] == "not valid JSON"
    assert answers[3] == {"id": 8, "error": "not an object with a string 'text'"}


def test_half_a_surrogate_pair_does_not_end_the_stream(linear_run: Path, tmp_path: Path) -> None:
    lines = [r'{"text": "refund \ud800"}', '"refund"']
    answers = answers_to(linear_run, lines, tmp_path / "in")
    assert [answer["label"] for answer in answers] == ["refund", "refund"]
    assert answers[0]["text"] == "refund \ud800"


def test_the_callers_own_fields_are_kept(linear_run: Path, tmp_path: Path) -> None:
    lines = ['{"text": "refund money", "label": "mine", "label_": 1}']
    (answer,) = answers_to(linear_run, lines, tmp_path / "in")
    assert answer["label"] == "mine"
    assert answer["label_"] == 1
    assert answer["label__"] == "refund"
    assert answer["probability"] > 0.5


def test_a_text_of_several_fields(linear_run: Path, tmp_path: Path) -> None:
    lines = [
        '{"title": "refund money", "body": "card\\nback"}',
        '{"body": "快递 物流"}',
        '{"title": 3}',
    ]
    answers = answers_to(linear_run, lines, tmp_path / "in", text=("title", "body"))
    assert [answer.get("label") for answer in answers] == ["refund", "delivery", None]
    assert answers[2]["error"] == "not an object with a string 'title' or 'body'"
