"""The repository keeps its promises: locked versions, a Makefile that explains itself."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def _pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    return dict(line.split("==") for line in lines if line and not line.startswith("#"))


def _requirements() -> list[Requirement]:
    extras = PROJECT["project"]["optional-dependencies"].values()
    listed = [
        *PROJECT["project"]["dependencies"],
        *PROJECT["build-system"]["requires"],
        *(item for extra in extras for item in extra),
    ]
    return [Requirement(item) for item in listed]


def test_every_requirement_is_locked_to_a_version_it_allows() -> None:
    pins = _pins()
    for requirement in _requirements():
        name = canonicalize_name(requirement.name)
        if name != "lepton-engine":
            assert name in pins, f"run make lock: {name} is missing"
            assert requirement.specifier.contains(pins[name]), requirement


def test_locked_versions_carry_no_local_label() -> None:
    assert all(re.fullmatch(r"[0-9][0-9a-z.]*", version) for version in _pins().values())


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
def test_make_alone_explains_every_target() -> None:
    printed = subprocess.run(
        ["make", "--no-print-directory"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    makefile = (ROOT / "Makefile").read_text().replace("\\\n", "")
    declared = re.search(r"^\.PHONY: (.+)$", makefile, re.MULTILINE)
    assert declared is not None
    for target in declared.group(1).split():
        assert re.search(rf"^  {target} +\S", printed, re.MULTILINE), target


def test_missing_packages_are_named_to_those_who_may_not_install_them(tmp_path: Path) -> None:
    def program(name: str, script: str) -> str:
        path = tmp_path / name
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
        return str(path)

    program("id", "echo 1000")
    lame = program("python", "exit 1")

    def need(python: str, *packages: str) -> subprocess.CompletedProcess[str]:
        environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "PYTHON": python}
        command = [str(ROOT / "scripts" / "need.sh"), *packages]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)

    assert need(sys.executable, "python3-venv").returncode == 0
    refused = need(lame, "python3-venv", "no-such-package")
    assert refused.returncode == 1
    assert refused.stderr.endswith("apt-get install python3-venv no-such-package\n")


def test_importing_lepton_stays_light() -> None:
    script = "import sys, lepton; print(*sys.modules)"
    result = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    loaded = set(result.stdout.split())
    heavy = {"fastapi", "numpy", "rich", "sqlalchemy", "tokenizers", "torch", "typer", "uvicorn"}
    assert not heavy & loaded
