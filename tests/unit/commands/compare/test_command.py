import importlib.util
from typing import Any

import pytest

from headstart.commands import cli


def test_without_its_extra_it_says_so_before_it_runs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    find = importlib.util.find_spec

    def without_matplotlib(name: str, *rest: Any) -> Any:
        return None if name == "matplotlib" else find(name, *rest)

    monkeypatch.setattr(importlib.util, "find_spec", without_matplotlib)
    assert cli.main(["compare", "ResNet50"]) == 1
    assert "run `pip install 'headstart[compare]'`" in capsys.readouterr().err
