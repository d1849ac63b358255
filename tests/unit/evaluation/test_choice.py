from pathlib import Path

import numpy as np
import pytest

from headstart.common.errors import InputError
from headstart.dataset.manifest import Manifest, ManifestRow
from headstart.evaluation.choice import gain, select
from headstart.scoring.predictions import Predictions

N = 200
LABELS = np.arange(N) % 2


@pytest.fixture
def manifest() -> Manifest:
    return Manifest(
        ManifestRow(f"{i:03}.png", f"{i:064x}", "ab"[LABELS[i]], "validation", "", 8, 8)
        for i in range(N)
    )


def _predictions(wrong: range, confidence: float = 0.8, images: range = range(N)) -> Predictions:
    image = np.array(images, int)
    true = np.where(np.isin(image, wrong), 1 - confidence, confidence)
    probabilities = np.where(
        LABELS[image][:, None] == np.arange(2), true[:, None], 1 - true[:, None]
    )
    return Predictions(image, probabilities)


def _select(held_out: dict[str, Predictions], manifest: Manifest, **options: object) -> dict:
    given = {
        "class_weight": np.ones(2),
        "sizes": dict.fromkeys(held_out, 1),
        "last": "finetuned",
        "first": "a",
        "seed": 0,
    }
    return select(held_out, manifest, **{**given, **options})


def test_a_clear_lead_is_no_tie(manifest: Manifest) -> None:
    found = _select({"a": _predictions(range(60)), "b": _predictions(range(5))}, manifest)
    assert found["head"] == "b"
    assert found["validation_accuracy"] == pytest.approx(195 / 200)
    assert found["runner_up"] == "a"
    assert found["tie"] is False
    assert 0 < found["lead_interval"][0] < 55 / 200 < found["lead_interval"][1]


def test_a_lead_within_chance_is_a_tie(manifest: Manifest) -> None:
    found = _select({"a": _predictions(range(6)), "b": _predictions(range(3, 8))}, manifest)
    assert found["head"] == "b"
    assert found["tie"] is True


def test_of_equals_the_lower_log_loss_wins_and_the_fine_tuned_model_comes_last(
    manifest: Manifest,
) -> None:
    sure, unsure = _predictions(range(2), 0.9), _predictions(range(2), 0.6)
    assert _select({"unsure": unsure, "sure": sure}, manifest)["head"] == "sure"
    assert _select({"finetuned": sure, "unsure": unsure}, manifest)["head"] == "unsure"


def test_of_heads_within_one_standard_error_the_smallest_wins(manifest: Manifest) -> None:
    held_out = {"large": _predictions(range(5), 0.9), "small": _predictions(range(4, 10))}
    assert _select(held_out, manifest, sizes={"large": 9, "small": 2})["head"] == "small"
    assert _select(held_out, manifest, sizes={"large": 9, "small": 9})["head"] == "large"
    held_out["small"] = _predictions(range(4, 30))
    assert _select(held_out, manifest, sizes={"large": 9, "small": 2})["head"] == "large"


def test_a_fine_tuned_model_needs_more_images_right_and_no_more(manifest: Manifest) -> None:
    sizes = {"small": 2, "finetuned": 10**6}
    for wrong, expected in ((4, "finetuned"), (5, "small"), (6, "small")):
        held_out = {"finetuned": _predictions(range(wrong)), "small": _predictions(range(5))}
        assert _select(held_out, manifest, sizes=sizes)["head"] == expected


def test_the_best_of_many_models_of_noise_is_worth_no_more_than_chance(manifest: Manifest) -> None:
    rng = np.random.default_rng(1)
    fair, best = [], []
    for _ in range(20):
        held_out = {
            str(number): Predictions(np.arange(N), np.eye(2)[rng.integers(0, 2, N)] * 0.8 + 0.1)
            for number in range(10)
        }
        found = _select(held_out, manifest)
        fair.append(found["validation_accuracy"])
        right = held_out[found["head"]].probabilities.argmax(axis=1) == LABELS
        best.append(right.mean())
    # 4,000 images in all, of few models: a standard error of 1.2 points.
    assert np.mean(fair) == pytest.approx(0.5, abs=0.03)
    assert np.mean(best) > 0.53


