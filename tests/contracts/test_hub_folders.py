"""Preset folders that are not what they should be: one clear message each, and nothing executed."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from headstart.common.errors import InputError
from headstart.extraction.model import assemble, backbone_of, outputs_of
from tests.golden_features import assert_agree, golden_feature, golden_taps, images_of
from tests.hub_arrays import NETWORKS, Arrays
from tests.hub_specs import bottleneck_of, spec_of

pytest.importorskip("keras_hub", reason="hub backbones need the extra: headstart[hub]")

from safetensors.numpy import load_file, save_file

Folder = Callable[[str, str], Path]
Copy = Callable[[str, str], Path]


@pytest.fixture
def copy(hub_folder: Folder, tmp_path: Path) -> Copy:
    """Copy a preset, to be damaged: layout, name -> folder."""

    def make(layout: str, name: str) -> Path:
        return Path(shutil.copytree(hub_folder(layout, name), tmp_path / "preset"))

    return make


def refusal(name: str, folder: Path) -> str:
    """Return the message with which the folder is refused as weights of the network."""
    with pytest.raises(InputError) as caught:
        backbone_of(bottleneck_of(spec_of(name), folder, [("auto", "avg")]))
    message = str(caught.value)
    assert message.startswith("weights: ")
    assert "\n" not in message
    assert len(message) < 1000
    return message


def edit(file: Path, **changes: Any) -> None:
    """Set keys of a JSON file; None removes one."""
    content = json.loads(file.read_text()) | changes
    file.write_text(json.dumps({key: value for key, value in content.items() if value is not None}))


def rewrite(folder: Path, change: Callable[[Arrays], object]) -> None:
    """Change the arrays of a safetensors file."""
    arrays = load_file(folder / "model.safetensors")
    change(arrays)
    save_file(arrays, folder / "model.safetensors")


def test_no_folder(tmp_path: Path) -> None:
    message = refusal("vit", tmp_path / "none")
    assert "none" in message
    assert "no folder" in message


def test_an_empty_folder(tmp_path: Path) -> None:
    message = refusal("vit", tmp_path)
    assert "config.json" in message
    assert str(tmp_path) in message


@pytest.mark.parametrize("content", ["", "{", "[1, 2]", '"vit"', "{}", '{"a": 1}'])
def test_a_configuration_that_says_nothing(copy: Copy, content: str) -> None:
    folder = copy("transformers", "vit")
    (folder / "config.json").write_text(content)
    assert "config.json" in refusal("vit", folder)


def test_only_pickled_weights_are_never_opened(copy: Copy) -> None:
    folder = copy("transformers", "vit")
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(b"cos\nsystem\n(S'touch pwned'\ntR.")
    message = refusal("vit", folder)
    assert "pytorch_model.bin" in message
    assert "safetensors" in message


@pytest.mark.parametrize(
    ("wanted", "layout", "given"),
    [
        ("vit", "transformers", "deit"),
        ("dinov2", "transformers", "dinov3"),
        ("dinov2", "transformers", "dinov2_registers"),
        ("dinov3_gated", "transformers", "dinov3"),
        ("vit", "keras_hub", "deit"),
        ("clip", "keras_hub", "siglip"),
        ("resnet", "transformers", "vit"),
    ],
)
def test_a_preset_of_another_network(
    hub_folder: Folder, wanted: str, layout: str, given: str
) -> None:
    message = refusal(wanted, hub_folder(layout, given))
    assert f"Tiny_{wanted}" in message
    assert "config.json" in message


@pytest.mark.parametrize("key", ["hidden_size", "num_attention_heads", "num_hidden_layers"])
def test_a_preset_of_another_size(copy: Copy, key: str) -> None:
    folder = copy("transformers", "dinov2")
    edit(folder / "config.json", **{key: 8})
    message = refusal("dinov2", folder)
    assert "8" in message
    assert str(folder / "config.json") in message


@pytest.mark.parametrize("key", ["hidden_size", "patch_size", "image_size", "mlp_ratio"])
def test_a_configuration_without_a_key(copy: Copy, key: str) -> None:
    folder = copy("transformers", "dinov2")
    edit(folder / "config.json", **{key: None})
    message = refusal("dinov2", folder)
    assert str(folder / "config.json") in message
    assert key in message


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("vit", "vit.layernorm.weight"),
        ("dinov2", "encoder.layer.3.layer_scale2.lambda1"),
        ("swin", "swin.encoder.layers.0.blocks.1.attention.self.key.bias"),
        ("dinov3", "norm.weight"),
    ],
)
def test_a_missing_array(copy: Copy, name: str, key: str) -> None:
    folder = copy("transformers", name)
    rewrite(folder, lambda arrays: arrays.pop(key))
    message = refusal(name, folder)
    assert "model.safetensors" in message
    assert key.removeprefix("swin.") in message


def test_an_array_of_another_shape(copy: Copy) -> None:
    folder = copy("transformers", "dinov2")
    name = "encoder.layer.0.mlp.fc1.bias"
    rewrite(folder, lambda arrays: arrays.update({name: np.ones(3, np.float32)}))
    message = refusal("dinov2", folder)
    assert "model.safetensors" in message
    assert "(3,)" in message


@pytest.mark.parametrize(
    ("layout", "file"), [("transformers", "model.safetensors"), ("keras_hub", "model.weights.h5")]
)
@pytest.mark.parametrize("keep", [0, 100, 0.7])
def test_a_damaged_file(copy: Copy, layout: str, file: str, keep: float) -> None:
    folder = copy(layout, "vit")
    content = (folder / file).read_bytes()
    size = int(keep * len(content)) if keep < 1 else int(keep)
    (folder / file).write_bytes(content[:size])
    assert file in refusal("vit", folder)


def test_a_file_with_less_than_the_network(copy: Copy) -> None:
    folder = copy("keras_hub", "vit")
    with h5py.File(folder / "model.weights.h5", "r+") as file:
        names: list[str] = []
        file.visit(names.append)
        del file[next(name for name in names if name.endswith("vars") and "mlp" in name)]
    assert "model.weights.h5" in refusal("vit", folder)


@pytest.mark.parametrize(
    ("name", "rename", "tolerance"),
    [
        ("vit", lambda key: key.removeprefix("vit."), 1e-5),  # saved without a head
        ("dinov2", lambda key: f"dinov2.{key}", 1e-5),  # ... with one
        ("deit", None, 5e-3),  # in float16
    ],
)
def test_names_and_numbers_as_others_save_them(
    copy: Copy, name: str, rename: Callable[[str], str] | None, tolerance: float
) -> None:
    folder = copy("transformers", name)
    arrays = load_file(folder / "model.safetensors")
    if rename:
        arrays = {rename(key): array for key, array in arrays.items()}
    else:
        arrays = {key: array.astype(np.float16) for key, array in arrays.items()}
    save_file(arrays, folder / "model.safetensors")
    size = NETWORKS[name].image_size
    images = images_of(*size)
    (found,) = outputs_of(assemble(bottleneck_of(spec_of(name), folder, [("norm", "cls")])), images)
    expected = golden_feature(name, golden_taps(name, images), "norm", "cls", size)
    assert_agree(np.asarray(found), expected, tolerance, name)


def test_weights_in_parts(copy: Copy) -> None:
    folder = copy("transformers", "vit")
    arrays = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    parts = {"one.safetensors": {}, "two.safetensors": {}}
    for index, (name, array) in enumerate(arrays.items()):
        parts[("one.safetensors", "two.safetensors")[index % 2]][name] = array
    listed = {name: file for file, part in parts.items() for name in part}
    for file, part in parts.items():
        save_file(part, folder / file)
    index_file = folder / "model.safetensors.index.json"
    index_file.write_text(json.dumps({"metadata": {}, "weight_map": listed}))
    size, images = NETWORKS["vit"].image_size, images_of(*NETWORKS["vit"].image_size)
    bottleneck = bottleneck_of(spec_of("vit"), folder, [("norm", "cls")])
    (found,) = outputs_of(assemble(bottleneck), images)
    expected = golden_feature("vit", golden_taps("vit", images), "norm", "cls", size)
    assert_agree(np.asarray(found), expected, 1e-5, "vit")
    digest = bottleneck.weights.sha256
    save_file({**parts["two.safetensors"], "more": np.ones(1)}, folder / "two.safetensors")
    assert bottleneck_of(spec_of("vit"), folder, [("norm", "cls")]).weights.sha256 != digest

    (folder / "two.safetensors").unlink()
    assert "two.safetensors" in refusal("vit", folder)
    index_file.write_text(json.dumps({"weight_map": {"a": "../two.safetensors"}}))
    assert "../two.safetensors" in refusal("vit", folder)
    index_file.write_text(json.dumps({"weight_map": 3}))
    assert "weight_map" in refusal("vit", folder)


def test_a_configuration_that_names_code_runs_none(copy: Copy, tmp_path: Path) -> None:
    """Only numbers and words of config.json are taken; what classes it names is compared."""
    folder = copy("keras_hub", "clip")
    written = tmp_path / "pwned"
    code = {
        "module": "builtins",
        "class_name": "exec",
        "config": {"source": f"open({str(written)!r}, 'w')"},
        "registered_name": "exec",
    }
    config = json.loads((folder / "config.json").read_text())
    config["config"] |= {"text_encoder": code, "dtype": code}
    (folder / "config.json").write_text(json.dumps(config))
    refusal("clip", folder)
    edit(folder / "config.json", module="os", class_name="system")
    refusal("clip", folder)
    assert not written.exists()


@pytest.mark.parametrize(
    ("layout", "file"),
    [("transformers", "preprocessor_config.json"), ("keras_hub", "image_converter.json")],
)
def test_everything_that_decides_a_number_is_in_the_digest(
    copy: Copy, layout: str, file: str
) -> None:
    def digest() -> str:
        return bottleneck_of(spec_of("vit"), folder, [("norm", "cls")]).weights.sha256

    folder = copy(layout, "vit")
    first = digest()
    (folder / "README.md").write_text("Words.")
    assert digest() == first
    content = (folder / file).read_text()
    (folder / file).write_text(content.replace("true", "false", 1))
    second = digest()
    assert second != first
    weights = next(folder.glob("model.*"))
    data = bytearray(weights.read_bytes())
    data[-9] ^= 1
    weights.write_bytes(data)
    assert digest() not in (first, second)
