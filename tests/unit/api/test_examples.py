"""The examples in the docstrings of the public names, run as they stand in a finished project."""

import doctest
import importlib
from pathlib import Path

import pytest


@pytest.mark.parametrize("module", ["features", "listing", "model", "table"])
def test_examples_run(module: str, trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(trained)
    found = doctest.testmod(importlib.import_module(f"headstart.api.{module}"))
    assert found.attempted > 0
    assert found.failed == 0
