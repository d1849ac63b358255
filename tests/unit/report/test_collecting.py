import io
import json
import shutil
from collections.abc import Sequence
from contextlib import chdir
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from headstart.common.errors import InputError
from headstart.common.files import write_json
from headstart.common.seal import write_checksum
from headstart.dataset.manifest import write_manifest
from headstart.heads.base import origin_of_predictions
from headstart.report.collecting import collect
from headstart.report.content import Fact, Report
from headstart.report.options import ReportOptions
from headstart.report.picking import Album, drawn_evenly, surest_mistakes
from headstart.report.pictures import SIDE, thumbnails
from headstart.report.rendering import render
from headstart.report.results import RunPlaces, read_results
from headstart.report.scores import _path_charts
from headstart.report.spatial import spatial_maps
from headstart.report.thumbnails import shrink
from headstart.scoring.predictions import Predictions
from tests.report_run import finish_run, spatial, write_features, write_photos

OPTIONS = ReportOptions(seed=0, pictures=600, heat_maps=6, projections=["pca", "tsne"])
NAMES = ("cat <b>", "고양이", "dog")


def collected(root: Path, options: ReportOptions = OPTIONS) -> Report:
    with chdir(root):
        results = read_results(RunPlaces())

        def maps(images: Sequence[int]) -> np.ndarray:
            return np.stack([spatial(Path(results.manifest.rows[image].path)) for image in images])

        return collect(RunPlaces(), results, options, maps)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("run")
    finish_run(root, NAMES, spread=0.45)
    return root


@pytest.fixture(scope="module")
def report(run: Path) -> Report:
    return collected(run)


@pytest.fixture
def copy(run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(run, tmp_path / "copy"))


def test_counts_are_those_of_the_manifest(report: Report) -> None:
    assert report.class_names == tuple(sorted(NAMES))
    assert report.data.counts == ((12, 6, 6),) * 3
    assert report.data.n_quarantine == 1
    assert report.data.quarantine == (("photos/bad<1>.jpg", "cut"),)
    assert [leak.how for leak in report.data.leaks] == ["near"]
    assert None not in report.data.leaks[0].pictures


def test_leaks_that_features_show_are_listed_too(copy: Path) -> None:
    with chdir(copy):
        leaks = Path("data/leaks.csv").read_text()
        Path("data/feature_leaks.csv").write_text(leaks.replace(",near,", ",features,"))
        test = json.loads(Path("metrics/test.json").read_text())
        test["leaks"] = {"test_images": 3}
        test["selected"]["without_leaks"] = {"accuracy": 0.625}
        write_json(Path("metrics/test.json"), test)
    report = collected(copy)
    assert [leak.how for leak in report.data.leaks] == ["near", "features"]
    assert (report.data.n_leaked, report.data.clean) == (3, 0.625)
    assert "test accuracy is 62.5%" in render(report)


def test_scores_and_intervals_are_those_of_the_metrics(run: Path, report: Report) -> None:
    told = json.loads((run / "metrics/test.json").read_text())
    for head in report.heads:
        score = head.scores["test"]["accuracy"]
        expected = told["heads"][head.name]
        assert score.value == expected["accuracy"]
        assert [score.low, score.high] == expected["intervals"]["accuracy"]
    assert report.selected == told["selected"]["head"]


def test_confusions_and_predictions_agree_with_the_accuracy(report: Report) -> None:
    for head in report.heads:
        right = sum(count for true, guess, count in head.confusion if true == guess)
        assert sum(count for _, _, count in head.confusion) == len(head.predictions) == 18
        assert right / 18 == pytest.approx(head.scores["test"]["accuracy"].value)
        for one in head.predictions:
            assert report.pictures[one.picture].split == "test"
            assert report.pictures[one.picture].label in one.classes
            assert list(one.probabilities) == sorted(one.probabilities, reverse=True)


def test_the_path_of_settings_is_drawn_with_the_chosen_one(run: Path, report: Report) -> None:
    logistic = next(head for head in report.heads if head.name == "logistic")
    charts = {chart.title: chart for chart in logistic.charts}
    assert list(charts) == [
        "path_accuracy_folds", "path_log_loss_folds", "learning", "reliability", "roc",
        "precision_recall",
    ]  # fmt: skip
    card = json.loads((run / "models/heads/logistic/head.json").read_text())
    path = charts["path_accuracy_folds"]
    assert path.basis == Fact(text="basis.folds", values={"n": 54, "folds": 5})
    assert charts["learning"].basis == Fact(text="basis.validation", values={"n": 18})
    assert charts["roc"].basis == Fact(text="basis.mean", values={"n": 3})
    assert sum(charts["reliability"].lines[0].counts) == 18
    assert path.mark == card["setting"]["l2"]
    assert path.lines[0].x == tuple(point["l2"] for point in card["curve"])
    assert path.x_log
    assert [title for title in charts if charts[title].diagonal] == ["reliability", "roc"]
    assert charts["learning"].lines[0].x[-1] == 12


