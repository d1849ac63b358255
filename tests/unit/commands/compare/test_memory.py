import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ruamel.yaml import YAML

from headstart.commands.compare import memory as module
from headstart.commands.compare.answers import Answers
from headstart.commands.compare.candidates import Candidate, make_candidates
from headstart.commands.compare.halving import Merit, Trial
from headstart.commands.compare.memory import Memory
from headstart.commands.compare.reading import Images
from headstart.commands.compare.results import Outcome

MERIT = Merit(
    validation_accuracy=0.9, multiply_adds=10, trained_parameters=5, validation_log_loss=0.2
)
OUTCOME = Outcome(
    head="logistic",
    merit=MERIT,
    held_out=Answers(
        images=np.array(["c" * 64]),
        right=np.array([1.0]),
        losses=np.array([0.2]),
        groups=np.array([-1]),
    ),
    accuracy=0.75,
    interval=(0.5, 1.0),
    predictions=Answers(
        images=np.array(["a" * 64, "b" * 64]),
        right=np.array([1.0, 0.0]),
        losses=np.array([0.1, 0.9]),
        groups=np.array([-1, 3]),
    ),
    parameters=7,
    rows=12,
    images=12,
    classes=2,
    refit=True,
    training_seconds=1.5,
)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with photos that were not touched for an hour."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos" / "cat").mkdir(parents=True)
    (tmp_path / "photos" / "cat" / "1.jpg").write_text("one")
    # The time of the last change cannot be put back, but the clock of who looks can be ahead.
    now = time.time_ns()
    monkeypatch.setattr(module.time, "time_ns", lambda: now + 10**10)
    return tmp_path


@pytest.fixture
def candidates(project: Path) -> list[Candidate]:
    content: dict[str, Any] = YAML().load(Path(__file__).parents[4] / "params.yaml")
    content["prepare"]["source"] = "photos"
    content["extract"]["weights"] = "random"
    return make_candidates(["LeNet5", "AlexNet"], [], content)


def remember(candidates: list[Candidate], tree: str = "tree", *names: str) -> Memory:
    made = {candidate.experiment(tree) for candidate in candidates}
    return Memory(tree, made | set(names), Path("cache").absolute())


def test_what_was_found_comes_back_to_its_candidate(candidates: list[Candidate]) -> None:
    one, other = candidates
    memory = remember(candidates)
    assert memory.outcome(one) is None
    memory.put_outcome(one, OUTCOME)
    memory.put_trial(one, 0.1, {"dense"}, Trial(MERIT, OUTCOME.predictions))
    memory.put_images(one, Images(7, 3, 2))
    later = remember(candidates)
    found = later.outcome(one)
    assert found is not None
    assert found.as_json() == OUTCOME.as_json()
    assert found.interval == (0.5, 1.0)
    assert found.predictions.images.tolist() == OUTCOME.predictions.images.tolist()
    assert later.outcome(other) is None
    trial = later.trial(one, 0.1, {"dense"})
    assert trial is not None
    assert trial.merit == MERIT
    assert trial.answers.as_json() == OUTCOME.predictions.as_json()
    assert later.trial(one, 0.1, set()) is None
    assert later.trial(one, 0.3, {"dense"}) is None
    assert later.trial(other, 0.1, {"dense"}) is None
    assert later.images(one) == Images(7, 3, 2)
    assert later.images(other) is None


def test_an_outcome_without_its_experiment_is_none(candidates: list[Candidate]) -> None:
    remember(candidates).put_outcome(candidates[0], OUTCOME)
    assert remember(candidates[1:]).outcome(candidates[0]) is None


def test_another_baseline_is_another_comparison(candidates: list[Candidate]) -> None:
    remember(candidates).put_outcome(candidates[0], OUTCOME)
    assert remember(candidates, "other tree").outcome(candidates[0]) is None


def test_photos_that_have_changed_are_noticed(candidates: list[Candidate]) -> None:
    remember(candidates).put_outcome(candidates[0], OUTCOME)
    Path("photos/cat/2.jpg").write_text("two")
    assert remember(candidates).outcome(candidates[0]) is None


def test_photos_of_this_very_moment_may_still_change(
    candidates: list[Candidate], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        module.time, "time_ns", Path("photos/cat/1.jpg").stat().st_ctime_ns.conjugate
    )
    remember(candidates).put_outcome(candidates[0], OUTCOME)
    monkeypatch.undo()
    assert not (Path("cache") / "comparisons").exists()


def test_other_code_finds_nothing(
    candidates: list[Candidate], monkeypatch: pytest.MonkeyPatch
) -> None:
    remember(candidates).put_outcome(candidates[0], OUTCOME)
    monkeypatch.setattr(module, "_code", lambda: "other")
    assert remember(candidates).outcome(candidates[0]) is None
