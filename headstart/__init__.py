"""Image transfer learning from cached bottleneck features.

The pipeline runs by `dvc repro`; this is what a script or a notebook uses. Importing it takes a
moment: nothing heavy is loaded before it is needed.

- `BottleneckFeatures`: from images to feature vectors, a scikit-learn transformer.
- `read_features`: the features that a pipeline has written, as arrays or a table.
- `load_model`: a trained model, to classify any images.
- `backbones`: the catalog as a table.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from headstart.api.features import BottleneckFeatures
    from headstart.api.listing import backbones
    from headstart.api.model import LoadedModel, load_model
    from headstart.api.table import FeatureTable, read_features

__all__ = [
    "BottleneckFeatures",
    "FeatureTable",
    "LoadedModel",
    "backbones",
    "load_model",
    "read_features",
]


def __getattr__(name: str) -> Any:
    match name:
        case "BottleneckFeatures":
            from headstart.api.features import BottleneckFeatures

            return BottleneckFeatures
        case "backbones":
            from headstart.api.listing import backbones

            return backbones
        case "LoadedModel" | "load_model":
            from headstart.api import model

            return getattr(model, name)
        case "FeatureTable" | "read_features":
            from headstart.api import table

            return getattr(table, name)
    raise AttributeError(f"module 'headstart' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