def test_neighbors_are_training_images_nearest_first(report: Report) -> None:
    assert len(report.neighbors) == 18
    for one in report.neighbors:
        assert report.pictures[one.picture].split == "test"
        assert {report.pictures[number].split for number in one.nearest} == {"train"}
        assert list(one.similarities) == sorted(one.similarities, reverse=True)


def test_heat_maps_explain_the_decision_and_on_mistakes_the_truth(report: Report) -> None:
    head = next(head for head in report.heads if head.name == report.heat.head)
    decided = {one.picture: one.classes[0] for one in head.predictions}
    assert len(report.heat.views) == OPTIONS.heat_maps
    labels: dict[int, list[int]] = {}
    for map_ in report.heat.maps:
        labels.setdefault(map_.picture, []).append(map_.label)
        assert np.shape(map_.grid) == (4, 4)
        assert 0 <= np.min(map_.grid) <= np.max(map_.grid) <= 1
    for picture, found in labels.items():
        own = report.pictures[picture].label
        assert found == list(dict.fromkeys([decided[picture], own]))
    assert max(map(len, labels.values())) == 2, "the run is meant to have mistakes"


def test_a_small_page_shows_mistakes_first(run: Path) -> None:
    small = collected(run, OPTIONS.model_copy(update={"pictures": 20}))
    assert len(small.pictures) == 20
    assert small.map.total == 72
    chosen = next(head for head in small.heads if head.name == small.selected)
    mistakes = sum(count for true, guess, count in chosen.confusion if true != guess)
    shown = [
        one for one in chosen.predictions if one.classes[0] != small.pictures[one.picture].label
    ]
    assert len(shown) == mistakes > 0
    assert all(small.data.samples)


def test_no_picture_at_all_is_a_page_too(run: Path) -> None:
    bare = collected(run, OPTIONS.model_copy(update={"pictures": 0}))
    assert not bare.pictures
    assert bare.map is None
    assert bare.heat is None
    assert bare.heads[0].confusion is not None
    assert 'id="confusion"' in render(bare)


def test_after_prepare_alone_the_page_shows_the_data(copy: Path) -> None:
    for folder in ("features", "models", "metrics", "predictions", "plots"):
        shutil.rmtree(copy / folder)
    (copy / "data/leaks.csv").unlink()
    (copy / "data/feature_leaks.csv").unlink()
    report = collected(copy)
    assert [step.stage for step in report.steps] == ["prepare"]
    assert report.heads == ()
    assert report.data.leaks is None
    assert len(report.pictures) == 72
    assert 'id="scores"' not in render(report)


def test_one_image_per_class_makes_a_page(tmp_path: Path) -> None:
    with chdir(tmp_path):
        manifest = write_photos(Path(), ("a", "b"), 1, 0.1)
        write_manifest(Path("data/manifest.csv"), manifest)
        write_features(manifest, Path("features/bottleneck.h5"))
    report = collected(tmp_path)
    assert report.data.counts == ((1, 0, 0), (1, 0, 0))
    assert report.map is None
    assert render(report)


def test_features_that_are_maps_need_no_backbone(tmp_path: Path) -> None:
    with chdir(tmp_path):
        manifest = write_photos(Path(), ("a", "b"), 4, 0.1)
        write_manifest(Path("data/manifest.csv"), manifest)
        write_features(manifest, Path("features/bottleneck.h5"), pooling="none")
        found = spatial_maps(read_results(RunPlaces()))([5, 2])
        expected = [spatial(Path(manifest.rows[image].path)) for image in (5, 2)]
    np.testing.assert_array_equal(found, np.stack(expected))


def test_without_features_there_are_no_maps(copy: Path) -> None:
    (copy / "features/bottleneck.h5").unlink()
    with chdir(copy):
        assert spatial_maps(read_results(RunPlaces()))([0]) is None


def test_a_photo_that_has_gone_leaves_the_rest(copy: Path) -> None:
    (copy / "photos/000/001.jpg").unlink()
    report = collected(copy)
    missing = [picture.path for picture in report.pictures if not picture.thumbnail]
    assert missing == ["photos/000/001.jpg"]


