"""Image transfer learning from cached bottleneck features.

The pipeline runs by `dvc repro`; this is what a script or a notebook uses. Importing it takes a
moment: nothing heavy is loaded before it is needed.

- `BottleneckFeatures`: from images to feature vectors, a scikit-learn transformer.
- `read_features`: the features that a pipeline has written, as arrays or a table.
- `load_model`: a trained model, to classify any images.
- `backbones`: the catalog as a table.
- `InputError`: what they raise, with a message for people, where an image, file or parameter cannot
  be used.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from headstart.api.features import BottleneckFeatures
    from headstart.api.listing import backbones
    from headstart.api.model import LoadedModel, load_model
    from headstart.api.table import FeatureTable, read_features
    from headstart.common.errors import InputError

__all__ = [
    "BottleneckFeatures",
    "FeatureTable",
    "InputError",
    "LoadedModel",
    "backbones",
    "load_model",
    "read_features",
]


if not TYPE_CHECKING:
    # A type checker would otherwise take any name for one of this package.

    def __getattr__(name: str) -> Any:
        match name:
            case "BottleneckFeatures":
                from headstart.api.features import BottleneckFeatures

                return BottleneckFeatures
            case "backbones":
                from headstart.api.listing import backbones

                return backbones
            case "LoadedModel":
                from headstart.api.model import LoadedModel

                return LoadedModel
            case "load_model":
                from headstart.api.model import load_model

                return load_model
            case "FeatureTable":
                from headstart.api.table import FeatureTable

                return FeatureTable
            case "read_features":
                from headstart.api.table import read_features

                return read_features
            case "InputError":
                from headstart.common.errors import InputError

                return InputError
        raise AttributeError(f"module 'headstart' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
