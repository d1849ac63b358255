"""Weights of a local preset folder into KerasHub's network, and that into ours.

KerasHub's own converters place them; what the folder's configuration names is only compared.
"""

import inspect
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

from headstart.catalog.hub.folder import CONFIG, PresetFolder, read_folder, reading
from headstart.catalog.hub.networks import CLASSES, TEXT, chain, hub_class, hub_model
from headstart.catalog.spec import BackboneSpec
from headstart.common.errors import InputError
from headstart.common.tensorflow_runtime import keras

# They depend on the image size of pretraining, which may be any.
_OF_THE_SIZE = ("position_embedding_shape",)


def build(spec: BackboneSpec, image_size: tuple[int, int], path: Path) -> keras.Model:
    """Build a backbone with the weights of a preset.

    Args:
        spec: The catalog entry.
        image_size: (height, width) in pixels.
        path: The preset's folder.

    Returns:
        What `headstart.catalog.hub.networks.chain` returns.

    Raises:
        InputError: the preset is of another network, or incomplete, or damaged.
    """
    assert spec.network is not None
    folder = read_folder(path)
    if folder.layout == "KerasHub":
        model = whole_model(spec, image_size, folder)
    elif spec.pairs_with_text:
        raise InputError(
            f"weights: {path}: KerasHub reads {spec.name} in its own layout alone (config.json, "
            f"model.weights.h5, as save_to_preset writes them), received that of {folder.layout}"
        )
    else:
        model = _from_safetensors(spec, image_size, folder)
    return chain(spec, image_size, model)


def text_config(spec: BackboneSpec, folder: PresetFolder) -> dict[str, Any]:
    """Return the arguments of the text tower that belongs to an image tower.

    Raises:
        InputError: the folder describes none.
    """
    assert spec.network is not None
    content = folder.config.get("config", {}).get("text_encoder")
    if not isinstance(content, dict) or not isinstance(content.get("config"), dict):
        raise _misfit(spec, folder, "a model without text_encoder")
    return _plain_arguments(hub_class(TEXT[spec.network.kind]), content["config"])


def whole_model(spec: BackboneSpec, image_size: tuple[int, int], folder: PresetFolder) -> Any:
    """Return KerasHub's own model of a preset in KerasHub's layout, text tower included.

    Raises:
        InputError: the preset is of another network, or incomplete, or damaged.
    """
    assert spec.network is not None
    expected = CLASSES[spec.network.kind]
    if folder.config["class_name"] != expected:
        raise _misfit(spec, folder, f"a {folder.config['class_name']}")
    config = folder.config.get("config")
    if not isinstance(config, dict):
        raise _misfit(spec, folder, "no key config")
    text = None
    if spec.pairs_with_text:
        text = text_config(spec, folder)
        vision = config.get("vision_encoder")
        config = config | (vision.get("config", {}) if isinstance(vision, dict) else {})
    _check(spec, folder, config)
    with _reading(spec, folder, folder.weights):
        model = hub_model(_at_its_own_size(spec, config), image_size, text)
        model.load_weights(str(folder.weights))
    return model


def _from_safetensors(spec: BackboneSpec, image_size: tuple[int, int], folder: PresetFolder) -> Any:
    assert spec.network is not None
    converter = _converter(spec, folder)
    with _reading(spec, folder, folder.path / CONFIG):
        config = converter.convert_backbone_config(folder.config)
    _check(spec, folder, config)
    model = hub_model(_at_its_own_size(spec, config), image_size)
    with _reading(spec, folder, folder.weights), _arrays_of(folder) as loader:
        converter.convert_weights(model, loader, folder.config)
    return model


def _arrays_of(folder: PresetFolder) -> Any:
    """Return what reads arrays by the names that KerasHub's converters know.

    A model that was saved without a task's head has names without their first part, "vit.".
    """
    from keras_hub.src.utils.transformers.safetensor_utils import SafetensorLoader

    class Arrays(SafetensorLoader):  # type: ignore[misc]  # KerasHub ships no types.
        def get_prefixed_key(self, hf_weight_key: str, dict_like: Any) -> str:
            found: str = super().get_prefixed_key(hf_weight_key, dict_like)
            names, short = dict_like.keys(), hf_weight_key.partition(".")[2]
            return short if found not in names and short in names else found

    return Arrays(str(folder.path), prefix="")


def _converter(spec: BackboneSpec, folder: PresetFolder) -> Any:
    """Return KerasHub's module that reads this layout of this network."""
    assert spec.network is not None
    expected = hub_class(CLASSES[spec.network.kind])
    try:
        if folder.layout == "timm":
            from keras_hub.src.utils.timm.preset_loader import TimmPresetLoader as Loader
        else:
            from keras_hub.src.utils.transformers.preset_loader import (
                TransformersPresetLoader as Loader,
            )

        converter = Loader(str(folder.path), folder.config).converter
    except ValueError as error:
        raise _misfit(spec, folder, str(error)) from None
    if converter.backbone_cls is not expected:
        name = folder.config.get("model_type") or folder.config.get("architecture")
        raise _misfit(spec, folder, f"a {name}")
    return converter


def _check(spec: BackboneSpec, folder: PresetFolder, config: Mapping[str, Any]) -> None:
    """Refuse a network of another size."""
    assert spec.network is not None
    for name, expected in spec.network.config:
        if name in _OF_THE_SIZE:
            continue
        received = config.get(name, expected)
        if _comparable(received) != _comparable(expected):
            raise _misfit(spec, folder, f"{name} {received} where it has {expected}")


def _at_its_own_size(spec: BackboneSpec, config: Mapping[str, Any]) -> BackboneSpec:
    """Return the entry with the image size that the preset has positions of, if it has such."""
    network = spec.network
    assert network is not None
    positions = config.get("position_embedding_shape")
    if network.kind != "dinov2" or positions is None:
        return spec
    extra = ("position_embedding_shape", tuple(positions))
    return replace(spec, network=replace(network, config=(*network.config, extra)))


def _comparable(value: Any) -> Any:
    if isinstance(value, list | tuple):
        values = tuple(value)
        return values[0] if len(set(values)) == 1 and len(values) == 2 else values
    return value


def _plain_arguments(hub: Any, config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of a class among the keys of a file, numbers and words only."""
    known = inspect.signature(hub.__init__).parameters
    return {
        name: value
        for name, value in config.items()
        if name in known and name not in ("name", "dtype") and isinstance(value, int | float | str)
    }


def _reading(spec: BackboneSpec, folder: PresetFolder, file: Path) -> AbstractContextManager[None]:
    return reading(str(file), f"that of {spec.name} in the {folder.layout} layout")


def _misfit(spec: BackboneSpec, folder: PresetFolder, received: str) -> InputError:
    return InputError(
        f"weights: {folder.path / CONFIG}: expected a preset of {spec.name}, received {received}; "
        "name the folder of this backbone, or the backbone of this folder (`headstart backbones`)"
    )
