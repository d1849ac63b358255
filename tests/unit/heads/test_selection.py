from collections.abc import Iterator

import numpy as np
import pytest

from headstart.heads import selection
from headstart.heads.linear import Linear
from headstart.heads.selection import SettingFit, choose
from headstart.scoring.choosing import HeldOut, dealt

N_IMAGES, N_CLASSES = 400, 3
MODEL = Linear(np.zeros((2, N_CLASSES), np.float32), np.zeros(N_CLASSES, np.float32))


@pytest.fixture(scope="module")
def held_out() -> HeldOut:
    label = np.arange(N_IMAGES) % N_CLASSES
    unit = np.arange(N_IMAGES)
    return HeldOut(label=label, unit=unit, part=dealt(label, unit, 0), weight=np.ones(N_IMAGES))


def steps(held_out: HeldOut) -> Iterator[list[SettingFit]]:
    """A path that gets better, then worse: noise around the truth."""
    for setting, noise in enumerate((3.0, 1.5, 0.9, 0.8, 0.9, 2.0, 5.0)):
        rng = np.random.default_rng(setting)
        logits = np.eye(N_CLASSES)[held_out.label] + noise * rng.standard_normal(
            (N_IMAGES, N_CLASSES)
        )
        yield [SettingFit(float(setting), logits.astype(np.float32), MODEL)]


def test_temperatures_that_decide_nothing_change_nothing(
    monkeypatch: pytest.MonkeyPatch, held_out: HeldOut
) -> None:
    whole = choose(steps(held_out), held_out, "l2", None)
    fitted = []

    def counted(*args: object) -> float | None:
        fitted.append(args)
        return fit_temperature(*args)

    fit_temperature = selection.fit_temperature
    monkeypatch.setattr(selection, "fit_temperature", counted)
    monkeypatch.setattr(selection, "_TOLD", 0)
    lazy = choose(steps(held_out), held_out, "l2", None)
    assert lazy.setting == whole.setting
    assert lazy.temperature == whole.temperature
    np.testing.assert_array_equal(lazy.logits, whole.logits)
    np.testing.assert_array_equal(lazy.temperatures, whole.temperatures)
    assert 0 < len(fitted) < len(whole.curve)
    assert [point["accuracy"] for point in lazy.curve] == [
        point["accuracy"] for point in whole.curve
    ]
    assert all("log_loss" in point for point in whole.curve)
    assert not any("log_loss" in point for point in lazy.curve)


def test_candidates_that_are_let_go_were_not_the_best(
    monkeypatch: pytest.MonkeyPatch, held_out: HeldOut
) -> None:
    whole = choose(steps(held_out), held_out, "l2", None)
    monkeypatch.setattr(selection, "_KEPT", 0)
    assert choose(steps(held_out), held_out, "l2", None).setting == whole.setting
