"""Damaged files of a run through what reads them: told, set aside, or read as they were."""

import hashlib
import os
import random
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import scratch
from mutations import edit, mutate
from watchdog import Judge, Verdict

from headstart.common import places
from headstart.common.cache import Keep, read_card
from headstart.common.errors import InputError
from headstart.common.files import read_json, sha256_of
from headstart.extraction.shard import DamagedShard

_PRETRAINED = "tiny"
_CHECKPOINTS = Path("checkpoint")


class _SetAside(Exception):
    """A reader found nothing that it could use, and said so in its own way."""


class Artefact(NamedTuple):
    """A file of a run and what reads it.

    Attributes:
        kind: Of the file, in the table of results.
        path: Of the file, relative to the project.
        read: Reads it as stages and commands do; returns all that they take from it.
    """

    kind: str
    path: Path
    read: Callable[[], Any]


def make_project(root: Path) -> Path:
    """Run a small project to its end, with what is kept of it; nothing is done if it is there."""
    if (root / _CHECKPOINTS).is_dir():
        return root
    run = {"backbone": "LeNet5", "seed": 0, "epochs": 1}
    project = scratch.make(root, changes={"pretrain.runs": {_PRETRAINED: run}})
    for name in (scratch.STAGES[0], "pretrain", *scratch.STAGES[1:]):
        project.check(*scratch.stage(name))
    _save_checkpoint(root / _CHECKPOINTS)
    return root


def _save_checkpoint(folder: Path) -> None:
    from headstart.finetuning.checkpoint import Checkpoint, TrainingState

    rng = np.random.default_rng(0)
    arrays = [rng.normal(size=shape).astype(np.float32) for shape in ((3, 4), (4,), (4, 2))]
    best = [array + 1 for array in arrays]
    state = TrainingState(
        phase=0, epoch=2, current=arrays, optimizer=arrays[:1], best=best, best_log_loss=0.25,
        best_epoch=1, waited=1, history=[{"epoch": 1.0, "loss": 0.5}], seconds=2.5,
    )  # fmt: skip
    Checkpoint(folder).save(state)


def _artefacts(root: Path) -> list[Artefact]:
    """Return the files of a project, in the working folder `root`."""
    found = []
    for folder in sorted((root / places.HEADS).iterdir()):
        read = _in(root, partial(_read_head, folder.relative_to(root)))
        found += [Artefact(f"head {folder.name}", path, read) for path in sorted(folder.iterdir())]
    read = _in(root, partial(_read_finetuned, places.FINETUNED))
    found += [
        Artefact("fine-tuned model", path, read)
        for path in sorted((root / places.FINETUNED).iterdir())
    ]
    found.append(Artefact("features", root / places.FEATURES, _in(root, _read_features)))
    found.append(Artefact("novelty", root / places.NOVELTY, _in(root, _read_novelty)))
    for path in sorted((root / places.PREDICTIONS).rglob("*.h5")):
        read = _in(root, partial(_read_predictions, path.relative_to(root)))
        found.append(Artefact("predictions", path, read))
    for path in sorted((root / "data").glob(f"{places.MANIFEST.name}*")):
        found.append(Artefact("manifest", path, _in(root, _read_manifest)))
    read = _in(root, _read_pretrained)
    found += [
        Artefact("pretrained", path, read) for path in sorted((root / places.PRETRAINED).iterdir())
    ]
    for path in sorted((root / ".store" / "features").rglob("*.h5")):
        found.append(Artefact("shard", path, partial(_read_shard, path)))
    for kind in ("costs", "models", "fits", "pretrained"):
        for path in sorted((root / ".store" / kind).rglob("*")):
            if path.is_file():
                digest = path.relative_to(root / ".store" / kind).parts[0]
                read = partial(_read_kept, root, kind, digest)
                found.append(Artefact(f"kept {kind}", path, read))
    for path in sorted((root / _CHECKPOINTS).iterdir()):
        found.append(Artefact("checkpoint", path, _in(root, _read_checkpoint)))
    return [one for one in found if one.path.stat().st_size and one.path.name != "lock"]


