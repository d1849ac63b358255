"""What a feature is: the record of everything that can change one of its numbers."""

from dataclasses import asdict, dataclass
from typing import Any

from headstart.common.files import digest_of
from headstart.common.vocabulary import (
    NUMERICS,
    EngineName,
    Interpolation,
    Pooling,
    Precision,
    Resize,
    Sizing,
    StoreDtype,
)

# Engines agree to 1e-5, precisions to a cosine of 0.99 (trained weights; 0.9994 at the median),
# float16 rounds by 5e-4 at most, and a weights file's name is not its content: a head trained on
# the one serves the other.
_INTERCHANGEABLE = frozenset({"weights", "precision", "engine", "store_dtype"})


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureIdentity:
    """Everything besides the image and its view that can change a bottleneck feature.

    Attributes:
        backbone: Name in the catalog.
        weights: What the user named: "pretrained", "random" or a path.
        weights_sha256: Digest of the weights' content (of the recipe, when random).
        layer: Name of the cut, resolved; never "auto".
        pooling: What is done to a spatial map.
        image_size: (height, width) in pixels that the backbone sees.
        resize: How an image of another shape gets there.
        interpolation: Antialiased filter used for it.
        preprocessing_digest: Digest of the rule from RGB in [0, 255] to the network's input.
        precision: Arithmetic of the forward pass.
        engine: What ran it; a GPU's numbers differ from the CPU's in their last digits, and in
            bfloat16 by more.
        numerics: Version of this project's own numerics.
        onnx: Section `extract.onnx` as JSON, where the network is that of a file; else None.
        own_preprocessing: The rule itself as JSON, where the weights came with another than the
            catalog's; else None.
        store_dtype: What the feature store keeps the numbers as: float16 rounds them.
    """

    backbone: str
    weights: str
    weights_sha256: str
    layer: str
    pooling: Pooling
    image_size: tuple[int, int]
    resize: Resize
    interpolation: Interpolation
    preprocessing_digest: str
    precision: Precision
    engine: EngineName
    numerics: int = NUMERICS
    onnx: str | None = None
    own_preprocessing: str | None = None
    store_dtype: StoreDtype = "float32"

    def as_dict(self) -> dict[str, Any]:
        """Return the fields as JSON types; those that are None, and float32, are left out."""
        content = {name: value for name, value in asdict(self).items() if value is not None}
        content["image_size"] = list(self.image_size)
        # As in the fingerprints of releases that stored nothing else.
        if self.store_dtype == "float32":
            del content["store_dtype"]
        return content

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> "FeatureIdentity":
        """Undo `as_dict`."""
        height, width = content["image_size"]
        return cls(**{**content, "image_size": (int(height), int(width))})

    @property
    def sizing(self) -> Sizing:
        """How an image becomes what the backbone sees."""
        return Sizing(self.image_size, self.resize, self.interpolation)

    @property
    def feature_digest(self) -> str:
        """Which features these are, up to numerical tolerance; heads are bound to it."""
        content = self.as_dict()
        return digest_of({key: content[key] for key in content if key not in _INTERCHANGEABLE})

    @property
    def fingerprint(self) -> str:
        """Which numbers these are, to the bit on one machine; the feature store's key."""
        content = self.as_dict()
        # The name of a weights file is no part of its content.
        del content["weights"]
        return digest_of(content)
