"""What checking photos has found is kept, and never taken for what it is not."""

import os
import sqlite3
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headstart.common.cache import INSPECTIONS
from headstart.dataset.duplicates import DESCRIPTION_LENGTH
from headstart.dataset.file_states import FileState, state_of
from headstart.dataset.inspections import Inspected, Inspections


def inspected(number: int) -> Inspected:
    generator = np.random.default_rng(number)
    description = generator.normal(size=DESCRIPTION_LENGTH).astype(np.float16)
    remark = "dark" if number % 2 else ""
    return Inspected(f"{number:064x}", 3 + number, 4, description, number / 8, remark)


def state(number: int) -> FileState:
    return FileState(1, number, 100, 5, 6)


FOUND = {state(number): inspected(number) for number in range(40)}


def same(one: Inspected, other: Inspected) -> bool:
    return one[:3] == other[:3] and one[4:] == other[4:] and bytes(one[3]) == bytes(other[3])


@pytest.fixture
def filled(tmp_path: Path) -> Path:
    with Inspections(tmp_path) as inspections:
        inspections.add(FOUND)
    return tmp_path


def database(cache: Path) -> Path:
    (path,) = (cache / INSPECTIONS).glob("*/*.sqlite")
    return path


def test_what_is_added_is_found_again_by_state_alone(filled: Path) -> None:
    other = [state(1)._replace(changed_ns=7), state(2)._replace(size=99), state(99)]
    with Inspections(filled) as inspections:
        found = inspections.find([*FOUND, *other])
    assert found.keys() == FOUND.keys()
    assert all(same(found[one], FOUND[one]) for one in FOUND)


def test_any_write_changes_a_files_state(tmp_path: Path) -> None:
    photo = tmp_path / "a.jpg"
    photo.write_bytes(b"one")
    before = state_of(str(photo))
    assert before is not None
    assert not before.is_settled(time.time_ns())
    assert before.is_settled(time.time_ns() + 10**10)
    time.sleep(0.02)
    photo.write_bytes(b"two")
    os.utime(photo, ns=(before.modified_ns, before.modified_ns))
    assert state_of(str(photo)) != before
    assert state_of(str(tmp_path / "gone.jpg")) is None
    assert state_of("a\0b") is None


@settings(max_examples=60, deadline=None, derandomize=True, database=None)
@given(
    place=st.floats(0, 1, exclude_max=True),
    change=st.binary(min_size=1, max_size=64),
    cut=st.booleans(),
)
def test_damage_hides_or_leaves_what_was_found(place: float, change: bytes, cut: bool) -> None:
    with tempfile.TemporaryDirectory() as folder:
        with Inspections(Path(folder)) as inspections:
            inspections.add(FOUND)
        path = database(Path(folder))
        data = bytearray(path.read_bytes())
        start = int(place * len(data))
        data[start : start + len(change)] = change
        path.write_bytes(data[:start] if cut else data)
        with Inspections(Path(folder)) as inspections:
            found = inspections.find(list(FOUND))
            assert all(same(one, FOUND[of]) for of, one in found.items())
            inspections.add(FOUND)
        with Inspections(Path(folder)) as inspections:
            again = inspections.find(list(FOUND))
            assert all(same(one, FOUND[of]) for of, one in again.items())


def test_a_folder_that_takes_no_database_is_done_without(tmp_path: Path) -> None:
    (tmp_path / INSPECTIONS).write_text("a file where a folder should be")
    with Inspections(tmp_path / "other") as inspections:
        database(tmp_path / "other").unlink()
    database_folder = next((tmp_path / "other" / INSPECTIONS).iterdir())
    (database_folder / "table.sqlite").mkdir()
    with Inspections(tmp_path / "other") as inspections:
        inspections.add(FOUND)
        assert inspections.find(list(FOUND)) == {}


def test_another_process_that_writes_for_long_is_not_waited_for(filled: Path) -> None:
    holder = sqlite3.connect(database(filled), isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    try:
        with Inspections(filled, patience=0.1) as inspections:
            assert inspections.find(list(FOUND)) == {}
            inspections.add(FOUND)
    finally:
        holder.close()
