"""What a backbone is: the facts that must be right for its features to mean anything."""

import json
import math
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from headstart.common.errors import InputError
from headstart.common.files import digest_of
from headstart.common.vocabulary import ChosenPooling, Interpolation, Pooling

# A rule's digest, and with it the fingerprint of cached features, holds these as they are spelled.
ChannelOrder = Literal["rgb", "bgr", "grey"]

# Source: ITU-R Recommendation BT.601-7, section 2.5.1 (luma), which Pillow's mode "L" uses too.
_LUMA = (0.299, 0.587, 0.114)
_CHANNELS: dict[ChannelOrder, tuple[tuple[float, ...], ...]] = {
    "rgb": ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)),
    "bgr": ((0.0, 0.0, 1.0), (0.0, 1.0, 0.0), (1.0, 0.0, 0.0)),
    "grey": tuple((weight,) for weight in _LUMA),
}


@dataclass(frozen=True)
class Preprocessing:
    """The affine rule from RGB in [0, 255] to what the network was trained on.

    `y = (mix(x) / divisor - mean) / std`, channel by channel, where `mix` orders the channels or
    turns them into gray.

    Attributes:
        name: Common name.
        channel_order: "rgb", "bgr", or "grey" (one channel, BT.601 luma).
        divisor: Applied before mean and std.
        mean: One value per channel of the result.
        std: One value per channel of the result.
    """

    name: str
    channel_order: ChannelOrder
    divisor: float
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @cached_property
    def digest(self) -> str:
        """Hexadecimal sha256 of the rule, without its name."""
        content = asdict(self)
        del content["name"]
        return digest_of(content)

    @property
    def channels(self) -> int:
        """Number of channels of the result."""
        return len(self.mean)

    def as_dict(self) -> dict[str, Any]:
        """Return the fields as JSON types."""
        content = asdict(self)
        return {**content, "mean": list(self.mean), "std": list(self.std)}

    def as_json(self) -> str:
        """Return the fields as text."""
        return json.dumps(self.as_dict())

    @classmethod
    def from_json(cls, text: str) -> "Preprocessing":
        """Undo `as_json`."""
        content = json.loads(text)
        return cls(**{**content, "mean": tuple(content["mean"]), "std": tuple(content["std"])})

    def is_close_to(self, other: "Preprocessing") -> bool:
        """Return whether both rules are one, up to rounding of their numbers."""
        pairs = zip(self.affine(), other.affine(), strict=True)
        return self.channel_order == other.channel_order and all(
            np.allclose(one, another, rtol=1e-4, atol=1e-5) for one, another in pairs
        )

    def affine(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return `matrix` (3, channels) and `offset` (channels,) with y = x @ matrix + offset."""
        std = np.asarray(self.std)
        matrix = np.asarray(_CHANNELS[self.channel_order]) / (self.divisor * std)
        offset = -np.asarray(self.mean) / std
        return matrix.astype(np.float32), offset.astype(np.float32)

    def __call__(self, images: NDArray[Any]) -> NDArray[np.float32]:
        """Apply the rule to a copy.

        Args:
            images: (..., height, width, 3) of any dtype, RGB in [0, 255].

        Returns:
            (..., height, width, channels) float32.
        """
        pixels = np.asarray(images, dtype=np.float32)
        if self.channel_order == "grey":
            pixels = (pixels @ np.asarray(_CHANNELS["grey"], dtype=np.float32)).astype(np.float32)
        elif self.channel_order == "bgr":
            pixels = pixels[..., ::-1]
        mean = np.asarray(self.mean, dtype=np.float32)
        std = np.asarray(self.std, dtype=np.float32)
        scaled: NDArray[np.float32] = (pixels / np.float32(self.divisor) - mean) / std
        return scaled


_ZERO, _ONE = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)

# Source: keras/src/applications/imagenet_utils.py, modes "tf", "torch" and "caffe".
TF = Preprocessing("tf", "rgb", 127.5, _ONE, _ONE)
TORCH = Preprocessing("torch", "rgb", 255.0, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
CAFFE = Preprocessing("caffe", "bgr", 1.0, (103.939, 116.779, 123.68), _ONE)
NONE = Preprocessing("none", "rgb", 1.0, _ZERO, _ONE)
"""For networks that rescale inside: EfficientNet, EfficientNetV2, MobileNetV3, ConvNeXt."""

GRAY = Preprocessing("gray", "grey", 127.5, (1.0,), (1.0,))
"""One channel in [-1, 1]."""

# Source: tpu/models/official/efficientnet/lite/efficientnet_lite_builder.py, MEAN_RGB, STDDEV_RGB.
LITE = Preprocessing("lite", "rgb", 1.0, (127.0, 127.0, 127.0), (128.0, 128.0, 128.0))

# Source: openai/CLIP, clip/clip.py, `_transform`.
CLIP = Preprocessing(
    "clip",
    "rgb",
    255.0,
    (0.48145466, 0.4578275, 0.40821073),
    (0.26862954, 0.26130258, 0.27577711),
)

# Source: facebookresearch/dinov3, README.md, transform of the SAT-493M weights.
SATELLITE = Preprocessing("satellite", "rgb", 255.0, (0.430, 0.411, 0.296), (0.213, 0.156, 0.143))


@dataclass(frozen=True, slots=True)
class PackageWeights:
    """Weights that an installed Python package carries.

    Attributes:
        distribution: Name on the package index.
        module: Import package that holds the file.
        file: Path of the file inside it.
        sha256: Digest that the file must have.
    """

    distribution: str
    module: str
    file: str
    sha256: str


@dataclass(frozen=True, slots=True)
class DownloadWeights:
    """Weights that Keras publishes (the file without top).

    Attributes:
        url: Address of the file.
        file: Its name in Keras' cache.
        digest: md5 (32 digits) or sha256 (64 digits) that Keras states; None where it states none.
    """

    url: str
    file: str
    digest: str | None


@dataclass(frozen=True, slots=True)
class HubWeights:
    """Weights that KerasHub publishes as a preset: a folder of configuration and weights.

    Attributes:
        preset: Its name, such as "dinov2_small".
        handle: Where it is published, such as "kaggle://keras/dinov2/keras/dinov2_small/1".
    """

    preset: str
    handle: str


HubKind = Literal["vit", "deit", "swin", "dinov2", "dinov3", "clip", "siglip", "resnet"]


@dataclass(frozen=True, slots=True)
class HubNetwork:
    """An architecture that KerasHub builds.

    Attributes:
        kind: Which of its networks.
        config: The arguments of its class that decide the architecture, image size apart; of
            networks paired with text, those of the image tower.
    """

    kind: HubKind
    config: tuple[tuple[str, Any], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class BackboneSpec:
    """One entry of the catalog.

    Attributes:
        name: As the user writes it; for Keras' own, Keras' name.
        family: The architecture it is a size of.
        default_size: (height, width) in pixels that the published weights were trained for.
        min_size: Smallest height and width in pixels.
        size_multiple: Height and width must be multiples of this.
        feature_layer: Name of the last feature layer, what `layer: auto` means.
        feature_dim: Number of channels there.
        preprocessing: The rule from RGB in [0, 255] to the network's input.
        interpolation: Antialiased filter for resizing images, as in the published evaluation.
        pretrained: Where published weights come from; None where there are none.
        parameters: Number of parameters with the ImageNet top.
        depth: Topological depth as Keras documents it; None where it does not.
        top1: Published ImageNet top-1 accuracy, a share; None where there is none.
        top5: The same for the top five.
        size_mb: Size of the weights with top in megabytes, as documented.
        source: The paper.
        license: Of the published weights: its SPDX identifier, or its name where it has none.
        terms: What to know before using weights under a license of their owner's own.
        linear_probe: Published ImageNet top-1 accuracy of a linear classifier on frozen features.
        zero_shot: The same of classes that are only named.
        figure_source: Where the accuracies come from, if not from Keras' documentation.
        network: How KerasHub builds it; None for all that need no KerasHub.
        prefix_tokens: Tokens before those of the patches, the class token first; None where the
            network gives maps.
        fixed_size: Whether images have to be of the default size.
        square: Whether images have to be square.
    """

    name: str
    family: str
    default_size: tuple[int, int]
    min_size: int
    size_multiple: int = 1
    feature_layer: str
    feature_dim: int
    preprocessing: Preprocessing
    interpolation: Interpolation = "bilinear"
    pretrained: PackageWeights | DownloadWeights | HubWeights | None
    parameters: int
    depth: int | None
    top1: float | None
    top5: float | None
    size_mb: float
    source: str
    license: str = "not stated"
    terms: str | None = None
    linear_probe: float | None = None
    zero_shot: float | None = None
    figure_source: str | None = None
    network: HubNetwork | None = None
    prefix_tokens: int | None = None
    fixed_size: bool = False
    square: bool = False

    @property
    def pairs_with_text(self) -> bool:
        """Whether a text tower shares the space of its last layer's vectors."""
        return self.network is not None and self.network.kind in ("clip", "siglip")

    @property
    def whole(self) -> Pooling:
        """The pooling that leaves nothing out: the map, or all tokens."""
        return "none" if self.prefix_tokens is None else "raw"

    @property
    def poolings(self) -> tuple[ChosenPooling, ...]:
        """What `extract.pooling` may be."""
        if self.prefix_tokens:
            return ("avg", "max", "none", "cls", "cls+avg", "last4")
        return ("avg", "max", "none")

    @property
    def channels(self) -> int:
        """Number of channels the network takes: 3, or 1 for gray."""
        return self.preprocessing.channels

    def image_size(
        self, wanted: Literal["auto"] | int | tuple[int, int] | list[int]
    ) -> tuple[int, int]:
        """Return the (height, width) that `extract.image_size` means for this backbone.

        Args:
            wanted: "auto" (the default size), one side of a square, or (height, width); pixels.

        Raises:
            InputError: the backbone cannot take images of that size.
        """
        if wanted == "auto":
            return self.default_size
        height, width = (wanted, wanted) if isinstance(wanted, int) else wanted
        size = (int(height), int(width))
        if self.fixed_size and size != self.default_size:
            raise InputError(
                f"image_size: {self.name} knows positions of {self.default_size[0]} x "
                f"{self.default_size[1]} pixels only, received {size[0]} x {size[1]}; use auto"
            )
        if self.square and size[0] != size[1]:
            raise InputError(
                f"image_size: {self.name} takes square images, received {size[0]} x {size[1]}; "
                f"use for example {max(size)}, with resize: crop or pad to keep proportions"
            )
        for side in size:
            if side < self.min_size or side % self.size_multiple:
                multiple = (
                    f" and a multiple of {self.size_multiple}" if self.size_multiple > 1 else ""
                )
                nearest = max(
                    self.min_size, math.ceil(side / self.size_multiple) * self.size_multiple
                )
                raise InputError(
                    f"image_size: {self.name} takes images whose height and width are at least "
                    f"{self.min_size}{multiple} pixels, received {size[0]} x {size[1]}; use for "
                    f"example {nearest}, or auto for {self.default_size[0]} x "
                    f"{self.default_size[1]}"
                )
        return size
