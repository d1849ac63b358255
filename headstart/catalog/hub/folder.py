"""A preset in a local folder: which layout it has, what it says of itself, and its digest.

Read as data: only numbers and words are taken from its JSON. Needs no TensorFlow.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from headstart.catalog.spec import Preprocessing
from headstart.common.errors import InputError
from headstart.common.files import digest_of, sha256_of
from headstart.common.vocabulary import Interpolation

Layout = Literal["KerasHub", "Transformers", "timm"]

CONFIG = "config.json"
_KERASHUB_WEIGHTS = ("model.weights.h5", "model.weights.json")
_SAFETENSORS = ("model.safetensors", "model.safetensors.index.json")
_CONVERTERS = ("image_converter.json", "preprocessor.json")
_PROCESSOR = "preprocessor_config.json"
_EXPECTED = (
    "expected a preset in KerasHub's layout (config.json, model.weights.h5), or in that of "
    "Transformers or timm (config.json, model.safetensors)"
)
# Source: transformers/image_utils.py, `PILImageResampling`, as Pillow numbers them.
_RESAMPLING: dict[int, Interpolation] = {2: "bilinear", 3: "bicubic"}
# Decimals of mean and standard deviation, which a file may give as products of rounded numbers.
_DECIMALS = 6


@dataclass(frozen=True, slots=True)
class PresetFolder:
    """A preset as its files describe it.

    Attributes:
        path: The folder.
        layout: Whose layout it is in.
        config: The content of its config.json.
        weights: The file with the weights, or the one that lists their parts.
    """

    path: Path
    layout: Layout
    config: dict[str, Any]
    weights: Path

    @property
    def sha256(self) -> str:
        """Digest of everything that decides a number: configuration, weights, preprocessing."""
        names = [CONFIG, self.weights.name, *_CONVERTERS, _PROCESSOR, *self._parts()]
        files = {name: self.path / name for name in names}
        return digest_of({name: sha256_of(file) for name, file in files.items() if file.is_file()})

    def _parts(self) -> list[str]:
        """Return the names of the files that the weights are split into."""
        if self.weights.suffix != ".json":
            return []
        content = read_json(self.weights)
        listed = content.get("weight_map")
        if not isinstance(listed, dict):
            raise InputError(f"weights: {self.weights}: expected a key weight_map, received none")
        names: set[str] = set()
        for value in listed.values():
            names |= {value} if isinstance(value, str) else set(value)
        for name in names:
            if Path(name).name != name or not (self.path / name).is_file():
                raise InputError(
                    f"weights: {self.weights}: it lists {name!r}, which is not beside it"
                )
        return sorted(names)

    def preprocessing(self) -> tuple[Preprocessing, Interpolation | None] | None:
        """Return the rule that the preset states, and its filter; None where it states none.

        Raises:
            InputError: a file of the folder is not readable.
        """
        match self.layout:
            case "KerasHub":
                return next(self._converters(), None)
            case "Transformers":
                return self._processor()
        content = self.config.get("pretrained_cfg")
        if not isinstance(content, dict) or "mean" not in content:
            return None
        interpolation = content.get("interpolation")
        rule = _rule(self.path / CONFIG, 255.0, content["mean"], content.get("std"))
        return rule, interpolation if interpolation in ("bilinear", "bicubic") else None

    def _converters(self) -> Iterator[tuple[Preprocessing, Interpolation | None]]:
        for name in _CONVERTERS:
            file = self.path / name
            if not file.is_file():
                continue
            content = read_json(file)
            config = content.get("config", {})
            nested = config.get("image_converter") if isinstance(config, dict) else None
            if isinstance(nested, dict):
                config = nested.get("config", {})
            if not isinstance(config, dict) or config.get("scale") is None:
                continue
            scale, offset = _three(file, config["scale"]), _three(file, config.get("offset") or 0.0)
            std = [1 / (255 * one) for one in scale]
            mean = [-low * high for low, high in zip(offset, std, strict=True)]
            interpolation = config.get("interpolation")
            yield (
                _rule(file, 255.0, mean, std),
                interpolation if interpolation in ("bilinear", "bicubic") else None,
            )

    def _processor(self) -> tuple[Preprocessing, Interpolation | None] | None:
        file = self.path / _PROCESSOR
        if not file.is_file():
            return None
        content = read_json(file)
        rescale = content.get("rescale_factor", 1 / 255) if content.get("do_rescale", True) else 1.0
        normalized = content.get("do_normalize", True) and "image_mean" in content
        mean, std = (content["image_mean"], content["image_std"]) if normalized else (0.0, 1.0)
        rule = _rule(file, round(1 / rescale, _DECIMALS), mean, std)
        return rule, _RESAMPLING.get(content.get("resample", -1))


def read_folder(path: Path) -> PresetFolder:
    """Read what a preset says of itself.

    Raises:
        InputError: the folder is none, or its layout is not known.
    """
    if not (path / CONFIG).is_file():
        found = sorted(entry.name for entry in path.iterdir())[:5] if path.is_dir() else []
        raise InputError(
            f"weights: {path}: {_EXPECTED}; received a folder without config.json"
            + (f" ({', '.join(found)})" if found else "")
        )
    config = read_json(path / CONFIG)
    if "class_name" in config:
        layout: Layout = "KerasHub"
    elif "model_type" in config:
        layout = "Transformers"
    elif "architecture" in config:
        layout = "timm"
    else:
        raise InputError(
            f"weights: {path / CONFIG}: {_EXPECTED}; received a file without class_name, "
            "model_type or architecture"
        )
    names = _KERASHUB_WEIGHTS if layout == "KerasHub" else _SAFETENSORS
    weights = next((path / name for name in names if (path / name).is_file()), None)
    if weights is None:
        pickled = [file.name for file in (*path.glob("*.bin"), *path.glob("*.pt*"))]
        hint = (
            f"; {pickled[0]} may execute code when it is read: save the model with safetensors"
            if pickled
            else ""
        )
        raise InputError(
            f"weights: {path}: {layout} layout, expected {' or '.join(names)}, received "
            f"neither{hint}"
        )
    return PresetFolder(path, layout, config, weights)


@contextmanager
def reading(files: str, expected: str) -> Iterator[None]:
    """Turn what a library raises about files of a preset into one message.

    Args:
        files: What to call them.
        expected: What they should be.
    """
    try:
        yield
    except InputError:
        raise
    # Missing keys, other shapes, damaged files: each library has errors of its own for them.
    except Exception as error:
        said = " ".join(str(error).split())[:300]
        raise InputError(
            f"weights: {files}: expected {expected}, received what cannot be read as that "
            f"({type(error).__name__}: {said})"
        ) from None


def read_json(file: Path) -> dict[str, Any]:
    """Read a JSON object of a preset.

    Raises:
        InputError: it is none.
    """
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise InputError(f"weights: {file}: expected JSON, received {error}") from None
    if not isinstance(content, dict):
        raise InputError(f"weights: {file}: expected a JSON object, received {content!r:.60}")
    return content


def _rule(file: Path, divisor: float, mean: Any, std: Any) -> Preprocessing:
    return Preprocessing(
        "the preset's",
        "rgb",
        divisor,
        tuple(round(one, _DECIMALS) for one in _three(file, mean)),
        tuple(round(one, _DECIMALS) for one in _three(file, std)),
    )


def _three(file: Path, value: Any) -> list[float]:
    values = value if isinstance(value, list) else [value] * 3
    if len(values) != 3 or not all(isinstance(one, int | float) for one in values):
        raise InputError(
            f"weights: {file}: expected one number or three for the channels, received {value!r}"
        )
    return [float(one) for one in values]
