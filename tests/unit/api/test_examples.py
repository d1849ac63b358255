"""The examples in the docstrings of the public names, run as they stand."""

import doctest
import importlib

import pytest


@pytest.mark.parametrize("module", ["features", "listing", "model", "table"])
def test_examples_run(module: str) -> None:
    found = doctest.testmod(importlib.import_module(f"headstart.api.{module}"))
    assert found.attempted > 0
    assert found.failed == 0
