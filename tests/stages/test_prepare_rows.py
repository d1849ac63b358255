"""No file is lost without a word: whatever a source holds, each is used or told."""

import csv
import io
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from headstart.common import places
from headstart.dataset.options import PrepareOptions
from headstart.dataset.walking import is_passed_over
from pipeline import prepare

CLASSES = ("cat", "dog", "고양이", "01")
SPLITS = ("train", "val", "Test")
ENDINGS = (".jpg", ".PNG", "", ".txt", ".heic", ".nef", ".tar.gz")
KINDS = ("good", "good", "good", "twin", "cut", "text", "empty", "broken link", "link", "missing")


def picture(seed: int) -> bytes:
    coarse = np.random.default_rng(seed).integers(0, 256, (5, 5, 3), np.uint8)
    stream = io.BytesIO()
    Image.fromarray(coarse).resize((40, 40), Image.Resampling.BICUBIC).save(stream, "JPEG")
    return stream.getvalue()


PICTURES = [picture(seed) for seed in range(12)]

# So that every class can be trained.
BASE = [
    (label, f"base {number}", ".jpg", "good", "train") for label in CLASSES for number in range(2)
]

files = st.lists(
    st.tuples(
        st.sampled_from(CLASSES),
        st.text("ab é강;,'\\\udce9", min_size=1, max_size=4),
        st.sampled_from(ENDINGS),
        st.sampled_from(KINDS),
        st.sampled_from(SPLITS),
    ),
    max_size=24,
).map(lambda more: [*BASE, *more])


@contextmanager
def working_in_a_new_folder() -> Iterator[Path]:
    before = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            yield Path(folder)
        finally:
            os.chdir(before)


def write(path: Path, kind: str, number: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    data = PICTURES[0 if kind == "twin" else number % len(PICTURES)]
    match kind:
        case "good" | "twin":
            path.write_bytes(data)
        case "cut":
            path.write_bytes(data[: len(data) // 2])
        case "text":
            path.write_text("no picture")
        case "empty":
            path.touch()
        case "broken link":
            path.symlink_to("nowhere")
        case "link":
            path.symlink_to(path.name)


def outcome(source: Path, near_duplicates: str) -> tuple[int, int, dict]:
    """Return rows in the two tables, and the counts."""
    options = {"validation": 0.2, "test": 0.2, "seed": 0, "max_unreadable": 1.0}
    options |= {"corrections": None, "correct": "all"}
    prepare.run(PrepareOptions(source=str(source), near_duplicates=near_duplicates, **options))
    counts = []
    for path in (places.MANIFEST, places.QUARANTINE):
        with path.open(encoding="utf-8", newline="") as file:
            counts.append(sum(1 for _ in csv.DictReader(file)))
    return counts[0], counts[1], json.loads(places.DATA_METRICS.read_text())


def check(found: tuple[int, int, dict], n_files: int) -> None:
    used, told, counts = found
    assert used + told == counts["listed"] == n_files
    assert used == counts["images"]
    assert told == counts["unreadable"] + counts["other_files"] + counts["dropped"]


@pytest.mark.parametrize("split", [False, True])
@settings(max_examples=25, deadline=None, derandomize=True, database=None)
@given(files=files, near_duplicates=st.sampled_from(["keep", "together", "drop"]))
def test_a_folder(split: bool, files: list, near_duplicates: str) -> None:
    with working_in_a_new_folder() as root:
        for number, (label, name, ending, kind, part) in enumerate(files):
            if kind != "missing":
                folder = Path("photos", part, label) if split else Path("photos", label)
                path = root / folder / f"{number} {name}{ending}"
                write(path, kind, number)
        on_disk = [
            path
            for folder, _, names in os.walk(root / "photos")
            for path in (Path(folder, name) for name in names)
            if not is_passed_over(path.name)
        ]
        check(outcome(root / "photos", near_duplicates), len(on_disk))


@settings(max_examples=40, deadline=None, derandomize=True, database=None)
@given(
    files=files,
    delimiter=st.sampled_from(",;\t"),
    near_duplicates=st.sampled_from(["keep", "together", "drop"]),
)
def test_a_table(files: list, delimiter: str, near_duplicates: str) -> None:
    with working_in_a_new_folder() as root:
        rows = []
        for number, (label, name, ending, kind, part) in enumerate(files):
            path = root / f"{number}{name}{ending}"
            write(path, kind, number)
            rows.append((path.name, label, part))
        with (root / "list.csv").open("w", encoding="utf-8", errors="replace", newline="") as file:
            writer = csv.writer(file, delimiter=delimiter)
            writer.writerow(("path", "label", "split"))
            writer.writerows(rows)
        check(outcome(root / "list.csv", near_duplicates), len(rows))
