"""The audit: what it finds in data with known faults, through the stage and the command."""

import csv
import json
import shutil
import subprocess
import sys
from contextlib import chdir
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from headstart.audit.audit import audit
from headstart.audit.data import all_images
from headstart.audit.labels import judge
from headstart.audit.options import AuditOptions
from headstart.common import places
from headstart.common.errors import InputError
from headstart.common.files import sha256_of
from headstart.dataset.manifest import Manifest, read_manifest, write_manifest
from headstart.features.file import FeatureFile
from tests.feature_files import blobs, write_project

ROOT = Path(__file__).parents[2]


def audited(root: Path, suspects: int = 50) -> tuple[list[dict], list[dict], dict]:
    """Run the audit on a project; return its suspects, evidence and metrics."""
    with chdir(root):
        audit(
            AuditOptions(suspects=suspects, seed=0),
            features=places.FEATURES,
            manifest=places.MANIFEST,
            suspects=places.AUDIT,
            evidence=places.AUDIT_NEIGHBORS,
            metrics=Path("audit.json"),
        )
        tables = []
        for path in (places.AUDIT, places.AUDIT_NEIGHBORS):
            with path.open(encoding="utf-8", newline="") as file:
                tables.append(list(csv.DictReader(file)))
        return tables[0], tables[1], json.loads(Path("audit.json").read_text())


def correct(root: Path, image: int, correction: str) -> None:
    path = root / places.MANIFEST
    rows = list(read_manifest(path).rows)
    rows[image] = rows[image]._replace(correction=correction)
    write_manifest(path, Manifest(rows))


@pytest.fixture
def planted(tmp_path: Path) -> tuple[Path, np.ndarray]:
    """A project of three classes that are well apart, with six wrong labels, and which ones."""
    features, labels = blobs(40, gap=6.0)
    wrong = np.arange(0, 120, 20)
    given = labels.copy()
    given[wrong] = (labels[wrong] + 1) % 3
    write_project(tmp_path, features, given)
    return tmp_path, wrong


def test_wrong_labels_are_found_whatever_their_split(planted: tuple[Path, np.ndarray]) -> None:
    root, wrong = planted
    suspects, evidence, metrics = audited(root)
    found = [one for one in suspects if one["kind"] == "label"]
    assert {one["path"] for one in found} == {f"{image:05}.png" for image in wrong}
    rows = {row.path: row for row in read_manifest(root / places.MANIFEST)}
    assert {rows[one["path"]].split for one in found} >= {"train"}
    for one in found:
        assert rows[one["path"]].label == one["given"]
        assert float(one["score"]) > 0.5
        beside = [other for other in evidence if other["sha256"] == one["sha256"]]
        assert [other["role"] for other in beside] == ["given"] * 3 + ["suggested"] * 3
        for other in beside:
            assert other["other_label"] == one[other["role"]]
            assert other["other_path"] != one["path"]
    assert [float(one["score"]) for one in found] == sorted(
        (float(one["score"]) for one in found), reverse=True
    )
    assert metrics["label"] == 6
    assert metrics["judged"] == metrics["images"] == 120
    assert metrics["label_errors"] == pytest.approx(6, abs=2)


def test_a_label_that_somebody_confirmed_is_no_suspect(planted: tuple[Path, np.ndarray]) -> None:
    root, wrong = planted
    for image, correction in zip(wrong[:2], ("keep", "relabel"), strict=True):
        correct(root, int(image), correction)
    suspects, _, _ = audited(root)
    listed = {one["path"] for one in suspects if one["kind"] == "label"}
    assert listed == {f"{image:05}.png" for image in wrong[2:]}


def test_the_most_suspects_of_a_kind(planted: tuple[Path, np.ndarray]) -> None:
    suspects, evidence, metrics = audited(planted[0], 2)
    labels = [one for one in suspects if one["kind"] == "label"]
    assert len(labels) == 2
    assert {one["sha256"] for one in evidence} == {one["sha256"] for one in labels}
    assert metrics["label"] == 6, "metrics count all"


def test_the_same_data_give_the_same_bytes(planted: tuple[Path, np.ndarray]) -> None:
    root, _ = planted
    audited(root)
    first = (root / places.AUDIT).read_bytes(), (root / places.AUDIT_NEIGHBORS).read_bytes()
    audited(root)
    assert first == (
        (root / places.AUDIT).read_bytes(),
        (root / places.AUDIT_NEIGHBORS).read_bytes(),
    )


def test_features_read_block_by_block_say_the_same(planted: tuple[Path, np.ndarray]) -> None:
    file = FeatureFile.open(planted[0] / places.FEATURES)
    whole, streamed = (
        judge(all_images(file, (), 0, streaming_above=limit)) for limit in (10**9, 0)
    )
    assert whole is not None
    assert streamed is not None
    np.testing.assert_array_equal(streamed.suspects, whole.suspects)
    np.testing.assert_allclose(streamed.score, whole.score, atol=1e-3)


def test_an_image_unlike_all_others(tmp_path: Path) -> None:
    features, labels = blobs(40, 3, 64, gap=6.0)
    features[17] = 40 * (-1.0) ** np.arange(64)
    write_project(tmp_path, features, labels)
    suspects, _, _ = audited(tmp_path)
    assert [one["path"] for one in suspects if one["kind"] == "outlier"] == ["00017.png"]
    correct(tmp_path, 17, "keep")
    suspects, _, _ = audited(tmp_path)
    assert not [one for one in suspects if one["kind"] == "outlier"]


