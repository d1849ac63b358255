"""`headstart compare --strategies`: frozen, fine-tuned in part and whole, and from scratch."""

import json
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.e2e.conftest import Project

pytestmark = pytest.mark.slow

LABELS = ["frozen", "fine-tuned: last_block", "fine-tuned: all", "from scratch"]


@pytest.fixture(scope="module")
def project(
    make_project: Callable[[str], Project],
    tmp_path_factory: pytest.TempPathFactory,
    photo: Callable[[int, int, int], np.ndarray],
) -> Project:
    """80 noisy warm and cold photos of 32 pixels, LeNet5 with random weights; committed."""
    photos = tmp_path_factory.mktemp("photos")
    for label, channel in (("warm", 0), ("cold", 2)):
        (photos / label).mkdir()
        for index in range(40):
            image = photo(index + 1000 * channel, 32, 32) // 2
            image[..., channel] += 20
            Image.fromarray(image).save(photos / label / f"{index:02}.png")
    project = make_project("strategies")
    project.edit(
        prepare__source=str(photos),
        extract__backbone="LeNet5",
        extract__weights="random",
        train__heads={"prototype": {}, "logistic": {"l2": "auto"}},
        finetune__epochs=2,
        finetune__learning_rate=1e-2,
    )
    project.commit()
    # Of files written less than two seconds ago nothing is kept: a later write might not show.
    newest = max(path.stat().st_ctime for path in photos.rglob("*"))
    time.sleep(max(0.0, newest + 2.5 - time.time()))
    return project


def compare(project: Project, *arguments: str) -> tuple[dict[str, Any], str]:
    """Compare; return the record and what was printed."""
    printed = project.run("headstart", "compare", *arguments).stdout
    return json.loads((project.root / "plots" / "comparison.json").read_text()), printed


def scored(project: Project, experiment: str, name: str) -> dict[str, Any]:
    """Return a file of scores of an experiment, as DVC keeps it."""
    got = project.root / ".git" / "scores.json"
    project.run(
        "dvc", "get", ".", f"metrics/{name}.json",
        "--rev", experiment, "--out", str(got), "--force",
    )  # fmt: skip
    return dict(json.loads(got.read_text()))


def test_each_strategy_is_scored_by_its_own_model(project: Project) -> None:
    record, _ = compare(project, "--strategies")
    rows = {one["label"]: one for one in record["candidates"]}
    assert sorted(rows) == sorted(LABELS)
    assert record["cost"] == "training"
    assert record["method"] == "paired interval"
    assert [rows[label]["head"] for label in LABELS] == ["logistic", *["fine-tuned model"] * 3]
    for label, row in rows.items():
        test = scored(project, row["experiment"], "test")
        own = test["heads"]["logistic"] if label == "frozen" else test["finetuned"]
        assert row["accuracy"] == own["accuracy"]
        assert row["interval"] == own["intervals"]["accuracy"]
        assert row["training_seconds"] > 0
        # The frozen head was cross-validated on training images, too; those do not count here.
        assert row["validation_images"] == 16
    tuned = rows["fine-tuned: all"]
    alone = scored(project, tuned["experiment"], "finetune")["validation"]
    assert tuned["validation_accuracy"] == pytest.approx(alone["accuracy"])
    assert tuned["validation_log_loss"] == pytest.approx(alone["log_loss"], rel=1e-4)
    frozen, part, whole, scratch = (rows[label]["trained_parameters"] for label in LABELS)
    assert frozen < part < whole == scratch
    with Image.open(project.root / "plots" / "comparison.png") as picture:
        assert picture.width > 1000


def test_asked_again_it_trains_nothing_and_says_the_same(project: Project) -> None:
    first, _ = compare(project, "--strategies")
    again, printed = compare(project, "--strategies")
    assert printed.count("taken over, nothing that decides it has changed") == len(LABELS)
    assert "[1]" not in printed
    kept = ("label", "head", "accuracy", "validation_accuracy", "training_seconds")
    by_label = {one["label"]: one for one in first["candidates"]}
    for one in again["candidates"]:
        assert {key: one[key] for key in kept} == {key: by_label[one["label"]][key] for key in kept}


def test_at_80_columns_every_name_is_whole(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(project.environment, "COLUMNS", "80")
    _, printed = compare(project, "--strategies")
    table = printed[printed.index("candidate ") :]
    assert max(map(len, table.splitlines())) <= 80
    assert all(f"\n{label} " in table for label in LABELS)
    assert "Left out for want of room: model," in table


def test_what_is_frozen_is_run_once_whatever_fine_tuning_would_do(project: Project) -> None:
    unfreeze = ("--over", "finetune.unfreeze=none,last_block")
    record, _ = compare(project, *unfreeze, "--over", "finetune.learning_rate=1e-4,1e-2")
    assert sorted(one["label"] for one in record["candidates"]) == [
        "fine-tuned: last_block, learning_rate=0.0001",
        "fine-tuned: last_block, learning_rate=0.01",
        "frozen",
    ]
