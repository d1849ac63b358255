from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from headstart.commands.compare.candidates import Candidate, make_candidates
from headstart.commands.compare.reading import Images
from headstart.commands.compare.rounds import in_round, left_out_of_rounds, smallest_share

CONTENT: dict[str, Any] = YAML().load(Path(__file__).parents[4] / "params.yaml")


def made(*grid: tuple[str, list[Any]], **changes: Any) -> list[Candidate]:
    content = {**CONTENT, "extract": {**CONTENT["extract"], "weights": "random", **changes}}
    return make_candidates(["LeNet5", "AlexNet"], grid, content)


def test_heads_that_take_long_are_left_out_unless_they_are_what_is_compared() -> None:
    assert left_out_of_rounds(made()) == {"dense", "gap"}
    assert left_out_of_rounds(made(("train.heads.dense.dropout", [0.1, 0.5]))) == set()
    assert (
        left_out_of_rounds(made(("train.heads", [{"dense": CONTENT["train"]["heads"]["dense"]}])))
        == set()
    )
    start = [("finetune.head", ["dense"]), ("finetune.unfreeze", ["all"])]
    assert left_out_of_rounds(made(*start)) == {"gap"}


@pytest.mark.parametrize(
    ("images", "share"),
    [
        (Images(10_000, 2_000, 2), 0.1),
        (Images(360, 120, 2), 0.25),
        # Ten for each class on average.
        (Images(2_000, 500, 50), 0.2),
        (Images(60, 20, 2), 1.5),
    ],
)
def test_a_round_sees_enough_to_judge_by(images: Images, share: float) -> None:
    assert smallest_share(images) == share


def test_of_its_own_share_a_candidate_needs_more() -> None:
    assert smallest_share(Images(360, 120, 2), of=0.5) == 0.5


def test_of_a_few_shots_validation_images_judge_alone() -> None:
    assert smallest_share(Images(5_000, 240, 2), shots=True) == 0.5


def test_training_images_judge_too_where_validation_images_are_few() -> None:
    one, _ = made()
    few = in_round(one, 0.25, {"dense"}, Images(360, 120, 2))
    assert few["extract"]["share"] == 0.25
    assert few["train"]["min_validation"] == 480
    assert not few["train"]["refit"]
    assert "dense" not in few["train"]["heads"]
    many = in_round(one, 0.25, set(), Images(3_000, 480, 2))
    assert many["train"]["min_validation"] == one.content["train"]["min_validation"]
    assert "dense" in one.content["train"]["heads"]
