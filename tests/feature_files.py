"""Feature files made from arrays, for the tests of what is trained on them."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from headstart.common.files import digest_of
from headstart.dataset.manifest import Manifest, ManifestRow, write_manifest
from headstart.features.file import Columns, FeatureFile, Header, write_feature_file
from headstart.features.identity import FeatureIdentity
from headstart.features.text import ClassTexts, Texts

_RULE = {"channel_order": "rgb", "divisor": 255.0}


def make_identity(**changes: object) -> FeatureIdentity:
    fields = {
        "backbone": "LeNet5", "weights": "random", "weights_sha256": "ab" * 32,
        "layer": "c5", "pooling": "avg", "image_size": (32, 32), "resize": "stretch",
        "interpolation": "bilinear", "preprocessing_digest": digest_of(_RULE),
        "precision": "float32", "engine": "openvino",
    }  # fmt: skip
    return FeatureIdentity(**{**fields, **changes})


def make_header(class_names: Sequence[str], shape: tuple[int, ...], **identity: object) -> Header:
    return Header(
        class_names=tuple(class_names),
        identity=make_identity(**identity),
        feature_shape=shape,
        preprocessing=_RULE,
        augment=None,
        versions={},
    )


def blobs(
    n_per_class: int, n_classes: int = 3, n_columns: int = 8, *, gap: float = 2.0, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Overlapping Gaussian classes: features (n, n_columns) float32 and labels (n,), mixed."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.repeat(np.arange(n_classes), n_per_class))
    centers = gap * np.random.default_rng(99).standard_normal((n_classes, n_columns))
    features = centers[labels] / np.sqrt(n_columns) + rng.standard_normal((len(labels), n_columns))
    return (features + 1).astype(np.float32), labels


def class_means(features: np.ndarray, labels: np.ndarray, scale: float = 10.0) -> ClassTexts:
    """Text vectors that point where the images of their class lie."""
    pooled = features.reshape(len(features), -1, features.shape[-1]).mean(axis=1)
    means = np.stack([pooled[labels == label].mean(axis=0) for label in np.unique(labels)])
    vectors = means / np.linalg.norm(means, axis=1, keepdims=True)
    return ClassTexts(
        vectors=vectors.astype(np.float32),
        scale=scale,
        bias=-1.0,
        prompts=tuple((f"a photo of a class {index}.",) for index in range(len(means))),
    )


def spread_splits(n_images: int) -> np.ndarray:
    """Three in five train, one in five each for validation and test."""
    names = np.array(["train", "train", "train", "validation", "test"])
    return names[np.arange(n_images) % 5]


def write_project(
    root: Path,
    features: np.ndarray,
    labels: np.ndarray,
    *,
    split: np.ndarray | None = None,
    views: int = 0,
    group: np.ndarray | None = None,
    class_names: Sequence[str] | None = None,
    texts: Texts = None,
) -> FeatureFile:
    """Write features/bottleneck.h5 and data/manifest.csv under `root`; one row per image given.

    Training images get `views` noisy copies each.
    """
    n_images = len(labels)
    split = spread_splits(n_images) if split is None else split
    group = np.full(n_images, -1) if group is None else group
    names = class_names or [f"class {index}" for index in range(int(labels.max()) + 1)]
    copies = np.where(split == "train", 1 + views, 1)
    image = np.repeat(np.arange(n_images), copies)
    view = np.concatenate([np.arange(count) for count in copies]).astype(np.int32)
    noise = np.random.default_rng(7).normal(0, 0.1, (len(image), *features.shape[1:]))
    rows = features[image] + np.where(
        view.reshape(-1, *[1] * (features.ndim - 1)) > 0, noise, 0
    ).astype(np.float32)
    digests = np.array([f"{number:064x}" for number in range(n_images)])
    columns = Columns(
        label=labels[image], split=split[image], sha256=digests[image],
        view=view, group=group[image], image=image,
    )  # fmt: skip
    path = root / "features" / "bottleneck.h5"
    write_feature_file(path, make_header(names, features.shape[1:]), columns, rows, texts)
    write_manifest(
        root / "data" / "manifest.csv",
        Manifest(
            ManifestRow(
                f"{number:05}.png",
                digests[number],
                names[labels[number]],
                split[number],
                "" if group[number] < 0 else f"{group[number]:05}",
                32,
                32,
            )
            for number in range(n_images)
        ),
    )
    return FeatureFile.open(path)
