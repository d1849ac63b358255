"""What the page holds of suspects, corrections, groups and operating points."""

import csv
import json
import shutil
from contextlib import chdir
from pathlib import Path

import pytest

from headstart.audit.table import KINDS
from headstart.common.errors import InputError
from headstart.common.files import write_json
from headstart.dataset.manifest import DROPPED, Manifest, read_manifest, write_manifest
from headstart.report.collecting import collect
from headstart.report.content import Report
from headstart.report.options import ReportOptions
from headstart.report.picking import pick
from headstart.report.rendering import Texts, render
from headstart.report.results import RunPlaces, read_results
from headstart.report.suspects import suspected
from tests.report_run import finish_run, take_care

OPTIONS = ReportOptions(seed=0, pictures=600, heat_maps=0, projections=["pca"])


def collected(root: Path, pictures: int = 600) -> Report:
    with chdir(root):
        options = OPTIONS.model_copy(update={"pictures": pictures})
        return collect(RunPlaces(), read_results(RunPlaces()), options, lambda _: None)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("care")
    finish_run(root, ("cat", "dog <b>"), per_class=12, heads={"prototype": {"kind": "prototype"}})
    take_care(root)
    return root


@pytest.fixture
def copy(run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(run, tmp_path / "copy"))


@pytest.fixture(scope="module")
def report(run: Path) -> Report:
    return collected(run)


