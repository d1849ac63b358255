"""What one image's pass through a backbone takes, up to a cut: arithmetic and parameters."""

import contextlib
import json
from dataclasses import asdict, dataclass

from headstart import backbones
from headstart.common.files import digest_of, write_json
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

    Found from the network's graph, for which TensorFlow is imported, and then kept beside the
    feature store: later calls do without.

    Args:
        identity: Of the features.
        store: The user's by default.

    Raises:
        InputError: there is no such backbone, or it has no such cut.
    """
    key = digest_of([identity.backbone, identity.image_size, identity.layer])
    path = (store or FeatureStore()).root / "costs" / f"{key}.json"
    try:
        return NetworkSize(**json.loads(path.read_text(encoding="utf-8")))
    except (FileNotFoundError, TypeError, ValueError):
        size = _count(identity)
        # A store that may only be read is fine.
        with contextlib.suppress(OSError):
            write_json(path, asdict(size))
        return size


def _count(identity: FeatureIdentity) -> NetworkSize:
    # Here, because importing TensorFlow takes seconds.
    from headstart.backbones.building import build_architecture
    from headstart.backbones.cuts import get_cut

    spec = backbones.get(identity.backbone)
    cut = get_cut(build_architecture(spec, identity.image_size, seed=0), identity.layer)
    return NetworkSize(multiply_adds=cut.multiply_adds_below, parameters=cut.parameters_below)