def _in(folder: Path, read: Callable[[], Any]) -> Callable[[], Any]:
    def in_folder() -> Any:
        os.chdir(folder)
        return read()

    return in_folder


@cache
def _paths(root: Path) -> list[tuple[str, Path]]:
    return [(one.kind, one.path.relative_to(root)) for one in _artefacts(root)]


def _choose(seed: int, case: int, paths: list[tuple[str, Path]]) -> tuple[random.Random, int]:
    """Each kind comes equally often, and then each of its files."""
    rng = random.Random(f"artefact {seed} {case}")
    kinds = sorted({kind for kind, _ in paths})
    kind = kinds[case % len(kinds)]
    return rng, rng.choice([number for number, (one, _) in enumerate(paths) if one == kind])


def subject(seed: int, project: Path, case: int) -> str:
    """Name the kind of file of a case."""
    paths = _paths(project)
    return paths[_choose(seed, case, paths)[1]][0]


def make_judge(seed: int, project: Path) -> Judge:
    """Return what damages a file in a copy of the project, reads it, and puts it back.

    The outcome of a case is "refused" (an InputError that names the file, or set aside), "same"
    (read as it was), or what is wrong: "silent" (something else was read), "nameless" (the
    message does not name the file), "traceback" (another exception).
    """
    root = Path(tempfile.mkdtemp(dir=project.parent)) / "project"
    shutil.copytree(project, root)
    files = _artefacts(root)
    paths = [(one.kind, one.path.relative_to(root)) for one in files]
    expected = [_digest(one.read()) for one in files]

    def judge(case: int) -> Verdict:
        rng, number = _choose(seed, case, paths)
        one = files[number]
        with _damaged(rng, one, files, root.parent) as what:
            detail = f"{one.path.relative_to(root)}: {what}"
            try:
                read = _digest(one.read())
            except (_SetAside, DamagedShard):
                outcome = "refused"
            except InputError as error:
                named = one.path.name in str(error) or one.path.parent.name in str(error)
                outcome, detail = "refused" if named else "nameless", f"{detail}: {error}"
            # What a user would see as a traceback is what is counted here.
            except Exception as error:
                outcome, detail = "traceback", f"{detail}: {type(error).__name__}: {error}"
            else:
                outcome = "same" if read == expected[number] else "silent"
        return Verdict(case, one.kind, outcome, detail)

    return judge


@contextmanager
def _damaged(
    rng: random.Random, one: Artefact, files: list[Artefact], scratch_folder: Path
) -> Iterator[str]:
    """Damage a file, and put back all that the reader may delete."""
    around = one.path.parent
    if one.kind.startswith("kept "):
        around = next(path for path in one.path.parents if path.parent.parent.name == ".store")
    kept = Path(tempfile.mkdtemp(dir=scratch_folder)) / "kept"
    shutil.copytree(around, kept)
    # A new file under the name, as when something is restored from elsewhere.
    mutant = one.path.with_name(f"mutant{one.path.suffix}")
    draw = rng.random()
    if draw < 0.02:
        what = "removed"
        one.path.unlink()
    else:
        if draw < 0.25 and one.path.suffix in (".h5", ".json", ".csv"):
            shutil.copyfile(one.path, mutant)
            what = edit(rng, mutant)
        else:
            others = [x.path.read_bytes() for x in files
                      if x.path.suffix == one.path.suffix and x.path != one.path]  # fmt: skip
            what, data = mutate(rng, one.path.read_bytes(), others)
            mutant.write_bytes(data)
        mutant.replace(one.path)
    try:
        yield what
    finally:
        shutil.rmtree(around, ignore_errors=True)
        shutil.move(kept, around)
        kept.parent.rmdir()


def _digest(content: Any) -> str:
    """Return a digest of what was read: arrays, records, and JSON types within each other."""
    digest = hashlib.sha256()

    def add(value: Any) -> None:
        if isinstance(value, np.ndarray):
            add([str(value.dtype), list(value.shape)])
            digest.update(np.ascontiguousarray(value).tobytes() if value.dtype != object
                          else repr(value.tolist()).encode())  # fmt: skip
        elif isinstance(value, dict):
            for key in sorted(value):
                add([key, value[key]])
        elif isinstance(value, list | tuple):
            digest.update(f"[{len(value)}".encode())
            for item in value:
                add(item)
        else:
            digest.update(f"{type(value).__name__} {value!r};".encode())

    add(content)
    return digest.hexdigest()


