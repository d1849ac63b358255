"""README.md: what it shows is what happens."""

from pathlib import Path

import pytest

from docs.sandbox import ROOT
from tests.docs.running import complaints

pytestmark = pytest.mark.slow


def test_it_shows_what_happens(tmp_path: Path) -> None:
    assert not (found := complaints(ROOT / "README.md", tmp_path)), "\n\n".join(found)
