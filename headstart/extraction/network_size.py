"""What one image's pass through a backbone takes, up to a cut: arithmetic and parameters."""

from dataclasses import asdict, dataclass
from importlib.metadata import version

from headstart import catalog
from headstart.common.cache import Keep
from headstart.common.code import digest_of_code
from headstart.extraction.store import FeatureStore
from headstart.features.identity import FeatureIdentity


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

    Counted in the network's graph, for which TensorFlow is imported, and then kept beside the
    feature store: later calls do without.

    Args:
        identity: Of the features.
        store: The user's by default.

    Raises:
        InputError: there is no such backbone, or it has no such cut.
    """
    keep = Keep("costs", store.root if store else None)
    key = {
        "backbone": identity.backbone,
        "image_size": list(identity.image_size),
        "layer": identity.layer,
        "keras": version("keras"),
        "code": digest_of_code(["catalog"]),
    }
    size = keep.get(key)
    if size is None:
        size = asdict(_count(identity))
        keep.put(key, size)
    return NetworkSize(**size)


def _count(identity: FeatureIdentity) -> NetworkSize:
    # Here, because importing TensorFlow takes seconds.
    from headstart.catalog.building import build_architecture
    from headstart.catalog.cuts import get_cut

    spec = catalog.get(identity.backbone)
    cut = get_cut(build_architecture(spec, identity.image_size, seed=0), identity.layer)
    return NetworkSize(multiply_adds=cut.multiply_adds_below, parameters=cut.parameters_below)
