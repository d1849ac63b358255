from dataclasses import dataclass, field

import numpy as np
import pytest

from headstart.commands.advise.search import Found, Judged, search
from headstart.commands.advise.strategies import Arm, Size

CHEAP, DEAR, DEARER = (
    Arm(unfreeze=unfreeze, cut="top", l2=1.0, learning_rate=rate)
    for unfreeze, rate in (("last_block", 1e-3), ("all", 1e-3), ("all", 3e-4))
)
SECONDS = {CHEAP: 0.001, DEAR: 0.01, DEARER: 0.01}


@dataclass
class FakeLab:
    """Pilots that gain what they are told to and last `slower` times as long as predicted."""

    gains: dict[Arm, float]
    slower: float = 1.0
    noise: float = 0.02
    ran: list[tuple[Arm, Size, int]] = field(default_factory=list)

    def full_size(self, arm: Arm) -> Size:
        return Size(images=400, epochs=20)

    def seconds(self, arm: Arm, size: Size) -> float:
        return 1.0 + SECONDS[arm] * size.passes

    def pilot(self, arm: Arm, size: Size, fold: int) -> Judged:
        self.ran.append((arm, size, fold))
        draws = np.random.default_rng([fold, len(self.ran)]).normal(0, self.noise, 100)
        return Judged(
            gains=draws - draws.mean() + self.gains[arm],
            right=np.ones(100, bool),
            losses=np.zeros(100),
            units=np.arange(100) + 100 * fold,
            seconds=self.slower * self.seconds(arm, size),
        )


def run(lab: FakeLab, minutes: float, n_folds: int = 5) -> Found:
    return search(list(lab.gains), n_folds, minutes, lab)


def test_the_best_is_found_and_the_others_are_given_up() -> None:
    lab = FakeLab({CHEAP: 0.01, DEAR: 0.05, DEARER: 0.03})
    found = run(lab, 60)
    assert found.best is not None
    assert found.best.arm == DEAR
    assert found.best.gain == pytest.approx(0.05)
    assert found.why == "the gain is beyond doubt"
    rounds = {trial.arm: trial.rounds for trial in found.trials}
    assert rounds[CHEAP] == 1
    assert rounds[DEARER] == 2
    # There was time for whole runs.
    assert {size for _, size, _ in lab.ran} == {Size(images=400, epochs=20)}


def test_what_surely_gains_nothing_ends_the_search() -> None:
    found = run(FakeLab({CHEAP: -0.05, DEAR: -0.1}), 60)
    assert found.best is None
    assert len(found.trials) == 2
    assert found.why == "none gains what would be worth it"


def test_doubt_is_settled_on_other_images() -> None:
    found = run(FakeLab({DEAR: 0.004}, noise=0.1), 60)
    assert found.trials[0].rounds == 5
    assert found.trials[0].images == 500
    assert found.why == "every fold was used"


def test_less_time_makes_shorter_pilots() -> None:
    lab = FakeLab({CHEAP: 0.0, DEAR: 0.0}, noise=0.1)
    found = run(lab, 2)
    assert found.seconds <= 120
    assert {size for _, size, _ in lab.ran} == {Size(images=400, epochs=10)}


def test_one_round_of_the_shortest_rather_than_two_of_fewer() -> None:
    lab = FakeLab({CHEAP: 0.01, DEAR: 0.02, DEARER: 0.03})
    # 2,000 images through training steps each: 3 + 21 + 21 seconds.
    found = run(lab, 46 / 60)
    assert {arm for arm, _, _ in lab.ran} == {CHEAP, DEAR, DEARER}
    assert {fold for _, _, fold in lab.ran} == {0}
    assert found.left_out == ()


def test_what_does_not_fit_is_said() -> None:
    lab = FakeLab({CHEAP: 0.03, DEAR: 0.0, DEARER: 0.0})
    found = run(lab, 0.5)
    assert [arm for arm, _ in found.left_out] == [DEARER]
    assert {arm for arm, _, _ in lab.ran} == {CHEAP, DEAR}
    nothing = run(FakeLab({DEAR: 0.03}), 0.1)
    assert nothing.best is None
    assert nothing.why == "no pilot fits into the time"
    assert nothing.left_out == ((DEAR, pytest.approx(21 / 60)),)


def test_pilots_that_take_longer_than_predicted_do_not_exceed_the_limit_by_many() -> None:
    lab = FakeLab({CHEAP: 0.02, DEAR: 0.02, DEARER: 0.02}, slower=4.0, noise=0.1)
    found = run(lab, 4)
    assert found.seconds < 2 * 240
    assert [arm for arm, _ in found.left_out] == [DEARER]


def test_one_fold_is_one_round() -> None:
    lab = FakeLab({CHEAP: 0.02, DEAR: 0.04}, noise=0.01)
    found = run(lab, 60, n_folds=1)
    assert found.best is not None
    assert found.best.arm == DEAR
    assert len(lab.ran) == 2
