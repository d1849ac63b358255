"""What an extractor computes: a backbone, its weights, and the tensors taken from it.

Needs no TensorFlow; `headstart.extraction.model` makes a Keras model of it.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import NamedTuple

from headstart import catalog
from headstart.catalog import onnx
from headstart.catalog.onnx import network as onnx_network
from headstart.catalog.onnx.file import OnnxFile
from headstart.catalog.onnx.options import OnnxOptions
from headstart.catalog.spec import BackboneSpec, Preprocessing
from headstart.catalog.weights import WeightsIdentity, resolve
from headstart.common.errors import InputError
from headstart.common.hardware import has_gpu
from headstart.common.vocabulary import EngineName, Pooling, Sizing
from headstart.extraction.options import ExtractOptions
from headstart.features.identity import FeatureIdentity


class NoMap(InputError):
    """A layer gives tokens that lie nowhere in the image."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bottleneck:
    """One pass through a backbone, with one output per tap.

    Attributes:
        spec: The backbone.
        weights: What it is filled with.
        taps: Identities of the features, which differ in layer and pooling only; at least one,
            and no two the same.
    """

    spec: BackboneSpec
    weights: WeightsIdentity
    taps: tuple[FeatureIdentity, ...]

    @property
    def image_size(self) -> tuple[int, int]:
        """(height, width) in pixels that the backbone sees."""
        return self.taps[0].image_size

    @property
    def sizing(self) -> Sizing:
        """How an image becomes what the backbone sees."""
        return self.taps[0].sizing

    @property
    def onnx(self) -> OnnxOptions | None:
        """How the network of a file is fed; None for a backbone of the catalog."""
        return _fed(self.taps[0])

    def tapped(self, cuts: Iterable[tuple[str, Pooling]]) -> "Bottleneck":
        """Return the same pass with other outputs.

        Args:
            cuts: Layer ("auto" for the last feature layer) and pooling of each output.
        """
        taps = (
            replace(self.taps[0], layer=_resolve_layer(self.spec, layer), pooling=pooling)
            for layer, pooling in cuts
        )
        return replace(self, taps=tuple(dict.fromkeys(taps)))


class Network(NamedTuple):
    """What the section `extract` names, before its weights are looked for.

    Attributes:
        spec: The entry of the catalog, or what a file of ONNX says of its network.
        file: That file; None for a backbone of the catalog.
        fed: How its network is fed.
        layer: Where it is cut. Whether a backbone of the catalog has a layer of that name is known
            only once the model is built.
        image_size: (height, width) in pixels.
    """

    spec: BackboneSpec
    file: OnnxFile | None
    fed: OnnxOptions | None
    layer: str
    image_size: tuple[int, int]


def network_of(options: ExtractOptions) -> Network:
    """Return what the section `extract` names; nothing is downloaded.

    Raises:
        InputError: there is no such backbone, it has no such pooling or image size, or a file
            cannot be used.
    """
    if options.backbone != onnx.NAME:
        if options.weights.endswith(onnx.SUFFIX):
            raise InputError(
                f"backbone: expected {onnx.NAME} with weights {options.weights}, received "
                f"{options.backbone}"
            )
        spec = catalog.get(options.backbone)
        layer = _resolve_layer(spec, options.layer)
        _check_pooling(spec, layer, options.pooling)
        return Network(spec, None, None, layer, spec.image_size(options.image_size))
    file = onnx_network.open_file(options.weights)
    fed = onnx_network.resolved(file, options.onnx or OnnxOptions())
    size = onnx_network.image_size(file, fed, options.image_size)
    layer = onnx_network.resolve_layer(file, options.layer)
    return Network(onnx_network.spec_of(file, fed, size), file, fed, layer, size)


