"""The harness of bench/fuzz.py notices what it looks for, and the library passes a few cases."""

import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

BENCH = Path(__file__).parents[2] / "bench"


@pytest.fixture(scope="module", autouse=True)
def _scripts() -> None:
    # Its worker processes find the scripts by the same path.
    sys.path.insert(0, str(BENCH))


def _outcomes(judge, cases: int) -> Counter[str]:
    return Counter(judge(case).outcome for case in range(cases))


def test_a_reader_that_swallows_damage_is_noticed() -> None:
    from fuzz_images import make_judge

    from headstart.images import decoding
    from headstart.images.decoding import UnreadableImage

    def lenient(data: bytes) -> np.ndarray:
        try:
            return decoding.decode(data)
        except UnreadableImage:
            return np.zeros((48, 64, 3), np.uint8)

    def broken(data: bytes) -> np.ndarray:
        try:
            return decoding.decode(data)
        except UnreadableImage:
            raise IndexError from None

    assert _outcomes(make_judge(0, decode=lenient), 60)["disagreement"] > 10
    assert _outcomes(make_judge(0, decode=broken), 60)["traceback"] > 3
    found = _outcomes(make_judge(0), 60)
    assert found["traceback"] == found["silent"] == 0
    assert found["refused"] > 10


def _make_sleeper():
    import os

    from watchdog import Verdict

    def judge(case: int) -> Verdict:
        if case == 1:
            time.sleep(60)
        if case == 2:
            os._exit(7)
        if case == 3:
            os.write(2, b"Corrupt JPEG data\n")
        return Verdict(case, "it", "accepted", "")

    return judge


def test_hangs_crashes_and_noise_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    import watchdog

    monkeypatch.setattr(watchdog, "LIMIT", 0.5)
    found = list(watchdog.judge_all(range(5), _make_sleeper, lambda _: "it", workers=1))
    assert {one.case: one.outcome for one in found} == {
        0: "accepted", 1: "hang", 2: "crash", 3: "noise", 4: "accepted",
    }  # fmt: skip
