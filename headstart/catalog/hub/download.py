"""Presets of KerasHub: which files one has, where they lie, and how they come from Kaggle.

They lie where kagglehub, KerasHub's own loader, keeps them, so that neither fetches what the other
has. It does not fetch them here, since it waits for ever for a server that falls silent, leaves
halves under their final names, and lets two processes write to one file at a time.
"""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path, PurePosixPath
from typing import Any

from headstart.catalog.downloading import Authorization, DownloadError, download
from headstart.common.errors import InputError
from headstart.common.files import read_json
from headstart.common.progress import notify
from headstart.common.system_errors import writing

ORIGIN = "https://www.kaggle.com"

# Source: keras_hub/src/utils/preset_utils.py, names of files.
CONFIG = "config.json"
WEIGHTS = "model.weights.h5"
SHARDED_WEIGHTS = "model.weights.json"
TOKENIZER = "tokenizer.json"
_PREPROCESSING = ("image_converter.json", "preprocessor.json")
# Source: keras_hub/src/tokenizers, `file_assets` of byte pairs and of sentence pieces.
_VOCABULARIES = (("vocabulary.json", "merges.txt"), ("vocabulary.spm",))

_PROTOCOL = "kaggle://"
_FORBIDDEN = (401, 403)
_NOT_FOUND = 404


class _Unknown(Exception):
    """Whether a preset has a file can only be asked of Kaggle."""


def preset_folder(preset: str, handle: str, *, text: bool = False) -> Path:
    """Return the local folder of a preset; download what is missing of it.

    Where nothing is missing, nothing is asked of Kaggle. Needs neither TensorFlow nor KerasHub.

    Args:
        preset: Its name, for messages.
        handle: Its address, kaggle://<owner>/<model>/keras/<variation>/<version>.
        text: Whether the tokenizer is needed, too.

    Returns:
        The folder with config.json, the weights (model.weights.h5, or the parts that
        model.weights.json lists), where the preset has them image_converter.json and
        preprocessor.json, and for `text` tokenizer.json and assets/tokenizer/.

    Raises:
        InputError: the download fails; the message says what can be done.
        WriteError: the cache cannot be written.
    """
    cached = _Cached(handle)
    if is_complete(handle, text=text):
        return cached.folder
    origin = _Origin(preset, cached, _credentials())
    notify(f"downloading preset {preset} from {cached.page}")
    missing = _first_missing(origin.get, cached.folder, text=text)
    if missing is not None:
        raise origin.failed(DownloadError(cached.url(missing), "there is no such file", _NOT_FOUND))
    cached.remember_absent(origin.absent)
    return cached.folder


def is_complete(handle: str, *, text: bool = False) -> bool:
    """Return whether all of a preset is on this machine, so that it is usable offline.

    Args:
        handle: As for `preset_folder`.
        text: As for `preset_folder`.
    """
    cached = _Cached(handle)

    def known(name: str) -> bool:
        found = cached.has(name)
        if found is None:
            raise _Unknown
        return found

    try:
        return _first_missing(known, cached.folder, text=text) is None
    # A broken index is told of where the preset is wanted.
    except (_Unknown, InputError):
        return False


def _first_missing(get: Callable[[str], bool], folder: Path, *, text: bool) -> str | None:
    """Return the first file that a preset must have and has not; None when nothing is missing.

    Args:
        get: Takes a file's name; returns whether it is in the folder now.
        folder: Where they lie.
        text: Whether the tokenizer is needed, too.
    """
    needed = _needed(get, folder, text=text)
    return next((name for name in needed if not get(name)), None)


def _needed(get: Callable[[str], bool], folder: Path, *, text: bool) -> Iterator[str]:
    yield CONFIG
    for name in _PREPROCESSING:
        get(name)
    if text:
        yield TOKENIZER
        assets = [[f"assets/tokenizer/{name}" for name in names] for names in _VOCABULARIES]
        yield from next((names for names in assets if get(names[0])), assets[0])
    # Last, since they are large.
    if get(WEIGHTS) or not get(SHARDED_WEIGHTS):
        yield WEIGHTS
    else:
        yield from _parts(folder / SHARDED_WEIGHTS)


def _parts(index: Path) -> list[str]:
    """Return the files that an index of sharded weights lists."""
    # Source: keras_hub/src/utils/preset_utils.py, `_get_sharded_filenames`.
    try:
        values = dict(read_json(index)["weight_map"]).values()
        names = {
            name for value in values for name in ([value] if isinstance(value, str) else value)
        }
        # They become paths, and the file is from outside.
        if not names or any(Path(name).name != name or not name.endswith(".h5") for name in names):
            raise ValueError("it names what is no file of weights beside it")
    except (ValueError, TypeError, KeyError) as error:
        raise InputError(
            f"{index}: expected an index of weights in parts, received something else ({error}); "
            f"delete it and run again"
        ) from None
    return sorted(names)