def recover_spec(identity: FeatureIdentity) -> BackboneSpec:
    """Return the backbone that features come from, as `identify` had it.

    Raises:
        InputError: it is the network of a file that is not to be had any more.
    """
    fed = _fed(identity)
    if fed is None:
        spec, own = catalog.get(identity.backbone), identity.own_preprocessing
        rule = spec.preprocessing if own is None else Preprocessing.from_json(own)
        return replace(spec, preprocessing=rule, interpolation=identity.interpolation)
    file = onnx_network.open_file(identity.weights)
    return onnx_network.spec_of(file, fed, identity.image_size)


def identify(options: ExtractOptions, engine: EngineName) -> Bottleneck:
    """Resolve everything that decides a feature.

    Args:
        options: Section `extract`.
        engine: What runs it; `headstart.extraction.engines.resolve` turns "auto" into one.

    Returns:
        A bottleneck with one tap. Whether a backbone of the catalog has a layer of that name is
        known only once the model is built.

    Raises:
        InputError: no such backbone, image size or weights.
    """
    spec, file, fed, layer, size = network_of(options)
    own = None
    if file is None:
        weights = resolve(spec, options.weights, options.seed)
        published, spec = spec.preprocessing, weights.adapt(spec)
        own = None if spec.preprocessing == published else spec.preprocessing.as_json()
    else:
        weights = onnx_network.weights_of(file)
    tap = FeatureIdentity(
        backbone=spec.name,
        # The seed is part of the name, so that the identity alone leads back to the weights.
        weights=f"random:{options.seed}" if weights.kind == "random" else options.weights,
        weights_sha256=weights.sha256,
        layer=layer,
        pooling=options.pooling,
        image_size=size,
        resize=options.resize,
        interpolation=spec.interpolation,
        preprocessing_digest=spec.preprocessing.digest,
        precision=options.precision,
        engine=engine,
        onnx=fed.model_dump_json() if fed else None,
        own_preprocessing=own,
        store_dtype=options.store_dtype,
    )
    return Bottleneck(spec=spec, weights=weights, taps=(tap,))


def recover(identity: FeatureIdentity) -> Bottleneck:
    """Return the bottleneck of an identity, such as a trained head's; `identify` made it.

    Where that was on a GPU and there is none here, it is the CPU's in float32, which serves the
    same heads.

    Raises:
        InputError: its weights are not to be had any more, or are others by now.
    """
    spec = recover_spec(identity)
    if identity.onnx is None:
        name, _, seed = identity.weights.partition(":")
        is_random = name == "random" and seed.isdecimal()
        chosen = (name, int(seed)) if is_random else (identity.weights, 0)
        weights = resolve(spec, *chosen)
    else:
        weights = onnx_network.weights_of(onnx_network.open_file(identity.weights))
    if weights.sha256 != identity.weights_sha256:
        raise InputError(
            f"weights: expected those that the model was trained with (sha256 "
            f"{identity.weights_sha256[:12]}...), received {weights.description} (sha256 "
            f"{weights.sha256[:12]}...); restore them, or train anew with `dvc repro`"
        )
    if identity.engine == "tensorflow-gpu" and not has_gpu():
        identity = replace(identity, engine="tensorflow", precision="float32")
    return Bottleneck(spec=spec, weights=weights, taps=(identity,))


def _check_pooling(spec: BackboneSpec, layer: str, pooling: Pooling) -> None:
    if pooling not in spec.poolings:
        why = "gives maps" if spec.prefix_tokens is None else "has no class token"
        raise InputError(
            f"extract.pooling: {spec.name} {why}: expected one of {', '.join(spec.poolings)}, "
            f"received {pooling}"
        )
    if pooling == "last4" and layer != "norm":
        raise InputError(
            "extract.pooling: last4 takes the last four blocks, normalized: expected extract.layer "
            f"norm, received {layer}"
        )


def _fed(identity: FeatureIdentity) -> OnnxOptions | None:
    return None if identity.onnx is None else OnnxOptions.model_validate_json(identity.onnx)


def _resolve_layer(spec: BackboneSpec, layer: str) -> str:
    return spec.feature_layer if layer == "auto" else layer