def test_a_page_without_any_photo_is_told(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.rmtree(copy / "photos")
    report = collected(copy)
    assert report.heat is None
    assert render(report)
    n = len(report.pictures)
    assert capsys.readouterr().err == (
        f"warning: {n} of {n} photos can no longer be read; the page lacks them\n"
    )


def test_features_of_other_images_are_refused(copy: Path) -> None:
    manifest = copy / "data/manifest.csv"
    lines = manifest.read_text().splitlines(keepends=True)
    manifest.write_text("".join(lines[:-1]))
    write_checksum(manifest)
    with pytest.raises(InputError, match=r"not the features of the images in data.manifest\.csv"):
        collected(copy)


def test_predictions_of_other_images_are_refused(copy: Path) -> None:
    path = copy / "predictions/heads/logistic.h5"
    one = Predictions.read(path)
    origin = origin_of_predictions(copy / "models/heads/logistic", "test")
    replace(one, image=one.image + 1).write(path, origin)
    with pytest.raises(
        InputError, match=r"predictions.heads.logistic\.h5: expected probabilities of"
    ):
        collected(copy)


def test_what_another_model_said_is_refused(copy: Path) -> None:
    path = copy / "predictions/heads/logistic.h5"
    Predictions.read(path).write(path, "0" * 64)
    with pytest.raises(
        InputError,
        match=r"logistic\.h5: holds what another model said, or of other images: run `dvc",
    ):
        collected(copy)


def test_broken_metrics_are_told(copy: Path) -> None:
    (copy / "metrics/test.json").write_text("{")
    with pytest.raises(InputError, match=r"metrics.test\.json: not valid JSON .*run `dvc repro`"):
        collected(copy)


def test_broken_curves_are_told(copy: Path) -> None:
    (copy / "plots/heads/logistic/path.csv").write_text("l2,accuracy\n1,good\n")
    with pytest.raises(InputError, match=r"path\.csv: expected numbers only"):
        collected(copy)


def test_without_a_manifest_there_is_no_page(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").touch()
    with pytest.raises(InputError, match=r"manifest\.csv: no such file: run `dvc repro prepare`"):
        collected(tmp_path)


def test_an_album_numbers_images_once_and_stops_when_full() -> None:
    album = Album(3)
    album.add([7, 7, 5])
    album.add([9], share=0.5)
    album.add([5, 1, 2])
    assert album.images == [7, 5, 1]
    assert album.numbers([1, 2, 7]) == (2, 0)
    assert album.number(9) is None


def test_any_beginning_of_an_even_draw_holds_all_classes(run: Path) -> None:
    with chdir(run):
        manifest = read_results(RunPlaces()).manifest
    order = drawn_evenly(manifest, range(len(manifest)))
    assert sorted(order) == list(range(72))
    strata = {(manifest.rows[image].label, manifest.rows[image].split) for image in order[:9]}
    assert len(strata) == 9


def test_mistakes_come_most_confident_first() -> None:
    probabilities = np.array([[0.6, 0.4], [0.1, 0.9], [0.2, 0.8], [0.7, 0.3]])
    one = Predictions(np.array([2, 3, 5, 6]), probabilities)
    labels = np.array([9, 9, 1, 0, 9, 0, 0])
    assert surest_mistakes(one, labels) == [3, 5, 2]


def test_a_thumbnail_is_small_and_keeps_its_shape() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (300, 600, 3), dtype=np.uint8)
    image = Image.open(io.BytesIO(shrink(pixels, SIDE)))
    assert (image.format, image.size) == ("WEBP", (SIDE, SIDE // 2))
    small = Image.open(io.BytesIO(shrink(np.ascontiguousarray(pixels[:20, :10]), SIDE)))
    assert small.size == (10, 20)


def test_thumbnails_of_what_is_no_image_are_empty(tmp_path: Path) -> None:
    (tmp_path / "text.jpg").write_text("no image")
    assert thumbnails([str(tmp_path / "text.jpg"), str(tmp_path / "gone.jpg")]) == ["", ""]


def test_a_setting_that_was_given_draws_no_path() -> None:
    path = [{"c": 0.01, "accuracy": 0.9, "log_loss": 0.3}, {"c": 0.1, "accuracy": 1, "log_loss": 1}]
    card = {"setting": {"c": 0.01}}
    assert len(_path_charts(path, card, {})) == 2
    assert _path_charts(path[:1], card, {}) == []