def test_classes_that_are_one_and_those_that_are_not(tmp_path: Path) -> None:
    features, labels = blobs(100, gap=6.0)
    # Half of the first class goes by another name.
    names = np.where((labels == 0) & (np.arange(300) % 2 == 0), 3, labels)
    write_project(tmp_path, features, names)
    suspects, _, _ = audited(tmp_path)
    merged = [(one["given"], one["suggested"]) for one in suspects if one["kind"] == "merge"]
    assert merged == [("class 0", "class 3")]


def test_classes_with_too_few_images(tmp_path: Path) -> None:
    features, labels = blobs(60, 4, 60, gap=3.0)
    # Of the last class all images are of one group: nothing can be held out.
    write_project(tmp_path, features, labels, group=np.where(labels == 3, 0, -1))
    suspects, _, metrics = audited(tmp_path)
    few = {one["given"]: float(one["score"]) for one in suspects if one["kind"] == "few"}
    assert few["class 3"] == 1
    assert metrics["judged"] == 180


def test_of_one_image_per_class_little_can_be_told(tmp_path: Path) -> None:
    features, labels = blobs(1, gap=6.0)
    write_project(tmp_path, features, labels)
    suspects, _, metrics = audited(tmp_path)
    assert (metrics["judged"], metrics["label_errors"], metrics["outlier"]) == (0, 0, 0)
    assert {one["given"] for one in suspects if one["kind"] == "few"} == {
        "class 0",
        "class 1",
        "class 2",
    }


def test_a_few_more_images_would_help_where_the_curve_rises(tmp_path: Path) -> None:
    features, labels = blobs(150, 3, 200, gap=4.0)
    write_project(tmp_path, features, labels)
    rising = {one["given"] for one in audited(tmp_path)[0] if one["kind"] == "few"}
    features, labels = blobs(400, 3, 8, gap=8.0)
    other = tmp_path / "other"
    other.mkdir()
    write_project(other, features, labels)
    assert rising
    assert not [one for one in audited(other)[0] if one["kind"] == "few"]


def test_off_writes_empty_tables(planted: tuple[Path, np.ndarray]) -> None:
    assert audited(planted[0], 0) == ([], [], {})


def test_one_class_is_refused(tmp_path: Path) -> None:
    features, labels = blobs(20, 1)
    write_project(tmp_path, features, labels)
    with pytest.raises(InputError, match="at least two classes"):
        audited(tmp_path)


@pytest.mark.slow
def test_the_command_finds_faults_of_real_files_without_a_forward_pass(
    trained: Path, tmp_path: Path
) -> None:
    """Through the command, on a finished run: no TensorFlow, no engine; pictures are looked at."""
    root = Path(shutil.copytree(trained, tmp_path / "project"))
    code = (
        "import sys\n"
        "from headstart.extraction import engines\n"
        "def refuse(*_, **__): raise AssertionError('a forward pass')\n"
        "engines.load = refuse\n"
        "from headstart.commands.cli import main\n"
        "status = main(['audit', '--suspects', '5'])\n"
        "assert 'tensorflow' not in sys.modules\n"
        "sys.exit(status)\n"
    )
    # Without heat maps, for which the page does need the network.
    params = root / "params.yaml"
    params.write_text(params.read_text().replace("heat_maps: ", "heat_maps: 0 #"))
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=root,
        env={"PYTHONPATH": str(ROOT), "PATH": "", "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "40 images: " in done.stdout
    assert "save corrections.csv" in done.stdout
    assert (root / places.AUDIT).read_text().startswith("sha256,path,kind,score,given,suggested")
    assert "look-panel" in (root / places.REPORT).read_text()


def test_one_picture_under_two_labels(tmp_path: Path, photo_folder: Path) -> None:
    features, labels = blobs(10, 2, gap=6.0)
    write_project(tmp_path, features, labels, class_names=["cold", "warm"])
    of = {
        name: [int(i) for i in np.flatnonzero(labels == k)]
        for k, name in enumerate(("cold", "warm"))
    }
    one, other = of["cold"][0], of["warm"][0]
    rows = list(read_manifest(tmp_path / places.MANIFEST).rows)
    pictures = sorted((photo_folder / "warm").iterdir())
    for image, row in enumerate(rows):
        picture = pictures[0] if image in (one, other) else pictures[1 + image % 19]
        path = tmp_path / row.path
        Image.open(picture).save(path, "PNG" if image == one else "JPEG", quality=80)
        rows[image] = row._replace(sha256=sha256_of(path), path=str(path))
    write_manifest(tmp_path / places.MANIFEST, Manifest(rows))
    suspects, evidence, _ = audited(tmp_path)
    conflicts = {one["path"]: one for one in suspects if one["kind"] == "conflict"}
    assert {rows[one].path, rows[other].path} <= set(conflicts)
    assert conflicts[rows[one].path]["suggested"] == "warm"
    copies = {(two["sha256"], two["other_path"]) for two in evidence if two["role"] == "copy"}
    assert (rows[one].sha256, rows[other].path) in copies
    # Somebody has looked at both.
    rows[one], rows[other] = (rows[i]._replace(correction="keep") for i in (one, other))
    write_manifest(tmp_path / places.MANIFEST, Manifest(rows))
    left = {one["path"] for one in audited(tmp_path)[0] if one["kind"] == "conflict"}
    assert not {rows[one].path, rows[other].path} & left