def test_what_classes_count_decides(manifest: Manifest) -> None:
    # Sixty of a hundred wrong of one class, or forty of each.
    one, both = _predictions(range(0, 120, 2)), _predictions(range(80))
    held_out = {"one": one, "both": both}
    assert _select(held_out, manifest)["head"] == "one"
    assert _select(held_out, manifest, class_weight=np.array([4.0, 1.0]))["head"] == "both"


def test_heads_are_compared_on_what_all_of_them_held_out(manifest: Manifest) -> None:
    # On its own images "few" makes no mistake; on those in common "all" makes none either.
    few, everything = _predictions(range(0), 0.6, range(50, 100)), _predictions(range(40), 0.9)
    found = _select({"few": few, "all": everything}, manifest)
    assert (found["head"], found["validation_accuracy"]) == ("all", 1.0)


def test_no_common_image_is_refused(manifest: Manifest) -> None:
    one, other = (
        _predictions(range(0), images=range(9)),
        _predictions(range(0), images=range(9, 20)),
    )
    with pytest.raises(InputError, match="a, b: these heads have no validation image in common"):
        _select({"a": one, "b": other}, manifest)


def test_without_a_held_out_image_the_first_model_is_taken(manifest: Manifest) -> None:
    none = _predictions(range(0), images=range(0))
    found = _select({"a": none, "b": none}, manifest, first="b")
    assert found == {"head": "b", "selected_by": "default"}
    # A model that was judged is known to be worth something.
    assert _select({"a": none, "b": _predictions(range(5))}, manifest)["head"] == "b"


def test_one_held_out_unit_decides_nothing() -> None:
    rows = [ManifestRow(f"{i:03}.png", "0" * 64, "ab"[i % 2], "train", "g", 9, 9) for i in range(8)]
    right = np.where(np.arange(8)[:, None] % 2 == [0, 1], 0.9, 0.1)
    held_out = {"a": Predictions(np.arange(8), right), "b": Predictions(np.arange(8), 1 - right)}
    found = _select(held_out, Manifest(rows))
    assert (found["head"], found["tie"]) == ("a", True)
    assert found["lead_interval"] == pytest.approx([-0.95, 1.0])


def test_one_head_has_no_runner_up(manifest: Manifest) -> None:
    assert _select({"a": _predictions(range(6))}, manifest) == {
        "head": "a",
        "held_out_images": N,
        "validation_accuracy": pytest.approx(194 / 200),
    }


def test_gain_is_the_paired_difference() -> None:
    own, start = _predictions(range(10)).probabilities, _predictions(range(30)).probabilities
    alone = np.full(N, -1)
    found = gain(LABELS, own, start, alone)
    assert found["accuracy"] == pytest.approx(0.1)
    assert 0 < found["interval"][0] < 0.1 < found["interval"][1]
    assert gain(LABELS[:0], own[:0], start[:0], alone[:0]) == {}


def test_predictions_are_read_back_and_looked_up(tmp_path: Path) -> None:
    one = Predictions(np.array([7, 3, 5]), np.array([[0.1, 0.9], [0.5, 0.5], [0.8, 0.2]]))
    for name in ("a.h5", "b.h5"):
        one.write(tmp_path / name)
    assert (tmp_path / "a.h5").read_bytes() == (tmp_path / "b.h5").read_bytes()
    found = Predictions.read(tmp_path / "a.h5")
    np.testing.assert_array_equal(found.image, one.image)
    assert found.probabilities.dtype == np.float32
    np.testing.assert_allclose(found.of(np.array([3, 7])), [[0.5, 0.5], [0.1, 0.9]], rtol=1e-7)


def test_other_files_are_no_predictions(tmp_path: Path) -> None:
    (tmp_path / "x.h5").write_text("no")
    for name in ("x.h5", "missing.h5"):
        with pytest.raises(InputError, match=rf"{name}: n.*: run `dvc repro train`"):
            Predictions.read(tmp_path / name, "train")


def test_probabilities_that_are_none_are_not_written(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"x\.h5: probabilities: expected finite numbers"):
        Predictions(np.array([7]), np.array([[np.nan, 0.5]])).write(tmp_path / "x.h5")
    assert list(tmp_path.iterdir()) == []
