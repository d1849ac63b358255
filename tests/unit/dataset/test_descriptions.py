"""Descriptions come from what `prepare` kept, or from the photo; never of another content."""

import hashlib
import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from headstart.dataset import inspecting
from headstart.dataset.descriptions import read_descriptions
from headstart.dataset.duplicates import describe, sharpness
from headstart.dataset.manifest import ManifestRow
from headstart.images import decoding


@pytest.fixture
def rows(tmp_path: Path, photo: Callable[..., np.ndarray]) -> list[ManifestRow]:
    found = []
    for number in range(4):
        path = tmp_path / f"{number}.png"
        Image.fromarray(photo(number)).save(path)
        # Long ago, so that no write can go unnoticed.
        os.utime(path, (1e9, 1e9))
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        found.append(ManifestRow(str(path), digest, "a", "train", "", 128, 96))
    return found


def test_they_are_those_of_the_photos(rows: list[ManifestRow], tmp_path: Path) -> None:
    pictures = read_descriptions(rows, tmp_path / "cache")
    assert pictures.unusable == []
    for row, description, sharp in zip(rows, *pictures[:2], strict=True):
        thumbnail = decoding.inspect(Path(row.path).read_bytes(), 64).thumbnail
        np.testing.assert_array_equal(description, describe(thumbnail))
        assert sharp == sharpness(thumbnail) > 0


def test_what_is_kept_is_not_read_again(
    rows: list[ManifestRow], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The status of the files must be older than a step of the clock.
    later = time.time_ns() + 10**10
    monkeypatch.setattr(time, "time_ns", lambda: later)
    first = read_descriptions(rows, tmp_path / "cache")
    monkeypatch.setattr(inspecting, "inspect_file", None)
    again = read_descriptions(rows, tmp_path / "cache")
    np.testing.assert_array_equal(again.descriptions, first.descriptions)
    np.testing.assert_array_equal(again.sharpness, first.sharpness)
    assert again.unusable == []


@pytest.mark.parametrize("kept", [False, True])
def test_gone_changed_and_damaged_photos_are_told(
    rows: list[ManifestRow], tmp_path: Path, kept: bool
) -> None:
    if kept:
        read_descriptions(rows, tmp_path / "cache")
    Path(rows[0].path).unlink()
    Path(rows[1].path).write_bytes(Path(rows[3].path).read_bytes())
    Path(rows[2].path).write_bytes(b"no image")
    descriptions, _, unusable = read_descriptions(rows, tmp_path / "cache")
    assert unusable == [0, 1, 2]
    assert descriptions.any(axis=1).tolist() == [False, False, False, True]
