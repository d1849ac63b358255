"""docs/en/reference: what the pages show is what happens."""

from pathlib import Path

import pytest

from tests.docs.running import EN, complaints, pages

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("page", pages("reference"))
def test_a_page_shows_what_happens(page: str, tmp_path: Path) -> None:
    assert not (found := complaints(EN / page, tmp_path)), "\n\n".join(found)