def test_suspects_come_kind_by_kind_and_worst_first(run: Path, report: Report) -> None:
    with (run / "data/audit.csv").open(encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    suspects = report.look.suspects
    assert [one.path for one in suspects] == [line["path"] for line in lines if line["path"]]
    assert [one.kind for one in suspects] == ["label"] * 6 + ["conflict", "outlier"]
    scores = [one.score for one in suspects if one.kind == "label"]
    assert scores == sorted(scores, reverse=True)
    assert [one.kind for one in report.look.classes] == ["merge", "few"]
    for one in suspects:
        assert report.pictures[one.picture].path == one.path
        assert report.look.large[one.picture].startswith("data:image/webp")
        assert one.path not in [other.path for other in one.evidence]
    assert {other.role for other in suspects[0].evidence} == {"given", "suggested"}


def test_corrections_of_the_run_are_there_with_their_images(run: Path, report: Report) -> None:
    kept, moved, dropped = report.look.corrections
    rows = {row.sha256: row for row in read_manifest(run / "data/manifest.csv")}
    assert (kept.action, kept.note, kept.path) == ("keep", 'seen, "fine"', rows[kept.sha256].path)
    assert (moved.action, moved.label) == ("relabel", "dog <b>")
    assert (dropped.action, dropped.path, dropped.picture) == ("drop", "", None)
    step = next(step for step in report.steps if step.stage == "prepare")
    told = next(fact for fact in step.facts if fact.text == "fact.corrections")
    assert told.values == {"kept": 1, "relabelled": 1, "dropped": 1}


def test_a_dropped_test_image_is_told_and_not_shown(copy: Path) -> None:
    for folder in ("features", "models", "metrics", "predictions", "plots"):
        shutil.rmtree(copy / folder)
    path = copy / "data/manifest.csv"
    first, *others = read_manifest(path)
    write_manifest(path, Manifest([first._replace(split=DROPPED), *others]))
    (copy / "data/corrections.csv").write_text(
        f"sha256,action,label,note\n{first.sha256},drop,,\n", encoding="utf-8"
    )
    report = collected(copy)
    (told,) = report.look.corrections
    assert (told.action, told.path, told.picture) == ("drop", first.path, None)
    assert first.path not in [picture.path for picture in report.pictures]
    assert sum(map(sum, report.data.counts)) == len(others)


def test_decisions_are_kept_under_what_they_were_made_on(copy: Path, report: Report) -> None:
    assert collected(copy).look.run == report.look.run
    (copy / "metrics/data.json").unlink()
    assert collected(copy).look.run == report.look.run
    (copy / "data/corrections.csv").write_text("sha256,action,label,note\n")
    assert collected(copy).look.run != report.look.run


def test_a_small_page_pictures_the_worst_suspects_and_lists_the_others(run: Path) -> None:
    small = collected(run, pictures=10)
    shown = [one.picture is not None for one in small.look.suspects]
    assert len(small.pictures) == 10
    # Of six labels the worst, and the worst of each other kind.
    assert shown[0]
    assert shown[-2:] == [True, True]
    assert not all(shown)
    assert all(not one.evidence for one in small.look.suspects if one.picture is None)


def test_what_stands_beside_suspects_leaves_room_for_mistakes_and_samples(run: Path) -> None:
    with chdir(run):
        manifest = read_results(RunPlaces()).manifest
        suspects, evidence = suspected(read_results(RunPlaces()))
    album = pick(manifest, 10, [], [20, 21], [[17, 18], [19]], suspects, evidence)
    assert album.images[:4] == list(dict.fromkeys(suspects))[:4]
    assert set(album.images[4:7]) <= set(evidence)
    assert {20, 17} & set(album.images)


@pytest.mark.parametrize(
    ("audited", "sentence"),
    [({}, "look.off"), ({"label": 0}, "look.none")],
    ids=["off", "nothing found"],
)
def test_without_suspects_one_sentence_says_why(
    copy: Path, audited: dict[str, int], sentence: str
) -> None:
    for name in ("audit.csv", "audit_neighbors.csv"):
        (copy / "data" / name).unlink()
    write_json(copy / "metrics/audit.json", audited)
    report = collected(copy)
    assert report.look.suspects == ()
    assert f'data-t="{sentence}"' in render(report)


def test_a_score_that_is_none_is_told(copy: Path) -> None:
    path = copy / "data/audit.csv"
    path.write_text(path.read_text(encoding="utf-8").replace(",0.99,", ",high,"), encoding="utf-8")
    with pytest.raises(InputError, match=r"audit\.csv .* received 'high': run `dvc repro audit`"):
        collected(copy)


def test_groups_tell_the_weak_first(report: Report) -> None:
    groups = report.groups
    assert [one.name for one in groups.slices["camera <b>"]] == ["<i>poor</i>", "good"]
    assert [one.weak for one in groups.slices["camera <b>"]] == [True, False]
    assert groups.left_out == {"camera <b>": {"too_few": 3, "without_value": 2}}
    (cluster,) = groups.clusters
    assert len(cluster.pictures) == 5
    assert {report.pictures[number].split for number in cluster.pictures} == {"test"}
    page = render(report)
    words = ("camera &lt;b&gt;", "&lt;i&gt;poor")
    for told in (*words, "\u221240.0", "[\u221260.0, \u221220.0]", "\u221235.0", "0.004"):
        assert told in page


def test_operating_points_show_what_is_there(report: Report) -> None:
    assert report.operating.coverage["covered"] == (0.925, 0.8, 0.98)
    assert report.operating.coverage["wanted"] == (0.9, None, None)
    assert list(report.operating.decisions) == ["cost", "cost_of_likeliest", "abstained"]
    assert "95% interval 80.0% to 98.0%" in render(report)


def test_scores_on_labels_as_given_stand_beside_the_others(report: Report) -> None:
    head = next(head for head in report.heads if head.name == report.selected)
    assert head.scores["uncorrected"]["accuracy"].value == 0.5
    assert 'data-t="split.uncorrected"' in render(report)


def test_scores_that_no_correction_changes_stand_there_once(copy: Path) -> None:
    path = copy / "metrics/test.json"
    test = json.loads(path.read_text())
    for one in test["heads"].values():
        one["uncorrected"] = {name: one[name] for name in ("images", "accuracy", "log_loss")}
    write_json(path, test)
    assert 'data-t="split.uncorrected"' not in render(collected(copy))


@pytest.mark.parametrize("block", ["slices", "weak_clusters", "coverage", "decisions"])
def test_each_block_may_be_missing(copy: Path, block: str) -> None:
    path = copy / "metrics/test.json"
    test = json.loads(path.read_text())
    del test["selected"][block]
    write_json(path, test)
    assert render(collected(copy))


def test_without_any_such_block_the_parts_are_left_out(
    tmp_path: Path, run: Path, report: Report
) -> None:
    root = shutil.copytree(run, tmp_path / "plain")
    test = json.loads((root / "metrics/test.json").read_text())
    for block in ("slices", "weak_clusters", "coverage", "decisions"):
        del test["selected"][block]
    write_json(root / "metrics/test.json", test)
    page = render(collected(root))
    assert 'id="groups"' not in page
    assert 'id="operating"' not in page


TABLE = Texts().table


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_the_audit_has_its_words(kind: str) -> None:
    of_class = kind in ("merge", "few")
    for key in (f"look.class.{kind}",) if of_class else (f"kind.{kind}", f"claim.{kind}"):
        assert key in TABLE