def _read_head(folder: Path) -> Any:
    from headstart import heads
    from headstart.heads.base import HELD_OUT_FILE, origin_of_predictions
    from headstart.scoring.predictions import Predictions

    head = heads.load(folder)
    shape = head.card.feature_shape
    features = np.random.default_rng(0).normal(size=(4, *shape)).astype(np.float32)
    held_out = Predictions.read(
        folder / HELD_OUT_FILE, origin=origin_of_predictions(folder, "held-out")
    )
    return [
        head.card.as_dict(), head.seed, head.predict_proba(features),
        held_out.image, held_out.probabilities,
    ]  # fmt: skip


def _read_finetuned(folder: Path) -> Any:
    from headstart.heads.finetuned_card import read_finetuned_card, read_predictions
    from headstart.inference.finetuned import as_bottleneck

    card = read_finetuned_card(folder)
    predictions = [read_predictions(folder, split) for split in ("validation", "test")]
    return [
        card.head.as_dict(), repr(card.start), card.cut, as_bottleneck(folder, card).weights.sha256,
        *([one.image, one.probabilities] if one else [None] for one in predictions),
    ]  # fmt: skip


def _read_features() -> Any:
    from headstart.features.file import FeatureFile

    file = FeatureFile.open(places.FEATURES)
    columns = [getattr(file, name) for name in ("label", "view", "group", "image", "split")]
    return [repr(file.header), np.asarray(file.features), *columns, file.sha256]


def _read_novelty() -> Any:
    from headstart.evaluation.novelty import Novelty

    one = Novelty.load(places.NOVELTY)
    arrays = [one.gaussians.center, one.gaussians.means, one.gaussians.usual]
    return [*arrays, one.threshold, one.keep, one.kept, one.units, one.feature_digest]


def _read_predictions(path: Path) -> Any:
    from headstart.heads.base import origin_of_predictions
    from headstart.scoring.predictions import Predictions

    model = places.HEADS / path.stem if path.parent.name == "heads" else places.FINETUNED
    one = Predictions.read(path, origin=origin_of_predictions(model, "test"))
    return [one.image, one.probabilities]


def _read_manifest() -> Any:
    from headstart.dataset.manifest import read_manifest

    return list(read_manifest(places.MANIFEST).rows)


def _read_pretrained() -> Any:
    from headstart import catalog
    from headstart.catalog.weights import resolve

    path = places.PRETRAINED / f"{_PRETRAINED}.weights.h5"
    weights = resolve(catalog.get("LeNet5"), str(path), 0)
    return [weights.sha256, sha256_of(path)]


def _read_shard(path: Path) -> Any:
    from headstart.extraction.shard import open_shard

    try:
        shard = open_shard(path)
    except FileNotFoundError:
        # Another process may have pruned it; the store takes it so.
        raise _SetAside from None
    vectors = [part.copy() for _, part in shard.read(np.arange(len(shard)))]
    return [shard.identity.as_dict(), shard.versions, shard.keys, np.concatenate(vectors)]


def _read_kept(root: Path, kind: str, digest: str) -> Any:
    found = Keep(kind, root / ".store").find(digest)
    if found is None:
        raise _SetAside
    files = sorted(path for path in found.rglob("*") if path.is_file())
    content = [(path.relative_to(found).as_posix(), sha256_of(path)) for path in files[1:]]
    # What `Keep.get` returns is parsed; of the card everything but the digest of itself is used.
    card = {key: value for key, value in read_card(found).items() if not isinstance(value, str)}
    values = [read_json(path) for path in files if path.name == "content.json"]
    return [[one for one in content if one[0] != "card.json"], card, values]


def _read_checkpoint() -> Any:
    from headstart.finetuning.checkpoint import Checkpoint

    state = Checkpoint(_CHECKPOINTS).load()
    if state is None:
        raise _SetAside
    return vars(state)
