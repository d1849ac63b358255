import importlib.util
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from headstart import catalog
from headstart.catalog.hub import entries
from headstart.catalog.spec import HubWeights
from headstart.catalog.weights import resolve
from headstart.common.errors import InputError

SPECS = {spec.name: spec for spec in entries.specs()}


@pytest.fixture(scope="module")
def presets() -> dict[str, dict[str, Any]]:
    """KerasHub's own list, read without importing KerasHub, which takes seconds."""
    hub = importlib.util.find_spec("keras_hub")
    if hub is None or hub.origin is None:
        # The core's tests run without the extra, too; CI has it.
        pytest.skip("the extra hub is not installed")
    found: dict[str, dict[str, Any]] = {}
    for file in (Path(hub.origin).parent / "src" / "models").glob("*/*_presets.py"):
        module = runpy.run_path(str(file))
        found |= module.get("backbone_presets", {})
    return found


def test_all_backbones_of_the_hub_are_in_the_catalog() -> None:
    assert len(SPECS) == 73
    assert all(catalog.get(name) == spec for name, spec in SPECS.items())


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_an_entry_agrees_with_itself(spec: catalog.BackboneSpec) -> None:
    assert spec.network is not None
    kind, config = spec.network.kind, dict(spec.network.config)
    hash(spec)
    if kind == "resnet":
        assert spec.prefix_tokens is None
        return
    assert spec.prefix_tokens is not None
    assert spec.size_multiple == config["patch_size"]
    assert spec.default_size[0] % spec.size_multiple == 0 or spec.fixed_size
    assert spec.min_size == (spec.default_size[0] if spec.fixed_size else config["patch_size"])
    registers = config.get("num_register_tokens", 0)
    classes = {"vit": 1, "deit": 2, "dinov2": 1, "dinov3": 1, "clip": 1, "siglip": 0, "swin": 0}
    assert spec.prefix_tokens == classes[kind] + registers
    hidden = config["embed_dim"] * 8 if kind == "swin" else config["hidden_dim"]
    assert spec.feature_dim == config.get("projection_dim", hidden)
    assert hidden % (config["num_heads"][-1] if kind == "swin" else config["num_heads"]) == 0


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_figures_have_a_source_and_licenses_of_their_own_have_terms(
    spec: catalog.BackboneSpec,
) -> None:
    figures = (spec.top1, spec.top5, spec.linear_probe, spec.zero_shot)
    assert bool(spec.figure_source) == any(figure is not None for figure in figures)
    assert all(figure is None or 0.5 < figure < 1 for figure in figures)
    open_source = spec.license in ("Apache-2.0", "MIT")
    assert open_source == (spec.terms is None)


def test_presets_and_their_addresses_are_those_of_keras_hub(
    presets: dict[str, dict[str, Any]],
) -> None:
    weights = [spec.pretrained for spec in SPECS.values()]
    listed = {source.preset: source.handle for source in weights if isinstance(source, HubWeights)}
    assert listed == {preset: presets[preset]["kaggle_handle"] for preset in listed}
    # Every size of these is there but for the one that no desktop computer holds.
    kinds = ("vit", "deit", "swin_transformer", "dinov2", "dinov3", "clip", "siglip")
    of_these = {preset for preset, entry in presets.items() if entry["metadata"]["path"] in kinds}
    assert of_these - set(listed) == {"dinov3_vit_7b_lvd1689m", "dinov3_vit_7b_sat493m"}


def test_parameters_are_those_that_keras_hub_states(
    presets: dict[str, dict[str, Any]],
) -> None:
    for spec in SPECS.values():
        if not isinstance(spec.pretrained, HubWeights) or spec.network is None:
            continue
        stated = presets[spec.pretrained.preset]["metadata"]["params"]
        match spec.network.kind:
            case "clip" | "siglip":
                # Both towers are stated; the text's is the smaller but for its vocabulary.
                assert 0.2 < spec.parameters / stated < 0.75, spec.name
            case "dinov2" | "dinov3":
                # DINOv2's positions are stated twice, DINOv3's numbers are rounded.
                assert spec.parameters == pytest.approx(stated, rel=0.025), spec.name
            case _:
                assert spec.parameters == stated, spec.name


def test_the_catalog_needs_neither_tensorflow_nor_keras_hub() -> None:
    code = (
        "import sys; from headstart import catalog; catalog.specs(); "
        "sys.exit(bool({'tensorflow', 'keras', 'keras_hub'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_every_backbone_has_a_license_and_a_name_of_its_own() -> None:
    names = [spec.name.lower() for spec in catalog.specs()]
    assert len(set(names)) == len(names)
    known = {"Apache-2.0", "BSD-3-Clause", "CC-BY-4.0", "MIT"}
    known |= {"DINOv3 License", "HAI-DEF terms", "no weights"}
    assert {spec.license for spec in catalog.specs()} == known
    for spec in catalog.specs():
        assert (spec.license == "no weights") <= (spec.pretrained is None)


def test_a_network_of_which_keras_hub_has_no_preset_says_what_it_takes() -> None:
    with pytest.raises(InputError) as error:
        resolve(catalog.get("ResNet34"), "pretrained", 0)
    assert str(error.value) == (
        "weights: ResNet34 takes random or the folder of a preset, KerasHub publishes none of it; "
        "received 'pretrained', which is no folder"
    )
