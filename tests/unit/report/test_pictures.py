"""Small pictures are made once, and are those of the photos as they lie there now."""

import base64
import io
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from headstart.common.vocabulary import Sizing
from headstart.report import thumbnails as making
from headstart.report.pictures import as_seen, thumbnails


@pytest.fixture
def paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Photos that were written a while ago, and an empty cache."""
    monkeypatch.setenv("HEADSTART_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("headstart.dataset.file_states._STEP_NS", 0)
    rng = np.random.default_rng(0)
    found = []
    for number in range(3):
        path = tmp_path / f"{number}.png"
        Image.fromarray(rng.integers(0, 256, (150, 200, 3), dtype=np.uint8)).save(path)
        found.append(str(path))
    return found


def refuse(paths: list[str], _make: object) -> list[bytes]:
    raise AssertionError(f"{paths}: made again")


def test_a_second_time_none_is_made_and_all_are_the_same(
    paths: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    sizing = Sizing((50, 60))
    first = thumbnails(paths), as_seen(paths[:2], sizing, 30)
    monkeypatch.setattr(making, "each", refuse)
    assert thumbnails(paths[::-1]) == first[0][::-1]
    assert as_seen(paths[:2], sizing, 30) == first[1]
    assert len({*first[0], *first[1]}) == 5


def test_pictures_as_seen_have_the_sizing_and_the_side_asked_for(paths: list[str]) -> None:
    found = [
        as_seen(paths[:1], Sizing((50, 60)), 30)[0],
        as_seen(paths[:1], Sizing((60, 50)), 30)[0],
        as_seen(paths[:1], Sizing((50, 60)), 20)[0],
    ]
    data = [base64.b64decode(uri.removeprefix("data:image/webp;base64,")) for uri in found]
    assert [Image.open(io.BytesIO(one)).size for one in data] == [(30, 25), (25, 30), (20, 17)]


def test_a_photo_that_changed_or_went_is_shown_as_it_is(paths: list[str]) -> None:
    before = thumbnails(paths)
    shutil.copyfile(paths[0], paths[1])
    Path(paths[2]).unlink()
    after = thumbnails(paths)
    assert after == [before[0], before[0], ""]


def test_a_photo_written_a_moment_ago_is_not_kept(
    paths: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("headstart.dataset.file_states._STEP_NS", 10**12)
    thumbnails(paths)
    monkeypatch.setattr(making, "each", refuse)
    with pytest.raises(AssertionError, match="made again"):
        thumbnails(paths)


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may write anywhere")
def test_a_cache_that_may_only_be_read_is_done_without(
    paths: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = thumbnails(paths)
    (tmp_path / "closed").mkdir(mode=0o500)
    monkeypatch.setenv("HEADSTART_CACHE", str(tmp_path / "closed"))
    assert thumbnails(paths) == expected