@dataclass(frozen=True)
class _Cached:
    """What is on this machine of a preset, in kagglehub's cache.

    Attributes:
        handle: The preset's address.
    """

    handle: str

    @property
    def _slug(self) -> PurePosixPath:
        return PurePosixPath(self.handle.removeprefix(_PROTOCOL))

    @cached_property
    def folder(self) -> Path:
        # Source: kagglehub 1.0.2, config.py, `get_cache_folder`, and cache.py, `_get_model_path`.
        cache = os.environ.get("KAGGLEHUB_CACHE")
        root = Path(cache) if cache else Path.home() / ".cache" / "kagglehub"
        return root / "models" / self._slug

    @property
    def page(self) -> str:
        return f"{ORIGIN}/models/{self._slug}"

    def url(self, name: str) -> str:
        # Source: kagglesdk, models/types/model_api_service.py,
        # `ApiDownloadModelInstanceVersionRequest.endpoint`.
        return f"{ORIGIN}/api/v1/models/{self._slug}/download/{name}"

    def has(self, name: str) -> bool | None:
        """Return whether the preset has a file, and the whole of it is here; None: not known."""
        here = (self.folder / name).is_file()
        if self.folder.with_name(f"{self.folder.name}.complete").is_file():
            return here
        if here and self._marker(name).is_file():
            return True
        return False if self._marker(name, "absent").is_file() else None

    def remember_whole(self, name: str) -> None:
        _touch(self._marker(name))

    def remember_absent(self, names: set[str]) -> None:
        for name in names:
            _touch(self._marker(name, "absent"))

    def _marker(self, name: str, kind: str = "complete") -> Path:
        # Source: kagglehub 1.0.2, cache.py, `_get_models_completion_marker_filepath`; it knows no
        # "absent", and looks at no such file.
        return self.folder.parent / ".complete" / self.folder.name / f"{name}.{kind}"


@dataclass(frozen=True)
class _Origin:
    """Kaggle, asked for one preset.

    Attributes:
        preset: The preset's name.
        cached: What is here of it.
        credentials: Who asks.
        absent: Files that Kaggle says the preset does not have.
    """

    preset: str
    cached: _Cached
    credentials: Authorization
    absent: set[str] = field(default_factory=set)

    def get(self, name: str) -> bool:
        """Download a file if it is not here; return whether the preset has it."""
        known = self.cached.has(name)
        if known is not None or name in self.absent:
            return bool(known)
        try:
            download(
                self.cached.url(name), self.cached.folder / name, authorization=self.credentials
            )
        except DownloadError as error:
            if error.status == _NOT_FOUND:
                self.absent.add(name)
                return False
            raise self.failed(error) from None
        self.cached.remember_whole(name)
        return True

    def failed(self, error: DownloadError) -> InputError:
        """Return the error for the user: what was wanted, what came, what can be done."""
        page = self.cached.page
        if error.status in _FORBIDDEN:
            remedy = (
                f"accept the model's terms at {page}, make a token under Settings, API, set "
                f"KAGGLE_USERNAME and KAGGLE_KEY to it, and run again"
            )
        elif error.status == _NOT_FOUND:
            remedy = f"see {page} for what is published"
        else:
            remedy = (
                f"run again, what is here already is kept; or download it from {page} on another "
                f"machine and name its folder as extract.weights; `headstart backbones --offline` "
                f"lists what needs no network"
            )
        return InputError(
            f"weights: the download of preset {self.preset} failed ({error.url}: {error.reason}); "
            f"{remedy}"
        )


def _credentials() -> Authorization:
    """Return who the user is on Kaggle, as kagglehub finds it; None for anybody."""
    if find_spec("kagglehub") is None:
        raise InputError(
            "weights: presets need KerasHub, which is not installed: pip install headstart[hub]"
        )
    from kagglehub.config import get_kaggle_credentials

    try:
        found = get_kaggle_credentials()
    except (ValueError, OSError) as error:
        raise InputError(f"weights: Kaggle's credentials cannot be read ({error})") from None
    if found is None:
        return None
    token = found.api_key
    if token is None:
        return (found.username, found.key)

    def bearer(request: Any) -> Any:
        request.headers["Authorization"] = f"Bearer {token}"
        return request

    return bearer


def _touch(path: Path) -> None:
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
