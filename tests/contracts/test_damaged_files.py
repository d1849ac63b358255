"""Whatever happens to the bytes of a file that Headstart keeps: it is told, or nothing changed."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings

from headstart import heads
from headstart.common.cache import Keep
from headstart.common.errors import InputError
from headstart.common.files import sha256_of
from headstart.dataset.manifest import read_manifest
from headstart.evaluation.novelty import Novelty, fit
from headstart.evaluation.operating import OperatingPoint, find_point, write_points
from headstart.extraction.shard import DamagedShard, open_shard, write_shard
from headstart.features.file import FeatureFile
from headstart.finetuning.checkpoint import Checkpoint, TrainingState
from headstart.heads.finetuned_card import (
    KIND,
    WEIGHTS_FILE,
    FinetunedCard,
    Start,
    read_finetuned_card,
    read_predictions,
)
from headstart.scoring.conformal import ClassSets
from headstart.scoring.costs import CostRule
from headstart.scoring.predictions import Predictions
from tests.contracts.test_heads import data_of, options_of
from tests.feature_files import blobs, make_identity, write_project
from tests.mutations import mutations

PREDICTIONS = Predictions(np.arange(6), np.random.default_rng(0).dirichlet(np.ones(3), 6))


@dataclass
class Artifact:
    """A file, and how what it is part of is read: as something that can be compared."""

    path: Path
    read: Callable[[], Any]


def _features(root: Path) -> list[Artifact]:
    path = write_project(root, *blobs(10), views=1).path

    def read() -> Any:
        file = FeatureFile.open(path)
        columns = (file.label, file.view, file.group, file.image, file.split, file.sha256)
        return file.header, file.features.tobytes(), [column.tobytes() for column in columns]

    return [Artifact(path, read)]


def _manifest(root: Path) -> list[Artifact]:
    write_project(root, *blobs(4))
    path = root / "data" / "manifest.csv"
    both = (path, path.with_name("manifest.csv.sha256"))
    return [Artifact(one, lambda: read_manifest(path).rows) for one in both]


def _shard(root: Path) -> list[Artifact]:
    identity = make_identity()
    rng = np.random.default_rng(0)
    keys = rng.integers(0, 256, (20, 32), np.uint8)
    vectors = rng.standard_normal((20, 16)).astype(np.float32)
    path = write_shard(root / identity.fingerprint, identity, {"numpy": "2"}, keys, vectors)

    def read() -> Any:
        shard = open_shard(path)
        vectors = [block.tobytes() for _, block in shard.read(np.arange(len(shard)))]
        return shard.identity, shard.versions, shard.keys.tobytes(), vectors

    return [Artifact(path, read)]


def _novelty(root: Path) -> list[Artifact]:
    path = root / "novelty.h5"
    fit(write_project(root, *blobs(20)), keep=0.9).save(path)

    def read() -> Any:
        novelty = Novelty.load(path)
        arrays = vars(novelty.gaussians).values()
        rest = novelty.threshold, novelty.keep, novelty.kept, novelty.units, novelty.feature_digest
        return [array.tobytes() for array in arrays], *rest

    return [Artifact(path, read)]


def _operating(root: Path) -> list[Artifact]:
    (model,) = {one.path.parent for one in _head(root, "ridge")}
    path, names = root / "operating.json", ("a", "b", "c")
    sets = ClassSets(0.9, np.array([0.1, 0.2, 0.3]), np.full(3, 200))
    point = OperatingPoint(names, sets, CostRule.of({"a": {"b": 5.0}}, 0.3, names, np.ones(3)))
    write_points(path, {"ridge": point}, {"ridge": model})

    def read() -> Any:
        point, problem = find_point(model, names)
        assert point is not None, problem
        return point.as_dict()

    return [Artifact(path, read)]


def _predictions(root: Path) -> list[Artifact]:
    path = root / "predictions.h5"
    PREDICTIONS.write(path)

    def read() -> Any:
        found = Predictions.read(path, "evaluate")
        return found.image.tobytes(), found.probabilities.tobytes()

    return [Artifact(path, read)]


def _head(root: Path, kind: str) -> list[Artifact]:
    file = write_project(root, *blobs(12))
    fitted = heads.create(options_of(kind), seed=0)
    fitted.fit(data_of(file))
    fitted.save(root / "head")
    features = np.asarray(file.features)

    def read() -> Any:
        head = heads.load(root / "head")
        return head.card, head.seed, head.predict_proba(features).tobytes()

    return [Artifact(path, read) for path in sorted((root / "head").iterdir())]


def _finetuned(root: Path) -> list[Artifact]:
    folder = root / "finetuned"
    file = write_project(root, *blobs(12))
    start = heads.create(options_of("ridge"), seed=0)
    start.fit(data_of(file))
    start.save(folder)
    (folder / start.weights_file).rename(folder / WEIGHTS_FILE)
    PREDICTIONS.write(folder / "held_out.h5")
    card = start.card.__class__.from_dict({**start.card.as_dict(), "kind": KIND})
    began = Start(name="ridge", kind="ridge", options={}, seed=0, card_sha256="0" * 64)
    options = {**card.options, "seed": 0}
    head = card.__class__.from_dict({**card.as_dict(), "options": options})
    FinetunedCard(head=head, start=began, cut="block1").write(folder)

    def read() -> Any:
        card = read_finetuned_card(folder)
        found = read_predictions(folder, "validation")
        assert found is not None
        return card, sha256_of(folder / WEIGHTS_FILE), found.probabilities.tobytes()

    return [Artifact(path, read) for path in sorted(folder.iterdir())]


ARTIFACTS: dict[str, Callable[[Path], list[Artifact]]] = {
    "features": _features,
    "manifest": _manifest,
    "shard": _shard,
    "novelty": _novelty,
    "operating": _operating,
    "predictions": _predictions,
    "ridge": lambda root: _head(root, "ridge"),
    "knn": lambda root: _head(root, "knn"),
    "finetuned": _finetuned,
}


@pytest.mark.parametrize("name", ARTIFACTS)
def test_damage_is_told_or_changes_nothing(name: str, tmp_path: Path) -> None:
    for artifact in ARTIFACTS[name](tmp_path):
        _damage(artifact)


def _damage(artifact: Artifact) -> None:
    original, expected = artifact.path.read_bytes(), artifact.read()

    @settings(deadline=None, max_examples=80, derandomize=True, database=None)
    @given(mutations(original))
    def damage(changed: bytes) -> None:
        artifact.path.write_bytes(changed)
        found, told = expected, ""
        try:
            found = artifact.read()
        except DamagedShard:
            # Whoever opens a shard names it.
            return
        except InputError as error:
            told = str(error)
        assert found == expected
        assert not told or (artifact.path.name in told and "dvc repro" in told)

    damage()
    artifact.path.write_bytes(original)
    assert artifact.read() == expected


def test_a_damaged_checkpoint_starts_anew(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(0)
    arrays = [rng.random((3, 4)), np.arange(5)]
    state = TrainingState(
        phase=1, epoch=2, current=arrays, optimizer=[np.float32(3)], best=[a + 1 for a in arrays],
        best_log_loss=0.5, best_epoch=1, waited=1, history=[{"loss": 0.25}], seconds=1.5,
        fair_logits=rng.random((6, 2), np.float32), fair_losses=np.array([0.5, np.inf]),
    )  # fmt: skip
    checkpoint = Checkpoint(tmp_path)
    checkpoint.save(state)
    (path,) = tmp_path.iterdir()
    original = path.read_bytes()

    def read() -> Any:
        found = checkpoint.load()
        return found and {
            name: [np.asarray(one).tolist() for one in value] if name in _ARRAYS else value
            for name, value in vars(found).items()
        }

    expected = read()
    assert expected["history"] == [{"loss": 0.25}]
    capsys.readouterr()

    @settings(deadline=None, max_examples=80, derandomize=True, database=None)
    @given(mutations(original))
    def damage(changed: bytes) -> None:
        path.write_bytes(changed)
        found = read()
        told = capsys.readouterr().err
        assert found == expected or (found is None and f"{path}: " in told)

    damage()


_ARRAYS = ("current", "optimizer", "best", "fair_logits", "fair_losses")


def test_a_damaged_kept_folder_is_made_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    keep = Keep("fits", tmp_path)
    digest = "a" * 64

    def make() -> Path:
        with keep.create(digest, versions={"keras": "3"}) as folder:
            (folder / "weights").write_bytes(bytes(range(256)))
        return keep.root / digest

    card = make() / "card.json"
    original = card.read_bytes()

    @settings(deadline=None, max_examples=40, derandomize=True, database=None)
    @given(mutations(original))
    def damage(changed: bytes) -> None:
        card.write_bytes(changed)
        found = keep.find(digest)
        told = capsys.readouterr().err
        assert changed == original if found else "card.json" in told
        make()

    damage()
