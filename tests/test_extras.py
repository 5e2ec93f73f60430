from __future__ import annotations

import json

import pytest

from lepton.errors import ConfigurationError
from lepton.extras import import_extra


def test_what_is_installed_is_imported() -> None:
    assert import_extra("json") is json


def test_what_is_not_installed_is_told_with_the_extra() -> None:
    with pytest.raises(ConfigurationError, match=r"no_such_library.*lepton-engine\[train\]"):
        import_extra("no_such_library.part", "train")
