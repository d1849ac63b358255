"""What tells the stage `pretrain` that its source has changed."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from headstart.common.errors import InputError
from headstart.dataset import file_states
from headstart.dataset.prepared import write_source_state
from headstart.pretraining.options import SOURCE_KEY, PretrainOptions

RUN = {"backbone": "LeNet5", "seed": 0}


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for label in ("a", "b"):
        folder = tmp_path / "photos" / label
        folder.mkdir(parents=True)
        for index in range(2):
            pixels = rng.integers(0, 256, (8, 8, 3), np.uint8)
            Image.fromarray(pixels).save(folder / f"{index}.png")
    return tmp_path / "photos"


def _state(tmp_path: Path, source: Path | str, *objectives: str) -> str:
    runs = {f"r{n}": {**RUN, "objective": name} for n, name in enumerate(objectives)}
    options = PretrainOptions.model_validate({"source": str(source), "runs": runs})
    path = tmp_path / "state.txt"
    write_source_state(options.source, SOURCE_KEY, options.listings, path)
    return path.read_text()


def test_it_differs_when_a_photo_changed_and_only_then(
    tmp_path: Path, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file_states, "_STEP_NS", -(10**15))  # files settle at once
    first = _state(tmp_path, photos, "classify")
    assert _state(tmp_path, photos, "classify") == first
    photo = photos / "a" / "0.png"
    before = photo.stat()
    photo.write_bytes(photo.read_bytes()[::-1])
    os.utime(photo, ns=(before.st_atime_ns, before.st_mtime_ns))
    changed = _state(tmp_path, photos, "classify")
    assert changed != first
    photo.unlink()
    assert _state(tmp_path, photos, "classify") not in (first, changed)


def test_a_photo_written_just_now_is_looked_at_again(tmp_path: Path, photos: Path) -> None:
    assert _state(tmp_path, photos, "classify") != _state(tmp_path, photos, "classify")


def test_images_without_classes_count_for_runs_that_need_none(
    tmp_path: Path, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file_states, "_STEP_NS", -(10**15))
    first = _state(tmp_path, photos, "reconstruct")
    (photos / "a" / "0.png").rename(photos / "loose.png")
    assert _state(tmp_path, photos, "reconstruct") != first
    assert len(_state(tmp_path, photos, "reconstruct", "classify").splitlines()) == 2


def test_a_source_that_is_missing_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^pretrain\.source: .* does not exist"):
        _state(tmp_path, tmp_path / "none", "classify")


@pytest.mark.parametrize("source", ["data/manifest.csv", "no/such/folder"])
def test_what_nothing_reads_is_not_looked_at(tmp_path: Path, source: str) -> None:
    runs = ("classify",) if source.startswith("data/") else ()
    assert _state(tmp_path, source, *runs) == "not read\n"
