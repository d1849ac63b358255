import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from headstart.commands.compare.answers import Answers
from headstart.commands.compare.halving import Dropped, Merit
from headstart.commands.compare.picture import draw
from headstart.commands.compare.results import (
    Comparison,
    Result,
    compare,
    pareto_front,
)
from headstart.commands.compare.showing import as_csv, as_json, as_table, notes
from headstart.commands.compare.timing import PassTime

N = 200
IMAGES = np.array([f"{number:064x}" for number in range(N)])


def judged(accuracy: float, images: range = range(N)) -> Answers:
    """Answers on held-out images, of which the last are wrong."""
    n = len(images)
    right = (np.arange(n) < round(accuracy * n)).astype(np.float64)
    return Answers(
        images=np.array([f"held out {number:03}" for number in images]),
        right=right,
        losses=np.full(n, 0.1),
        groups=np.full(n, -1),
    )


def make(
    label: str,
    wrong: range,
    *,
    milliseconds: float,
    validation: float,
    multiply_adds: int = 10**9,
    images: np.ndarray = IMAGES,
    trained: int = 1000,
    seconds: float | None = None,
    held_out: Answers | None = None,
) -> Result:
    """A candidate with a share `validation` of its held-out images right, and these test images."""
    right = (~np.isin(np.arange(N), wrong)).astype(np.float64)
    accuracy = float(right.mean())
    return Result(
        label=label,
        experiment=f"compare-{label}",
        overrides={"extract.backbone": label},
        head="logistic",
        merit=Merit(
            validation_accuracy=validation,
            multiply_adds=multiply_adds,
            trained_parameters=trained,
            validation_log_loss=0.1,
        ),
        held_out=held_out or judged(validation),
        accuracy=accuracy,
        interval=(accuracy - 0.03, min(1.0, accuracy + 0.03)),
        predictions=Answers(images=images, right=right, losses=1 - right, groups=np.full(N, -1)),
        time=PassTime(milliseconds, busy=False),
        parameters=10**6,
        rows=N,
        images=N,
        classes=2,
        refit=True,
        training_seconds=seconds,
        computed=N,
        seconds=1.5,
    )


GOOD = make("good", range(4), milliseconds=8, validation=0.98)
EQUAL = make("equal", range(3, 7), milliseconds=4, validation=0.97)
BAD = make("bad", range(60, 120), milliseconds=16, validation=0.7)
LUCKY = make("lucky", range(0), milliseconds=20, validation=0.9)


def standings(*results: Result) -> tuple[dict[str, str | None], str, str]:
    marked, winner, method = compare(results)
    return {one.label: one.against_winner for one in marked}, winner, method


def test_validation_chooses_and_test_shows_ties() -> None:
    found, winner, method = standings(BAD, GOOD, EQUAL)
    assert (winner, method) == ("good", "paired interval")
    assert found == {"equal": "tie", "good": "winner", "bad": "worse"}


def test_a_better_test_score_does_not_choose() -> None:
    found, winner, _ = standings(LUCKY, BAD, make("x", range(90), milliseconds=1, validation=0.95))
    assert winner == "x"
    assert found["lucky"] == "better"


def test_of_equal_validation_scores_the_cheaper_wins() -> None:
    slow = make("slow", range(4), milliseconds=9, validation=0.98)
    assert standings(slow, GOOD)[1] == "good"
    small = make("small", range(4), milliseconds=9, validation=0.98, multiply_adds=10**8)
    assert standings(GOOD, small)[1] == "small"


def test_of_equals_that_cost_the_same_the_one_that_learned_less_wins() -> None:
    """A frozen backbone before one that was fine-tuned for nothing."""
    whole = make("whole", range(4), milliseconds=8, validation=0.98, trained=10**6)
    assert standings(whole, GOOD)[1] == "good"


def test_candidates_are_chosen_between_on_images_that_all_have_held_out() -> None:
    """A head is cross-validated on training images, too, a fine-tuned model is not."""
    # On the hard ones that both have held out 0.5, on easy ones besides 1.
    easy = make("head", range(8), milliseconds=1, validation=0.9, held_out=judged(0.9))
    hard = judged(0.7, range(160, 200))
    tuned = make("tuned", range(9), milliseconds=1, validation=0.7, held_out=hard)
    marked, winner, _ = compare([easy, tuned])
    assert winner == "tuned"
    assert {one.label: one.merit.validation_accuracy for one in marked} == {
        "head": 0.5,
        "tuned": 0.7,
    }
    assert {len(one.held_out.right) for one in marked} == {40}


