"""Catalog entries of the tiny networks, and bottlenecks of their presets."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from headstart import catalog
from headstart.catalog.spec import BackboneSpec, HubNetwork, HubWeights
from headstart.catalog.weights import resolve
from headstart.common.vocabulary import EngineName, Pooling
from headstart.extraction.bottleneck import Bottleneck
from headstart.features.identity import FeatureIdentity
from tests.hub_arrays import NETWORKS, TRANSFORMERS

_LAST = {"clip": "projection", "siglip": "head", "resnet": "stack1_block1_out"}
# Only pretraining uses it; entries of the catalog leave it out.
_OF_TRAINING = ("drop_path",)


def layout_of(name: str) -> str:
    """Return the layout that the network is published in, KerasHub's where it has no other."""
    return "transformers" if name in TRANSFORMERS else "keras_hub"


def spec_of(name: str) -> BackboneSpec:
    """Return the entry of a network of `NETWORKS`."""
    tiny = NETWORKS[name]
    patch = tiny.arguments.get("patch_size", 1)
    return replace(
        catalog.get("VGG16"),
        name=f"Tiny_{name}",
        family="Tiny",
        default_size=tiny.image_size,
        min_size=patch,
        size_multiple=patch,
        fixed_size=tiny.kind not in ("dinov2", "dinov3", "resnet"),
        square=tiny.kind == "dinov2",
        feature_layer=_LAST.get(tiny.kind, "norm"),
        feature_dim=tiny.feature_dim,
        prefix_tokens=tiny.prefix_tokens,
        pretrained=HubWeights(f"tiny_{name}", f"kaggle://tiny/tiny/keras/{name}/1"),
        network=HubNetwork(
            tiny.kind,
            tuple((key, value) for key, value in tiny.arguments.items() if key not in _OF_TRAINING),
        ),
    )


def bottleneck_of(
    spec: BackboneSpec,
    weights: str | Path,
    taps: Sequence[tuple[str, Pooling]],
    *,
    engine: EngineName = "tensorflow",
    image_size: tuple[int, int] | None = None,
) -> Bottleneck:
    """Return what `identify` makes of options that name this entry."""
    found = resolve(spec, str(weights), 0)
    spec = found.adapt(spec)
    tap = FeatureIdentity(
        backbone=spec.name,
        weights=str(weights),
        weights_sha256=found.sha256,
        layer="auto",
        pooling="avg",
        image_size=spec.image_size(image_size or "auto"),
        resize="stretch",
        interpolation=spec.interpolation,
        preprocessing_digest=spec.preprocessing.digest,
        precision="float32",
        engine=engine,
    )
    return Bottleneck(spec=spec, weights=found, taps=(tap,)).tapped(taps)
