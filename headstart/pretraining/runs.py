"""All runs of the section `pretrain`: trained, or taken over from an earlier time."""

import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from headstart.common.cache import Keep
from headstart.common.code import digest_of_code
from headstart.common.files import atomic_folder, digest_of, read_json, sha256_of, write_json
from headstart.common.places import PRETRAINED_INDEX
from headstart.common.progress import notify
from headstart.common.vocabulary import Sizing
from headstart.pretraining.options import PretrainOptions, PretrainRun

if TYPE_CHECKING:
    from headstart.catalog import BackboneSpec
    from headstart.pretraining.listing import Source, SourceListing

_CODE = ("common", "images", "dataset", "catalog", "pretraining")
_LIBRARIES = ("keras", "numpy", "tensorflow")
# What a kept run consists of.
_WEIGHTS, _DESCRIPTION = "backbone.weights.h5", "run.json"


@dataclass(frozen=True, slots=True)
class _Plan:
    """A run that was checked.

    Attributes:
        name: Of the run.
        run: Its options.
        spec: Its backbone.
        sizing: How an image becomes what the backbone sees.
        listing: The images.
        digest: Of all that decides what comes out.
    """

    name: str
    run: PretrainRun
    spec: "BackboneSpec"
    sizing: Sizing
    listing: "SourceListing"
    digest: str

    @property
    def key(self) -> str:
        """Where in params.yaml it stands."""
        return _key(self.name)


def pretrain_runs(options: PretrainOptions, folder: Path, keep: Keep | None = None) -> None:
    """Write every run's weights and what they are, and nothing of any other run.

    A run is kept in the user's cache folder under all that decides it, so that one whose options,
    images and code are what they were is taken over, without TensorFlow; the edit of one run
    trains that run alone, and a stage that was killed goes on with the run that it was training.

    Args:
        options: The section `pretrain`.
        folder: Gets <name>.weights.h5 and <name>.json per run, and `runs.sha256.json`, which holds
            the sha256 of each run's weights; what it held before is removed.
        keep: Where runs are kept; the user's cache folder by default.

    Raises:
        InputError: the source, a backbone or an image size cannot be used, or training diverged.
    """
    kept = dict(_kept(options, keep or Keep("pretrained"))) if options.runs else {}
    digests = {}
    with atomic_folder(folder) as new:
        for name, run in kept.items():
            shutil.copyfile(run / _WEIGHTS, new / f"{name}.weights.h5")
            card = read_json(run / _DESCRIPTION)
            # Where the images lie decides nothing, and may have changed since.
            write_json(new / f"{name}.json", {"source": options.source, **card})
            digests[name] = card["weights_sha256"]
        # Also when there is no run: DVC wants no empty folder.
        write_json(new / PRETRAINED_INDEX, digests)


def _kept(options: PretrainOptions, keep: Keep) -> Iterator[tuple[str, Path]]:
    """Give each run's kept folder, training those that there are none of."""
    # Not needed without any run, and it takes half a second.
    from headstart.pretraining.listing import Source

    source = Source(options)
    # All are checked before the first is trained, which may take hours.
    plans = [_plan(name, run, source) for name, run in options.runs.items()]
    for plan in plans:
        started = time.perf_counter()
        found = keep.find(plan.digest)
        if found:
            notify(f"{plan.name}: taken over, nothing that decides it has changed")
        else:
            with keep.create(plan.digest, backbone=plan.spec.name) as new:
                _train(plan, new)
            found = keep.root / plan.digest
            notify(f"{plan.name}: trained in {time.perf_counter() - started:.1f} s")
        yield plan.name, found


def _key(name: str) -> str:
    return f"pretrain.runs.{name}"


def _plan(name: str, run: PretrainRun, source: "Source") -> _Plan:
    spec, image_size = run.check_backbone(_key(name))
    listing = source.listing(_key(name), run)
    digest = digest_of(
        {
            "run": run.model_dump(mode="json"),
            "images": listing.content(),
            "code": digest_of_code(_CODE),
            "versions": {package: version(package) for package in _LIBRARIES},
        }
    )
    sizing = Sizing(image_size, interpolation=spec.interpolation)
    return _Plan(name, run, spec, sizing, listing, digest)


def _train(plan: _Plan, folder: Path) -> None:
    from headstart.pretraining.data import open_source

    run, spec = plan.run, plan.spec
    with open_source(plan.listing, run, plan.sizing, folder) as images:
        # Whatever is wrong with the source is told before TensorFlow is imported.
        from headstart.catalog.loading import save
        from headstart.pretraining.training import pretrain

        trained = pretrain(plan.key, run, spec, images)
    weights = folder / _WEIGHTS
    save(trained.backbone, weights)
    card = {
        "backbone": spec.name,
        "objective": run.objective,
        "class_names": list(images.class_names),
        "image_size": list(plan.sizing.image_size),
        "preprocessing": spec.preprocessing.as_dict(),
        "preprocessing_digest": spec.preprocessing.digest,
        "images": {
            "train": len(images.train),
            "validation": len(images.validation),
            "unreadable": images.unreadable,
        },
        "scores": trained.scores,
        "best_epoch": trained.best_epoch,
        "history": trained.history,
        "options": run.model_dump(),
        "weights_sha256": sha256_of(weights),
        "versions": {package: version(package) for package in _LIBRARIES},
    }
    write_json(folder / _DESCRIPTION, card)