def test_where_training_is_what_differs_it_is_the_cost() -> None:
    frozen = make("frozen", range(20), milliseconds=1, validation=0.8, seconds=0.3)
    tuned = make("tuned", range(10), milliseconds=1, validation=0.9, seconds=30.0)
    worse = make("worse", range(15), milliseconds=1, validation=0.9, seconds=60.0)
    marked, _, _ = compare([frozen, tuned, worse], "training")
    assert {one.label: one.on_front for one in marked} == {
        "tuned": True, "worse": False, "frozen": True,
    }  # fmt: skip


def test_other_test_images_are_compared_by_their_intervals() -> None:
    other = make("other", range(9), milliseconds=1, validation=0.5, images=IMAGES[::-1])
    found, _, method = standings(GOOD, other, BAD)
    assert method == "overlapping intervals"
    assert (found["other"], found["bad"]) == ("tie", "worse")


def test_front_and_order_are_of_test_accuracy_and_time() -> None:
    marked, _, _ = compare([BAD, GOOD, EQUAL])
    assert [one.label for one in marked] == ["equal", "good", "bad"]
    assert [one.on_front for one in marked] == [True, False, False]


def test_front_holds_what_nobody_beats() -> None:
    scores = np.array([0.9, 0.8, 0.95, 0.85, 0.7])
    costs = np.array([10.0, 5.0, 20.0, 10.0, 5.0])
    assert pareto_front(scores, costs).tolist() == [True, True, True, False, False]


def test_equals_are_on_the_front_together() -> None:
    assert pareto_front(np.array([0.9, 0.9, 0.8]), np.array([3.0, 3.0, 3.0])).tolist() == [
        True, True, False
    ]  # fmt: skip


def test_a_single_candidate_is_the_front() -> None:
    assert pareto_front(np.array([0.1]), np.array([1.0])).tolist() == [True]


@pytest.fixture(scope="module")
def comparison() -> Comparison:
    marked, winner, method = compare([BAD, GOOD, EQUAL])
    return Comparison(
        results=marked,
        winner=winner,
        method=method,
        cost="pass",
        subject="photos, 64 x 64 pixels",
        dropped=(
            Dropped(
                "poor",
                0.1,
                Merit(
                    validation_accuracy=0.625,
                    multiply_adds=3 * 10**8,
                    trained_parameters=9,
                    validation_log_loss=0.5,
                ),
                "worse",
            ),
        ),
        failed=("broken",),
        computed=1234,
        without_budget=5678,
    )


def test_json_holds_everything(comparison: Comparison) -> None:
    content = json.loads(as_json(comparison))
    assert content["winner"] == "good"
    assert content["candidates"][0]["label"] == "equal"
    assert content["candidates"][0]["megabytes"] == 4.0
    assert content["candidates"][0]["interval"] == [0.95, 1.0]
    assert content["dropped"] == [
        {
            "label": "poor",
            "share": 0.1,
            "reason": "worse",
            "validation_accuracy": 0.625,
            "multiply_adds": 300_000_000,
            "trained_parameters": 9,
            "validation_log_loss": 0.5,
        }
    ]
    assert content["forward_passes"] == {"computed": 1234, "without_budget": 5678}


def test_csv_has_a_line_per_candidate(comparison: Comparison) -> None:
    rows = list(csv.DictReader(io.StringIO(as_csv(comparison))))
    assert [row["label"] for row in rows] == ["equal", "good", "bad"]
    assert rows[1]["against_winner"] == "winner"
    assert float(rows[2]["accuracy"]) == 0.7


def test_people_read_the_rest_below_the_table(comparison: Comparison) -> None:
    table = "\n".join(line.plain for line in as_table(comparison).lines)
    assert "chosen" in table
    assert "70.0" not in table
    assert "0.700" in table
    rest = "\n".join(notes(comparison))
    assert "Chosen on 200 held-out images, of equals the cheaper: good. On test it cannot" in rest
    assert "Dropped at 10% of the images: poor, validation accuracy 0.6250, 300 M multi" in rest
    assert "log loss 0.500; the best of that round is better by more than chance" in rest
    assert "Failed, see its message above: broken" in rest
    assert "1,234 images in this run" in rest


def test_the_plot_is_a_picture_and_the_same_every_time(
    comparison: Comparison, tmp_path: Path
) -> None:
    for name in ("a.png", "b.png", "c.svg", "d.svg"):
        draw(comparison, tmp_path / name)
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.width == 1500
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    assert (tmp_path / "c.svg").read_bytes() == (tmp_path / "d.svg").read_bytes()
