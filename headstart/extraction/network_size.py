"""What one image's pass through a backbone takes, up to a cut: arithmetic and parameters."""

from dataclasses import asdict, dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from headstart import catalog
from headstart.common.cache import Keep
from headstart.common.code import digest_of_code
from headstart.extraction.store import FeatureStore
from headstart.features.identity import FeatureIdentity

if TYPE_CHECKING:
    from headstart.common.tensorflow_runtime import keras


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkSize:
    """A backbone up to a cut, at one image size.

    Attributes:
        multiply_adds: Per image, of its convolutions and dense layers.
        parameters: Number of its weights.
    """

    multiply_adds: int
    parameters: int


def network_size(identity: FeatureIdentity, store: FeatureStore | None = None) -> NetworkSize:
    """Return the size of the network that features come from.

    Counted in the network's graph, for which TensorFlow is imported unless it is a file's, and then
    kept beside the feature store: later calls do without.

    Args:
        identity: Of the features.
        store: The user's by default.

    Raises:
        InputError: there is no such backbone, or it has no such cut.
    """
    content = _keep(store).get(_key(identity))
    if content is not None:
        return NetworkSize(**content)
    size = _count(identity)
    remember(identity, size, store)
    return size


def _count(identity: FeatureIdentity) -> NetworkSize:
    if identity.onnx is not None:
        # Here, because they are above this module.
        from headstart.extraction.bottleneck import recover
        from headstart.extraction.engines import onnx_conversion

        _, (size,) = onnx_conversion.assemble(recover(identity), ["features"])
        return size
    # Here, because importing TensorFlow takes seconds.
    from headstart.catalog.building import build_architecture

    spec = catalog.get(identity.backbone)
    return size_up_to(build_architecture(spec, identity.image_size, seed=0), identity.layer)


def size_up_to(network: "keras.Model", layer: str) -> NetworkSize:
    """Count the size of a network up to a cut.

    Raises:
        InputError: it has no such cut.
    """
    from headstart.catalog.cuts import get_cut

    cut = get_cut(network, layer)
    return NetworkSize(multiply_adds=cut.multiply_adds_below, parameters=cut.parameters_below)


def remember(identity: FeatureIdentity, size: NetworkSize, store: FeatureStore | None) -> None:
    """Keep a size for `network_size`."""
    _keep(store).put(_key(identity), asdict(size))


def _keep(store: FeatureStore | None) -> Keep:
    return Keep("costs", store.root if store else None)


def _key(identity: FeatureIdentity) -> dict[str, Any]:
    network = {"file": identity.weights_sha256, "onnx": identity.onnx} if identity.onnx else {}
    return {
        **network,
        "backbone": identity.backbone,
        "image_size": list(identity.image_size),
        "layer": identity.layer,
        "keras": version("keras"),
        "code": digest_of_code(["catalog"]),
    }
